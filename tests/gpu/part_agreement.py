"""Part 4: the card beside the CPU, number by number: encoders, students, gradients, trainings and predictions."""

import csv
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import large_slide
import numpy as np
import torch
from cohorts import NAME, distill_words, make_cohort, teacher_words, twin
from parts import Figures, Sizes, begin, wsisurv

from wsisurv.bags.packed import Bags, bags_of, in_parts, pack
from wsisurv.embedding.encoders import build_encoder
from wsisurv.embedding.step import resolve_settings
from wsisurv.models.student import Student
from wsisurv.survival.losses import cox_loss
from wsisurv.survival.metrics import concordance

COSINE = {"fp32": 0.99999, "bf16": 0.999, "fp16": 0.9999}
"""Least cosine of a tile's features with those of the CPU in fp32."""
RISK = {"fp32": 1e-4, "bf16": 1e-2}
"""Root mean square difference of log hazards of the same student, in standard deviations of log hazards."""
GRADIENT = {"fp32": 0.99999, "bf16": 0.999}
"""Least cosine of a gradient with that of the CPU in fp32."""
TRAINED, CONCORDANCE = 0.05, 0.01
"""Largest difference of a log hazard, in the same unit, after two trainings of the same random numbers, whose rounding
grows with every step; and of concordance."""
PREDICTED = 1e-4
"""Largest difference of predictions from the same features by the same student, in the same unit."""


def encoders(sizes: Sizes, figures: Figures, scratch: Path) -> None:
    """Features of some tiles in each precision; also centred, since features of random weights are much alike."""
    del scratch
    tiles = large_slide.texture(4 * 224).reshape(4, 224, 4, 224, 3).swapaxes(1, 2).reshape(16, 224, 224, 3)
    tiles = np.ascontiguousarray(tiles)
    settings = resolve_settings(sizes.agreeing, random_weights=True)
    wanted = build_encoder(settings, device="cpu").encode(tiles, 0.5)
    for precision, least in COSINE.items():
        encoder: Any = build_encoder(settings.model_copy(update={"precision": precision}), device=sizes.device)
        seen = encoder.encode(tiles, 0.5)
        cosine, centred = (_cosine(seen - shift, wanted - shift) for shift in (0, wanted.mean(0)))
        largest = float(np.abs(seen - wanted).max() / np.abs(wanted).max())
        figures.add(
            **{f"features_{precision}": {"least_cosine": cosine, "least_centred": centred, "largest_error": largest}}
        )
        figures.check(f"features in {precision}, least cosine", passed=cosine >= least, seen=cosine)


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(1) / norms).min())


def students(sizes: Sizes, figures: Figures, scratch: Path) -> None:
    """Log hazards and gradients of the same student on the same bags, each aggregator."""
    del scratch
    rng = np.random.default_rng(0)
    shift, most = rng.normal(0, 0.5, (60, 1, 64)), 60 if sizes.device == "cpu" else 400
    bags = bags_of(pack([(rng.normal(0, 1, (rng.integers(50, most), 64)) + shift[n]) for n in range(60)]))
    bags = dataclasses.replace(bags, source=type(bags.source)(bags.source.rows.float()))
    time, event = torch.from_numpy(rng.exponential(900, 60)), torch.from_numpy(rng.random(60) < 0.5)
    for aggregator in ("mean", "abmil", "selfattention"):
        wanted, gradient = _step(aggregator, bags, "cpu", "fp32", time, event)
        found = {}
        for precision in RISK:
            risk, own = _step(aggregator, bags, sizes.device, precision, time, event)
            apart, largest = (risk - wanted).square().mean().sqrt(), (risk - wanted).abs().max()
            cosine = float(torch.cosine_similarity(own, gradient, dim=0))
            found[precision] = {"rms": float(apart / wanted.std()), "largest": float(largest / wanted.std())}
            found[precision]["gradient_cosine"] = cosine
            passed = found[precision]["rms"] <= RISK[precision] and cosine >= GRADIENT[precision]
            figures.check(f"{aggregator} in {precision}", passed=passed, seen=found[precision])
        figures.add(**{f"student_{aggregator}": found})


def _step(
    aggregator: str, bags: Bags, device: str, precision: str, time: torch.Tensor, event: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log hazards and the gradient of Cox's loss, on the CPU."""
    torch.manual_seed(0)
    place = torch.device(device)
    net = Student(64, 16, 0.0, torch.zeros(64), torch.ones(64), aggregator).to(place).train()
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        risk = in_parts(net, dataclasses.replace(bags.on(place), keep_bytes=0))
    cox_loss(log_hazard=risk, time=time.to(place), event=event.to(place)).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None])
    return risk.detach().double().cpu(), gradient.double().cpu()


def trainings(sizes: Sizes, figures: Figures, scratch: Path) -> None:
    """``distill`` without dropout draws the same random numbers everywhere; and one student predicts in both places."""
    folder = scratch / "small"
    make_cohort(folder, sizes.small_cases, 60, 64)
    wsisurv(*teacher_words(folder, sizes, "cpu", min(10, sizes.epochs)))
    risks = {}
    for device in dict.fromkeys(("cpu", sizes.device)):
        own = twin(folder, f"on-{device}")
        wsisurv(*distill_words(own, sizes, device, min(40, sizes.epochs)), "--dropout", 0, "--tiles-per-bag", 32)
        risks[device] = _predicted(own, "cpu", scratch)
        again = _predicted(own, sizes.device, scratch)
        largest = float(np.abs(again - risks[device]).max() / risks[device].std())
        figures.add(**{f"student_of_{device}_predicts_within_sd": largest})
        figures.check(f"predictions by the student of {device}", passed=largest <= PREDICTED, seen=largest)
        shutil.rmtree(own)
    one, other = risks["cpu"], risks[sizes.device]
    with (folder / "clinical.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    time, event = np.array([float(row["time"]) for row in rows]), np.array([row["event"] == "1" for row in rows])
    of = {name: concordance(log_hazard=risk, time=time, event=event) for name, risk in risks.items()}
    largest = float(np.abs(one - other).max() / one.std())
    figures.add(trainings_differ_by_sd=largest, concordance_by_device=of)
    figures.check("two trainings, largest difference of log hazards in sd", passed=largest <= TRAINED, seen=largest)
    apart = max(of.values()) - min(of.values())
    figures.check("two trainings, concordance", passed=apart <= CONCORDANCE, seen=of)


def _predicted(workspace: Path, device: str, scratch: Path) -> np.ndarray:
    table = scratch / f"risk-{device}.csv"
    wsisurv("predict", "-w", workspace, "--cohort", NAME, "--device", device, "-o", table, "--redo")
    with table.open(encoding="utf-8") as file:
        return np.array([float(row["log_hazard"]) for row in csv.DictReader(file)])


sizes, figures, scratch = begin()
failures = []
for work in (students, encoders, trainings):
    try:
        with figures.timed(work.__name__):
            work(sizes, figures, scratch)
    except Exception as error:  # noqa: BLE001  # the others are worth having
        failures.append(error)
        figures.add(**{f"{work.__name__}_failed": f"{type(error).__name__}: {error}"[-1500:]})
if failures:
    raise failures[0]
