"""What reports give the student on real patients: ``python tests/bench/real.py`` (also ``make bench-real``).

docs/benchmark.md says what is measured and was written before the first run. Data are read from the folder in
WSISURV_REAL_DATA, else from ../shared/data beside the repository; where they are not there it says so, and nothing is
run. Everything goes through the product's own import, extract-report and crossval, into a work folder whose finished
folds are kept: a run that is stopped goes on where it was. Nothing fails on a figure.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ENCODER = "hipt-256"
REPEATS, FOLDS = 3, 5
RESAMPLES = 1000
PAIRS = (
    ("distilled", "plain"),
    ("selected", "plain"),
    ("selected", "mean_pool"),
    ("plain", "mean_pool"),
    ("teacher", "selected"),
    ("student_and_covariates", "covariates"),
)
MODELS = ("covariates", "mean_pool", "text", "plain", "distilled", "selected", "teacher", "student_and_covariates")


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of one cohort."""

    cohort: str
    name: str

    @property
    def key(self) -> str:
        return f"{self.cohort}-{self.name}"

    def table(self, data: Path) -> Path:
        return folder(data, self.cohort) / "clinical.csv"


def folder(data: Path, cohort: str) -> Path:
    """Where a cohort's tables and reports lie."""
    return data / ("tcga-crc" if cohort == "crc" else f"tcga-regions/{cohort}")


ENDPOINTS = tuple(
    Endpoint(*one) for one in [("crc", "pfi"), ("crc", "os"), *((c, "os") for c in ("luad", "blca", "ucec"))]
)
WITHOUT_OUTCOMES = ("brca", "hnsc", "stad")
"""Cohorts of slides and reports alone, for an alignment."""


def prepare(data: Path, work: Path, cohort: str, *, shuffled: bool) -> None:
    """Regions into features, reports into statements; what is there already is kept."""
    from wsisurv.pipeline.import_folder import import_folder
    from wsisurv.reports.step import extract
    from wsisurv.settings.reports import ReportSettings
    from wsisurv.slides.resolution import GivenMpp
    from wsisurv.workspace.paths import Workspace

    place = Workspace(work / cohort)
    done = work / cohort / "prepared"
    if done.exists():
        return
    bags = work / cohort / "regions"
    subprocess.run([sys.executable, data / "tcga-regions/unpack.py", cohort, bags], check=True)
    # the grid is invented, so are these; nothing here depends on place
    import_folder(place, bags, ENCODER, tile_px=4096, tile_mpp=0.5, overlap_px=0, given=GivenMpp(0.25))
    source = folder(data, cohort) / "reports.jsonl"
    if shuffled:
        records = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
        order = np.random.default_rng(0).permutation(len(records))
        lines = [json.dumps({**one, "text": records[i]["text"]}) for one, i in zip(records, order, strict=True)]
        source = work / cohort / "shuffled.jsonl"
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    extract(place, source, ReportSettings(backend="rules"))
    done.touch()


def aligned(data: Path, work: Path, *, shuffled: bool) -> Path:
    """An alignment of all seven cohorts; each fold leaves its tested cases and their hospitals out of it."""
    from wsisurv.pipeline.align import align

    cohorts = [*dict.fromkeys(endpoint.cohort for endpoint in ENDPOINTS), *WITHOUT_OUTCOMES]
    for cohort in cohorts:
        prepare(data, work, cohort, shuffled=shuffled)
    tables = [folder(data, c) / ("sites.csv" if c in WITHOUT_OUTCOMES else "clinical.csv") for c in cohorts]
    made = work / "alignment.h5"
    align([work / cohort for cohort in cohorts], made, encoder=ENCODER, sites=tables)
    return made


