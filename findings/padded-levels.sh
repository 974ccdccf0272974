#!/usr/bin/env bash
# Expected: a pyramid level's downsample in OpenSlide is how many level-0 pixels one of its pixels spans.
# Seen: it is the mean ratio of widths and heights. Where a writer fills coarser levels up to whole tiles (a generic tiled TIFF says
# nowhere how much of a page is filling), it is too small, and read_region shows at (x, y) of level 0 what lies up to hundreds of
# pixels nearer to the origin. Nothing warns.
# Versions: openslide-python 1.4.7 with openslide-bin 4.0.1.2, tifffile 2026.3.3.
# Why it matters: tissue masks, tiles and heatmaps that are read from such a level lie beside the tissue; tiles of bare glass carry a
# patient's label.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q openslide-python==1.4.7 openslide-bin==4.0.1.2 tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6 pillow==13.0.0
cd "$folder"
venv/bin/python - <<'P'
import sys

import numpy as np
import openslide
import tifffile

width, height, tile, factor = 5000, 3000, 512, 4
image = np.full((height, width, 3), 240, np.uint8)
x, y, side = 4400, 2400, 160  # a dark square near the far corner
image[y : y + side, x : x + side] = 60
small = image[::factor, ::factor]
filled = np.pad(small, ((0, -small.shape[0] % tile), (0, -small.shape[1] % tile), (0, 0)), constant_values=240)
with tifffile.TiffWriter("slide.tif") as file:
    for level in (image, filled):
        file.write(level, tile=(tile, tile), photometric="rgb", compression="jpeg", subfiletype=int(level is filled), metadata=None)
slide = openslide.OpenSlide("slide.tif")
said = slide.level_downsamples[1]
seen = [np.asarray(slide.read_region((x, y), level, (px, px)).convert("L")).mean() for level, px in ((0, side), (1, side // factor))]
print(f"level 1 is level 0 reduced by {factor}, filled up to {slide.level_dimensions[1]}: OpenSlide says {said:.3f}")
print(f"the dark square at ({x}, {y}) has a mean grey of {seen[0]:.0f} in level 0, and of {seen[1]:.0f} where level 1 is read there")
if abs(said - factor) < 0.01 and abs(seen[0] - seen[1]) < 20:
    sys.exit("Changed: the downsample is the true one.")
P
