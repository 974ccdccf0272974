"""Encoders that a package of the user's own adds."""

import numpy as np
import pytest

from wsisurv import extensions
from wsisurv.cli.encoders import encoders as list_encoders
from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.errors import SettingsError, StaleError
from wsisurv.formats.features import read_features
from wsisurv.formats.tiles import read_tiles
from wsisurv.slides.reader import Slide
from wsisurv.slides.reader import read_tiles as read_pixels

ENCODER = """
import numpy as np
from wsisurv.embedding.packaged import FunctionEncoder, PackagedEncoder


def brightness(tiles, tile_mpp):
    return np.stack([tiles.mean((1, 2, 3)) / 255, np.full(len(tiles), tile_mpp)], 1)


def mixed(tiles, tile_mpp):
    values = brightness(tiles, tile_mpp)
    return values + 9 * values.mean(0) * np.arange(len(tiles))[:, None]


def made(name, encode=brightness, n_features=2):
    return lambda device: FunctionEncoder(name, encode, n_features, names=("brightness", "mpp")[:n_features])


plain = PackagedEncoder(made("bright-tiles"), tile_px=64, tile_mpp=0.5)
batched = PackagedEncoder(made("bright-tiles", mixed))
wide = PackagedEncoder(made("bright-tiles", n_features=1))
misnamed = PackagedEncoder(made("somebody"))
bare = made("bright-tiles")
"""


def encoders(thing):
    return {"wsisurv.encoders": {"bright-tiles": f"their_encoder:{thing}"}}


def test_an_encoder_of_a_package_embeds(install, workspace, add_slide):
    install("their_encoder", ENCODER, encoders("plain"))
    for slide_id in ("a", "b"):
        add_slide(slide_id)
    settings = resolve_settings("bright-tiles")
    assert settings.weights == "package:their_encoder 1.2"
    assert embed(workspace, settings).done == ["a", "b"]
    features, header = read_features(workspace.features("bright-tiles", "a"))
    tiles, _ = read_tiles(workspace.tiles("a"))
    with Slide(tiles.slide_path) as slide:
        seen = read_pixels(slide, tiles).mean((1, 2, 3)) / 255
    np.testing.assert_allclose(features.values[:, 0], seen, atol=1e-3)
    assert header.settings["weights"] == "package:their_encoder 1.2"
    assert embed(workspace, settings).kept == ["a", "b"]


def test_tiles_of_another_size_than_the_packages_encoder_wants_are_refused(install, workspace, add_slide):
    install("their_encoder", ENCODER, encoders("plain"))
    add_slide("a", tile_px=32)
    with pytest.raises(SettingsError, match="bright-tiles was trained on 64 px at 0.5 µm/px.*--for bright-tiles"):
        embed(workspace, resolve_settings("bright-tiles"))


def test_another_version_of_the_package_makes_features_stale(install, workspace, add_slide, tmp_path):
    install("their_encoder", ENCODER, encoders("plain"))
    add_slide("a")
    old = resolve_settings("bright-tiles")
    embed(workspace, old)
    (tmp_path / "their_encoder-1.2.dist-info").rename(tmp_path / "their_encoder-2.dist-info")
    (tmp_path / "their_encoder-2.dist-info" / "METADATA").write_text("Name: their_encoder\nVersion: 2\n")
    extensions._entry_points.cache_clear()
    with pytest.raises(StaleError, match="package:their_encoder 1.2"):
        embed(workspace, resolve_settings("bright-tiles"))
    add_slide("b")
    with pytest.raises(SettingsError, match="their_encoder 2: .*settings name package:their_encoder 1.2"):
        embed(workspace, old)


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        ("batched", "other features beside other tiles"),
        ("wide", r"gives float32 \(3, 2\) for three tiles"),
        ("misnamed", "calls itself 'somebody'"),
        ("bare", "is a function, and a PackagedEncoder is wanted"),
    ],
)
def test_an_encoder_that_would_be_wrong_is_refused_by_package_and_entry_point(
    install, workspace, add_slide, thing, says
):
    install("their_encoder", ENCODER, encoders(thing))
    add_slide("a")
    with pytest.raises(SettingsError, match=f"their_encoder 1.2: its entry point 'bright-tiles'.*{says}"):
        embed(workspace, resolve_settings("bright-tiles"))


def test_encoders_of_packages_are_listed(install, capsys):
    install("their_encoder", ENCODER, encoders("plain"))
    list_encoders()
    assert "bright-tiles" in capsys.readouterr().out
