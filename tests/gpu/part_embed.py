"""Part 2: `embed` with a very large encoder beside a bare loop, the batch size found, and memory that runs out."""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import large_slide
import numpy as np
import torch
from parts import Figures, Sizes, begin, synchronise, wsisurv

from wsisurv.embedding.encoders import build_encoder
from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.formats.features import read_features
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.workspace.paths import Workspace

MPP, TILE_PX = 0.5, 224
BUSY = 0.95


def make_slides(folder: Path, sizes: Sizes) -> list[Path]:
    """One slide under several names."""
    folder.mkdir()
    first = folder / "slide0.tiff"
    with patch.object(large_slide, "MPP", MPP):
        large_slide.make_slide(first, sizes.slide_px, None, (1, 2, 4, 16))
    others = [folder / f"slide{number}.tiff" for number in range(1, sizes.slides)]
    for path in others:
        os.link(first, path)
    return [first, *others]


def clock(device: str) -> Callable[[], Any]:
    """Marks of time: events on a card, which are read later; the processor's clock elsewhere."""
    if device == "cpu":
        return time.perf_counter

    def mark() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    return mark


def between(start: Any, end: Any) -> float:
    """Seconds between two marks."""
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000


def with_this(encoder: Any) -> AbstractContextManager[Any]:
    """The product takes this encoder, which took long to build, instead of building another."""
    encoder.close = lambda: None
    return patch("wsisurv.embedding.one_device.build", lambda *_: encoder)


def bare_loop(forward: Callable[[torch.Tensor], torch.Tensor], size: int, sizes: Sizes) -> float:
    """Tiles a second of the network alone, on tiles that are there already."""
    ready = torch.randint(0, 256, (size, TILE_PX, TILE_PX, 3), dtype=torch.uint8, device=sizes.device)
    with torch.inference_mode():
        for _ in range(2):  # the first time of anything is its own; the second says how many there will be
            start = time.perf_counter()
            forward(ready)
            synchronise(sizes.device)
        n_batches = max(2, int(sizes.bare_s / (time.perf_counter() - start)))
        start = time.perf_counter()
        for _ in range(n_batches):
            forward(ready)
        synchronise(sizes.device)
    return n_batches * size / (time.perf_counter() - start)


def whole_step(encoder: Any, settings: EmbedSettings, workspace: Workspace, sizes: Sizes, figures: Figures) -> float:
    """The step as the product runs it, files written; returns tiles a second between the first batch and the last."""
    spans: list[tuple[Any, Any, int]] = []
    forward, mark = encoder._forward, clock(sizes.device)

    def timed(tiles: torch.Tensor) -> torch.Tensor:
        start = mark()
        features = forward(tiles)
        spans.append((start, mark(), len(tiles)))
        return features

    with patch.object(encoder, "_forward", timed), with_this(encoder):
        start = time.perf_counter()
        summary = embed(workspace, settings, device=sizes.device)
        seconds = time.perf_counter() - start
    synchronise(sizes.device)
    # the first few are the search for a batch size
    spans = spans[2:] if sizes.device != "cpu" else spans
    n_tiles = sum(n for *_, n in spans)
    busy = sum(between(first, last) for first, last, _ in spans)
    span = between(spans[0][0], spans[-1][1])
    gaps = [between(one[1], other[0]) for one, other in zip(spans, spans[1:], strict=False)]
    figures.add(
        slides=len(summary.done),
        failed=[failure.id for failure in summary.failed],
        notes=summary.notes,
        tiles=n_tiles,
        batches=len(spans),
        step_s=seconds,
        step_tiles_per_s=n_tiles / seconds,
        stream_tiles_per_s=n_tiles / span,
        busy=busy / span,
        longest_gap_s=max(gaps, default=0.0),
        median_gap_s=statistics.median(gaps) if gaps else 0.0,
    )
    figures.check("every slide is embedded", passed=len(summary.done) == sizes.slides, seen=len(summary.done))
    return n_tiles / span


def features_of(workspace: Workspace, settings: EmbedSettings, slide_id: str) -> np.ndarray:
    return read_features(workspace.features(settings.folder, slide_id))[0].values.astype(np.float32)


def least_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of rows with rows."""
    products = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return float(products.min())


def run_out_of_memory(
    encoder: Any, settings: EmbedSettings, workspace: Workspace, size: int, peak: int, sizes: Sizes, figures: Figures
) -> None:
    """Leave the process room for less than half of a batch: the slide must be embedded all the same, and equally."""
    before = features_of(workspace, settings, "slide0")
    workspace.features(settings.folder, "slide0").unlink()
    if sizes.device == "cpu":
        limit, undo = patch.object(encoder, "_forward", _cramped(encoder._forward, size // 2)), lambda: None
    else:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        room = torch.cuda.memory_allocated() + 0.4 * peak
        torch.cuda.set_per_process_memory_fraction(room / total)
        limit, undo = patch.object(encoder, "in_flight", encoder.in_flight), _free_again
    try:
        with limit, with_this(encoder):
            summary = embed(workspace, settings, slide_ids=["slide0"], device=sizes.device, batch_size=size)
            figures.add(out_of_memory_notes=summary.notes, out_of_memory_failed=[str(one) for one in summary.failed])
    finally:
        undo()
    cosine = least_cosine(features_of(workspace, settings, "slide0"), before)
    figures.add(out_of_memory_least_cosine=cosine)
    survived = summary.done == ["slide0"] and any("no room" in note for note in summary.notes) and cosine > 0.999
    figures.check("memory that runs out is survived", passed=survived, seen=summary.notes)


def _free_again() -> None:
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def _cramped(forward: Callable[[torch.Tensor], torch.Tensor], room: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A card's refusal on a CPU, so that a dry run goes the same way."""

    def refuse(tiles: torch.Tensor) -> torch.Tensor:
        if len(tiles) > room:
            raise torch.OutOfMemoryError("CUDA out of memory (played).")
        return forward(tiles)

    return refuse


