# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""NIfTI volumes read in half the time: one thread unpacks while another reorders what is unpacked already."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel import Nifti1Image, Nifti2Image

from .nifti_affine import decide
from .options import Reading
from .row_order import held_by_float32

try:
    # Intel's ISA-L, which takes half the time of zlib.
    from isal import igzip as gzip
except ImportError:
    import gzip

SUFFIXES = (".nii", ".nii.gz")
# FreeSurfer's own, and the header of a NIfTI pair: nibabel reads them too.
OTHERS = (".mgz", ".mgh", ".hdr")
# Of the longer one of both headers.
HEADER_BYTES = Nifti2Image.header_class.sizeof_hdr
# Slices at a time: as many float32 as a line of the processor's cache, so that each line is written once.
SLICES = 16


class Stored(NamedTuple):
    """What a file holds.

    Attributes:
        values: (X, Y, Z) or (X, Y, Z, C), or (X, Y).
        affine: (4, 4) float64, voxel -> mm in RAS.
        own: the same in the file's own unit of length: of masks that lie beside it, for programs that ignore units.
        notes: remarks for the user.
        content: a hash by which the voxels are known again; empty where none was made.
        unit: of the voxels; empty where the file does not say.
    """

    values: np.ndarray
    affine: np.ndarray
    own: np.ndarray
    notes: list[str]
    content: str = ""
    unit: str = ""


def read_nifti(path: Path, reading: Reading, exact: bool = False) -> Stored:
    """A NIfTI file or pair, or FreeSurfer's .mgz.

    Args:
        path: of the file.
        reading: its limit of voxels.
        exact: numbers of the file's own type, for label maps; else float32 with the last axis innermost, as torch
            wants them.

    Raises:
        ValueError: an impossible quaternion, an affine without size, complex or colour voxels, numbers that float32
            does not hold, too many.
    """
    try:
        image = open_nifti(path)
    except ValueError as error:
        # nibabel's words for a quaternion of which the first number would be the root of a negative one.
        if not str(error).startswith("w2 should be positive"):
            raise
        raise ValueError(
            f"{path}: its qform holds a quaternion that is no rotation, and it has no sform; expected one that says "
            f"where left is: export the image again, or give it the affine of the scan that it belongs to"
        ) from error
    reading.check_size(path, image.shape)
    kind = image.get_data_dtype().kind
    if kind == "c":
        raise ValueError(f"{path}: complex voxels; expected real ones: save their magnitude as a file of its own")
    if kind not in "biuf":
        raise ValueError(f"{path}: voxels of colours; expected one number a voxel: save one channel as its own file")
    affine, own, notes = _space(image, path)
    # Further axes of length 1, as in x, y, z, 1, 1, say nothing.
    shape = image.shape
    shape = [*shape[:3], *(n for n in shape[3:] if n != 1)]
    plain = image.dataobj
    if not exact and len(plain.shape) == 3:
        values, content = _in_rows(image, path)
    else:
        values, content = np.asanyarray(plain), ""
        _to_the_end(image)
        if not exact:
            with held_by_float32(path):
                values = values.astype(np.float32)
    return Stored(values.reshape(shape, order="A"), affine, own, notes, content)


def open_nifti(path: Path) -> Any:
    """nibabel's image, its voxels not read yet.

    nibabel opens a ``.nii.gz`` anew for each part that is read of it; this one stays open as long as the image is.
    """
    if str(path).lower().endswith(".nii.gz"):
        stream = gzip.open(path, "rb")
        start = stream.read(HEADER_BYTES)
        stream.seek(0)
        for kind in (Nifti1Image, Nifti2Image):
            if kind.header_class.may_contain_header(start):
                return kind.from_stream(stream)
        stream.close()
    return nib.load(path)


def _space(image: Any, path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    if isinstance(image, nib.MGHImage):
        affine = np.array(image.affine, dtype=np.float64)
        return affine, affine, []
    if not hasattr(image.header, "get_sform"):
        raise ValueError(f"{path}: an Analyze file does not say which side is left; expected NIfTI: convert it")
    try:
        decided = decide(image.header, stored_sizes(path, image))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return decided.affine, decided.stored, decided.notes


def stored_sizes(path: Path, image: Any) -> np.ndarray:
    """(3,) pixdim as the file has it: nibabel puts 1 for 0, and says so in its log alone."""
    kind = type(image.header)
    with (gzip.open if str(path).lower().endswith(".gz") else open)(path, "rb") as file:
        stored = kind(file.read(kind.sizeof_hdr), check=False)
    return np.array(stored["pixdim"][1:4], dtype=np.float64)


def _in_rows(image: Any, path: Path) -> tuple[np.ndarray, str]:
    """float32 with the last axis innermost, and the hash of the voxels."""
    stored = image.dataobj
    turned = np.empty(stored.shape, np.float32)
    # While the other thread unpacks this one has time to hash what is there.
    content = hashlib.sha256(f"{stored.shape} {stored.dtype}".encode())
    parts = [slice(start, start + SLICES) for start in range(0, stored.shape[2], SLICES)]
    with ThreadPoolExecutor(1) as unpacking:
        for part, voxels in zip(parts, unpacking.map(lambda part: stored[..., part], parts), strict=True):
            with held_by_float32(path):
                turned[..., part] = voxels
            content.update(np.ascontiguousarray(voxels.T))
    _to_the_end(image)
    return turned, content.hexdigest()


def _to_the_end(image: Any) -> None:
    """The checksum comes after the last voxel, where nibabel does not look."""
    stream = image.file_map["image"].fileobj
    while stream is not None and stream.read(1 << 20):
        pass
