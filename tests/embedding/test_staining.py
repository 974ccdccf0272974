"""Stains in the step: what is written of them, a slide without any, and robustness."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsisurv.embedding.colours import Pixels, find_stain_settings, make_map
from wsisurv.embedding.columns import COLUMNS
from wsisurv.embedding.histomics import histomics
from wsisurv.embedding.staining import sample_tiles
from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.errors import DeviceError
from wsisurv.formats.features import read_features
from wsisurv.formats.header import make_header
from wsisurv.formats.tiles import FORMAT, Tiles, write_tiles
from wsisurv.settings.base import parse_settings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.workspace.paths import Workspace

AddSlide = Callable[..., Tiles]


def with_stain(method: str = "macenko", **more: Any) -> EmbedSettings:
    return resolve_settings(stain=find_stain_settings(method), dtype="float32", **more)


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_features_are_those_of_the_slide_in_the_colours_of_the_reference(
    workspace: Workspace, add_slide: AddSlide, method: str
) -> None:
    tiles = add_slide("a")
    settings = with_stain(method)
    assert embed(workspace, settings, workers=4, batch_size=2, decoder="openslide").notes == []
    features, header = read_features(workspace.features(f"histomics-{method}", "a"))
    assert features.making.stain["method"] == method
    assert settings.stain is not None
    mapped = make_map(method, tuple(features.making.stain["slide"]), settings.stain.reference)(sample_tiles(tiles))
    np.testing.assert_allclose(features.values, histomics(mapped, 0.5), atol=0.005)  # a pixel may be rounded otherwise
    assert parse_settings(EmbedSettings, header.settings) == settings
    assert header.settings["stain"]["reference"] == list(settings.stain.reference)
    plain = histomics(sample_tiles(tiles), 0.5)
    assert np.abs(features.values - plain).max() > 0.05


def test_a_slide_of_glass_is_left_as_it_is_and_says_so(
    workspace: Workspace, add_slide: AddSlide, make_slide: Callable[..., Path]
) -> None:
    tiles = add_slide("a")
    white = make_slide(tiles.slide_path.with_name("white.tif"), np.full((300, 400, 3), 244, np.uint8))
    blank = replace(tiles, slide_id="white", slide_path=white)
    write_tiles(workspace.tiles("white"), blank, make_header(FORMAT, TileSettings(tile_px=64), {}))
    add_slide("none", n_tiles=0)
    summary = embed(workspace, with_stain())
    assert summary.done == ["a", "none", "white"]
    assert any("white: its stains were left as they are: only 0 pixels" in note for note in summary.notes)
    features = read_features(workspace.features("histomics-macenko", "white"))[0]
    assert "only 0 pixels" in features.making.stain["left_as_it_is"]
    assert features.values[:, 0] == pytest.approx(1)
    assert read_features(workspace.features("histomics-macenko", "none"))[0].making.stain == {}


def test_settings_without_stains_are_as_before() -> None:
    assert set(EmbedSettings().model_dump()) == {"encoder", "weights", "precision", "version"}
    assert with_stain().folder == "histomics-macenko"


def test_how_far_stain_shifts_move_features_is_written(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a")
    plain = resolve_settings(augment_stain=True)
    summary = embed(workspace, plain)
    assert "15 % weaker or stronger" in summary.notes[0]
    features = read_features(workspace.features("histomics", "a"))[0]
    assert features.stain_spread is not None
    assert features.tile_spread is not None
    assert features.stain_spread.shape == features.tile_spread.shape == (len(COLUMNS),)
    stain = dict(zip(features.names, features.stain_spread, strict=True))
    assert stain["haematoxylin_mean"] == pytest.approx(
        features.values[:, features.names.index("haematoxylin_mean")].mean() * np.std([0.85, 1, 1.15]), rel=0.15
    )
    embed(workspace, with_stain("reinhard"))
    assert read_features(workspace.features("histomics-reinhard", "a"))[0].stain_spread is None


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_stains_brought_to_a_reference_hardly_move(
    workspace: Workspace, add_slide: AddSlide, make_slide: Callable[..., Path], method: str
) -> None:
    """A slide of two stains in many mixtures: what shifts move without --stain they move much less with it."""
    amounts = 0.3 + np.random.default_rng(1).gamma(2, 0.25, (75, 100, 2))
    density = np.kron(amounts @ [[0.65, 0.70, 0.29], [0.27, 0.80, 0.50]], np.ones((4, 4, 1)))
    tiles = add_slide("a")
    make_slide(tiles.slide_path, (240 * np.exp(-density)).clip(0, 255).astype(np.uint8), compression="deflate")
    write_tiles(workspace.tiles("a"), tiles, make_header(FORMAT, TileSettings(tile_px=64), {}))
    spreads = []
    for settings in (resolve_settings(augment_stain=True), with_stain(method, augment_stain=True)):
        embed(workspace, settings)
        features = read_features(workspace.features(settings.folder, "a"))[0]
        assert features.stain_spread is not None
        spreads.append(features.stain_spread[features.names.index("density_mean")])
    assert spreads[1] < spreads[0] / 4


def test_shifted_tiles_are_encoded_in_smaller_batches_where_the_device_has_no_room(
    workspace: Workspace, add_slide: AddSlide, use_encoder: Callable[..., Any]
) -> None:
    add_slide("a")

    def features(tiles: NDArray[np.uint8], _: float) -> NDArray[np.float32]:
        if len(tiles) > 1:
            raise DeviceError("no room")
        return tiles.mean(axis=(1, 2))[:, :2]

    use_encoder(features)
    assert embed(workspace, resolve_settings(augment_stain=True)).done == ["a"]
    seen = read_features(workspace.features("histomics", "a"))[0]
    assert seen.stain_spread is not None
    assert (seen.stain_spread > 0).all()


def test_shifted_tiles_are_read_ahead_by_the_threads_that_read(
    workspace: Workspace, add_slide: AddSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_slide("a", 3)
    add_slide("b", 30)
    seen = []

    def told(tiles: Tiles, most: int) -> Pixels:
        seen.append((tiles.slide_id, threading.current_thread().name.partition("_")[0]))
        return sample_tiles(tiles, most)

    monkeypatch.setattr("wsisurv.embedding.one_device.sample_tiles", told)
    assert embed(workspace, resolve_settings(augment_stain=True), batch_size=7, workers=2).done == ["a", "b"]
    assert sorted(seen) == [("a", "reader"), ("b", "reader")]


def test_units_and_definitions_are_in_the_file(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a")
    embed(workspace, EmbedSettings())
    features = read_features(workspace.features("histomics", "a"))[0]
    seen = list(zip(features.names, features.units, features.definitions, strict=True))
    assert seen == [(column.name, column.unit, column.definition) for column in COLUMNS]
