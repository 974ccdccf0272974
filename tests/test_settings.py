import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsisurv.errors import SettingsError
from wsisurv.formats.header import Header, create, make_header
from wsisurv.settings.base import canonical_json, changed_settings, fingerprint, parse_settings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.reports import ReportSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.settings.training import DistillSettings
from wsisurv.workspace.freshness import Condition, check

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value):
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_every_tile_setting_changes_the_fingerprint():
    plain = TileSettings()
    others = {
        "tile_px": 256,
        "tile_mpp": 0.25,
        "overlap_px": 8,
        "min_tissue": 0.1,
        "tissue": "hsv",
        "tissue_mpp": 4.0,
        "min_piece_um2": 0.0,
        "max_hole_um2": 0.0,
        "keep_artefacts": True,
        "measures": True,
        "slide_mpp": 0.5,
    }
    assert others.keys() == TileSettings.model_fields.keys()
    changed = [plain.model_copy(update={name: value}) for name, value in others.items()]
    prints = {fingerprint(settings, {"slide": "a"}) for settings in [plain, *changed]}
    prints.add(fingerprint(plain, {"slide": "b"}))
    assert len(prints) == len(changed) + 2


def test_every_setting_of_reports_changes_the_fingerprint():
    """A record of ``statements.jsonl`` made with another prompt, model, rule or proof is stale."""
    others = {
        "backend": "rules",
        "model": "qwen3:8b",
        "keep": "all",
        "ask": "labels",
        "model_digest": "a1",
        "prompt": "b2",
        "rules_version": 2,
        "proof_version": 2,
        "options": {"seed": 1},
    }
    assert others.keys() == ReportSettings.model_fields.keys()
    changed = [ReportSettings(**{name: value}) for name, value in others.items()]
    assert len({fingerprint(settings, {}) for settings in [ReportSettings(), *changed]}) == len(others) + 1


@pytest.mark.parametrize("values", [{"tile_px": 0}, {"tile_size": 224}, {"tile_mpp": float("nan")}, {"min_tissue": 2}])
def test_a_setting_that_cannot_be_is_named(values):
    with pytest.raises(SettingsError, match=next(iter(values))):
        parse_settings(TileSettings, values)


def test_changed_settings_say_what_was_and_what_is():
    assert changed_settings({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b: 2 → 3", "c: its default → 4"]
    assert changed_settings({"a": None, "b": 2}, {"a": 1, "b": None}) == ["a: none → 1", "b: 2 → none"]


def test_random_weights_have_a_folder_of_their_own():
    trained, random = EmbedSettings(encoder="timm:resnet18"), EmbedSettings(encoder="timm:resnet18", weights="random")
    assert trained.folder == "timm-resnet18"
    assert random.folder != trained.folder
    assert random.random_weights


def test_a_file_that_says_former_names_is_as_good_as_new(tmp_path):
    """``tile_directions`` and ``transmil`` are what files of earlier versions say."""
    old = {**DistillSettings().model_dump(mode="json"), "tile_directions": "all", "aggregator": "transmil"}
    del old["feature_subspace"]
    path = tmp_path / "student.h5"
    with create(path, Header("wsisurv/student", old, {"cohort": "a"})):
        pass
    present = DistillSettings(feature_subspace="all", aggregator="selfattention")
    assert parse_settings(DistillSettings, old) == present
    assert check(path, make_header("wsisurv/student", present, {"cohort": "a"})).condition is Condition.DONE
    other = check(path, make_header("wsisurv/student", DistillSettings(), {"cohort": "a"}))
    assert other.changes == ("aggregator: selfattention → abmil", "feature_subspace: all → reports")
