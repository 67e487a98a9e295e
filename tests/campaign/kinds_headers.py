# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""NRRD and MetaImage files written by hand, so that every line of the header can be odd."""

import bz2
import gzip
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from odd_input import Draw, OddInput
from scenes import CHEAP, Scene, affine_of, refused, scene, seen
from volumes import rotation

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


# ITK has died of headers: each file is read in a process of its own.
_seen, _refused = (partial(f, apart=True) for f in (seen, refused))


def _voxels(made: Scene, dtype: str = "<i2") -> bytes:
    return np.round(made.values).astype(dtype).tobytes(order="F")


def _numbers(values: Any) -> str:
    return " ".join(f"{float(v):.10g}" for v in values)


def nrrd_header(made: Scene, **changed: Any) -> dict[str, Any]:
    """The fields of a NRRD in their order; ``None`` takes one away."""
    lps = LPS @ made.affine
    fields = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, made.shape)),
        "space directions": " ".join(f"({','.join(f'{v:.10g}' for v in lps[:3, k])})" for k in range(3)),
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space origin": f"({','.join(f'{v:.10g}' for v in lps[:3, 3])})",
    }
    return {k: v for k, v in {**fields, **changed}.items() if v is not None}


def write_nrrd(file: Path, fields: Mapping[str, Any], data: bytes) -> Path:
    """A NRRD file of these header lines and bytes."""
    file.write_bytes(("NRRD0004\n" + "".join(f"{k}: {v}\n" for k, v in fields.items()) + "\n").encode() + data)
    return file


def mha_header(made: Scene, **changed: Any) -> dict[str, Any]:
    """The fields of a MetaImage in their order; ``None`` takes one away."""
    lps = LPS @ made.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": _numbers((lps[:3, :3] / spacing).T.ravel()),
        "Offset": _numbers(lps[:3, 3]),
        "ElementSpacing": _numbers(spacing),
        "DimSize": " ".join(map(str, made.shape)),
        "ElementType": "MET_SHORT",
        "CompressedDataSize": None,
        "ElementDataFile": "LOCAL",
    }
    return {k: v for k, v in {**fields, **changed}.items() if v is not None}


def write_mha(file: Path, fields: Mapping[str, Any], data: bytes) -> Path:
    """A MetaImage file of these header lines and bytes."""
    file.write_bytes("".join(f"{k} = {v}\n" for k, v in fields.items()).encode() + data)
    return file


