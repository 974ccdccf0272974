import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsisurv.errors import SettingsError, SlideError
from wsisurv.settings.tiles import TileSettings
from wsisurv.tiling.grid import Grid, make_grid, place_tissue

MPPS = st.one_of(st.sampled_from([0.25, 0.2527, 0.499, 0.5, 0.5022]), st.floats(0.1, 0.5))


@st.composite
def grids(draw: st.DrawFn) -> tuple[int, int, float, TileSettings]:
    tile_px = draw(st.integers(16, 512))
    chosen = TileSettings(
        tile_px=tile_px, tile_mpp=draw(st.floats(0.5, 4)), overlap_px=draw(st.integers(0, tile_px - 1))
    )
    mpp = draw(MPPS)
    least = int(np.ceil(chosen.tile_px * chosen.tile_mpp / mpp))
    return draw(st.integers(least, least * 8)), draw(st.integers(least, least * 8)), mpp, chosen


@given(grids())
def test_tiles_lie_on_the_slide_at_their_exact_step_and_none_is_missing(
    case: tuple[int, int, float, TileSettings],
) -> None:
    width, height, mpp, chosen = case
    grid = make_grid(width, height, mpp, chosen)
    side = chosen.tile_px * chosen.tile_mpp / mpp
    step = (chosen.tile_px - chosen.overlap_px) * chosen.tile_mpp / mpp
    assert grid.side == pytest.approx(side, rel=1e-12)
    for starts, length in ((grid.xs, width), (grid.ys, height)):
        assert starts[0] == 0
        assert np.abs(starts - np.arange(len(starts)) * step).max() <= 0.5 + 1e-6
        assert starts[-1] + side <= length + 0.002
        assert np.rint(len(starts) * step) + side > length


def test_a_slide_of_0_2527_is_cut_at_0_2527() -> None:
    grid = make_grid(100_000, 80_000, 0.2527, TileSettings())
    assert grid.side == pytest.approx(224 * 0.5 / 0.2527)  # 443.2, not the 448 of a "40x" slide
    assert len(grid.xs) == 225
    assert grid.xs[-1] == round(224 * 224 * 0.5 / 0.2527)
    assert len(np.unique(np.diff(grid.xs))) == 2  # 443 and 444: the rounding does not add up


def test_neighbours_share_the_overlap() -> None:
    grid = make_grid(4480, 4480, 0.25, TileSettings(overlap_px=56))
    assert set(np.diff(grid.xs)) == {336}
    assert grid.xs[1] + 112 == grid.side


def test_tiles_come_row_by_row() -> None:
    grid = make_grid(1000, 1000, 0.5, TileSettings())
    keep = np.ones((len(grid.ys), len(grid.xs)), bool)
    keep[0, 1] = False
    coords = grid.coords(keep)
    assert coords.dtype == np.int64
    assert coords[:4].tolist() == [[0, 0], [448, 0], [672, 0], [0, 224]]
    assert grid.coords(~keep).tolist() == [[224, 0]]
    assert grid.coords(np.zeros_like(keep)).shape == (0, 2)


@pytest.mark.parametrize("overlap", [224, 300])
def test_an_overlap_of_a_whole_tile_is_refused(overlap: int) -> None:
    with pytest.raises(SettingsError, match=str(overlap)):
        make_grid(10_000, 10_000, 0.25, TileSettings(overlap_px=overlap))


def test_tiles_finer_than_the_scan_are_refused_with_the_way_out() -> None:
    make_grid(10_000, 10_000, 0.509, TileSettings())
    with pytest.raises(SlideError, match=r"0\.52 .*--tile-mpp 0\.52 "):
        make_grid(10_000, 10_000, 0.52, TileSettings())


@pytest.mark.parametrize(("width", "height"), [(447, 10_000), (10_000, 447), (100, 100)])
def test_a_slide_smaller_than_a_tile_is_refused(width: int, height: int) -> None:
    with pytest.raises(SlideError, match="smaller than one tile"):
        make_grid(width, height, 0.25, TileSettings())


def test_a_slide_of_exactly_one_tile_has_one() -> None:
    grid = make_grid(448, 448, 0.25, TileSettings())
    assert (grid.xs.tolist(), grid.ys.tolist()) == ([0], [0])


def covered(starts: NDArray[np.int64], side: float, scale: float, cells: int) -> NDArray[np.float64]:
    """How much of each mask cell each place covers, in level-0 pixels, one by one: (n_places, cells)."""
    return np.array(
        [[max(0.0, min(s + side, (c + 1) * scale) - max(s, c * scale)) for c in range(cells)] for s in starts]
    )


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    scale=st.floats(0.7, 40),
    side=st.floats(0.5, 60),
    fill=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_shares_are_exact_where_edges_cut_mask_pixels(
    shape: tuple[int, int], scale: float, side: float, fill: float, seed: int
) -> None:
    mask = np.random.default_rng(seed).random(shape) < fill
    side = min(side, scale * min(shape))
    ys, xs = (np.arange(0, int(n * scale - side) + 1, 3, dtype=np.int64) for n in shape)
    shares = place_tissue(mask, 100.0, scale, Grid(xs, ys, side)).shares
    expected = covered(ys, side, scale, shape[0]) @ mask @ covered(xs, side, scale, shape[1]).T / side**2
    assert shares.dtype == np.float32
    assert np.abs(shares - expected).max() < 1e-5


def test_all_is_one_and_none_is_zero() -> None:
    grid = make_grid(5000, 3000, 0.2527, TileSettings())
    shape = (int(np.ceil(3000 * 0.2527 / 8)), int(np.ceil(5000 * 0.2527 / 8)))
    assert np.allclose(place_tissue(np.ones(shape, bool), 8.0, 8 / 0.2527, grid).shares, 1, atol=1e-6)
    assert (place_tissue(np.zeros(shape, bool), 8.0, 8 / 0.2527, grid).shares == 0).all()


@given(shape=st.tuples(st.integers(1, 50), st.integers(1, 50)), seed=st.integers(0, 50), cut=st.floats(0.8, 0.999))
def test_the_shares_of_all_pieces_together_are_the_share_of_tissue(
    shape: tuple[int, int], seed: int, cut: float
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random(shape) > cut, np.ones((4, 4), bool))
    scale, side = 7.3, min(40.0, 7.3 * 4 * min(shape))
    ys, xs = (np.arange(0, int(n * scale - side) + 1, 31, dtype=np.int64) for n in mask.shape)
    grid = Grid(xs, ys, side)
    places = place_tissue(mask, 8.0, scale, grid)
    expected = covered(ys, side, scale, len(mask)) @ mask @ covered(xs, side, scale, mask.shape[1]).T / side**2
    assert np.abs(places.shares - expected).max(initial=0) < 1e-5
    assert ((places.piece > 0) == (expected > 1e-6)).all()


def test_a_torn_section_is_one_piece_and_two_sections_are_two() -> None:
    mask = np.zeros((200, 300), bool)
    mask[50:150, 20:60] = True
    mask[50:150, 66:100] = True  # a tear of 48 µm
    mask[20:180, 200:280] = True
    grid = Grid(np.arange(0, 300, 10, dtype=np.int64), np.arange(0, 200, 10, dtype=np.int64), 10.0)
    piece = place_tissue(mask, 8.0, 1.0, grid).piece
    assert piece[10, 3] == piece[10, 8] == 2
    assert piece[10, 25] == 1
    assert piece[10, 15] == 0
