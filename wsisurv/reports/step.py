"""Step 3: every report to statements, one line a report, so that a run that dies loses the report it was at."""

import threading
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.shards import Shard
from wsisurv.engine.workers import Attempt, finished
from wsisurv.errors import (
    BackendError,
    ModelNotPulledError,
    OllamaUnavailableError,
    SettingsError,
    WsisurvError,
)
from wsisurv.formats.atomic import append_jsonl, read_jsonl, write_jsonl
from wsisurv.formats.statements import RejectedRecord, ReportRecord, read_rejected, read_statements
from wsisurv.reports.asking import Asker, Exchange, Patience, make_plan
from wsisurv.reports.embed import TextEncoder, open_text_encoder
from wsisurv.reports.example import PARROTED
from wsisurv.reports.grounding import LANGUAGE_REFUSED, PROOF_VERSION, Extraction, ground
from wsisurv.reports.ollama import Server
from wsisurv.reports.prompt import prompt_sha256
from wsisurv.reports.rules import RULES_VERSION, extract_rules
from wsisurv.reports.server_errors import ServerBrokenError
from wsisurv.reports.sources import Reports, read_reports
from wsisurv.reports.vectors import write_vectors
from wsisurv.settings.base import fingerprint
from wsisurv.settings.reports import ReportSettings
from wsisurv.units import shown_name
from wsisurv.workspace.freshness import Condition, Freshness, Origin, compare, require_fresh
from wsisurv.workspace.ledger import (
    Failure,
    Summary,
    exclusive,
    forget_failures,
    make_failure,
    read_failures,
    record_failure,
)
from wsisurv.workspace.paths import Workspace

STEP = "extract-report"
_IN_A_ROW = 5
"""Reports that may fail one after the other through the backend before the run stops."""
_SHOWN = 5


@dataclass(frozen=True)
class _Backend:
    """What reads one report, with all the settings that can change what it reads."""

    settings: ReportSettings
    read: Callable[[str], Extraction]
    give_up: Callable[[], None]
    """Drops what is under way in other threads."""


def extract(
    workspace: Workspace,
    source: Path,
    settings: ReportSettings | None = None,
    *,
    host: str | None = None,
    allow_remote: bool = False,
    pull: bool = False,
    concurrency: int = 1,
    timeout_s: float = 600,
    patience: Patience | None = None,
    shard: Shard | None = None,
    redo: bool = False,
    text_encoder: str = "hashing",
    log_text: bool = False,
    progress: Progress = no_progress,
) -> Summary:
    """Extract the statements of all reports in ``source``, prove them, and write their vectors.

    A report is done when the workspace holds a record with the fingerprint of (text, settings), and the settings hold
    the prompt's and the schema's sha256, the model's digest and its options, or the version of the rules. The window
    (``num_ctx``) is not among them: nothing is ever cut to it, and a longer report that is added later must not make
    all others stale. Cases of the workspace that ``source`` does not have keep their records: reports may be brought
    in several parts.

    Args:
        workspace: where statements.jsonl, rejected.jsonl, the vectors and the failures are written.
        source: folder of .txt, or CSV or JSONL, as ``read_reports`` takes it.
        settings: backend, model and what to keep, None for the defaults; digests and versions are filled in here.
        host: the Ollama server, as ``server_url`` takes it.
        allow_remote: accept a host or a model that is not on this machine.
        pull: fetch the model where the server does not have it.
        concurrency: reports under way at once; more than the server's own (OLLAMA_NUM_PARALLEL) only waits there.
        timeout_s: seconds to wait for the next piece of an answer.
        patience: how long a busy server is waited for.
        shard: read this part of the reports only; the last of all shares to end puts the lines into the source's order
            and writes the vectors.
        redo: make anew the records that were made with other settings or from another text.
        text_encoder: what makes the statements' vectors.
        log_text: write every passage and answer into ``reports/exchanges.jsonl``; without it no report text is
            written anywhere but in the evidence of statements.
        progress: told after each report.

    Returns:
        What was done, kept and failed. Where another process is at work on the reports of this workspace, or on this
        share of them, its cases are in ``elsewhere`` and nothing is done.

    Raises:
        ReportError: the source can't be read (a .txt among readable ones that can't be is a failure instead).
        SettingsError: no model, or one whose context is too small.
        BackendError: no server, no model, or five reports in a row that failed; what is done is kept.
        BusyError: another process extracts with other settings here now.
        StaleError: records were made otherwise; raised before any report is read.
        StorageError: no room.

    Example:
        >>> import wsisurv
        >>> place = wsisurv.Workspace(Path("workspace"))  # doctest: +SKIP
        >>> wsisurv.extract_report(place, Path("reports"), wsisurv.ReportSettings(model="qwen3:8b"))  # doctest: +SKIP
    """
    settings = settings or ReportSettings()
    reports = read_reports(source, strict=False)
    summary = Summary(STEP, notes=list(reports.notes))
    contact = _Contact(host, allow_remote, pull, concurrency, timeout_s, patience or Patience())
    asked = settings.model_dump(mode="json")
    mine = list(reports) if shard is None else shard.of(list(reports))
    item = "statements" if shard is None else f"statements-{shard.number}-of-{shard.count}"
    with workspace.claim_settings(STEP, asked), workspace.claim(STEP, item) as claimed:
        if not claimed:
            summary.elsewhere.extend(mine)
            return summary
        with open_text_encoder(
            text_encoder, host=host, allow_remote=allow_remote, pull=pull, timeout_s=timeout_s, progress=progress
        ) as encoder:
            exchange = _exchange_log(workspace) if log_text else None
            with _opened(settings, reports, contact, exchange, progress) as backend:
                left = _extract(workspace, reports, mine, backend, concurrency, redo, progress, summary)
            if left and shard is not None:
                summary.notes.append(
                    f"{left} reports are left to other shares: the one that ends last writes the vectors"
                )
            else:
                _write_vectors(workspace, text_encoder, encoder, summary)
    return summary


