# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Headers of MetaImage and NRRD files, checked before ITK sees them; and their voxels, which ITK does not count.

ITK takes the numbers of a header as they are: a negative count of axes ends the process. It reads compressed voxels
without asking whether their stream was whole.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .options import Reading

METAIMAGE = (".mha", ".mhd")
NRRD = (".nrrd", ".nhdr")
# No header of an image is longer; nor is a line of one, but for what follows a list of files.
HEADER_BYTES = 1 << 18
LINE_BYTES = 2000
AXES = range(2, 6)
CHUNK = 1 << 20
# Bytes that may follow the voxels: a line's end, a sector that is filled.
MORE = 512
META_TYPES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}
# How many numbers each has, for n axes.
META_NUMBERS: dict[str, Callable[[int], int]] = {
    "ElementSpacing": lambda n: n,
    "ElementSize": lambda n: n,
    "Offset": lambda n: n,
    "Origin": lambda n: n,
    "Position": lambda n: n,
    "CenterOfRotation": lambda n: n,
    "TransformMatrix": lambda n: n * n,
    "Rotation": lambda n: n * n,
    "Orientation": lambda n: n * n,
}
NRRD_TYPES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t")
    + ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
    8: ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t")
    + ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double"),
}
# Of length, as they are written; all others are taken for mm, as by everybody.
UNITS = {
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometre"), "micron"),
    **dict.fromkeys(("m", "meter", "metre", "meters", "metres"), "meter"),
}
SPELLINGS = {"datafile": "data file", "byteskip": "byte skip", "lineskip": "line skip"}
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


class Voxels(NamedTuple):
    """Where the voxels of an image are.

    Attributes:
        shape: along all axes.
        size: bytes of all of them.
        files: that hold them, one after the other; each with the bytes before them.
        packed: ``zlib``, ``gzip`` or empty; None where they are no plain bytes.
        unit: of length, ``mm``, ``micron`` or ``meter``.
    """

    shape: list[int]
    size: int
    files: list[tuple[Path, int]]
    packed: str | None
    unit: str = "mm"


def check_header(path: Path, reading: Reading) -> str:
    """Whether ITK may read a MetaImage or NRRD file; and the unit of length, which ITK does not look at.

    Raises:
        ValueError, OSError, EOFError, zlib.error: numbers that no image has, too many voxels, files of voxels that are
            missing or too short, or a stream that is not whole.
    """
    found = voxels(path)
    reading.check_size(path, found.shape)
    _check_voxels(found)
    return found.unit


def voxels(path: Path) -> Voxels:
    """What a MetaImage or NRRD header says of its voxels. Raises ValueError where it is none."""
    return (_metaimage if path.suffix.lower() in METAIMAGE else _nrrd)(path)


def _lines(file: BinaryIO) -> Iterator[str]:
    """The lines of a header, to the end of the file where it has no other.

    Raises:
        ValueError: no text, or no header in all that length.
    """
    while file.tell() < HEADER_BYTES:
        line = file.readline(LINE_BYTES + 1)
        if len(line) > LINE_BYTES or b"\0" in line:
            raise ValueError("its header is no text, or has no end")
        if not line:
            return
        yield line.decode("utf-8", errors="replace").strip()
    raise ValueError("its header has no end")