def nrrd_encodings(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    encoding = draw.one_of("raw", "gzip", "ascii")
    data = _voxels(made)
    if encoding == "ascii":
        data = " ".join(map(str, np.frombuffer(data, "<i2").tolist())).encode()
    packed = gzip.compress(data, 1, mtime=0) if encoding == "gzip" else data
    return _seen(
        f"nrrd: {encoding}", write_nrrd(draw.folder / "scan.nrrd", nrrd_header(made, encoding=encoding), packed), made
    )


def nrrd_rare_encodings(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    encoding, data = draw.one_of(
        ("bzip2", bz2.compress(_voxels(made))), ("hex", _voxels(made).hex().encode()), ("zip", b"PK")
    )
    return _seen(
        f"nrrd: {encoding}",
        write_nrrd(draw.folder / "scan.nrrd", nrrd_header(made, encoding=encoding), data),
        made,
        expect="refused" if encoding == "zip" else "either",
    )


def nrrd_spaces(draw: Draw) -> OddInput:
    made = scene(draw.rng, affine_of(rotation(*draw.rng.uniform(-30, 30, 3)) @ np.diag([2.0, 2.0, 3.0])))
    name, signs = draw.one_of(
        ("right-anterior-superior", (-1, -1, 1)), ("LAS", (1, -1, 1)), ("LPS", (1, 1, 1)), ("RAS", (-1, -1, 1))
    )
    lps = LPS @ made.affine
    axes, origin = np.array(signs)[:, None] * lps[:3, :3], np.array(signs) * lps[:3, 3]
    fields = nrrd_header(made, space=name)
    fields["space directions"] = " ".join(f"({','.join(f'{v:.10g}' for v in axes[:, k])})" for k in range(3))
    fields["space origin"] = f"({','.join(f'{v:.10g}' for v in origin)})"
    return _seen(f"nrrd: space {name}", write_nrrd(draw.folder / "scan.nrrd", fields, _voxels(made)), made)


def nrrd_spacings_alone(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    fields = nrrd_header(made, **{"space": None, "space directions": None, "space origin": None})
    if draw.one_of(True, False):
        fields["spacings"] = "2 2 3"
    # Where it lies in space is not said: no grid is right or wrong, sizes are.
    return _seen(
        "nrrd: no space",
        write_nrrd(draw.folder / "scan.nrrd", fields, _voxels(made)),
        made,
        expect="either",
        check=None,
    )


def nrrd_garbled(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    data = bytearray(gzip.compress(_voxels(made), 6, mtime=0))
    where = int(draw.rng.integers(20, len(data) - 9))
    data[where] ^= 1 << int(draw.rng.integers(8))
    return _refused(
        "nrrd: one bit of the gzip flipped",
        write_nrrd(draw.folder / "scan.nrrd", nrrd_header(made, encoding="gzip"), bytes(data)),
        made,
    )


def nrrd_cut(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    encoding = draw.one_of("gzip", "raw")
    data = _voxels(made)
    data = gzip.compress(data, 1, mtime=0) if encoding == "gzip" else data
    data = data[: int(draw.rng.uniform(0.05, 0.95) * len(data))]
    return _refused(
        f"nrrd: {encoding}, cut short",
        write_nrrd(draw.folder / "scan.nrrd", nrrd_header(made, encoding=encoding), data),
        made,
    )


def nrrd_nonsense(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    changed = draw.one_of(
        {"sizes": "44 40 -30"},
        {"dimension": "999999"},
        {"sizes": "0 0 0"},
        {"dimension": "-3"},
        {"sizes": None},
        {"space directions": "(nan,0,0) (0,2,0) (0,0,3)"},
        {"space directions": "(0,0,0) (0,0,0) (0,0,0)"},
        {"type": "colour"},
        {"sizes": "44 40 30 2"},
        {"sizes": "4000000 4000000 4000000"},
        {"space directions": "none none none"},
        {"encoding": "morse"},
        {"endian": None, "type": None},
        {"dimension": None},
    )
    return _refused(
        f"nrrd: {changed}",
        write_nrrd(draw.folder / "scan.nrrd", nrrd_header(made, **changed), _voxels(made)),
        made,
    )


def nrrd_detached(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    name, there = draw.one_of(("voxels.raw", True), ("missing.raw", False), ("LIST", False), ("", False))
    if there:
        (draw.folder / name).write_bytes(_voxels(made))
    file = write_nrrd(draw.folder / "scan.nhdr", nrrd_header(made, **{"data file": name}), b"")
    return _seen(f"nrrd: voxels in {name!r}", file, made, expect="right" if there else "refused")


def _packed_mha(file: Path, made: Scene, data: bytes, **changed: Any) -> Path:
    return write_mha(file, mha_header(made, CompressedData="True", CompressedDataSize=len(data), **changed), data)


def mha_forms(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    file = draw.folder / "scan.mha"
    data = _voxels(made)
    text = " ".join(map(str, np.frombuffer(data, "<i2").tolist())).encode() + b"\n"
    name, changed, stored = draw.one_of(
        ("packed", {"CompressedData": "True", "CompressedDataSize": len(zlib.compress(data))}, zlib.compress(data)),
        ("big-endian", {"BinaryDataByteOrderMSB": "True"}, _voxels(made, ">i2")),
        ("text", {"BinaryData": "False"}, text),
    )
    return _seen(f"mha: {name}", write_mha(file, mha_header(made, **changed), stored), made)


def mha_packed_without_a_size(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    fields = mha_header(made, CompressedData="True")
    file = write_mha(draw.folder / "scan.mha", fields, zlib.compress(_voxels(made)))
    return _seen("mha: packed, and no CompressedDataSize", file, made, expect="either")


def mha_garbled(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    data = bytearray(zlib.compress(_voxels(made)))
    for _ in range(draw.one_of(1, 3)):
        data[int(draw.rng.integers(10, len(data) - 6))] ^= 1 << int(draw.rng.integers(8))
    file = _packed_mha(draw.folder / "scan.mha", made, bytes(data))
    return _refused("mha: bits of the packed voxels flipped", file, made)


def mha_cut(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    packed = draw.one_of(True, False)
    data = zlib.compress(_voxels(made)) if packed else _voxels(made)
    data = data[: int(draw.rng.uniform(0.05, 0.95) * len(data))]
    file = draw.folder / "scan.mha"
    file = _packed_mha(file, made, data) if packed else write_mha(file, mha_header(made), data)
    return _refused(f"mha: {'packed, ' * packed}cut short", file, made)


def mha_nonsense(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    changed = draw.one_of(
        {"NDims": "-3"},
        {"NDims": "999999"},
        {"ElementDataFile": "LIST"},
        {"NDims": "0"},
        {"DimSize": "44 40 -30"},
        {"DimSize": "0 0 0"},
        {"ElementSpacing": "0 0 0"},
        {"ElementSpacing": "nan 2 3"},
        {"TransformMatrix": _numbers([0] * 9)},
        {"DimSize": "44 40"},
        {"ElementType": "MET_COLOUR"},
        {"ElementType": None},
        {"DimSize": "400000 400000 400000"},
        {"ElementDataFile": None},
        {"TransformMatrix": "1 0 0 0 nan 0 0 0 1"},
        {"ElementNumberOfChannels": "3"},
        {"NDims": "2147483648"},
        {"ElementSpacing": "inf 2 3"},
        {"Offset": "nan 0 0"},
    )
    fields = mha_header(made, **changed)
    if "ElementNumberOfChannels" in changed:
        fields["ElementDataFile"] = fields.pop("ElementDataFile")
    return _refused(f"mha: {changed}", write_mha(draw.folder / "scan.mha", fields, _voxels(made)), made)


def mha_spacing_below_zero(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    return _seen(
        "mha: a spacing below 0",
        write_mha(draw.folder / "scan.mha", mha_header(made, ElementSpacing="-2 2 3"), _voxels(made)),
        made,
        expect="either",
        check=None,
    )


def mha_detached(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    name, there = draw.one_of(("voxels.raw", True), ("missing.raw", False), ("LIST", False), ("scan.mhd", False))
    if there:
        (draw.folder / name).write_bytes(_voxels(made))
    file = write_mha(draw.folder / "scan.mhd", mha_header(made, ElementDataFile=name), b"")
    return _seen(f"mhd: voxels in {name!r}", file, made, expect="right" if there else "refused")


def mha_oblique(draw: Draw) -> OddInput:
    made = scene(draw.rng, affine_of(rotation(*draw.rng.uniform(-60, 60, 3)) @ np.diag([2.0, 2.0, 3.0])))
    return _seen("mha: oblique", write_mha(draw.folder / "scan.mha", mha_header(made), _voxels(made)), made)


def no_header_at_all(draw: Draw) -> OddInput:
    name = draw.one_of("scan.mha", "scan.nrrd", "scan.nii.gz", "scan.nii", "scan.mhd", "scan.nhdr", "scan.mgz")
    content = draw.one_of(
        b"", b"\x00" * 400, b"NRRD0004\n", bytes(draw.rng.integers(0, 256, 3000).astype(np.uint8)), b"hello\n" * 90
    )
    (draw.folder / name).write_bytes(content)
    options = {"image": str(draw.folder / name), "foreground": [[9, 9, 9]], **CHEAP}
    return OddInput(f"{len(content)} bytes without meaning as {name}", options, "refused", names=name, apart=True)


KINDS = (
    nrrd_encodings, nrrd_rare_encodings, nrrd_spaces, nrrd_spacings_alone, nrrd_garbled, nrrd_cut, nrrd_nonsense,
    nrrd_nonsense, nrrd_detached, mha_forms, mha_packed_without_a_size, mha_garbled, mha_garbled, mha_cut,
    mha_nonsense, mha_nonsense, mha_spacing_below_zero, mha_detached, mha_oblique, no_header_at_all,
)  # fmt: skip