def check_extract(
    workspace: Workspace,
    source: Path,
    settings: ReportSettings,
    *,
    host: str | None = None,
    allow_remote: bool = False,
    pull: bool = False,
    timeout_s: float = 10,
    redo: bool = False,
    text_encoder: str = "hashing",
) -> list[str]:
    """List what would stop ``extract`` before any report is read; asks the server for its models, and writes nothing.

    Args as ``extract``'s; a model that the server lacks is no problem with ``pull``.
    """
    problems: list[str] = []
    try:
        reports = read_reports(source, strict=False)
    except WsisurvError as error:
        problems.append(str(error))
        reports = Reports({}, {})
    contact = _Contact(host, allow_remote, False, 1, timeout_s, Patience())
    try:
        with _opened(settings, reports, contact, None, no_progress) as backend:
            if workspace.statements.exists() and not redo:
                wanted = {case_id: _fingerprint(backend.settings, text) for case_id, text in reports.items()}
                _refuse_stale(workspace, reports, backend.settings, read_statements(workspace.statements), wanted)
    except WsisurvError as error:
        problems += [] if pull and isinstance(error, ModelNotPulledError) else [str(error)]
    try:
        with open_text_encoder(text_encoder, host=host, allow_remote=allow_remote, timeout_s=timeout_s):
            pass
    except WsisurvError as error:
        problems += [] if pull and isinstance(error, ModelNotPulledError) else [str(error)]
    return list(dict.fromkeys(problems))


def _write_vectors(workspace: Workspace, name: str, encoder: TextEncoder | None, summary: Summary) -> None:
    if not workspace.statements.exists():
        return  # every report failed
    if encoder is None:
        write_vectors(workspace, name)
        return
    write_vectors(workspace, name, encode=encoder.encode, digest=encoder.digest)
    summary.notes.extend(note for note in (encoder.license_note, encoder.cut_note) if note)
    if encoder.refused:
        words = f"{len(encoder.refused)} statements have no vector: {encoder.refused[0]}"
        failure = make_failure(name, workspace.vectors(name), BackendError(words), encoder.digest)
        _fail(workspace, summary, failure)


@dataclass(frozen=True)
class _Contact:
    """How the server is reached: all that can't change a result."""

    host: str | None
    allow_remote: bool
    pull: bool
    concurrency: int
    timeout_s: float
    patience: Patience


@contextmanager
def _opened(
    settings: ReportSettings, reports: Reports, contact: _Contact, exchange: Exchange | None, progress: Progress
) -> Iterator[_Backend]:
    """The backend that was asked for, and no other."""
    if settings.backend == "rules":
        if settings.ask == "labels":
            raise SettingsError("--ask labels is a question to a model: it goes with --backend ollama, not with rules.")
        filled = ReportSettings(
            backend="rules", keep=settings.keep, rules_version=RULES_VERSION, proof_version=PROOF_VERSION
        )
        yield _Backend(filled, lambda text: extract_rules(text, keep=settings.keep), lambda: None)
        return
    with Server(
        contact.host,
        allow_remote=contact.allow_remote,
        timeout_s=contact.timeout_s,
        connections=contact.concurrency,
    ) as server:
        model = server.find_model(settings.model, pull=contact.pull, progress=progress)
        plan = make_plan(model, settings.keep, list(reports.values()), settings.options)
        filled = settings.model_copy(
            update={
                "model": model.name,
                "model_digest": model.digest,
                "prompt": prompt_sha256(settings.keep, settings.ask),
                "rules_version": RULES_VERSION if settings.ask == "labels" else None,
                "proof_version": PROOF_VERSION,
                "options": {**plan.options, "passage_chars": plan.passage_chars},
            }
        )
        asker = Asker(server, model, plan, settings.keep, settings.ask == "labels", contact.patience, exchange)
        yield _Backend(filled, asker.extract, asker.give_up)