def _metaimage(path: Path) -> Voxels:
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        for line in _lines(file):
            key, equals, value = line.partition("=")
            if not equals and line:
                raise ValueError(f"{line[:60]!r} in its header is no field")
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                break
        if "ElementDataFile" not in fields:
            raise ValueError("its header names no voxels (ElementDataFile)")
        start = file.tell()
        names = [_name(line) for line in file.read(HEADER_BYTES).decode("utf-8", errors="replace").splitlines()]
    axes = _whole(fields, "NDims", AXES)
    shape = _shape(fields, "DimSize", axes)
    for name, count in META_NUMBERS.items():
        if name in fields:
            _numbers(name, fields[name].split(), count(axes))
    channels = _whole(fields, "ElementNumberOfChannels", range(1, 1 << 10), "1")
    kind = fields.get("ElementType", "")
    if kind.removesuffix("_ARRAY") not in META_TYPES:
        raise ValueError(f"ElementType {kind!r}; expected one of {', '.join(META_TYPES)}")
    size = math.prod(shape) * channels * META_TYPES[kind.removesuffix("_ARRAY")]
    packed = "zlib" if fields.get("CompressedData", "").lower() in ("true", "1") else ""
    # ASCII voxels have no size that could be known beforehand.
    packed = packed if fields.get("BinaryData", "True").lower() in ("true", "1") else None
    if packed and "CompressedDataSize" not in fields:
        # ITK gives memory as it lies for the voxels then.
        raise ValueError("its voxels are compressed, and no CompressedDataSize says in how many bytes")
    data = fields["ElementDataFile"]
    skip = _whole(fields, "HeaderSize", range(-1, 1 << 40), "0")
    full = [*shape, channels] if channels > 1 else shape
    if data.upper() == "LOCAL":
        return Voxels(full, size, [(path, start)], packed)
    if data.upper().startswith("LIST"):
        return Voxels(full, size, [(path.parent / n, max(0, skip)) for n in names if n][: shape[-1]], packed)
    names = _of_pattern(data.split()) if "%" in data else [data]
    return Voxels(full, size, [(path.parent / n, skip) for n in names], packed)


def _nrrd(path: Path) -> Voxels:
    fields: dict[str, str] = {}
    names: list[str] = []
    with open(path, "rb") as file:
        lines = _lines(file)
        if not re.match(r"NRRD000[1-6]$", next(lines, "")):
            raise ValueError("it does not begin as a NRRD file does")
        for line in lines:
            if not line:
                break
            if fields.get("data file", "").upper().startswith("LIST"):
                names.append(line)
                continue
            if line.startswith("#") or ":=" in line:
                continue
            key, colon, value = line.partition(":")
            if not colon:
                raise ValueError(f"{line[:60]!r} in its header is no field")
            fields[SPELLINGS.get(key.strip().lower(), key.strip().lower())] = value.strip()
        start = file.tell()
    axes = _whole(fields, "dimension", AXES)
    shape = _shape(fields, "sizes", axes)
    if "spacings" in fields:
        _numbers("spacings", [v for v in fields["spacings"].split() if v.lower() != "nan"], None)
    for name in ("space directions", "space origin"):
        vectors = re.findall(r"\(([^()]*)\)|(none)", fields.get(name, ""))
        if name == "space directions" and name in fields and len(vectors) != axes:
            raise ValueError(f"{name} {fields[name]!r}; expected {axes} vectors")
        for vector, _ in vectors:
            _numbers(name, [v.strip() for v in vector.split(",") if v.strip()], None)
    unit = _unit(fields.get("space units") or fields.get("units", ""))
    kind = fields.get("type", "").lower()
    each = next((size for size, names_ in NRRD_TYPES.items() if kind in names_), None)
    if each is None:
        raise ValueError(f"type {kind!r}; expected a number of a known size")
    encoding = fields.get("encoding", "raw").lower()
    packed = {"raw": "", "gzip": "gzip", "gz": "gzip"}.get(encoding)
    size = math.prod(shape) * each
    skip = _whole(fields, "byte skip", range(-1, 1 << 40), "0")
    skipped = _whole(fields, "line skip", range(1 << 20), "0")
    if "data file" not in fields:
        return Voxels(shape, size, [(path, start + max(0, skip))], packed if not skipped else None, unit)
    data = fields["data file"]
    files = names if data.upper().startswith("LIST") else _of_pattern(data.split()) if "%" in data else [data]
    packed = packed if not skipped else None
    return Voxels(shape, size, [(path.parent / n, skip) for n in files], packed, unit)


