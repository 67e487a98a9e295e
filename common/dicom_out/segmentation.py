# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Masks as a binary DICOM segmentation (DICOM SEG), by highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .segments import MANUFACTURER, Maker, Segment, code_item
from .source import Source

# Of a segment's label, in characters.
LONGEST = 64


def missing_package() -> str | None:
    """What has to be installed for it, as people read it; None where it is there."""
    if find_spec("highdicom") is None:
        return "needs the package highdicom (and with it pydicom 3): pip install highdicom"
    return None


def write_segmentation(
    path: Path, labels: np.ndarray, segments: Sequence[Segment], source: Source, maker: Maker
) -> None:
    """Write a segment for each label, on the frames of the images; frames without any are left out.

    Args:
        path: of the file.
        labels: (columns, rows, slices), of whole numbers.
        segments: those that have a pixel.
        source: the images.
        maker: for the name and version of the algorithm.

    Raises:
        ValueError: no highdicom, a mask of another shape, no segment, or several files of several frames.
    """
    if (why := missing_package()) is not None:
        raise ValueError(f"a DICOM segmentation {why}")
    source.check(labels, segments)
    import highdicom as hd
    from skimage.color import rgb2lab

    algorithm = hd.AlgorithmIdentificationSequence(
        name=maker.name, version=maker.version, family=_concept(hd, "123110", "DCM", "Artificial Intelligence")
    )
    described = []
    for number, segment in enumerate(segments, 1):
        category, kind, side = segment.coded
        item = hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.name[:LONGEST],
            segmented_property_category=_concept(hd, category.value, category.scheme, category.meaning),
            segmented_property_type=_concept(hd, kind.value, kind.scheme, kind.meaning),
            algorithm_type=segment.algorithm_type,
            algorithm_identification=algorithm,
            display_color=hd.color.CIELabColor(*(float(v) for v in rgb2lab(np.array(segment.colour)))),
        )
        if side is not None:
            kind_item = item.SegmentedPropertyTypeCodeSequence[0]
            kind_item.SegmentedPropertyTypeModifierCodeSequence = [code_item(side)]
        described.append(item)
    with warnings.catch_warnings():
        # Of tags of the images that are not as the standard wants them.
        warnings.simplefilter("ignore")
        written = hd.seg.Segmentation(
            source_images=source.files,
            pixel_array=_frames(labels, segments, source),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            series_instance_uid=hd.UID(),
            series_number=100,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=maker.name,
            software_versions=maker.version,
            device_serial_number="0",
            series_description=f"Masks by {maker.name}",
            content_label="MASKS",
            omit_empty_frames=True,
        )
        # Names of labels may be of any alphabet.
        written.SpecificCharacterSet = "ISO_IR 192"
        written.save_as(path)


def _frames(labels: np.ndarray, segments: Sequence[Segment], source: Source) -> np.ndarray:
    """(frames of the images, rows, columns, segments) uint8."""
    first = source.files[0]
    count = int(first.get("NumberOfFrames") or 1)
    if count > 1 and len(source.files) > 1:
        raise ValueError("several files of several frames: expected one such file, or a file for each slice")
    if count > 1 and "PerFrameFunctionalGroupsSequence" not in first:
        raise ValueError(
            "the frames of the file do not say where each of them lies: expected an enhanced multi-frame file"
        )
    values = np.array([s.value for s in segments])
    frames = np.zeros((max(count, len(source.files)), *labels.shape[1::-1], len(segments)), np.uint8)
    for k, (file, frame) in enumerate(source.frames):
        frames[frame if count > 1 else file] = labels[:, :, k].T[..., None] == values
    return frames


def _concept(hd: object, value: str, scheme: str, meaning: str) -> object:
    return hd.sr.CodedConcept(value, scheme, meaning)
