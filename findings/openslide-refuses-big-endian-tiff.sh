#!/usr/bin/env bash
# Expected: OpenSlide opens any generic tiled TIFF, and TIFF has two byte orders of equal right (TIFF 6.0, section 2).
# Seen: the same tiled picture opens as little-endian, and is "Unsupported or missing image file" as big-endian, without a word of why.
# Versions: openslide-python 1.4.7 with openslide-bin 4.0.1.2, tifffile 2026.3.3.
# Why it matters: ImageJ and older microscopes write big-endian; such slides fail like damaged ones. `tiffcp -L` rewrites them without loss.
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

image = np.random.default_rng(0).integers(100, 250, (600, 800, 3), np.uint8)
opened = {}
for order, name in (("<", "little"), (">", "big")):
    tifffile.imwrite(f"{name}.tif", image, byteorder=order, tile=(256, 256), photometric="rgb", metadata=None)
    assert np.array_equal(tifffile.imread(f"{name}.tif"), image)
    try:
        opened[name] = str(openslide.OpenSlide(f"{name}.tif").dimensions)
    except openslide.OpenSlideError as error:
        opened[name] = f"refused: {error}"
    print(f"{name}-endian: {opened[name]}")
if not opened["big"].startswith("refused") or opened["little"].startswith("refused"):
    sys.exit("Changed: both byte orders are the same to OpenSlide.")
P
