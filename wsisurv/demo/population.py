"""Who the demo's patients are: morphologies, hospitals, covariates and the follow-up that they give rise to.

Everything here is drawn before any slide or report exists, so it can be simulated for thousands of cases in no time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import SettingsError

MorphologyName = Literal[
    "high_grade_nuclei", "lymphocyte_infiltrate", "necrosis", "mucin", "desmoplastic_stroma", "gland_formation"
]


@dataclass(frozen=True)
class Morphology:
    """Something that can be seen on a slide, and what it does to the hazard."""

    name: MorphologyName
    weight: float
    """Log hazard per standard deviation of the share; 0 does nothing."""
    absent: float
    """Share of the cases without any of it."""
    least: float
    """Smallest share of the tissue's area where there is any; ``gland_formation``: of the glandular tumour's."""
    most: float
    """Largest share of the same."""

    def draw(self, random: np.random.Generator) -> float:
        """A case's share: none, or anything between ``least`` and ``most``."""
        share = random.uniform(self.least, self.most)
        return float(share) if random.random() >= self.absent else 0.0

    def standardised(self, share: float) -> float:
        """``share`` as standard deviations from the population's mean."""
        present = 1 - self.absent
        mean = present * (self.least + self.most) / 2
        square = present * (self.least**2 + self.least * self.most + self.most**2) / 3
        return float((share - mean) / (square - mean**2) ** 0.5)


# Rare on the slide and absent from many cases, as the prognostic phenotypes of real tumours are: with large shares, the
# mean of a slide's tiles would reveal the hazard, and neither attention nor a report could add to it.
MORPHOLOGIES = (
    Morphology("high_grade_nuclei", weight=+1.1, absent=0.4, least=0.015, most=0.08),
    Morphology("lymphocyte_infiltrate", weight=-1.0, absent=0.4, least=0.01, most=0.07),
    Morphology("necrosis", weight=+0.9, absent=0.45, least=0.008, most=0.06),
    Morphology("mucin", weight=0.0, absent=0.4, least=0.02, most=0.15),
    Morphology("desmoplastic_stroma", weight=0.0, absent=0.3, least=0.04, most=0.25),
    Morphology("gland_formation", weight=0.0, absent=0.25, least=0.35, most=0.95),
)
"""What the demo's slides show. Weights other than 0 drive the hazard; stain, hospital and pen marks never do."""

AGE_WEIGHT = 0.45
"""Log hazard per standard deviation of age."""
STAGE_WEIGHT = 0.5
"""Log hazard per standard deviation of stage (1 to 4)."""
MEAN_AGE, SD_AGE = 66.0, 10.5
STAGE_SHARES = (0.2, 0.35, 0.3, 0.15)
BASELINE_DAYS = 1800.0
"""Scale of the Weibull time at log hazard 0, in days."""
WEIBULL_SHAPE = 1.2
EVENT_SHARE = 0.36
"""Each hospital follows until about this share of its patients has had the event."""


@dataclass(frozen=True)
class Hospital:
    """Where slides were cut, stained and scanned: none of it has to do with the patients' outcome."""

    name: str
    share: float
    """Share of all cases."""
    mpp: float
    """Resolution of its scanner, µm per pixel."""
    haematoxylin: tuple[float, float, float]
    """Optical density of its haematoxylin in red, green, blue at concentration 1."""
    eosin: tuple[float, float, float]
    strength: tuple[float, float]
    """Its usual concentration of haematoxylin and of eosin."""
    glass: tuple[int, int, int]
    """RGB of its empty glass."""


HOSPITALS = (
    Hospital("H1", 0.28, 0.5, (0.60, 0.70, 0.34), (0.16, 0.78, 0.42), (1.00, 1.00), (243, 243, 245)),
    Hospital("H2", 0.22, 0.5, (0.62, 0.72, 0.28), (0.10, 0.70, 0.32), (1.12, 0.74), (246, 244, 246)),
    Hospital("H3", 0.18, 0.4, (0.54, 0.72, 0.42), (0.22, 0.82, 0.52), (0.78, 1.22), (240, 241, 240)),
    Hospital("H4", 0.12, 0.46, (0.62, 0.66, 0.38), (0.14, 0.74, 0.36), (1.05, 1.05), (244, 240, 243)),
    Hospital("H5", 0.20, 0.5, (0.56, 0.66, 0.44), (0.20, 0.84, 0.36), (1.20, 0.84), (245, 245, 241)),
)
"""The last one is held out."""


