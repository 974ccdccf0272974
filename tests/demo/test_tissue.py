import numpy as np
import pytest

from wsisurv.demo.nuclei import sprites, stamp
from wsisurv.demo.population import MORPHOLOGIES, simulate_population
from wsisurv.demo.slides import colour
from wsisurv.demo.tissue import Layout, Region, make_layout, smooth, stain_tissue


def layout_of(seed: int = 0, **shares: float) -> Layout:
    usual = {one.name: (one.least + one.most) / 2 for one in MORPHOLOGIES}
    random = np.random.default_rng(seed)
    return make_layout(random, width_um=800, height_um=640, shares={**usual, **shares})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("necrosis", Region.NECROSIS),
        ("lymphocyte_infiltrate", Region.LYMPHOCYTES),
        ("high_grade_nuclei", Region.HIGH_GRADE),
        ("mucin", Region.MUCIN),
        ("desmoplastic_stroma", Region.DESMOPLASTIC),
    ],
)
def test_a_layout_holds_each_morphology_at_its_share(name: str, region: Region, seed: int) -> None:
    morphology = next(one for one in MORPHOLOGIES if one.name == name)
    for share in (morphology.least, morphology.most):
        assert layout_of(seed, **{name: share}).share(region) == pytest.approx(share, abs=0.005)


def test_all_morphologies_at_their_most_still_fit() -> None:
    most = {one.name: one.most for one in MORPHOLOGIES}
    layout = layout_of(1, **most)
    assert layout.share(Region.HIGH_GRADE) == pytest.approx(most["high_grade_nuclei"], abs=0.005)
    assert layout.share(Region.DESMOPLASTIC) == pytest.approx(most["desmoplastic_stroma"], abs=0.005)


def test_there_is_glass_around_the_tissue_and_enough_tissue() -> None:
    for seed in range(8):
        glass = layout_of(seed).region == Region.GLASS
        assert 0.1 < glass.mean() < 0.75
        assert glass[0].all()
        assert glass[:, 0].all()


def test_epithelium_and_lumen_are_apart_and_in_the_tumour() -> None:
    layout = layout_of()
    assert not (layout.epithelium & layout.lumen).any()
    assert np.isin(layout.region[layout.epithelium], (Region.GLANDS, Region.REACTIVE, Region.HIGH_GRADE)).all()


def test_bystanders_of_many_kinds_lie_where_they_may() -> None:
    layouts = [layout_of(seed) for seed in range(8)]
    for kind in (Region.FAT, Region.MUSCLE, Region.HAEMORRHAGE, Region.FOLLICLE, Region.REACTIVE):
        shares = [layout.share(kind) for layout in layouts]
        assert np.ptp(shares) > 0.01, kind
        assert max(shares) < 0.4, kind


def test_a_follicle_has_a_pale_centre_that_an_infiltrate_lacks() -> None:
    shape = (200, 200)
    middle = np.hypot(*(np.ogrid[:200, :200][axis] - 100 for axis in (0, 1))) < 60
    flat = np.zeros(shape, np.float32)
    none = np.zeros(shape, bool)

    def darkness(kind: Region) -> float:
        region = np.where(middle, kind, Region.STROMA).astype(np.uint8)
        stains = stain_tissue(np.random.default_rng(0), Layout(region, none, none, flat, flat), mpp=0.5)
        h = stains.haematoxylin
        return float(h[340:460, 340:460].mean() / h[164:220, 380:420].mean())

    assert darkness(Region.FOLLICLE) < 0.85 * darkness(Region.LYMPHOCYTES)


def test_more_gland_formation_gives_more_lumen() -> None:
    assert layout_of(gland_formation=0.9).lumen.sum() > 1.5 * layout_of(gland_formation=0.35).lumen.sum()


def test_how_many_rows_are_drawn_at_a_time_changes_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> np.ndarray:
        random, hospital = np.random.default_rng(0), simulate_population(25, seed=0)[0].hospital
        return colour(random, stain_tissue(random, layout, mpp=hospital.mpp), hospital)

    layout = layout_of()
    usual = drawn()
    monkeypatch.setattr("wsisurv.demo.tissue._BAND_PX", usual.size)
    assert np.array_equal(drawn(), usual)


@pytest.mark.parametrize("mpp", [0.5, 0.4])
def test_stains_lie_where_the_layout_says(mpp: float) -> None:
    layout = layout_of()
    stains = stain_tissue(np.random.default_rng(0), layout, mpp=mpp)
    assert stains.haematoxylin.shape == (round(640 / mpp), round(800 / mpp))
    rows = (np.arange(stains.eosin.shape[0]) * mpp / 2).astype(int)
    columns = (np.arange(stains.eosin.shape[1]) * mpp / 2).astype(int)
    region = layout.region[np.ix_(rows, columns)]

    def mean(plane: np.ndarray, kind: Region) -> float:
        return float(plane[region == kind].mean())

    assert mean(stains.haematoxylin, Region.GLASS) < 0.02
    assert mean(stains.eosin, Region.GLASS) < 0.02
    assert mean(stains.haematoxylin, Region.LYMPHOCYTES) > 2 * mean(stains.haematoxylin, Region.STROMA)
    assert mean(stains.haematoxylin, Region.HIGH_GRADE) > 1.2 * mean(stains.haematoxylin, Region.GLANDS)
    assert mean(stains.eosin, Region.NECROSIS) > mean(stains.eosin, Region.MUCIN) + 0.3
    assert min(stains.eosin.min(), stains.haematoxylin.min()) >= 0


def test_high_grade_nuclei_are_larger_and_lymphocytes_rounder() -> None:
    def area(kind: str) -> float:
        return float(np.mean([(picture > 0.3).sum() for angle in sprites(kind, 0.5) for picture in angle]))  # type: ignore[arg-type]

    assert area("high_grade") > 1.7 * area("regular") > 1.7 * area("lymphocyte")


def test_a_sprite_has_the_same_size_in_um_at_every_resolution() -> None:
    coarse, fine = sprites("regular", 0.5)[3][0], sprites("regular", 0.25)[3][0]
    assert (fine > 0.3).sum() / 4 == pytest.approx((coarse > 0.3).sum(), rel=0.08)


def test_stamping_keeps_the_denser_and_leaves_out_what_the_edge_would_cut() -> None:
    canvas = np.full((60, 60), 0.5, np.float32)
    places = np.array([[30, 30], [0, 30], [59, 59]])
    stamp(canvas, "lymphocyte", places, np.zeros(3, np.float32), 0.5, np.random.default_rng(0))
    assert canvas[30, 30] > 0.9
    assert canvas.min() == 0.5
    assert canvas[0, 30] == canvas[59, 59] == 0.5


def test_smooth_noise_has_its_shape_and_spread() -> None:
    for shape, scale in (((100, 140), 30.0), ((512, 512), 300.0)):
        fields = np.stack([smooth(np.random.default_rng(seed), shape, scale) for seed in range(30)])
        assert fields.shape[1:] == shape
        assert 0.7 < fields.std() < 1.3


def test_shares_of_simulated_cases_can_be_laid_out() -> None:
    for case in simulate_population(25, seed=9)[::6]:
        layout = make_layout(np.random.default_rng(0), width_um=640, height_um=640, shares=case.shares)
        assert layout.share(Region.NECROSIS) == pytest.approx(case.shares["necrosis"], abs=0.005)
