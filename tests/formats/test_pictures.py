"""Pictures of ours that are not what was written."""

import numpy as np
import pytest
from PIL import Image

from wsisurv.errors import FormatError
from wsisurv.formats.pictures import read_whole_picture, write_picture


@pytest.fixture
def path(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    write_picture(tmp_path / "map.png", Image.fromarray(pixels), "PNG")
    return tmp_path / "map.png"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_bit_of_a_png_that_was_turned_over_is_seen(path, share):
    read_whole_picture(path)
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 4
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"map\.png: no whole picture .* run `wsisurv heatmap` again"):
        read_whole_picture(path, "`wsisurv heatmap`")


def test_a_picture_that_is_cut_or_not_there_is_seen(path):
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FormatError, match="no whole picture"):
        read_whole_picture(path)
    path.unlink()
    with pytest.raises(FormatError, match="no whole picture"):
        read_whole_picture(path)
