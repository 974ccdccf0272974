"""A small cohort at the level of features: phenotypes on tiles, some of them prognostic, and reports that name them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case, Cohort
from wsisurv.formats.features import Features, write_features
from wsisurv.formats.header import make_header
from wsisurv.formats.text_vectors import FORMAT as VECTORS
from wsisurv.formats.text_vectors import TextVectors, write_text_vectors
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.units import CaseId, SlideId
from wsisurv.workspace.paths import Workspace

N_PHENOTYPES = 12
EFFECTS = {9: 1.0, 10: 0.8, 11: -0.8}
"""Log hazard a standard deviation of the phenotype's log share; those three are 2.5 to 5 % of the tiles."""


@dataclass(frozen=True)
class World:
    """What all cohorts of one simulation share: how phenotypes look, and how they are spoken of."""

    looks: NDArray[np.float64]
    words: NDArray[np.float64]
    degrees: NDArray[np.float64]
    stains: NDArray[np.float64]


@dataclass(frozen=True)
class Simulated:
    """A cohort in memory; ``bags`` and ``reports`` have one entry a case, a report may be None."""

    bags: list[NDArray[np.float16]]
    reports: list[NDArray[np.float32] | None]
    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    site: list[str]
    truth: NDArray[np.float64]


def make_world(seed: int, n_features: int = 64, n_words: int = 48, n_sites: int = 6, apart: float = 0.55) -> World:
    rng = np.random.default_rng(seed)
    return World(
        rng.normal(0, apart, (N_PHENOTYPES, n_features)),
        rng.normal(0, 1, (N_PHENOTYPES, n_words)),
        rng.normal(0, 1, (N_PHENOTYPES, n_words)),
        rng.normal(0, 0.4, (n_sites, n_features)),
    )


def simulate(
    world: World,
    n: int,
    seed: int,
    *,
    tiles: tuple[int, int] = (80, 200),
    effect: float = 1.0,
    reported: float = 1.0,
    named: float = 0.8,
    error: float = 0.4,
) -> Simulated:
    """Draw ``n`` cases; 70 % are censored.

    Args:
        world: theirs.
        n: cases.
        seed: of the draw.
        tiles: fewest and most of a case.
        effect: multiplies ``EFFECTS``.
        reported: share of the cases that have a report.
        named: share of the phenotypes that a report names.
        error: standard deviation of what it says of a phenotype's degree, in standard deviations of the truth.
    """
    rng = np.random.default_rng(seed)
    base = np.log(np.r_[np.full(9, 0.1), 0.05, 0.035, 0.025])
    spread = rng.normal(0, 1, (n, N_PHENOTYPES))
    shares = np.exp(base + 0.9 * spread)
    shares /= shares.sum(1, keepdims=True)
    truth = effect * sum(weight * spread[:, k] for k, weight in EFFECTS.items())
    site = rng.integers(0, len(world.stains), n)
    bags, reports = [], []
    for i in range(n):
        kinds = rng.choice(N_PHENOTYPES, rng.integers(*tiles), p=shares[i])
        tile = world.looks[kinds] + world.stains[site[i]] + rng.normal(0, 1, (len(kinds), world.looks.shape[1]))
        bags.append(tile.astype(np.float16))
        told = rng.random(N_PHENOTYPES) < named  # a report leaves things out
        degree = np.clip(np.rint(spread[i] + rng.normal(0, error, N_PHENOTYPES)), -2, 2)  # and is wrong at times
        said = (world.words + degree[:, None] * world.degrees)[told]
        report = (said + rng.normal(0, 0.5, said.shape)).astype(np.float32)
        reports.append(report if len(said) and rng.random() < reported else None)
    return followed(bags, reports, site, truth, rng)


