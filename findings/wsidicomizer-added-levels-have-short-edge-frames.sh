#!/usr/bin/env bash
# Expected: in a tiled DICOM slide every frame has the Rows and Columns that its file states, those at the edge filled up (PS3.3, Image Pixel
# module: they hold for all frames); a converter of the field writes such files, and its own levels are as good as the scanner's.
# Seen: wsidicomizer with add_missing_levels makes the levels that a slide lacks with edge frames of the size that is left over: 240 x 240 by the file,
# 120 x 240 in the frame. Level 0 is as it should be. OpenSlide opens the slide, lists the levels, and fails at the first edge frame it is asked for.
# Versions: wsidicomizer 0.26.1 with opentile 0.22.0 and wsidicom 0.31.0, openslide-bin 4.0.1.2 (Python 3.11).
# Why it matters: archives convert to DICOM and add a pyramid; tissue is looked for in just these levels, so that a job fails in the middle, slide by slide.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q wsidicomizer==0.26.1 opentile==0.22.0 wsidicom==0.31.0 pydicom==3.0.2 openslide-python==1.4.7 openslide-bin==4.0.1.2 \
  tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6 pillow==12.0.0
if ! ldconfig -p | grep -q libturbojpeg; then  # PyTurboJPEG wants the library of the system
  apt-get download -q libturbojpeg0 >/dev/null 2>&1 && dpkg -x libturbojpeg0*.deb turbo
  TURBOJPEG=$(find "$PWD/turbo" -name 'libturbojpeg.so.0*' | head -1); export TURBOJPEG
fi
venv/bin/python - <<'P'
import io, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import numpy as np, openslide, pydicom, tifffile
from PIL import Image
from wsidicomizer import WsiDicomizer

image = np.kron(np.random.default_rng(0).integers(100, 250, (30, 40, 3), np.uint8), np.ones((25, 25, 1), np.uint8))  # 1000 x 750
with tifffile.TiffWriter("a.svs") as file:
    text = "Aperio Image Library v11.2.1\r\n1000x750 [0,0 1000x750] (240x240) JPEG/RGB Q=90|AppMag = 20|MPP = 0.5"
    file.write(image, tile=(240, 240), photometric="rgb", compression="jpeg", description=text, metadata=None)
with WsiDicomizer.open("a.svs") as slide:
    slide.save("dicom", add_missing_levels=True)
short, files = 0, sorted(Path("dicom").rglob("*.dcm"))
for path in files:
    level = pydicom.dcmread(path)
    if "VOLUME" not in level.ImageType:
        continue
    sizes = {Image.open(io.BytesIO(frame)).size for frame in pydicom.encaps.generate_frames(level.PixelData, number_of_frames=level.NumberOfFrames)}
    said = (level.Columns, level.Rows)
    short += any(size != said for size in sizes)
    print(f"level of {level.TotalPixelMatrixColumns} x {level.TotalPixelMatrixRows}: the file says frames of {said}, and holds {sorted(sizes)}")
try:
    slide = openslide.OpenSlide(files[0])
    slide.read_region((0, 0), 1, slide.level_dimensions[1])
    print("OpenSlide reads level 1")
except openslide.OpenSlideError as error:
    print(f"OpenSlide, of level 1: {error}")
if not short:
    sys.exit("Changed: all frames are as the file says.")
P