def others(work: Path, endpoint: Endpoint, how: str | None, changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Students of the other cohorts, each trained on all its cases, as experts or (the first) as a start."""
    from wsisurv.cohort import read_cohort
    from wsisurv.experiments.fold_settings import with_changes
    from wsisurv.settings.training import DistillSettings, TeacherSettings
    from wsisurv.training.distill import distill
    from wsisurv.training.teacher import train_teacher
    from wsisurv.workspace.paths import Workspace

    if how is None:
        return {}
    students = []
    for other in ENDPOINTS:
        place = Workspace(work / other.cohort)
        if other.cohort == endpoint.cohort or other.key == "crc-os":
            continue
        cohort, _ = read_cohort(place.cohort(other.key))
        train_teacher(place, cohort, with_changes(TeacherSettings(encoder=ENCODER), changes["teacher"]))
        distill(place, cohort, with_changes(DistillSettings(), changes["student"]))
        students.append(place.cohort(other.key) / "student_plain.h5")
    return {"experts": students} if how == "experts" else {"warm_start": students[0]}


def read_folds(cohort: str) -> dict[str, tuple[int, ...]]:
    """The saved fold of each case in each repeat."""
    with (HERE / "real_folds" / f"{cohort}.csv").open(encoding="utf-8") as file:
        return {
            row["case_id"]: tuple(int(row[f"repeat_{r + 1}"]) for r in range(REPEATS)) for row in csv.DictReader(file)
        }


def write_folds(path: Path, cohort: str, repeats: int) -> None:
    """The saved folds as crossval reads them."""
    fold_of = read_folds(cohort)
    lines = []
    for repeat in range(repeats):
        for fold in range(FOLDS):
            test = sorted(case for case, folds in fold_of.items() if folds[repeat] == fold)
            train = sorted(set(fold_of) - set(test))
            lines.append(json.dumps({"repeat": repeat, "fold": fold, "train": train, "test": test}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(
    data: Path,
    work: Path,
    endpoint: Endpoint,
    shuffled: bool,
    repeats: int,
    changes: dict[str, dict[str, Any]],
    jobs: int | None,
    alignment: Path | None,
    transfer: dict[str, Any],
) -> None:
    """Cross-validate one endpoint, folds side by side; finished folds are kept."""
    from wsisurv.cohort import make_cohort
    from wsisurv.experiments.crossval import crossval
    from wsisurv.settings.cohort import CohortSettings
    from wsisurv.settings.crossval import CrossvalSettings
    from wsisurv.workspace.paths import Workspace

    prepare(data, work, endpoint.cohort, shuffled=shuffled)
    place = Workspace(work / endpoint.cohort)
    columns = CohortSettings(
        time=f"{endpoint.name}_days", event=f"{endpoint.name}_event", site="site", covariates=("age", "stage")
    )
    cohort, _ = make_cohort(
        place, endpoint.key, endpoint.table(data), columns, encoder=ENCODER, drop_incomplete=True, redo=True
    )
    splits = work / f"{endpoint.cohort}-splits.jsonl"
    write_folds(splits, endpoint.cohort, repeats)
    teacher = {"encoder": ENCODER, **changes["teacher"]}
    crossval(
        place,
        cohort,
        CrossvalSettings(),
        teacher=teacher,
        student=changes["student"],
        alignment=alignment,
        **transfer,
        splits=splits,
        workers=jobs,
    )


@dataclass(frozen=True)
class Scored:
    """What the finished repeats of an endpoint say; resamples are columns, the same hospitals at any endpoint."""

    cases: int
    events: int
    hospitals: float
    repeats: int
    value: dict[str, float]
    resampled: dict[str, Any]
    slope: dict[str, float]
    gate: list[float]
    selected: list[str]


def score(work: Path, endpoint: Endpoint) -> Scored | None:
    """Concordance within folds, bootstrap of hospitals, calibration slopes, gates; None before one repeat is whole."""
    from wsisurv.cohort import read_cohort
    from wsisurv.survival.cox import cox_slope
    from wsisurv.survival.resampling import choose_units
    from wsisurv.survival.stratified import FoldScores, concordance_within
    from wsisurv.workspace.paths import Workspace

    folder = Workspace(work / endpoint.cohort).cohort(endpoint.key)
    if not (folder / "cohort.csv").exists():
        return None
    cases = read_cohort(folder)[0].cases
    row_of = {str(case.case_id): row for row, case in enumerate(cases)}
    time, event = np.array([case.time for case in cases]), np.array([case.event for case in cases])
    paths = {
        (r, f): folder / "crossval" / f"{r + 1}-{f + 1}" / "risks.json" for r in range(REPEATS) for f in range(FOLDS)
    }
    whole = [r for r in range(REPEATS) if all(paths[r, f].exists() for f in range(FOLDS))]
    if not whole:
        return None
    tested, gates, selected, slopes = [], [], [], []
    for repeat in whole:
        stratum, risk = np.zeros(len(cases), dtype=int), np.full((len(MODELS), len(cases)), np.nan)
        for fold in range(FOLDS):
            record = json.loads(paths[repeat, fold].read_text(encoding="utf-8"))
            rows = np.array([row_of[case_id] for case_id in record["case_ids"]])
            risk[:, rows] = [record["risks"][name] for name in MODELS]
            stratum[rows] = fold
            tested.append(FoldScores(repeat, rows, risk[:, rows], len(cases) - len(rows)))
            gates.append(record["gate"])
            selected.append(record["selected"])
        slopes.append([slope_or_nan(cox_slope, one, time, event, stratum) for one in risk])
    sites = [case.site for case in cases]
    divisions = [[one.rows for one in tested if one.repeat == repeat] for repeat in whole]
    units = choose_units(sites, divisions)
    within = concordance_within(tested, time=time, event=event, resamples=RESAMPLES, units=units).whole
    assert within.dropped == 0  # or the columns of two endpoints are not of the same hospitals
    return Scored(
        cases=len(cases),
        events=int(event.sum()),
        hospitals=units.effective or float("nan"),
        repeats=len(whole),
        value=dict(zip(MODELS, within.value.tolist(), strict=True)),
        resampled=dict(zip(MODELS, within.resampled, strict=True)),
        slope=dict(zip(MODELS, np.mean(slopes, axis=0).tolist(), strict=True)),
        gate=gates,
        selected=selected,
    )


def slope_or_nan(cox_slope: Any, risk: Any, time: Any, event: Any, stratum: Any) -> float:
    from wsisurv.errors import MetricError

    try:
        return float(cox_slope(log_hazard=risk, time=time, event=event, stratum=stratum).value)
    except MetricError:
        return float("nan")


@dataclass(frozen=True)
class Pooled:
    """A difference pooled over cohorts by random effects."""

    value: float
    low: float
    high: float
    reach_few: float
    between: float


def pool(values: Sequence[float], errors: Sequence[float]) -> Pooled:
    """Inverse variance with DerSimonian and Laird's variance between cohorts; and Hartung and Knapp's interval.

    Sources: DerSimonian R, Laird N. Controlled Clinical Trials 1986;7:177-188; Hartung J, Knapp G. Statistics in
    Medicine 2001;20:3875-3889, not narrower than the former (Jackson D et al. Statistics in Medicine 2017;36:3923).
    """
    from scipy.stats import t

    value, weight = np.array(values), 1 / np.square(errors)
    fixed = weight @ value / weight.sum()
    excess = weight @ np.square(value - fixed) - (len(value) - 1)
    between = max(0.0, excess / (weight.sum() - np.square(weight).sum() / weight.sum())) if len(value) > 1 else 0.0
    weight = 1 / (np.square(errors) + between)
    mean, variance = weight @ value / weight.sum(), 1 / weight.sum()
    few = 1.96
    if len(value) > 1:
        scale = weight @ np.square(value - mean) / (len(value) - 1)
        few = float(t.ppf(0.975, len(value) - 1)) * max(1.0, scale) ** 0.5
    reach = 1.96 * variance**0.5
    return Pooled(
        float(mean), float(mean - reach), float(mean + reach), float(few * variance**0.5), float(between**0.5)
    )


def differences(scored: dict[str, Scored], one: str, other: str) -> dict[str, tuple[float, float]]:
    """Difference and standard error a cohort: endpoints of one cohort are averaged, draw by draw."""
    found = {}
    for cohort in dict.fromkeys(endpoint.cohort for endpoint in ENDPOINTS):
        here = [scored[e.key] for e in ENDPOINTS if e.cohort == cohort and e.key in scored]
        if here:
            value = float(np.mean([s.value[one] - s.value[other] for s in here]))
            drawn = np.mean([s.resampled[one] - s.resampled[other] for s in here], axis=0)
            n = here[0].hospitals  # draws of n hospitals spread too little by √((n − 1) / n)
            found[cohort] = (
                value,
                float(drawn.std(ddof=1)) * float(np.sqrt(n / (n - 1))) if n > 1 else float(drawn.std(ddof=1)),
            )
    return found


def tables(work: Path, endpoints: Iterable[Endpoint]) -> None:
    """Print what the finished folds say, in the form of docs/benchmark.md."""
    scored = {endpoint.key: found for endpoint in endpoints if (found := score(work, endpoint)) is not None}
    if not scored:
        print("no repeat is whole yet")
        return
    print(f"\n| concordance | {' | '.join(MODELS)} | repeats | gate | distilled selected |")
    print("|" + "---|" * (len(MODELS) + 4))
    for key, one in scored.items():
        values = " | ".join(f"{one.value[name]:.3f}" for name in MODELS)
        wins = sum(name == "distilled" for name in one.selected)
        print(
            f"| {key} ({one.cases} cases, {one.events} events) | {values} | {one.repeats} | {np.mean(one.gate):.2f} | "
            f"{wins} of {len(one.selected)} |"
        )
    print(f"\n| calibration slope | {' | '.join(MODELS)} |")
    print("|" + "---|" * (len(MODELS) + 1))
    for key, one in scored.items():
        print(f"| {key} | {' | '.join(f'{one.slope[name]:.2f}' for name in MODELS)} |")
    middle = {name: float(np.median([one.slope[name] for one in scored.values()])) for name in MODELS}
    print(f"| median | {' | '.join(f'{middle[name]:.2f}' for name in MODELS)} |")
    cohorts = list(dict.fromkeys(endpoint.cohort for endpoint in ENDPOINTS))
    print(f"\n| difference | {' | '.join(cohorts)} | pooled (95 % interval) | for few cohorts | SD between |")
    print("|" + "---|" * (len(cohorts) + 4))
    for first, second in PAIRS:
        found = differences(scored, first, second)
        cells = [f"{found[c][0]:+.3f} ± {found[c][1]:.3f}" if c in found else "–" for c in cohorts]
        usable = [pair for pair in found.values() if pair[1] > 0]
        if not usable:
            print(f"| {first} − {second} | {' | '.join(cells)} | no difference | – | – |")
            continue
        pooled = pool([pair[0] for pair in usable], [pair[1] for pair in usable])
        interval = f"{pooled.value:+.3f} ({pooled.low:+.3f} to {pooled.high:+.3f})"
        few = f"± {pooled.reach_few:.3f} | {pooled.between:.3f}"
        print(f"| {first} − {second} | {' | '.join(cells)} | {interval} | {few} |")


def power(data: Path, draws: int = 400) -> None:
    """What difference the cohorts can show: two risks without any tie to the outcome, of a given correlation.

    The follow-up, the hospitals and the folds are the real ones; no feature and no report is read. A fifth of a risk's
    variance is its hospital's.
    """
    from wsisurv.cohort.clinical import read_clinical
    from wsisurv.settings.cohort import CohortSettings
    from wsisurv.survival.stratified import FoldScores, concordance_within

    rng = np.random.default_rng(0)
    print("\n| correlation of two models' risks | " + " | ".join(e.key for e in ENDPOINTS) + " | pooled | 80 % power |")
    print("|" + "---|" * (len(ENDPOINTS) + 3))
    for alike in (0.5, 0.7, 0.8, 0.9, 0.95):
        error = {}
        for endpoint in ENDPOINTS:
            columns = CohortSettings(time=f"{endpoint.name}_days", event=f"{endpoint.name}_event", site="site")
            fold_of = read_folds(endpoint.cohort)
            cases = [
                case
                for case in read_clinical(endpoint.table(data), columns, drop_incomplete=True).cases
                if str(case.case_id) in fold_of
            ]
            time, event = np.array([case.time for case in cases]), np.array([case.event for case in cases])
            hospital = np.unique([case.site for case in cases], return_inverse=True)[1]
            fold = np.array([fold_of[str(case.case_id)][0] for case in cases])

            def risk(rows: int, hospital: Any = hospital) -> Any:
                own, shared = rng.normal(size=(rows, len(hospital))), rng.normal(size=(rows, hospital.max() + 1))
                return 0.8**0.5 * own + 0.2**0.5 * shared[:, hospital]

            common, first, second = (risk(draws) for _ in range(3))
            risks = np.concatenate([alike**0.5 * common + (1 - alike) ** 0.5 * one for one in (first, second)])
            rows = [np.flatnonzero(fold == k) for k in range(FOLDS)]
            folds = [FoldScores(0, one, risks[:, one], len(cases) - len(one)) for one in rows]
            value = concordance_within(folds, time=time, event=event, resamples=2).whole.value
            error[endpoint.key] = float((value[:draws] - value[draws:]).std(ddof=1))
        # the two endpoints of crc are of the same patients: taken as one, the better of the two
        cohorts = [min(error["crc-pfi"], error["crc-os"]), error["luad-os"], error["blca-os"], error["ucec-os"]]
        pooled = float(np.square(1 / np.array(cohorts)).sum() ** -0.5)
        cells = " | ".join(f"{error[e.key]:.3f}" for e in ENDPOINTS)
        print(f"| {alike:g} | {cells} | {pooled:.4f} | {2.8 * pooled:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/bench-real"), help="workspaces, kept between runs")
    parser.add_argument("--only", nargs="+", choices=[e.key for e in ENDPOINTS], default=[e.key for e in ENDPOINTS])
    parser.add_argument(
        "--repeats", type=int, default=REPEATS, help="fewer, in a work folder of their own, as a preview"
    )
    parser.add_argument("--shuffled", action="store_true", help="reports shuffled between patients")
    parser.add_argument(
        "--teacher", type=json.loads, default={}, help='settings as JSON, e.g. {"text_branch": "ridge"}'
    )
    parser.add_argument(
        "--student", type=json.loads, default={}, help="settings as JSON; give a variant its own --work"
    )
    parser.add_argument(
        "--aligned", action="store_true", help="with an alignment of seven cohorts; give it its own --work"
    )
    parser.add_argument(
        "--transfer",
        choices=("experts", "start"),
        help="with students of the three other cohorts, or begun from the first; give it its own --work, and make the "
        "cohorts there without it first",
    )
    parser.add_argument("--jobs", type=int, help="folds at once; one a processor where not given")
    parser.add_argument("--table", action="store_true", help="print what the finished folds say, run nothing")
    parser.add_argument("--power", action="store_true", help="print what difference the cohorts can show, run nothing")
    chosen = parser.parse_args()
    data = Path(os.environ.get("WSISURV_REAL_DATA") or HERE.parents[2] / "shared" / "data")
    work = chosen.work / ("shuffled" if chosen.shuffled else "reports")
    endpoints = sorted((e for e in ENDPOINTS if e.key in chosen.only), key=lambda e: chosen.only.index(e.key))
    if chosen.table:
        tables(work, endpoints)
        return
    if not (data / "tcga-regions").is_dir():
        print(f"bench-real: no real cohorts at {data}, so nothing is measured. WSISURV_REAL_DATA names their folder.")
        return
    if chosen.power:
        power(data)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes: they fill the cores already
    work.mkdir(parents=True, exist_ok=True)
    for cohort in dict.fromkeys(endpoint.cohort for endpoint in endpoints):
        prepare(data, work, cohort, shuffled=chosen.shuffled)
    changes = {"teacher": chosen.teacher, "student": chosen.student}
    alignment = aligned(data, work, shuffled=chosen.shuffled) if chosen.aligned else None
    for endpoint in endpoints:
        transfer = others(work, endpoint, chosen.transfer, changes)
        run(data, work, endpoint, chosen.shuffled, chosen.repeats, changes, chosen.jobs, alignment, transfer)
        print(f"{endpoint.key}: done", file=sys.stderr, flush=True)
    tables(work, endpoints)


if __name__ == "__main__":
    main()
