"""Writes DICOM slides, an instance a level."""

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, generate_uid

SIDE = 128
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


def item(**values: Any) -> list[Dataset]:
    """A sequence of one item."""
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return [dataset]


def write_level(
    path: Path,
    image: NDArray[np.uint8],
    series: str,
    spacing: float,
    *,
    first: bool,
    refers_to: str | None = None,
    short: Collection[int] | None = None,
) -> None:
    """Write one instance, its tiles in JPEG, row by row; those numbered in ``short`` end where the picture does."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % SIDE), (0, -width % SIDE), (0, 0)), constant_values=243)
    frames = []
    for y in range(0, height, SIDE):
        for x in range(0, width, SIDE):
            buffer = io.BytesIO()
            whole = image if short is not None and len(frames) in short else padded
            Image.fromarray(whole[y : y + SIDE, x : x + SIDE]).save(buffer, "JPEG", quality=90)
            frames.append(buffer.getvalue())
    meta, dataset = FileMetaDataset(), Dataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID = WHOLE_SLIDE
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.file_meta = meta
    kind = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"] if first else ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    if refers_to:
        instance = item(ReferencedSOPClassUID=WHOLE_SLIDE, ReferencedSOPInstanceUID=generate_uid())
        dataset.ReferencedSeriesSequence = item(SeriesInstanceUID=refers_to, ReferencedInstanceSequence=instance)
    optical = item(
        IlluminationTypeCodeSequence=item(CodeValue="111744", CodingSchemeDesignator="DCM", CodeMeaning="Brightfield"),
        OpticalPathIdentifier="1",
    )
    measures = item(PixelSpacing=[spacing / 1000] * 2, SliceThickness=0.001)
    values = {
        "ImageType": kind,
        "Modality": "SM",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": series,
        "FrameOfReferenceUID": "1.2.4",
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "YBR_FULL_422",
        "PlanarConfiguration": 0,
        "NumberOfFrames": len(frames),
        "Rows": SIDE,
        "Columns": SIDE,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "TotalPixelMatrixColumns": width,
        "TotalPixelMatrixRows": height,
        "TotalPixelMatrixFocalPlanes": 1,
        "NumberOfOpticalPaths": 1,
        "TotalPixelMatrixOriginSequence": item(XOffsetInSlideCoordinateSystem=0, YOffsetInSlideCoordinateSystem=0),
        "ImageOrientationSlide": [0, -1, 0, -1, 0, 0],
        "DimensionOrganizationType": "TILED_FULL",
        "SharedFunctionalGroupsSequence": item(
            PixelMeasuresSequence=measures, WholeSlideMicroscopyImageFrameTypeSequence=item(FrameType=kind)
        ),
        "OpticalPathSequence": optical,
        "PixelData": encapsulate(frames),
    }
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset["PixelData"].is_undefined_length = True
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
