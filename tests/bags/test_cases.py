"""One way from a case to its tiles, and what may not be read together."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wsisurv
from wsisurv.bags.cases import (
    CaseRead,
    CaseUnread,
    describe_slide,
    find_bags,
    made_with,
    read_cases,
    read_slide,
    require_features,
    training_bags,
    whole,
)
from wsisurv.bags.checks import MadeWith, require_alike
from wsisurv.errors import EncoderMismatchError, FormatError, MissingArtifactError, SettingsError
from wsisurv.formats.features import FORMAT, Features, write_features
from wsisurv.formats.header import make_header
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.units import SlideId
from wsisurv.workspace.paths import Workspace

TILES = {"tile_px": 224, "tile_mpp": 0.5}
ONE = MadeWith("histomics", 5, 6, EmbedSettings().model_dump(mode="json"), TILES)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def save(workspace, slide_id, n_tiles, seed=0):
    values = np.random.default_rng(seed).normal(size=(n_tiles, 6)).astype(np.float16)
    coords = np.arange(2 * n_tiles).reshape(-1, 2)
    features = Features(SlideId(slide_id), values, coords, "histomics", (), dict(TILES), 0.5)
    write_features(workspace.features("histomics", slide_id), features, make_header(FORMAT, EmbedSettings(), {}))
    return values


def test_cases_come_in_their_order_with_tiles_of_all_slides_one_after_the_other(workspace):
    slides = {f"c{case}": (f"c{case}-b", f"c{case}-a") for case in (3, 1, 5, 2, 4)}
    values = {name: save(workspace, name, 2 + seed, seed) for seed, name in enumerate(sum(slides.values(), ()))}
    cases = list(whole(read_cases(find_bags(workspace, "histomics", slides))))
    assert [case.case_id for case in cases] == list(slides)
    for case in cases:
        assert case.slide_ids == slides[case.case_id]
        np.testing.assert_array_equal(case.tiles, np.concatenate([values[name] for name in case.slide_ids]))
        assert case.n_tiles == len(case.tiles)


def test_a_case_of_blank_slides_has_no_tile_and_a_blank_slide_beside_others_none_of_its_own(workspace):
    for name, n_tiles in (("a-1", 0), ("b-1", 0), ("b-2", 3)):
        save(workspace, name, n_tiles)
    blank, other = read_cases(find_bags(workspace, "histomics", {"a": ("a-1",), "b": ("b-1", "b-2")}))
    assert (blank.n_tiles, len(blank.tiles)) == (0, 0)
    assert (other.n_tiles, other.tiles.shape) == (3, (3, 6))


def test_no_case_is_told_from_half_of_its_slides_and_the_others_go_on(workspace):
    for name in ("a-1", "b-1", "c-1"):
        save(workspace, name, 3)
    workspace.features("histomics", "c-1").write_bytes(b"cut short")
    bags = find_bags(workspace, "histomics", {"a": ("a-1", "a-2"), "b": ("b-1",), "c": ("c-1",)})
    one, two, three = read_cases(bags)
    assert isinstance(one, CaseUnread)
    assert (one.path, type(one.error)) == (bags["a"][1], MissingArtifactError)
    assert isinstance(two, CaseRead)
    assert isinstance(three, CaseUnread)
    assert isinstance(three.error, FormatError)
    with pytest.raises(MissingArtifactError, match="a-2"):
        list(whole(read_cases(bags)))


def test_training_and_reading_whole_see_the_same_tiles_made_in_the_same_way(workspace):
    slides = {"a": ("a-1", "a-2"), "b": ("b-1", "b-2")}
    for seed, name in enumerate(sum(slides.values(), ())):
        save(workspace, name, 0 if name == "b-1" else 4 + seed, seed)
    files = [[describe_slide(workspace, "histomics", name) for name in names] for names in slides.values()]
    read = list(whole(read_cases(find_bags(workspace, "histomics", slides))))
    for memory_gib in (None, 0):  # held in memory, and left on disk
        bags = training_bags(files, memory_gib)
        assert bags.lengths.tolist() == [case.n_tiles for case in read]
        np.testing.assert_array_equal(bags.load().rows.numpy(), np.concatenate([case.tiles for case in read]))
    for several, case in zip(files, read, strict=True):
        for file, slide in zip(several, case.slides, strict=True):
            assert replace(slide.made_with, mpp=None) == made_with(file)


def test_a_missing_slide_of_a_cohort_is_named_with_the_encoders_that_are_there(workspace):
    save(workspace, "a-1", 1)
    with pytest.raises(MissingArtifactError, match=r"slide a-2 is in the cohort.*here: histomics"):
        require_features(workspace, "histomics", "a-2")
    assert read_slide(require_features(workspace, "histomics", "a-1")).made_with.n_tiles == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoder": "uni"}, "encoder: histomics and uni"),
        ({"n_features": 7}, "features a tile: 6 and 7"),
        ({"settings": {**ONE.settings, "dtype": "float32"}}, "dtype"),
        ({"tile_settings": {**TILES, "tile_mpp": 0.25}}, "tiles' tile_mpp: 0.5 and 0.25"),
    ],
)
def test_slides_of_two_makings_are_not_read_together(change, named):
    other = replace(ONE, **change)
    with pytest.raises(EncoderMismatchError, match=f"slides a and b were made in different ways .*{named}"):
        require_alike({"a": ONE, "b": other}, allow_random_weights=False)
    require_alike({"a": ONE, "b": replace(other, n_tiles=0)}, allow_random_weights=False)  # a blank one misleads nobody


def test_what_is_known_of_one_slide_only_makes_no_difference_and_random_weights_must_be_allowed():
    per_slide = replace(ONE, tile_settings={**TILES, "slide_mpp": 0.23, "measures": True})
    require_alike({"a": ONE, "b": per_slide}, allow_random_weights=False)
    random = replace(ONE, settings={**ONE.settings, "weights": "random"})
    with pytest.raises(SettingsError, match="--allow-random-weights"):
        require_alike({"a": random}, allow_random_weights=False)
    require_alike({"a": random}, allow_random_weights=True)


def test_features_are_read_here_only_except_by_who_exports_or_pools_them():
    """A sixth way from a case to its tiles would have checks of its own, or none."""
    readers, root = set(), Path(wsisurv.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            if name in {"read_features", "describe_features"}:
                readers.add(path.relative_to(root).as_posix())
    assert readers == {"bags/cases.py", "embedding/export.py", "embedding/pooling.py"}
