"""A real llama.cpp engine, held to our schema by its own grammar, with a tiny model of random weights.

It proves that the engine takes the schema, that the schema bounds an answer that would never end, and that whatever
comes out parses and has to be proved. A model of random weights says nothing about the quality of a trained one.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsisurv.formats.statements import read_rejected, read_statements
from wsisurv.reports.prompt import (
    MAX_EVIDENCE,
    MAX_STATEMENTS,
    MAX_TEXT,
    Answer,
    Label,
    answer_schema,
    messages,
    parse,
)
from wsisurv.reports.step import extract
from wsisurv.settings.reports import ReportSettings
from wsisurv.workspace.paths import Workspace

gguf = pytest.importorskip("gguf", reason="the engine tests need gguf to write their model")
xllamacpp = pytest.importorskip("xllamacpp", reason="the engine tests need xllamacpp, a real llama.cpp")

pytestmark = pytest.mark.engine

WINDOW = 16384
FIRST_BYTE = 3
"""Token of the byte 0; before it come unknown, begin and end."""
PLAIN = {char: -100.0 for char in [*" \n\t\r\\", *map(chr, range(127, 256))]}
"""Weights that keep the model to visible ASCII: random bytes above it are no UTF-8, which llama.cpp refuses itself."""
Engine = Callable[..., dict[str, Any]]


def write_model(path: Path) -> None:
    """A llama of one layer and 32 dimensions whose tokens are the 256 bytes."""
    width, hidden = 32, 64
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(WINDOW)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(width // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_vocab_size(len(tokens))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ")
    shapes = {
        "token_embd": (len(tokens), width),
        "output": (len(tokens), width),
        **{f"blk.0.attn_{part}": (width, width) for part in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (hidden, width),
        "blk.0.ffn_up": (hidden, width),
        "blk.0.ffn_down": (width, hidden),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(0, 0.3, shape).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = tmp_path_factory.mktemp("engine") / "tiny.gguf"
    write_model(path)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = WINDOW
    params.n_parallel = 1
    params.cpuparams.n_threads = 1  # its threads spin while they wait: two on busy cores are ten times slower
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.verbosity = -1
    server = xllamacpp.Server(params)

    def ask(passage: str, schema: Any = None, *, bias: dict[str, float] | None = None, **options: Any) -> Any:
        weights = [[FIRST_BYTE + ord(char), weight] for char, weight in {**PLAIN, **(bias or {})}.items()]
        schema = answer_schema() if schema is None else schema
        asked = {
            "messages": messages(passage, "morphology"),
            "temperature": 0,
            "seed": 0,
            "max_tokens": 8000,
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
            "logit_bias": weights,
        }
        given = server.handle_chat_completions({**asked, **options})
        return {**given["choices"][0], "timings": given["timings"]}

    return ask


REPORT = "Moderately differentiated adenocarcinoma. No necrosis."


def test_whatever_it_says_parses(engine: Engine) -> None:
    found = 0
    for seed in range(5):
        choice = engine(REPORT, bias={'"': 6.0, "{": 3.0}, temperature=1.0, seed=seed)
        assert choice["finish_reason"] == "stop"
        found += len(parse(Answer, choice["message"]["content"]).statements)
    assert found > 5


def test_what_is_the_same_for_every_report_is_read_once(engine: Engine) -> None:
    """A token of this model is a byte: of a second prompt no more is read than its report and the template's end."""
    engine(REPORT, max_tokens=1)
    passage = "No lymphovascular invasion. " + REPORT
    timings = engine(passage, max_tokens=1)["timings"]
    fixed = "".join(message["content"] for message in messages("", "morphology"))
    assert timings["cache_n"] > len(fixed.encode())
    assert timings["prompt_n"] < len(passage) + 64


def test_strings_are_bounded(engine: Engine) -> None:
    """A model that never closes a string is made to close it."""
    choice = engine(REPORT, bias={'"': -100.0, "]": 100.0, "{": 200.0}, max_tokens=2000)
    assert choice["finish_reason"] == "stop"
    first = parse(Answer, choice["message"]["content"]).statements[0]
    assert len(first.evidence) == MAX_EVIDENCE
    assert len(first.text) == MAX_TEXT


def test_list_is_bounded(engine: Engine) -> None:
    """A model that never closes its list is made to close it."""
    choice = engine(REPORT, bias={'"': 100.0, "]": -100.0})
    assert choice["finish_reason"] == "stop"
    assert len(parse(Answer, choice["message"]["content"]).statements) == MAX_STATEMENTS