def _unit(text: str) -> str:
    """Raises ValueError where the axes have several units."""
    named = {UNITS.get(word.strip().lower(), "mm") for word in re.findall(r'"([^"]*)"', text)}
    if len(named) > 1:
        raise ValueError(f"space units {text[:60]}; expected one unit for all axes")
    return named.pop() if named else "mm"


def _check_voxels(found: Voxels) -> None:
    if not found.files:
        raise ValueError("it names no file of voxels, and none follow its header")
    for file, _ in found.files:
        if not file.is_file():
            raise ValueError(f"its voxels should be in {file.name}, which is no file beside it")
    if found.packed is None:
        return
    each = found.size // len(found.files)
    for file, start in found.files:
        if found.packed:
            length = _unpacked(file, max(0, start), found.packed, each)
        else:
            length = file.stat().st_size - max(0, start)
        # A few bytes after the last voxel are no voxels; nor are those before voxels that end the file.
        if start < 0 and not found.packed:
            length = min(length, each)
        if not each <= length <= each + MORE + each // 100:
            at_least = "at least " if found.packed and length > each else ""
            raise ValueError(f"{at_least}{length} bytes of voxels in {file.name} instead of {each}")


def _unpacked(path: Path, start: int, packed: str, most: int) -> int:
    """Bytes of a whole stream, or a few more than ``most``, which are as good.

    Raises:
        ValueError, OSError, EOFError, zlib.error: a stream that is cut off, or does not fit its checksum.
    """
    with open(path, "rb") as file:
        file.seek(start)
        length = 0
        if packed == "gzip":
            with gzip.open(file) as stream:
                while part := stream.read(CHUNK):
                    length += len(part)
                    if length > most + CHUNK:
                        break
            return length
        stream = zlib.decompressobj()
        while not stream.eof and length <= most + CHUNK:
            part = stream.unconsumed_tail or file.read(CHUNK)
            if not part:
                raise ValueError("its compressed voxels are cut off")
            length += len(stream.decompress(part, CHUNK))
        return length


def _of_pattern(words: Sequence[str]) -> list[str]:
    """Names of ``image%03d.raw FIRST LAST STEP``.

    Raises:
        ValueError: another form.
    """
    match = re.fullmatch(r"([^%]*)%(0?\d?\d?)d([^%]*)", words[0])
    numbers = words[1:4]
    if not match or len(numbers) < 2 or not all(re.fullmatch(r"-?\d{1,6}", n) for n in numbers):
        raise ValueError(f"{' '.join(words)[:80]!r} as the file of its voxels; expected NAME%03d.raw FIRST LAST STEP")
    first, last, step = (*map(int, numbers), 1)[:3]
    before, width, after = match.groups()
    steps = range(first, last + (1 if step > 0 else -1), step or 1)
    return [before + f"%{width}d" % n + after for n in steps]


def _name(line: str) -> str:
    return line.strip() if line.strip().isprintable() else ""


def _whole(fields: dict[str, str], name: str, allowed: range, default: str = "") -> int:
    value = fields.get(name, default)
    if not re.fullmatch(r"[-+]?\d{1,15}", value) or int(value) not in allowed:
        bounds = f"{allowed[0]} to {allowed[-1]}"
        raise ValueError(f"{name} {value[:40]!r}; expected a whole number from {bounds}")
    return int(value)


def _shape(fields: dict[str, str], name: str, axes: int) -> list[int]:
    words = fields.get(name, "").split()
    if len(words) != axes or not all(re.fullmatch(r"\d{1,10}", w) and int(w) > 0 for w in words):
        raise ValueError(f"{name} {fields.get(name, '')[:60]!r}; expected {axes} positive whole numbers")
    return [int(w) for w in words]


def _numbers(name: str, words: Sequence[str], count: int | None) -> None:
    if count is not None and len(words) != count or not all(NUMBER.match(w) for w in words):
        raise ValueError(f"{name} {' '.join(words)[:80]!r}; expected {count or 'finite'} numbers")