@dataclass(frozen=True)
class DemoCase:
    """One simulated patient."""

    case_id: str
    number: int
    hospital: Hospital
    held_out: bool
    age: int
    stage: int
    shares: Mapping[MorphologyName, float]
    log_hazard: float
    """Morphology, age and stage together: the truth that no model is shown."""
    days: float
    event: bool
    slide_ids: tuple[str, ...]
    has_report: bool


def morphology_log_hazard(shares: Mapping[MorphologyName, float]) -> float:
    """Sum of weight times standardised share."""
    return sum(one.weight * one.standardised(shares[one.name]) for one in MORPHOLOGIES)


def clinical_log_hazard(age: int, stage: int) -> float:
    """What age and stage add, whatever the morphology."""
    stages = np.arange(1, len(STAGE_SHARES) + 1)
    mean = float(np.average(stages, weights=STAGE_SHARES))
    sd = float(np.sqrt(np.average((stages - mean) ** 2, weights=STAGE_SHARES)))
    return AGE_WEIGHT * (age - MEAN_AGE) / SD_AGE + STAGE_WEIGHT * (stage - mean) / sd


def simulate_population(cases: int, seed: int) -> tuple[DemoCase, ...]:
    """Draw patients, their follow-up and what their slides will show.

    Args:
        cases: how many, the held-out hospital's included.
        seed: the same seed gives the same patients.

    Raises:
        SettingsError: too few cases for every hospital to have three, or a negative seed.
    """
    if cases < 5 * len(HOSPITALS):
        raise SettingsError(f"{cases} cases asked: the demo needs at least {5 * len(HOSPITALS)}")
    if seed < 0:
        raise SettingsError(f"seed {seed} asked: it must be 0 or more")
    population: list[DemoCase] = []
    for hospital, count in zip(HOSPITALS, _counts(cases), strict=True):
        first = len(population)
        drawn = [_draw(first + number, hospital, seed) for number in range(count)]
        population += _follow(drawn, np.random.default_rng([seed, 1, first]))
    return tuple(population)


def _counts(cases: int) -> list[int]:
    """Cases a hospital by its share; the held-out one gets a fifth to the nearest, the first what is left over."""
    counts = [round(hospital.share * cases) for hospital in HOSPITALS]
    counts[0] += cases - sum(counts)
    return counts


def _draw(number: int, hospital: Hospital, seed: int) -> DemoCase:
    """A patient before follow-up."""
    random = np.random.default_rng([seed, 0, number])
    age = int(np.clip(round(random.normal(MEAN_AGE, SD_AGE)), 31, 92))
    stage = 1 + int(random.choice(len(STAGE_SHARES), p=STAGE_SHARES))
    shares = {one.name: one.draw(random) for one in MORPHOLOGIES}
    case_id = f"DEMO-{hospital.name}-{number + 1:04d}"
    return DemoCase(
        case_id=case_id,
        number=number,
        hospital=hospital,
        held_out=hospital is HOSPITALS[-1],
        age=age,
        stage=stage,
        shares=shares,
        log_hazard=morphology_log_hazard(shares) + clinical_log_hazard(age, stage),
        days=0.0,
        event=False,
        slide_ids=tuple(f"{case_id}-{letter}" for letter in "AB"[: 1 + int(random.random() < 0.15)]),
        has_report=bool(random.random() < 0.9),
    )


def _follow(drawn: list[DemoCase], random: np.random.Generator) -> list[DemoCase]:
    """Follow a hospital's patients: Weibull times, censored at times that know nothing of the patient.

    Source: Bender, Augustin, Blettner, Generating survival times to simulate Cox proportional hazards models,
    Stat Med 2005, equation for the Weibull distribution.
    """
    log_hazard = np.array([one.log_hazard for one in drawn])
    uniform = 1 - random.random(len(drawn))  # in (0, 1]: its logarithm is finite
    death = BASELINE_DAYS * (-np.log(uniform) / np.exp(log_hazard)) ** (1 / WEIBULL_SHAPE)
    leaving = random.uniform(0.25, 1.75, len(drawn))
    leaving *= _follow_up_scale(death, leaving)
    days = np.maximum(1, np.round(np.minimum(death, leaving)))
    return [
        replace(one, days=float(days[row]), event=bool(death[row] <= leaving[row])) for row, one in enumerate(drawn)
    ]


def _follow_up_scale(death: NDArray[np.float64], leaving: NDArray[np.float64]) -> float:
    """Length of follow-up at which ``EVENT_SHARE`` of the patients has the event before leaving."""
    ratios = np.sort(death / leaving)  # the event is seen when the follow-up is longer than this
    seen = round(EVENT_SHARE * len(ratios))
    return float(np.sqrt(ratios[seen - 1] * ratios[seen]))