def test_without_bounds_the_same_model_runs_to_its_limit(engine: Engine) -> None:
    """The two tests above can fail: it is the bounds that end the answer."""
    text = json.dumps(answer_schema()).replace(f'"maxLength": {MAX_EVIDENCE}, ', "")
    choice = engine(REPORT, json.loads(text), bias={'"': -100.0, "{": 100.0}, max_tokens=1500)
    assert choice["finish_reason"] == "length"


def test_nothing_that_it_invents_is_kept(engine: Engine, ollama_server: Any, tmp_path: Path) -> None:
    """The whole step, with the engine behind the wire: what random weights say is not in the report."""

    def model(passage: str) -> str:
        bias = {'"': 6.0, "{": 3.0, "]": -2.0}
        return str(engine(passage, bias=bias, temperature=1.0, seed=1)["message"]["content"])

    ollama_server.model = model
    source = tmp_path / "reports.csv"
    source.write_text(f'case_id,text\nA,"{REPORT}"\n')
    workspace = Workspace(tmp_path / "workspace")
    summary = extract(workspace, source, ReportSettings(model="tiny"), host=ollama_server.url)
    assert summary.done == ["A"]
    record = read_statements(workspace.statements)["A"]
    assert record.statements == ()
    assert record.rejected == len(read_rejected(workspace.rejected))
    assert record.rejected + sum(record.left_out.values()) > 0


HELD = {"type", "properties", "required", "additionalProperties", "items", "maxItems", "maxLength", "enum"}
"""Keywords that the tests of this file show to be kept by the engine."""


def test_schema_relies_on_nothing_that_the_engine_does_not_keep() -> None:
    """What it passes over is in the tests below; the pattern that it keeps for no ``maxLength`` is among them."""

    def look(part: dict[str, Any]) -> None:
        assert part.keys() <= HELD
        assert part["type"] in {"object", "array", "string"}
        if part["type"] == "object":
            assert part["required"] == list(part["properties"])  # else the engine has another order
            assert part["additionalProperties"] is False
            for inner in part["properties"].values():
                look(inner)
        if part["type"] == "array":
            look(part["items"])

    look(answer_schema())
    look(answer_schema(Label))


def test_answer_has_all_keys_in_our_order(engine: Engine) -> None:
    """The quote comes before what is said of it, whatever the model would rather write."""
    choice = engine(REPORT, bias={'"': 6.0, "{": 3.0, "t": 4.0, "]": -2.0}, temperature=1.0, seed=2)
    said = json.loads(choice["message"]["content"])["statements"]
    assert said
    items = answer_schema()["properties"]["statements"]["items"]
    for statement in said:
        assert list(statement) == list(items["properties"])
        assert statement["category"] in items["properties"]["category"]["enum"]
        assert statement["polarity"] in items["properties"]["polarity"]["enum"]


def _one(inner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": inner}, "required": ["x"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("inner", "forbidden"),
    [
        ({"type": "string", "pattern": "abc"}, lambda x: "abc" not in x),
        ({"type": "string", "pattern": "^[a-z]*$", "maxLength": 1}, lambda x: len(x) > 1),
        ({"type": "number", "minimum": 0.25, "maximum": 0.5}, lambda x: not 0.25 <= x <= 0.5),
        ({"allOf": [{"type": "string"}, {"maxLength": 4}]}, lambda x: not isinstance(x, str)),
    ],
    ids=["unanchored pattern", "pattern beside maxLength", "bounds of a fraction", "allOf of plain types"],
)
def test_engine_passes_over(engine: Engine, inner: dict[str, Any], forbidden: Callable[[Any], bool]) -> None:
    """Why our schema has none of these: the engine answers what they forbid, or no text at all."""
    bias = {'"': 3.0, "}": 3.0, "9": 5.0}
    given = [engine(REPORT, _one(inner), bias=bias, temperature=1.0, seed=seed, max_tokens=300) for seed in range(4)]
    said = [json.loads(one["message"]["content"])["x"] for one in given if one["finish_reason"] == "stop"]
    assert any(forbidden(x) for x in said)


def test_engine_puts_required_keys_first(engine: Engine) -> None:
    """Why all of ours are required: an optional key would come behind, wherever the schema has it."""
    texts = {name: {"type": "string", "maxLength": 2} for name in ("a", "b", "c")}
    schema = {"type": "object", "properties": texts, "required": ["c"], "additionalProperties": False}
    given = [
        engine(REPORT, schema, bias={'"': 3.0, ",": 9.0}, temperature=1.0, seed=seed, max_tokens=300)
        for seed in range(4)
    ]
    orders = [list(json.loads(one["message"]["content"])) for one in given if one["finish_reason"] == "stop"]
    assert all(order[0] == "c" for order in orders)
    assert any(len(order) > 1 for order in orders)
