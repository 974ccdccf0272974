"""``predict`` in a job array: each share writes what it predicted, and the last to end puts the table together."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wsisurv.engine.shards import Shard
from wsisurv.formats import features
from wsisurv.formats.risk_shares import RiskShare, read_share, write_share
from wsisurv.prediction.step import Prediction
from wsisurv.workspace.index import read_headers
from wsisurv.workspace.ledger import Failure
from wsisurv.workspace.paths import Workspace


def put_together(
    home: Workspace,
    encoder: str,
    slides: Mapping[str, Sequence[str]],
    table: Path,
    shard: Shard,
    made_of: str,
    prediction: Prediction,
    *,
    jsonl: bool,
) -> tuple[Prediction, int, bool]:
    """Write a share down, and take in the others where all have ended.

    Args:
        home: where the features are.
        encoder: of the features.
        slides: all cases, with their slides.
        table: the table that the shares are of.
        shard: the share that has ended.
        made_of: fingerprint of all that decides the table but the features.
        prediction: of the share.
        jsonl: whether the share was asked for the rows as JSONL too.

    Returns:
        The prediction of all cases, 0, and whether any share was asked for JSONL; or the share's own, and how many
        shares have not ended. One that read other features than are there now, or had other settings, counts as one of
        them.

    Raises:
        FormatError: the file of a share is damaged.
        StorageError: no room or no permission.
    """
    of_share = {
        number: [slide_id for case in Shard(number, shard.count).of([*slides.values()]) for slide_id in case]
        for number in range(1, shard.count + 1)
    }
    own = _now(home, encoder, of_share[shard.number])
    failed = tuple(map(vars, prediction.failed))
    mine = RiskShare(made_of, own, prediction.risks, prediction.findings, failed, jsonl)
    write_share(table, shard.number, shard.count, mine)
    shares = [read_share(table, number, shard.count) for number in of_share]
    fit = [share for share in shares if share is not None and share.fingerprint == made_of]
    if len(fit) == shard.count:  # only then are all headers asked
        fit = [
            share
            for number, share in enumerate(fit, start=1)
            if share.features == _now(home, encoder, of_share[number])
        ]
    if left := shard.count - len(fit):
        return prediction, left, jsonl
    failures = [Failure(**one) for share in fit for one in share.failed]
    return (
        Prediction(
            risks=tuple(sorted((one for share in fit for one in share.risks), key=lambda risk: risk.case_id)),
            failed=tuple(sorted(failures, key=lambda failure: failure.id)),
            findings=tuple(sorted((one for share in fit for one in share.findings), key=lambda one: one.case_id)),
        ),
        0,
        any(share.jsonl for share in fit),
    )


def _now(home: Workspace, encoder: str, slide_ids: Sequence[str]) -> dict[str, str]:
    """The fingerprint of each slide's features; empty where they are not there or can't be read."""
    at = {slide_id: home.features(encoder, slide_id) for slide_id in slide_ids}
    found = read_headers(home, [*at.values()], features.FORMAT, features.MADE_BY)
    return {slide_id: found[path].fingerprint if path in found else "" for slide_id, path in at.items()}
