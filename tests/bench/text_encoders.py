"""Text encoders compared on cohorts of real reports: concordance of the teacher's report branch, out of fold; the gate;
what the mean tile of a case explains, out of fold and within hospital, of its report's vector and of its report's risk.

Run: ``python tests/bench/text_encoders.py DATA`` (docs/reports.md says what must lie there). Prints, never fails. Folds
keep hospitals whole; the statements are those of the rules, the same for every encoder.
"""

import argparse
import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.engine.progress import no_progress
from wsisurv.formats.statements import Statement
from wsisurv.models.findings import statement_columns
from wsisurv.models.report_subspace import fit_report_directions
from wsisurv.models.text import fit_tfidf, hashing_vectors, statement_terms, tfidf_vectors
from wsisurv.models.text_branch import fit_text_scaling
from wsisurv.reports.grounding import ground
from wsisurv.reports.minilm import MiniLM
from wsisurv.reports.rules import extract_rules
from wsisurv.reports.vectors import statement_sentence
from wsisurv.settings.training import TeacherSettings, TextBranch
from wsisurv.survival.metrics import concordance
from wsisurv.survival.splits import hospital_folds, hospital_strata, within_strata
from wsisurv.training.crossfit import TEXT_DIMENSIONS, ReportedCases, cross_fit_text, fit_gate
from wsisurv.training.loop import Log


def read_cohort(data: Path, name: str) -> dict[str, tuple[str, float, bool, str]]:
    """Text, time, event and hospital of each case that has all of them."""
    at = data / "tcga-regions" / name
    reports, clinical = (data / "tcga-crc", data / "tcga-crc") if name == "crc" else (at, at)
    lines = (reports / "reports.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {line["case_id"]: line["text"] for line in map(json.loads, lines)}
    found = {}
    with (clinical / "clinical.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["case_id"] in texts and row["os_days"] and row["os_event"] and float(row["os_days"]) > 0:
                case = (texts[row["case_id"]], float(row["os_days"]), row["os_event"] in ("1", "1.0"), row["site"])
                found[row["case_id"]] = case
    return found


def encoded(statements: list[Statement], minilm: MiniLM) -> dict[str, NDArray[np.float32]]:
    """Vectors of all statements by each encoder."""
    terms = [statement_terms(statement) for statement in statements]
    columns = statement_columns(statements)
    meant = np.array(minilm.vectors([statement_sentence(statement) for statement in statements]), np.float32)
    return {
        "hashing": hashing_vectors(terms),
        "tfidf": tfidf_vectors(fit_tfidf(terms), terms),
        "minilm, vector alone": meant,
        "columns alone": columns,
        "minilm": np.concatenate([meant, columns], axis=1),
    }


def mean_tiles(data: Path, name: str) -> dict[str, NDArray[np.float64]]:
    """The mean tile of each case, features on one scale; none where no features lie beside the reports."""
    path = data / "tcga-regions" / name / "regions.h5"
    if not path.exists():
        return {}
    with h5py.File(path) as file:
        offsets, slides = file["offsets"][()], file["slide_id"].asstr()[()]
        features = file["features"][()].astype(np.float64)
    features = (features - features.mean(0)) / features.std(0)
    rows: dict[str, list[NDArray[np.float64]]] = {}
    for slide, start, stop in zip(slides, offsets, offsets[1:], strict=False):
        rows.setdefault(slide[:12], []).append(features[start:stop])  # TCGA's own case id
    return {case_id: np.concatenate(parts).mean(0) for case_id, parts in rows.items()}


def told_by_tiles(
    tiles: dict[str, NDArray[np.float64]], case_ids: list[str], reports: ReportedCases, risk: NDArray[np.float64]
) -> str:
    """Out-of-fold R² of the reports' vectors and of their risk from mean tiles, as training asks for the former."""
    here = np.array([case_id in tiles for case_id in case_ids])
    if not here.any():
        return "no tiles"
    scaling = fit_text_scaling(np.concatenate(reports.statements), TEXT_DIMENSIONS)
    means = np.stack([scaling(vectors).mean(0, dtype=np.float64) for vectors in reports.statements])[here]
    shown = np.stack([tiles[case_id] for case_id in np.array(case_ids)[here]])
    hospital = hospital_strata([site for site, one in zip(reports.site, here, strict=True) if one])
    folds = hospital_folds(hospital, reports.event[here], 10)
    shown = within_strata(shown, hospital)
    of_vector, of_risk = (
        fit_report_directions(shown, within_strata(said, hospital), folds) for said in (means, risk[here, None])
    )
    directions = of_vector.columns.shape[1]
    return f"of vectors {of_vector.explained:.3f} ({directions} directions), of risk {of_risk.explained:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minilm", type=Path, help="folder of all-MiniLM-L6-v2; the installed wheel without it")
    parser.add_argument("--cohorts", nargs="*", default=["crc", "luad", "blca", "ucec"])
    parser.add_argument("--branch", nargs="*", choices=["ridge", "attention"], default=["ridge"])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    minilm = MiniLM(options.minilm)
    for name in options.cohorts:
        cases, tiles = read_cohort(options.data, name), mean_tiles(options.data, name)
        said = {}
        for case_id, (text, *_) in cases.items():
            found = ground(case_id, extract_rules(text, keep="morphology").claims, text).statements
            if found:
                said[case_id] = found
        flat = [statement for found in said.values() for statement in found]
        ends = np.cumsum([len(found) for found in said.values()])[:-1]
        time, event = (np.array([cases[case_id][at] for case_id in said]) for at in (1, 2))
        site = [cases[case_id][3] for case_id in said]
        print(f"{name}: {len(said)} cases, {int(event.sum())} deaths, {len(flat)} statements", flush=True)
        for encoder, vectors in encoded(flat, minilm).items():
            reported = ReportedCases(np.split(vectors, ends), time, event, site)
            branch: TextBranch
            for branch in options.branch:
                figures, gates, told = [], [], []
                for seed in range(options.seeds):
                    with TemporaryDirectory() as place:
                        log = Log(Path(place) / "history.jsonl", "text", no_progress)
                        settings = TeacherSettings(text_branch=branch)
                        risk = cross_fit_text(reported, settings, seed=seed, part="text", log=log).risk
                    figures.append(concordance(log_hazard=risk, time=time, event=event))
                    gate = fit_gate(risk=risk, time=time, event=event, site=site)
                    gates.append(f"{gate.value:.2f} ({gate.slope / gate.se:.1f} SE)")
                    told.append(told_by_tiles(tiles, list(said), reported, risk))
                print(
                    f"  {encoder}, {branch}: {np.mean(figures):.3f} ({', '.join(f'{one:.3f}' for one in figures)})"
                    f"; gate {', '.join(gates)}; explained by tiles {'; '.join(told)}",
                    flush=True,
                )
        print(f"  cut by minilm so far: {minilm.cut}")


if __name__ == "__main__":
    main()
