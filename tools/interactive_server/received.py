# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Files that a browser hands over, piece by piece, in a folder that goes when nobody holds it any more."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

MAX_FILES = 20_000
MAX_PIECE = 16 << 20
# Zip files pack DICOM at best to a tenth; what unpacks to far more is made to fill a disk.
MAX_RATIO = 200
OTHER = re.compile(r"[^A-Za-z0-9._-]+")
# What a header's file is read by, and the file of voxels beside it.
HEADERS = (".mhd", ".nhdr", ".hdr")


@dataclass
class File:
    """One of them.

    Attributes:
        path: where it is written.
        size: bytes that were announced.
        received: bytes that have come.
    """

    path: Path
    size: int
    received: int = 0


class Received:
    """What is handed over at once: a file, the files of a folder, or a zip of either.

    Nothing of a name but letters, digits, ``.``, ``_`` and ``-`` of its last part becomes a part of a path.

    Args:
        names: of the files, with the folders that they lay in.
        sizes: in bytes.
        limit: bytes of all together.

    Raises:
        ValueError: no file, too many, or too large ones.
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int], limit: int) -> None:
        if not 0 < len(names) <= MAX_FILES:
            raise ValueError(f"{len(names)} files: expected 1 to {MAX_FILES}, one scan")
        _check_size(sum(sizes), limit)
        self.limit = limit
        self.title = names[0].replace("\\", "/").strip("/").split("/")[0][:120] or "scan"
        # The folder goes with this object.
        self._folder = TemporaryDirectory(prefix="sam-bundles-")
        place = Path(self._folder.name)
        self.files = [File(path, size) for path, size in zip(_places(place, names), sizes, strict=True)]
        for file in self.files:
            file.path.touch()

    def write(self, index: int, offset: int, piece: bytes) -> int:
        """Add a piece to a file; the bytes of it that have come.

        Raises:
            ValueError: no such file, a piece that does not go on where the last one ended, or more than announced.
        """
        if not 0 <= index < len(self.files):
            raise ValueError(f"file {index}: expected 0 to {len(self.files) - 1}")
        file = self.files[index]
        if offset != file.received:
            raise ValueError(f"a piece for byte {offset}: expected the one for byte {file.received}")
        if file.received + len(piece) > file.size:
            raise ValueError(f"{file.received + len(piece)} bytes of a file of {file.size}: expected no more than said")
        with file.path.open("ab") as out:
            out.write(piece)
        file.received += len(piece)
        return file.received

    def path(self) -> Path:
        """What to read: the one file, the header of several, or the folder of a DICOM series; a zip is unpacked.

        Raises:
            ValueError: files that have not come whole, or a broken or oversized zip.
        """
        missing = [f for f in self.files if f.received != f.size]
        if missing:
            raise ValueError(f"{len(missing)} of {len(self.files)} files have not come whole: expected all their bytes")
        paths = [f.path for f in self.files]
        if len(paths) == 1 and paths[0].suffix.lower() == ".zip":
            paths = _unpack(paths[0], Path(self._folder.name) / "unpacked", self.limit)
        if len(paths) == 1:
            return paths[0]
        headers = [p for p in paths if p.name.lower().endswith(HEADERS)]
        if len(headers) == 1:
            return headers[0]
        return Path(self._folder.name) / ("unpacked" if len(self.files) == 1 else ".")

    def plain(self, sentence: str) -> str:
        """A sentence about one of the files, under the name that the person knows instead of its path here."""
        return re.sub(re.escape(self._folder.name) + r"[^\s:;,]*", lambda _: self.title, sentence)


def _places(folder: Path, names: Sequence[str]) -> list[Path]:
    """A place for each name; files of one folder stay together, since headers name the file of their voxels."""
    folders: dict[str, Path] = {}
    taken: set[str] = set()
    places = []
    for i, name in enumerate(names):
        above, _, last = name.replace("\\", "/").rpartition("/")
        safe = OTHER.sub("_", last)[-100:].lstrip(".") or "file"
        place = folders.setdefault(above, folder / f"folder{len(folders)}") / safe
        # Two names may become one, also where capitals do not count.
        if str(place).lower() in taken:
            place = folders[above] / f"{i}-{safe}"
        taken.add(str(place).lower())
        places.append(place)
    for place in folders.values():
        place.mkdir(parents=True, exist_ok=True)
    return places


def _unpack(packed: Path, folder: Path, limit: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    try:
        with zipfile.ZipFile(packed) as archive:
            members = [m for m in archive.infolist() if _is_file(m)]
            if not 0 < len(members) <= MAX_FILES:
                raise ValueError(f"the zip has {len(members)} files: expected 1 to {MAX_FILES}, one scan")
            size = sum(m.file_size for m in members)
            _check_size(size, limit)
            if size > MAX_RATIO * packed.stat().st_size:
                raise ValueError(f"the zip unpacks to {size} bytes, {MAX_RATIO} times its own: expected a scan")
            places = _places(folder, [m.filename for m in members])
            for member, place in zip(members, places, strict=True):
                with archive.open(member) as source, place.open("wb") as out:
                    _copy(source, out, member.file_size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"the zip cannot be unpacked ({error}): expected a whole one without a password") from error
    packed.unlink()
    return places


def _is_file(member: zipfile.ZipInfo) -> bool:
    """A file, and none of those that systems put beside the user's own."""
    parts = member.filename.replace("\\", "/").split("/")
    hidden = "__MACOSX" in parts or parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini")
    return not member.is_dir() and not stat.S_ISLNK(member.external_attr >> 16) and not hidden


def _copy(source: zipfile.ZipExtFile, out: object, size: int) -> None:
    """No more than the zip's own list says, whatever it holds."""
    left = size
    while left > 0 and (piece := source.read(min(left, 1 << 20))):
        out.write(piece)
        left -= len(piece)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"{size / 2**30:.1f} GiB: expected at most {limit / 2**30:.1f}; --max-upload raises it")
