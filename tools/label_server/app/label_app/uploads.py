# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Files that clients send: their kind, their headers, and the names under which they are kept."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastapi import UploadFile

VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# Headers of text end long before.
HEADER_BYTES = 2**16


def extension(file: UploadFile, kinds: tuple[str, ...] = VOLUMES + PICTURES) -> str:
    """The kind of an upload by the end of its name, the one thing of the name that is used.

    Raises:
        ValueError: another kind.
    """
    name = (file.filename or ".nii.gz").lower()
    found = next((kind for kind in kinds if name.endswith(kind)), None)
    if found is None:
        raise ValueError(f"the upload {name[-40:]!r} is of no kind that is read: expected one of {', '.join(kinds)}")
    return found


def check_header(file: BinaryIO, kind: str) -> None:
    """Raise a ValueError for a header that names other files for its voxels."""
    file.seek(0)
    head = file.read(HEADER_BYTES)
    file.seek(0)
    if kind == ".mha":
        fields = dict(split(line, b"=") for line in head.split(b"\n") if b"=" in line)
        source = fields.get(b"elementdatafile")
        if source != b"local":
            raise ValueError(f"the upload keeps its voxels in {shown(source)}: expected ElementDataFile = LOCAL")
    if kind == ".nrrd":
        lines = head.partition(b"\n\n")[0].replace(b"\r", b"").split(b"\n")
        fields = dict(split(line, b":") for line in lines if b":" in line and not line.startswith(b"#"))
        named = fields.get(b"data file") or fields.get(b"datafile")
        if named is not None:
            raise ValueError(f"the upload keeps its voxels in {shown(named)}: expected a .nrrd that holds them itself")
    if kind in (".nii", ".nii.gz"):
        magic = unpacked(head)[344:348] if kind == ".nii.gz" else head[344:348]
        if magic == b"ni1\0":
            raise ValueError("the upload is one half of a .hdr and .img pair: expected a NIfTI file of one piece")


def split(line: bytes, mark: bytes) -> tuple[bytes, bytes]:
    """A header's line as key and value, in small letters."""
    key, _, value = line.partition(mark)
    return key.strip().lower(), value.strip().lower()


def shown(name: bytes | None) -> str:
    """A part of a header that may hold anything."""
    return "no place" if name is None else ascii(name[:60].decode("latin-1"))


def unpacked(head: bytes) -> bytes:
    """The beginning of what a gzip file holds; nothing where it is none."""
    try:
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(head, 1024)
    except (zlib.error, gzip.BadGzipFile):
        return b""


def checked(file: UploadFile, kinds: tuple[str, ...] = VOLUMES + PICTURES) -> UploadFile:
    """The upload, under a name of ours.

    Raises:
        ValueError: another kind, or voxels in another file.
    """
    kind = extension(file, kinds)
    check_header(file.file, kind)
    file.filename = f"upload{kind}"
    return file


@contextmanager
def stored(*files: UploadFile | None) -> Iterator[list[str | None]]:
    """Paths of the uploads, in a folder that is gone afterwards; None for those that were not sent."""
    with tempfile.TemporaryDirectory(prefix="upload_") as folder:
        paths: list[str | None] = []
        for number, file in enumerate(files):
            if file is None:
                paths.append(None)
                continue
            path = Path(folder) / f"{number}{extension(file)}"
            with path.open("wb") as copy:
                shutil.copyfileobj(file.file, copy)
            paths.append(str(path))
        yield paths
