#!/usr/bin/env bash
# Expected: a reader that calls a file OME-TIFF shows the levels that OME-TIFF keeps in SubIFDs of level 0's page (OME-TIFF specification, since 6.0).
# Seen: fastslide says "OME-TIFF" and shows level 0 alone; OpenSlide, which calls it generic TIFF, as well. Of the same file with planar colours
# fastslide reads no pixel ("decoded to … bytes"). Both say nothing of the levels.
# Versions: fastslide 0.8.1 (Python 3.11), openslide-python 1.4.7 with openslide-bin 4.0.1.2, tifffile 2026.3.3.
# Why it matters: a slide of 100,000 pixels a side without its pyramid takes hours where minutes do, and whoever chooses a level by its
# resolution reads another one than in the scanner's own file.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q fastslide==0.8.1 openslide-python==1.4.7 openslide-bin==4.0.1.2 tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6 pillow==13.0.0
cd "$folder"
venv/bin/python - <<'P'
import sys

import fastslide
import numpy as np
import openslide
import tifffile

levels = [np.random.default_rng(0).integers(100, 250, (1200, 1600, 3), np.uint8)]
for _ in range(2):
    height, width = levels[-1].shape[0] // 2, levels[-1].shape[1] // 2
    levels.append(levels[-1].reshape(height, 2, width, 2, 3).mean((1, 3)).astype(np.uint8))
for name, planar in (("chunky", False), ("planar", True)):
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "deflate"}
    options |= {"planarconfig": "separate"} if planar else {}
    with tifffile.TiffWriter(f"{name}.ome.tiff", ome=True) as file:
        for number, level in enumerate(levels):
            data = np.moveaxis(level, 2, 0) if planar else level
            file.write(data, **({"subifds": 2} if number == 0 else {"subfiletype": 1}), **options)
with tifffile.TiffFile("chunky.ome.tiff") as file:
    written = [level.shape[:2] for level in file.series[0].levels]
slide = fastslide.FastSlide.from_file_path("chunky.ome.tiff")
print(f"written: {written}; fastslide ({slide.format}): {slide.level_dimensions}")
print(f"OpenSlide: {openslide.OpenSlide('chunky.ome.tiff').level_dimensions}")
try:
    fastslide.FastSlide.from_file_path("planar.ome.tiff").read_region((0, 0), 0, (100, 100)).numpy()
    planar = "read"
except Exception as error:
    planar = f"not read: {error}"
print(f"planar, by fastslide: {planar}")
if len(slide.level_dimensions) == len(written):
    sys.exit("Changed: fastslide shows the pyramid.")
P
