"""``wsisurv extract-report``."""

from pathlib import Path
from typing import Annotated

import typer

from wsisurv.cli.console import finish, progress_bar, report
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import DEFAULT_WORKSPACE, RedoOption, ShardOption, WorkspaceOption
from wsisurv.engine.shards import parse_shard
from wsisurv.settings.reports import ReportSettings
from wsisurv.workspace.paths import Workspace


@settings_as_options()
def extract_report(
    *,
    reports: Annotated[
        Path, typer.Argument(help="Folder of .txt files named by case, or a CSV or JSONL with case_id and text.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    settings: ReportSettings,
    host: Annotated[
        str | None, typer.Option(help="Address of the Ollama server.", show_default="$OLLAMA_HOST or 127.0.0.1:11434")
    ] = None,
    text_encoder: Annotated[
        str,
        typer.Option(
            help="Text encoder, which makes a vector of each statement: hashing (words counted; no model), tfidf "
            "(weighted words, fitted in training), minilm or minilm:PATH (all-MiniLM-L6-v2), ollama:MODEL, or st:PATH "
            "(sentence-transformers)."
        ),
    ] = "hashing",
    concurrency: Annotated[
        int,
        typer.Option(
            min=1,
            help="Reports sent to the server at the same time. Four took a quarter less time on one thread; a server "
            "that answers several in one batch rounds otherwise, so answers may differ from those of one at a time, at "
            "temperature 0 as well.",
        ),
    ] = 1,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for the next piece of a model's answer.")
    ] = 600,
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote", help="Allow a server or model on another machine: patient text then leaves this one."
        ),
    ] = False,
    pull: Annotated[
        bool, typer.Option("--pull", help="Let the server download the model first, where it lacks it.")
    ] = False,
    log_text: Annotated[
        bool, typer.Option("--log-text", help="Log every passage and answer in reports/exchanges.jsonl.")
    ] = False,
    shard: ShardOption = None,
    redo: RedoOption = False,
) -> None:
    """Step 3: extract from each report the findings that a slide can show, each proved by a verbatim quote.

    Reads the reports. Writes reports/statements.jsonl (one line a report), reports/rejected.jsonl and
    reports/vectors/TEXT-ENCODER.h5 into the workspace. No text leaves this machine, unless --allow-remote.
    """
    from wsisurv.reports.step import extract

    with progress_bar("extract-report") as progress:
        summary = extract(
            Workspace(workspace),
            reports,
            settings,
            host=host,
            allow_remote=allow_remote,
            pull=pull,
            concurrency=concurrency,
            timeout_s=timeout,
            shard=parse_shard(shard),
            redo=redo,
            text_encoder=text_encoder,
            log_text=log_text,
            progress=progress,
        )
    report(summary, f"statements in {workspace / 'reports' / 'statements.jsonl'}")
    finish(summary)