def find_in_little_room(encoder: Any, size: int, peak: int, sizes: Sizes, figures: Figures) -> None:
    """The batch size that is found while something else holds nearly all of the card, and whether it fits there."""
    hog = None
    if sizes.device != "cpu":
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        hog = torch.empty(max(1, free - int(0.5 * peak)), dtype=torch.uint8, device="cuda")
    found = encoder.find_batch_size(TILE_PX)
    rows = encoder.encode(np.zeros((found, TILE_PX, TILE_PX, 3), np.uint8), MPP)
    figures.add(batch_size_in_little_room=found)
    fits = len(rows) == found and (sizes.device == "cpu" or found < size)
    figures.check("a batch size that fits is found in little room", passed=fits, seen=found)
    del hog
    if sizes.device != "cpu":
        torch.cuda.empty_cache()


def command_line(sizes: Sizes, figures: Figures, workspace: Workspace, n_tiles: int) -> None:
    """The command with an encoder that is faster than any reader: what reading allows."""
    words = ("embed", "-w", workspace.root, "--encoder", sizes.small, "--random-weights", "--device", sizes.device)
    start = time.perf_counter()
    wsisurv(*words, alone=True)
    seconds = time.perf_counter() - start
    figures.add(small_encoder=sizes.small, small_step_s=seconds, small_step_tiles_per_s=n_tiles / seconds)


def main() -> None:
    sizes, figures, scratch = begin()
    with figures.timed("making_slides"):
        make_slides(scratch / "slides", sizes)
    workspace = Workspace(scratch / "embed")
    with figures.timed("tiling"):
        wsisurv("tile", scratch / "slides", "-w", workspace.root)
    precision = "fp32" if sizes.device == "cpu" else "bf16"
    settings = resolve_settings(sizes.encoder, random_weights=True).model_copy(update={"precision": precision})
    with figures.timed("building"):
        encoder: Any = build_encoder(settings, device=sizes.device)
    figures.add(
        encoder=sizes.encoder,
        parameters=sum(parameter.numel() for parameter in encoder._plain.parameters()),
        precision=encoder.making.precision,
        on=encoder.making.device,
    )
    with figures.timed("finding_batch_size"):
        size = encoder.find_batch_size(TILE_PX)
    figures.add(batch_size=size)
    peak = 0
    if sizes.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    bare = bare_loop(encoder._forward, size, sizes)
    if sizes.device != "cpu":
        peak = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    figures.add(bare_tiles_per_s=bare, batch_gib=peak / 2**30)
    stream = whole_step(encoder, settings, workspace, sizes, figures)
    figures.add(stream_share_of_bare=stream / bare)
    if sizes.device != "cpu":
        figures.check("goal: 95 % of the bare loop", passed=stream / bare >= BUSY, seen=stream / bare)
    n_tiles = sum(len(features_of(workspace, settings, f"slide{n}")) for n in range(sizes.slides))
    failures = []
    for work in (
        lambda: run_out_of_memory(encoder, settings, workspace, size, peak, sizes, figures),
        lambda: find_in_little_room(encoder, size, peak, sizes, figures),
        lambda: command_line(sizes, figures, workspace, n_tiles),
        lambda: half_weights(encoder, size, sizes, figures),
    ):
        try:
            work()
        except Exception as error:  # noqa: BLE001  # what comes after is worth having
            failures.append(error)
            figures.add(**{f"failed_{len(failures)}": f"{type(error).__name__}: {error}"[-1500:]})
            if sizes.device != "cpu":
                _free_again()
    shutil.rmtree(workspace.root)
    if failures:
        raise failures[0]


def half_weights(encoder: Any, size: int, sizes: Sizes, figures: Figures) -> None:
    """The bare loop with weights in bf16, which the product keeps in fp32 and rounds anew for each batch."""
    model = encoder._plain.to(torch.bfloat16)

    def forward(tiles: torch.Tensor) -> torch.Tensor:
        return encoder._pooled(model(encoder._normalise(tiles).to(torch.bfloat16))).float()

    tiles = size if sizes.device != "cpu" else 1  # a CPU is slow in it
    figures.add(bare_half_weights_tiles_per_s=bare_loop(forward, tiles, sizes))


main()