def _exchange_log(workspace: Workspace) -> Exchange:
    path, lock = workspace.statements.with_name("exchanges.jsonl"), threading.Lock()

    def write(passage: str, answer: str) -> None:
        with lock, exclusive(workspace, "exchanges"):
            append_jsonl(path, {"passage": passage, "answer": answer})

    return write


def _extract(
    workspace: Workspace,
    reports: Reports,
    mine: Collection[str],
    backend: _Backend,
    concurrency: int,
    redo: bool,
    progress: Progress,
    summary: Summary,
) -> int:
    """Read the reports of this share; gives how many of all are neither read nor failed then."""
    wanted = {case_id: _fingerprint(backend.settings, text) for case_id, text in reports.items()}
    records = read_statements(workspace.statements) if workspace.statements.exists() else {}
    if not redo:
        _refuse_stale(workspace, reports, backend.settings, records, wanted)
    summary.kept.extend(case for case in mine if case in records and records[case].fingerprint == wanted[case])
    kept = set(summary.kept)
    todo = {case_id: reports[case_id] for case_id in mine if case_id not in kept}
    for case_id, unreadable in reports.unreadable.items():
        _fail(workspace, summary, make_failure(case_id, Path(reports.places[case_id]), unreadable, ""))
    in_a_row = 0
    try:
        with closing(_results(todo, backend, concurrency)) as results:
            for case_id, result in results:
                progress(len(summary.kept) + len(summary.done) + len(summary.failed), len(mine), case_id)
                if isinstance(result, Extraction):
                    _write(workspace, case_id, reports[case_id], result, backend.settings)
                    summary.done.append(case_id)
                    in_a_row = 0
                    continue
                _fail(workspace, summary, make_failure(case_id, Path(reports.places[case_id]), result, wanted[case_id]))
                if isinstance(result, ServerBrokenError | ModelNotPulledError):
                    raise OllamaUnavailableError(
                        f"{result} Every other report would fail for the same reason, so the run stopped at {case_id}. "
                        "What is done is kept: run the same command again to go on."
                    )
                in_a_row = in_a_row + 1 if isinstance(result, BackendError) else 0
                if in_a_row == _IN_A_ROW:
                    raise OllamaUnavailableError(
                        f"{in_a_row} reports in a row failed, so the run stopped. The last one: {result} "
                        "What is done is kept: run the same command again to go on."
                    )
        progress(len(mine), len(mine), "")
    finally:
        forget_failures(workspace, STEP, [*summary.done, *summary.kept])
        left = _left(workspace, wanted)
        _tidy(workspace, reports if len(mine) < len(reports) and not left else {})
    _add_notes(workspace, reports, mine, wanted, summary)
    return left


def _left(workspace: Workspace, wanted: Mapping[str, str]) -> int:
    """How many reports have neither a record of their fingerprint nor a failure of it."""
    records = read_statements(workspace.statements) if workspace.statements.exists() else {}
    failed = {(failure.id, failure.fingerprint) for failure in read_failures(workspace, STEP)}
    return sum(
        (case_id not in records or records[case_id].fingerprint != fingerprint)
        and (shown_name(case_id), fingerprint) not in failed
        for case_id, fingerprint in wanted.items()
    )


def _fingerprint(settings: ReportSettings, text: str) -> str:
    return fingerprint(settings, {"report": _sha256(text)})


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _refuse_stale(
    workspace: Workspace,
    reports: Reports,
    settings: ReportSettings,
    records: Mapping[str, ReportRecord],
    wanted: Mapping[str, str],
) -> None:
    new = settings.model_dump(mode="json")
    changes: set[str] = set()
    for case_id, text in reports.items():
        record = records.get(case_id)
        if record is not None:
            also = [f"the text of {case_id} is another"] if record.report_sha256 != _sha256(text) else []
            made = Origin(record.fingerprint, record.settings)
            changes.update(compare(made, Origin(wanted[case_id], new), also=also).changes)
    if changes:
        require_fresh({workspace.statements: Freshness(Condition.STALE, tuple(sorted(changes)[:_SHOWN]))})


def _results(
    todo: Mapping[str, str], backend: _Backend, concurrency: int
) -> Generator[tuple[str, Extraction | WsisurvError | OSError], None, None]:
    """What each report gave or why it failed, as they come; giving up stops what is under way."""
    attempt = Attempt[str, Extraction](lambda case_id: backend.read(todo[case_id]))
    return finished(attempt, todo, concurrency, give_up=backend.give_up)


