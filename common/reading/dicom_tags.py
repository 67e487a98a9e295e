# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the tags of DICOM files say about each slice, before anything sorts or averages them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

SUFFIXES = (".dcm", ".dicom", ".ima")
# Each of these tells the images of one position apart: phases, echoes, diffusion weightings, energies, parts.
KINDS = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "RepetitionTime",
    "FlipAngle",
    "TriggerTime",
    "NominalPercentageOfCardiacPhase",
    "DiffusionBValue",
    "FrameReferenceTime",
    "ActualFrameDuration",
    "KVP",
    "ConvolutionKernel",
    "ComplexImageComponent",
    "ImageType",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "SeriesTime",
    "StackID",
)
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices")
TAGS = [
    *KINDS,
    *GEOMETRY,
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
    "InstanceNumber",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "RescaleType",
    "Units",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DetectorInformationSequence",
    "GridFrameOffsetVector",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
]
# In functional groups these say where a frame lies, and nothing of what kind it is.
PLACES = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
)
MAGIC = (128, b"DICM")


@dataclass(frozen=True, eq=False)
class Slice:
    """One image: a file, or a frame of one.

    Attributes:
        file: where it lies.
        frame: its place in the file.
        uid: SOPInstanceUID.
        series: SeriesInstanceUID.
        about: modality, description and number of the series.
        number: InstanceNumber, or the number of the frame; 0 where there is none.
        size: rows and columns.
        position: (3,) mm in LPS, of the centre of the first pixel; None where the file does not say.
        orientation: (2, 3), along which a row and a column run; None likewise.
        spacing: mm between rows and between columns; None likewise.
        thickness: mm from slice to slice as one file says it alone; None likewise.
        kinds: what may tell it from another image at the same position.
        aside: why it can be no slice of a volume; empty where it can.
        unit: of its values; empty where the file does not say.
    """

    file: Path
    frame: int
    uid: str
    series: str
    about: str
    number: int
    size: tuple[int, int]
    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: tuple[float, float] | None
    thickness: float | None
    kinds: dict[str, str] = field(default_factory=dict)
    aside: str = ""
    unit: str = ""

    @property
    def name(self) -> str:
        """The file's name, and the frame's number where there are several."""
        return self.file.name if self.frame == 0 else f"{self.file.name} frame {self.frame + 1}"


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        slices: of files that are images.
        broken: files that are DICOM, or are named like those that are, and cannot be read whole; with the reason.
        others: names of files that are no DICOM images.
    """

    slices: list[Slice]
    broken: dict[str, str]
    others: list[str]


def is_dicom(path: str | Path) -> bool:
    """Whether a file is DICOM, going by its content, whatever its name."""
    with open(path, "rb") as file:
        return file.read(MAGIC[0] + 4)[MAGIC[0] :] == MAGIC[1]


def find_slices(place: Path) -> Found:
    """The slices of a file, or of all files in a folder and the folders in it."""
    files = [place] if place.is_file() else sorted(f for f in place.rglob("*") if _is_visible(f, place))
    slices: list[Slice] = []
    broken: dict[str, str] = {}
    others: list[tuple[str, str]] = []
    for file in files:
        try:
            tags = read_tags(file)
            found = slices_of(file, tags)
        except Exception as error:  # noqa: BLE001 - pydicom raises of every kind, of which none names the file
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:100]
            (broken.__setitem__(file.name, reason) if is_dicom(file) else others.append((file.name, reason)))
            continue
        slices.extend(found)
        if not found:
            others.append((file.name, ""))
    patterns = {_pattern(s.file.name) for s in slices}
    for name, reason in others:
        # A file that is named as the slices are was one.
        if reason and (name.lower().endswith(SUFFIXES) or _pattern(name) in patterns):
            broken[name] = reason
    return Found(slices, broken, [name for name, _ in others if name not in broken])


def read_tags(file: Path) -> Dataset:
    """The tags that count, without the pixels, which are only measured.

    Raises:
        ValueError: no DICOM, or cut off.
    """
    magic = is_dicom(file)
    tags = pydicom.dcmread(file, specific_tags=TAGS, defer_size=1024, force=not magic)
    if "SOPClassUID" not in tags:
        raise ValueError("no DICOM file" if not magic else "its tags are cut off")
    if "Rows" in tags and "Columns" in tags:
        _check_pixels(file, tags)
    elif "Image Storage" in UID(str(tags.SOPClassUID)).name:
        raise ValueError("its tags are cut off")
    return tags


def _check_pixels(file: Path, tags: Dataset) -> None:
    """Raises ValueError where a file has not the pixels that it announces."""
    names = [n for n in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if n in tags]
    if not names:
        raise ValueError("has no pixels")
    stored = tags.get_item(names[0])
    syntax = transfer_syntax(tags)
    if is_compressed(syntax) or (syntax is not None and syntax.is_deflated):
        return
    size = (
        int(tags.Rows)
        * int(tags.Columns)
        * int(tags.get("NumberOfFrames") or 1)
        * int(tags.get("SamplesPerPixel") or 1)
    )
    bits = int(tags.get("BitsAllocated") or {"DoubleFloatPixelData": 64}.get(names[0], 32))
    halved = str(tags.get("PhotometricInterpretation", "")) in ("YBR_FULL_422", "YBR_PARTIAL_422")
    expected = size * bits // 8 * (2 if halved else 3) // 3
    value, start = getattr(stored, "value", None), getattr(stored, "value_tell", None)
    length = len(value) if value is not None else int(stored.length)
    if start is not None:
        length = min(length, file.stat().st_size - int(start))
    if length < expected:
        raise ValueError(f"has {length} bytes of pixels instead of {expected}")


def transfer_syntax(tags: Dataset) -> Any:
    """How the pixels are stored; None where the file does not say."""
    meta = getattr(tags, "file_meta", None)
    return meta.get("TransferSyntaxUID") if meta is not None else None


def is_compressed(syntax: Any) -> bool:
    """Whether pixels of this transfer syntax are; those of one that pydicom does not know are taken for it."""
    try:
        return syntax is not None and syntax.is_encapsulated
    except ValueError:
        return True


def slices_of(file: Path, tags: Dataset) -> list[Slice]:
    """One for each frame; none where the file is no image."""
    if "Rows" not in tags or "Columns" not in tags:
        return []
    shared = _first(tags, "SharedFunctionalGroupsSequence")
    frames = list(tags.get("PerFrameFunctionalGroupsSequence") or [])
    count = max(1, int(tags.get("NumberOfFrames") or 1))
    if frames and len(frames) != count:
        raise ValueError(f"has {count} frames and {len(frames)} groups of tags for them")
    detector = _first(tags, "DetectorInformationSequence")
    where = [[f, shared, detector, tags] for f in frames] or [[shared, detector, tags]] * count
    steps = _steps(tags, where[0], count) if not frames else None
    top = {k: str(tags[k].value) for k in KINDS if k in tags and tags[k].value not in (None, "")}
    about = f"{tags.get('Modality') or 'unknown modality'} {str(tags.get('SeriesDescription') or '').strip()!r}"
    if tags.get("SeriesNumber") is not None:
        about += f", series {tags.SeriesNumber}"
    slices = []
    for index, groups in enumerate(where):
        position = _numbers(groups, "PlanePositionSequence", "ImagePositionPatient", 3)
        if steps is not None:
            position = None if position is None else position + steps[index]
        elif not frames and count > 1:
            position = None
        orientation = _numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
        spacing = _numbers(groups, "PixelMeasuresSequence", "PixelSpacing", 2)
        between = _numbers(groups, "PixelMeasuresSequence", "SpacingBetweenSlices", 1)
        thickness = _numbers(groups, "PixelMeasuresSequence", "SliceThickness", 1)
        thick = next((abs(float(v[0])) for v in (between, thickness) if v is not None and v[0]), None)
        slices.append(
            Slice(
                file,
                index,
                f"{tags.get('SOPInstanceUID')}/{index}",
                str(tags.get("SeriesInstanceUID")),
                about,
                index + 1 if count > 1 else _whole(tags.get("InstanceNumber")),
                (int(tags.Rows), int(tags.Columns)),
                position,
                None if orientation is None else orientation.reshape(2, 3),
                None if spacing is None or not (spacing > 0).all() else (float(spacing[0]), float(spacing[1])),
                thick,
                {**top, **(_kinds(groups[0]) if frames else {})},
                _aside(tags),
                unit_of(tags, groups),
            )
        )
    return slices


def _aside(tags: Dataset) -> str:
    kinds = [str(k).upper() for k in (tags.get("ImageType") or [])]
    if "LOCALIZER" in kinds or "SCOUT" in kinds:
        return "localizer"
    if int(tags.get("SamplesPerPixel") or 1) != 1:
        return "colour picture"
    return "label map" if tags.get("Modality") == "SEG" else ""


def unit_of(tags: Dataset, groups: Sequence[Dataset | None]) -> str:
    """Of CT the Hounsfield unit, unless it says another; of PET what it says; of others nobody knows."""
    if tags.get("Modality") == "PT":
        return str(tags.get("Units") or "")
    scales = [s for s in (_first(g, "PixelValueTransformationSequence") for g in groups if g is not None) if s]
    said = [str(item.get("RescaleType") or "").strip() for item in (*scales, tags)]
    return "HU" if tags.get("Modality") == "CT" and next(filter(None, said), "HU") == "HU" else ""


def _steps(tags: Dataset, groups: list, count: int) -> np.ndarray | None:
    """(frames, 3) mm from the first frame to each, where one position and a distance say it for all of them."""
    orientation = _numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    if count == 1 or orientation is None:
        return None
    offsets = tags.get("GridFrameOffsetVector")
    if offsets is not None and len(offsets) == count:
        along = np.array([float(v) for v in offsets])
        # They may count from the first frame, or be the places themselves.
        along = along - along[0]
    elif "DetectorInformationSequence" in tags and tags.get("SpacingBetweenSlices"):
        along = np.arange(count) * float(tags.SpacingBetweenSlices)
    else:
        return None
    return along[:, None] * np.cross(orientation[:3], orientation[3:])


def _kinds(frame: Dataset) -> dict[str, str]:
    """Every number and name in the groups of a frame, but where it lies."""
    kinds = {}
    for group in frame:
        if group.VR != "SQ" or group.keyword in PLACES or not group.value:
            continue
        for element in group.value[0]:
            if element.VR == "SQ" or element.keyword in ("InStackPositionNumber", "FrameAcquisitionDuration"):
                continue
            if element.keyword == "DimensionIndexValues":
                values = element.value if isinstance(element.value, Iterable) else [element.value]
                kinds.update({f"dimension {i + 1}": str(v) for i, v in enumerate(values)})
            elif element.value not in (None, ""):
                kinds[element.keyword or str(element.tag)] = str(element.value)
    return kinds


def _first(tags: Dataset, name: str) -> Dataset | None:
    items = tags.get(name)
    return items[0] if items else None


def _numbers(groups: Sequence[Dataset | None], sequence: str, name: str, count: int) -> np.ndarray | None:
    """(count,) of the first group that says it, right there or in its ``sequence``; None where none does."""
    for group in groups:
        for item in () if group is None else (_first(group, sequence), group):
            value = None if item is None else item.get(name)
            if value is None or value == "":
                continue
            try:
                numbers = np.array(value, dtype=np.float64).reshape(-1)
            except (TypeError, ValueError):
                continue
            if len(numbers) == count and np.isfinite(numbers).all():
                return numbers
    return None


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name.lower())


def _is_visible(file: Path, top: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(top).parts)
    return file.is_file() and not hidden and file.name.upper() != "DICOMDIR"
