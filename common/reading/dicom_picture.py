# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One DICOM image as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from .dicom_pixels import NoDecoderError, decode
from .dicom_tags import unit_of
from .options import BYTES_A_PIXEL, MAX_PIXELS, check_count


def read_dicom_picture(
    path: Path, max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, tuple[float, float] | None, list[str], str]:
    """(H, W) or (H, W, 3); mm between rows and between columns, None where the file does not say; notes; and the unit
    of the values, empty where the file does not say.

    Raises:
        ValueError: several frames, too large, or compressed in a way that nothing installed reads.
    """
    tags = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    frames = int(tags.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ValueError(f"{path}: {frames} frames; expected one slice a file")
    check_count(path, (int(tags.Columns), int(tags.Rows)), max_pixels, "max_pixels", BYTES_A_PIXEL)
    try:
        values = decode(path)[0]
    except NoDecoderError as error:
        raise ValueError(f"{path}: {error}") from error
    notes, unit = [], unit_of(tags, [tags])
    if tags.get("PhotometricInterpretation") == "MONOCHROME1":
        # They are turned within the range of their type, where signed values would look like Hounsfield units.
        values, unit = values.astype(np.int64) - int(values.min()), ""
        notes.append("stored with white as its lowest value (MONOCHROME1); turned, and counted from black")
    spacing, note = _spacing(tags)
    return values, spacing, [*notes, *note], unit


def _spacing(tags: Dataset) -> tuple[tuple[float, float] | None, list[str]]:
    shared = tags.get("SharedFunctionalGroupsSequence") or [Dataset()]
    measures = (shared[0].get("PixelMeasuresSequence") or [Dataset()])[0]
    for item, name in ((tags, "PixelSpacing"), (measures, "PixelSpacing"), (tags, "ImagerPixelSpacing")):
        value = item.get(name)
        if value is None or value == "" or len(value) != 2 or not all(float(v) > 0 for v in value):
            continue
        at_detector = ["sizes in mm are those at the detector (ImagerPixelSpacing): larger than in the patient"]
        return (float(value[0]), float(value[1])), at_detector if name == "ImagerPixelSpacing" else []
    return None, []
