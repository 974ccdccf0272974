"""What a risk adds to covariates, by a likelihood-ratio test on cases that it was not fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsisurv.errors import MetricError
from wsisurv.experiments.tested import Tested, join_repeats
from wsisurv.survival.covariates import encode_covariates, make_columns
from wsisurv.survival.cox import cox_within


@dataclass(frozen=True)
class Added:
    """Likelihood-ratio test of a model's out-of-fold risk beside the covariates.

    Both Cox models are fitted on the tested cases, within folds: the covariates' coefficients are those that suit these
    very cases best, the model's risk comes from fits that have not seen them. So the test favours the covariates. A
    risk that would have to be turned round counts as adding nothing: out-of-fold risks of a model that has learned
    nothing lean that way, so that a two-sided test would find something in 15 % of pure noise instead of 5 %.
    """

    model: str  # whose risk was added
    # of each repeat, chi-squared with one degree of freedom if the risk adds nothing; 0 where the coefficient is
    # negative
    statistic: tuple[float, ...]
    p_values: tuple[float, ...]  # of each repeat
    # of all: the median, doubled where there are several repeats, which holds however they depend on each other
    p: float
    log_hazard_ratio: float  # coefficient of the standardised risk beside the covariates, mean over repeats


def added_to_covariates(tested: Tested, model: int, name: str, covariates: Sequence[str]) -> Added:
    """Test what a risk adds to covariates.

    Args:
        tested: cases that the risk was not fitted on.
        model: number of the risk in its folds.
        name: of it.
        covariates: to add to.

    Raises:
        MetricError: a covariate that no case has, risks that are all alike, or a fit that fails.
    """
    from scipy.stats import chi2

    numbers = encode_covariates(make_columns(tested.cases, covariates), tested.cases)
    numbers = np.nan_to_num(numbers - np.nanmean(numbers, axis=0))
    statistics, ratios = [], []
    for repeat in join_repeats(tested.folds):
        rows, risk = repeat.rows, repeat.log_hazard[model]
        centred = risk - np.array([risk[repeat.fold == fold].mean() for fold in repeat.fold])
        if centred.std() < 1e-12 * np.abs(risk).max(initial=1.0):
            raise MetricError("all cases of a fold have the same risk")
        both = np.column_stack([numbers[rows], centred / centred.std()])
        base, full = (
            cox_within(
                variables=variables,
                fold=repeat.fold,
                time=tested.time[rows],
                event=tested.event[rows],
                entry=None if tested.entry is None else tested.entry[rows],
            )
            for variables in (numbers[rows], both)
        )
        ratios.append(float(full.coefficients[-1]))
        statistics.append(max(2 * (full.log_likelihood - base.log_likelihood), 0.0) if ratios[-1] > 0 else 0.0)
    p_values = [float(chi2.sf(statistic, 1)) for statistic in statistics]
    doubled = 2 if len(p_values) > 1 else 1  # Meinshausen et al., JASA 2009;104:1671, with γ = 1/2
    return Added(
        model=name,
        statistic=tuple(statistics),
        p_values=tuple(p_values),
        p=min(1.0, doubled * float(np.median(p_values))),
        log_hazard_ratio=float(np.mean(ratios)),
    )
