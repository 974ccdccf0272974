"""Risk read from predicted findings alone: tiles → what a report would state → Cox regression (a concept bottleneck).

Source: Koh PW et al. Concept bottleneck models. ICML 2020.
"""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Cohort
from wsisurv.errors import MetricError
from wsisurv.formats.statements import ReportRecord, read_statements
from wsisurv.models.finding_table import KINDS, make_table
from wsisurv.settings.findings import FindingsSettings
from wsisurv.survival.ridge import choose_ridge
from wsisurv.training.finding_figures import why_no_head
from wsisurv.training.findings import fit_findings, mean_tiles_of
from wsisurv.training.inputs import read_training_cases
from wsisurv.workspace.paths import Workspace

_FEWEST = 20
_FEWEST_IN_TRAINING = 10


def findings_settings(workspace: Workspace, case_ids: Collection[str], encoder: str) -> FindingsSettings | None:
    """How heads are fitted in folds; None where too few of the cases' reports state, or lack, any finding.

    Raises:
        FormatError: the statements are damaged.
    """
    if not workspace.statements.exists():
        return None
    table = make_table(read_statements(workspace.statements), sorted(case_ids))
    if all(why_no_head(table.target(kind), _FEWEST) for kind in range(len(KINDS))):
        return None
    return FindingsSettings(encoder=encoder, fewest=_FEWEST_IN_TRAINING)


def risk_from_findings(
    workspace: Workspace,
    trained: Cohort,
    records: Mapping[str, ReportRecord],
    tested: Mapping[str, NDArray[np.floating]],
    settings: FindingsSettings,
    memory_gib: float | None = None,
) -> NDArray[np.float64] | None:
    """Log hazard of tested cases by a ridge Cox regression on what heads say of each finding.

    Heads and regression are fitted on the training cases alone, the regression on log odds out of fold. All findings
    with cases enough take part, told or not: the ridge weighs them.

    Args:
        workspace: holds the features.
        trained: the training cases.
        records: statements by case; only those of training cases are looked at.
        tested: case_id → its tiles.
        settings: of the heads.
        memory_gib: what features may take in memory; None for half of the machine's.

    Returns:
        float64 (n_tested,); None where no finding has cases enough, or no pair of training cases can be compared.
    """
    cases = read_training_cases(
        workspace,
        trained,
        encoder=settings.encoder,
        text_encoder=None,
        allow_random_weights=True,  # that was decided when the fold was trained
        memory_gib=memory_gib,
    )
    fitted = fit_findings(
        make_table(records, cases.case_ids), cases.site, mean_tiles_of(cases.bags), cases.bags, settings
    )
    known = fitted.crossed.log_odds
    spread = known.std(axis=0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-9)
    if not scale.any():
        return None
    try:
        fit = choose_ridge(
            variables=known * scale, time=cases.time, event=cases.event, entry=cases.entry, site=cases.site
        )
    except MetricError:
        return None
    heads = fitted.crossed.heads
    said = [[float(head.log_odds(tiles).mean()) for head in heads] for tiles in tested.values()]
    return fit.log_hazard(np.array(said).reshape(len(tested), len(heads)) * scale)