def _write(workspace: Workspace, case_id: str, text: str, extraction: Extraction, settings: ReportSettings) -> None:
    """Prove and write one report. Its record comes last, so that what is rejected is there when it counts as done."""
    grounded = ground(case_id, extraction.claims, text)
    record = ReportRecord(
        case_id=case_id,
        fingerprint=_fingerprint(settings, text),
        report_sha256=_sha256(text),
        statements=grounded.statements,
        left_out=extraction.left_out,
        rejected=len(grounded.rejected),
        settings=settings.model_dump(mode="json"),
        salvaged=extraction.salvaged,
    )
    with exclusive(workspace, "statements"):  # other shares write the same files
        for rejected in grounded.rejected:
            append_jsonl(workspace.rejected, rejected.model_dump(mode="json"))
        append_jsonl(workspace.statements, record.as_line())


def _fail(workspace: Workspace, summary: Summary, failure: Failure) -> None:
    record_failure(workspace, STEP, failure)
    summary.failed.append(failure)


def _tidy(workspace: Workspace, order: Collection[str]) -> None:
    """Take out lines that a newer one of the same case replaced, and rejections that a killed run wrote twice.

    Args:
        workspace: whose lines they are.
        order: cases that are to stand in this order, after all others; shares wrote them as they came.
    """
    if workspace.statements.exists():
        with exclusive(workspace, "statements"):
            _tidy_alone(workspace, order)


def _tidy_alone(workspace: Workspace, order: Collection[str]) -> None:
    written_records = read_statements(workspace.statements)
    records = {case_id: record for case_id, record in written_records.items() if case_id not in order}
    records |= {case_id: written_records[case_id] for case_id in order if case_id in written_records}
    if len(read_jsonl(workspace.statements)) > len(records) or list(records) != list(written_records):
        write_jsonl(workspace.statements, (record.as_line() for record in records.values()))
    by_case: dict[str, list[RejectedRecord]] = {}
    written = read_rejected(workspace.rejected)
    for rejected in written:
        by_case.setdefault(rejected.case_id, []).append(rejected)
    current = [
        rejected
        for case_id, record in records.items()
        for rejected in by_case.get(case_id, [])[-record.rejected :]
        if record.rejected
    ]
    if len(current) < len(written) or (order and current != written):
        write_jsonl(workspace.rejected, (rejected.model_dump(mode="json") for rejected in current))


def _add_notes(
    workspace: Workspace, reports: Reports, mine: Collection[str], wanted: Mapping[str, str], summary: Summary
) -> None:
    if not workspace.statements.exists():
        return
    records = read_statements(workspace.statements)
    current = {case: records[case] for case in mine if case in records and records[case].fingerprint == wanted[case]}
    statements = sum(len(record.statements) for record in current.values())
    rejected = sum(record.rejected for record in current.values())
    summary.notes.append(f"{statements} statements proved in {len(current)} reports, {rejected} rejected")
    refused = [rejected for rejected in read_rejected(workspace.rejected) if rejected.case_id in current]
    parroted = [rejected for rejected in refused if rejected.reason == PARROTED]
    _note(
        summary,
        sorted({rejected.case_id for rejected in parroted}),
        f"reports have statements ({len(parroted)} in all) that the model parroted from the prompt's worked example, "
        "which are refused; a larger model does so less",
    )
    cut = {case: record.salvaged for case, record in current.items() if record.salvaged is not None}
    _note(
        summary,
        sorted(cut),
        f"reports were read in part, since an answer ended at the token limit; {sum(cut.values())} statements before "
        "the cut were taken",
    )
    strange = [rejected for rejected in refused if rejected.reason.startswith(LANGUAGE_REFUSED)]
    _note(
        summary,
        sorted({rejected.case_id for rejected in strange}),
        f"reports have statements ({len(strange)} in all) in a language whose negations the proof does not know, "
        "which are refused",
    )
    left_out: dict[str, int] = {}
    for record in current.values():
        for kind, count in record.left_out.items():
            left_out[kind] = left_out.get(kind, 0) + count
    if left_out:
        summary.notes.append("left out: " + ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items())))
    _note(summary, [case for case, record in current.items() if not record.statements], "reports gave no statement")
    _note(
        summary, sorted(records.keys() - reports.keys()), "cases have statements of reports that are not in the source"
    )
    _note(
        summary,
        [case for case in mine if case in records and case not in current],
        "cases still have statements that were made otherwise",
    )


def _note(summary: Summary, cases: list[str], what: str) -> None:
    if cases:
        more = ", …" if len(cases) > _SHOWN else ""
        summary.notes.append(f"{len(cases)} {what}: {', '.join(cases[:_SHOWN])}{more}")