def simulate_rare(
    world: World,
    n: int,
    seed: int,
    *,
    tiles: tuple[int, int] = (80, 200),
    effect: float = 1.0,
    reported: float = 1.0,
    named: float = 0.8,
    error: float = 0.4,
    present: float = 0.4,
    share: float = 0.02,
    far: float = 6.0,
) -> Simulated:
    """Draw ``n`` cases of a world without a short cut from the mean tile; as ``simulate``, but for what is said here.

    Phenotypes 9 to 11 decide, by being there or not, in few tiles, half of which lie off the common tissue to one side
    and half to the other, so that no mean shows them. A report says of them that they are there, and no more; of common
    tissue, which decides nothing, it tells the degree.

    Args:
        present: share of the cases in which each of the deciding phenotypes is there.
        share: of the tiles of such a case.
        far: how far those lie off the common tissue, in standard deviations of a feature.
    """
    rng = np.random.default_rng(seed)
    common = N_PHENOTYPES - len(EFFECTS)
    spread = rng.normal(0, 1, (n, common))
    shares = np.exp(0.9 * spread)
    shares /= shares.sum(1, keepdims=True)
    there = rng.random((n, N_PHENOTYPES)) < present
    truth = effect * sum(
        weight * (there[:, k] - present) / np.sqrt(present * (1 - present)) for k, weight in EFFECTS.items()
    )
    aside = far * world.looks / np.linalg.norm(world.looks, axis=1, keepdims=True)
    site = rng.integers(0, len(world.stains), n)
    bags, reports = [], []
    for i in range(n):
        kinds = rng.choice(common, rng.integers(*tiles), p=shares[i])
        tile = world.looks[kinds] + world.stains[site[i]] + rng.normal(0, 1, (len(kinds), world.looks.shape[1]))
        pairs = rng.permutation(len(kinds))[: 2 * len(EFFECTS) * round(share * len(kinds) / 2)].reshape(
            len(EFFECTS), 2, -1
        )
        for (one, other), k in zip(pairs, EFFECTS, strict=True):
            if there[i, k]:
                tile[one] += aside[k]
                tile[other] -= aside[k]
        bags.append(tile.astype(np.float16))
        told = rng.random(N_PHENOTYPES) < named
        degree = np.clip(np.rint(spread[i] + rng.normal(0, error, common)), -2, 2)
        of_common = (world.words[:common] + degree[:, None] * world.degrees[:common])[told[:common]]
        of_rare = world.words[[k for k in EFFECTS if told[k] and there[i, k]]]
        said = np.concatenate([of_common, of_rare])
        report = (said + rng.normal(0, 0.5, said.shape)).astype(np.float32)
        reports.append(report if len(said) and rng.random() < reported else None)
    return followed(bags, reports, site, truth, rng)


def followed(
    bags: list[NDArray[np.float16]],
    reports: list[NDArray[np.float32] | None],
    site: NDArray[np.int64],
    truth: NDArray[np.float64],
    rng: np.random.Generator,
) -> Simulated:
    """Cases with the follow-up that their true log hazard gives them."""
    death = rng.exponential(np.exp(-truth)) ** 0.8 * 1000
    end = rng.uniform(0, np.quantile(death, 0.45), len(bags))
    return Simulated(bags, reports, np.minimum(death, end).round() + 1, death <= end, [f"site{s}" for s in site], truth)


def save(workspace: Workspace, data: Simulated, name: str = "trial", embed: EmbedSettings | None = None) -> Cohort:
    """Write a simulated cohort into a workspace as the earlier steps would; every seventh case has two slides."""
    embed = embed or EmbedSettings()
    cases = []
    for i, bag in enumerate(data.bags):
        case_id = f"case{i:04d}"
        parts = np.array_split(bag, 2) if i % 7 == 0 else [bag]
        slide_ids = tuple(SlideId(f"{case_id}-{number}") for number in range(len(parts)))
        for slide_id, part in zip(slide_ids, parts, strict=True):
            write_slide_features(workspace, slide_id, part, embed)
        cases.append(Case(CaseId(case_id), float(data.time[i]), bool(data.event[i]), data.site[i], slide_ids=slide_ids))
    told = [(f"case{i:04d}", report) for i, report in enumerate(data.reports) if report is not None]
    if told:
        vectors = TextVectors(
            values=np.concatenate([report for _, report in told]),
            case_ids=tuple(case_id for case_id, report in told for _ in report),
            statement_ids=tuple(f"{case_id}/{row}" for case_id, report in told for row in range(len(report))),
            encoder="hashing",
        )
        key = str(float(vectors.values.sum()))
        write_text_vectors(workspace.vectors("hashing"), vectors, make_header(VECTORS, {}, {"reports": key}))
    return Cohort(name, tuple(cases), CohortSettings(site="site"))


def write_slide_features(
    workspace: Workspace,
    slide_id: str,
    values: NDArray[np.float16],
    embed: EmbedSettings,
    tile_mpp: float = 0.5,
) -> Path:
    """Write features of one slide."""
    path = workspace.features(embed.folder, slide_id)
    features = Features(
        slide_id=SlideId(slide_id),
        values=values,
        coords=np.zeros((len(values), 2), np.int64),
        encoder=embed.encoder,
        names=tuple(f"f{column}" for column in range(values.shape[1])),
        tile_settings={"tile_px": 224, "tile_mpp": tile_mpp, "slide_mpp": None},
        mpp=0.5,
    )
    write_features(path, features, make_header("wsisurv/features", embed, {"tiles": slide_id + str(len(values))}))
    return path
