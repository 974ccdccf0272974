"""Settings of reading reports."""

from typing import Literal

from pydantic import Field

from wsisurv.settings.base import Settings


class ReportSettings(Settings):
    """How reports become statements; digests and versions are filled in by the step."""

    backend: Literal["ollama", "rules"] = Field(
        "ollama",
        description="Extractor: a local language model through Ollama, or built-in rules (a baseline).",
    )
    model: str | None = Field(
        None, description="Model of the Ollama server, e.g. qwen3:8b; needed with --backend ollama."
    )
    keep: Literal["morphology", "all"] = Field(
        "morphology", description="Findings to keep: those that H&E morphology can show, or all."
    )
    ask: Literal["findings", "labels"] = Field(
        "findings",
        description="What the model is asked: to copy findings out, or, for one of less than a billion parameters, to "
        "label pieces that the rules cut.",
    )
    model_digest: str | None = Field(None, description="Digest of the model, as the server states it.")
    prompt: str | None = Field(None, description="sha256 of prompt and schema; None for rules.")
    rules_version: int | None = Field(
        None, description="Version of the embedded rules; None where a model copies findings out."
    )
    proof_version: int | None = Field(None, description="Version of the proof that every statement has passed.")
    options: dict[str, int | float | bool] = Field(
        default_factory=dict, description="Options of the model (temperature, seed, num_ctx …)."
    )
