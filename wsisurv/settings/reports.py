"""Settings of reading reports."""

from typing import Literal

from pydantic import (
    Field,
)

from wsisurv.settings.base import Settings


class ReportSettings(Settings):
    """How reports become statements."""

    backend: Literal["ollama", "rules"] = "ollama"
    model: str | None = None
    """Model name at the Ollama server; None for ``rules``."""
    model_digest: str | None = None
    """Digest of that model, as the server tells it."""
    prompt: str | None = None
    """sha256 of prompt and schema; None for ``rules``."""
    rules_version: int | None = None
    """Version of the embedded rules; None for ``ollama``."""
    proof_version: int | None = None
    """Version of the proof that every statement has passed."""
    keep: Literal["morphology", "all"] = "morphology"
    """Keep what H&E morphology can show, or every finding."""
    options: dict[str, int | float | bool] = Field(default_factory=dict)
    """Options of the model (temperature, seed, num_ctx …)."""
