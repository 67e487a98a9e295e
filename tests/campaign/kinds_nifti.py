# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""NIfTI files whose header is at odds with itself, or uses what few files use; and damaged ones."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from odd_input import Draw, OddInput
from scenes import CHEAP, SHAPE, Scene, affine_of, check_ball, refused, scene, seen
from volumes import rotation

# Where the fields of a NIfTI-1 header lie.
DIM, DATATYPE, PIXDIM, SLOPE, XYZT, QFORM, SFORM, QUATERNION, SROW = 40, 70, 76, 112, 123, 252, 254, 256, 280


def _image(made: Scene, affine: np.ndarray | None, dtype: Any = np.int16) -> nib.Nifti1Image:
    values = np.round(made.values).astype(dtype) if np.dtype(dtype).kind in "iu" else made.values.astype(dtype)
    return nib.Nifti1Image(values, affine, dtype=values.dtype)


def _write(draw: Draw, image: nib.Nifti1Image, name: str = "scan.nii.gz") -> Path:
    file = draw.folder / name
    nib.save(image, file)
    return file


def _patched(file: Path, *patches: tuple[int, str, Any]) -> Path:
    """Header fields overwritten: (offset, format of struct, value)."""
    content = bytearray(gzip.decompress(file.read_bytes()))
    for offset, form, value in patches:
        struct.pack_into(form, content, offset, *(value if isinstance(value, (list, tuple)) else [value]))
    file.write_bytes(gzip.compress(bytes(content), 1, mtime=0))
    return file


def sform_against_pixdim(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    pixdim = draw.one_of([1.0, 1.0, 1.0], [4.0, 4.0, 6.0], [0.5, 2.0, 3.0], [0.0, 0.0, 0.0], [-2.0, 2.0, 3.0])
    file = _patched(_write(draw, _image(made, made.affine)), (PIXDIM + 4, "<3f", pixdim), (QFORM, "<h", 0))
    return seen(f"a valid sform, pixdim {pixdim}, qform code 0", file, made)


def sform_against_qform(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    image = _image(made, made.affine)
    image.set_qform(affine_of(np.diag(draw.rng.uniform(0.5, 5, 3))), code=draw.one_of(1, 2, 4))
    image.set_sform(made.affine, code=draw.one_of(1, 2, 3, 4))
    return seen("a valid sform and another valid qform: the sform counts", _write(draw, image), made)


def qform_alone(draw: Draw) -> OddInput:
    made = scene(draw.rng, affine_of(rotation(*draw.rng.uniform(-60, 60, 3)) @ np.diag([2.0, 2.0, 3.0])))
    image = _image(made, made.affine)
    image.set_sform(None, code=0)
    image.set_qform(made.affine, code=draw.one_of(1, 2))
    return seen("no sform, an oblique qform", _write(draw, image), made)


def pixdim_alone(draw: Draw) -> OddInput:
    spacing = draw.one_of([2.0, 2.0, 3.0], [3.0, 2.0, 2.0], [2.5, 2.5, 2.5])
    base = nib.Nifti1Image(np.zeros(SHAPE, np.int16), None)
    base.header.set_zooms(spacing)
    affine = base.header.get_base_affine()
    made = scene(draw.rng, affine)
    file = _patched(_write(draw, _image(made, affine)), (QFORM, "<h", 0), (SFORM, "<h", 0))
    return seen("neither sform nor qform: pixdim counts", file, made)


def broken_sform(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    row = draw.one_of([np.nan] * 4, [0.0, 0.0, 0.0, 0.0], [np.inf, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, np.nan])
    image = _image(made, made.affine)
    image.set_qform(made.affine, code=1)
    return seen(
        f"a row {row} in the sform, a valid qform",
        _patched(_write(draw, image), (SROW, "<4f", row)),
        made,
        expect="either",
    )


def broken_sform_alone(draw: Draw) -> OddInput:
    """What is left is pixdim, which says no place in space: no truth for the ball, but a note."""
    made = scene(draw.rng)
    row = draw.one_of([np.nan] * 4, [0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 5.0], [np.inf, 0.0, 0.0, 0.0])
    file = _patched(_write(draw, _image(made, made.affine)), (SROW, "<4f", row), (QFORM, "<h", 0))
    check = check_ball(made, 0.0, note="sform")
    return seen(f"a row {row} in the sform, and no qform", file, made, expect="either", check=check)


def broken_qform(draw: Draw) -> OddInput:
    """See broken_sform_alone."""
    made = scene(draw.rng)
    quaternion = draw.one_of([0.9, 0.9, 0.9], [np.nan, 0.0, 0.0], [np.inf, 0.0, 0.0])
    file = _write(draw, _image(made, made.affine))
    file = _patched(file, (QUATERNION, "<3f", quaternion), (SFORM, "<h", 0), (QFORM, "<h", 1))
    check = check_ball(made, 0.0, note="qform")
    return seen(f"the quaternion {quaternion}, and no sform", file, made, expect="either", check=check)


def units(draw: Draw) -> OddInput:
    name, code, scale = draw.one_of(("micron", 3, 1e-3), ("meter", 1, 1e3), ("unknown", 0, 1.0), ("mm", 2, 1.0))
    spacing = np.array([2.0, 2.0, 3.0]) * (0.05 if name == "micron" else 1.0)
    made = scene(draw.rng, affine_of(np.diag(spacing)), scale=spacing[0] / 2)
    stored = np.diag([1 / scale] * 3 + [1]) @ made.affine
    image = _image(made, stored)
    return seen(f"units: {name}", _patched(_write(draw, image), (XYZT, "<b", code)), made)


def unknown_units(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    code = draw.one_of(4, 5, 7)
    return seen(
        f"space unit {code}, which NIfTI does not have",
        _patched(_write(draw, _image(made, made.affine)), (XYZT, "<b", code)),
        made,
        expect="either",
    )


def tiny_voxels(draw: Draw) -> OddInput:
    size = draw.one_of(0.0005, 0.005, 0.05, 0.0001)
    made = scene(draw.rng, affine_of(np.diag([size, size, 1.5 * size])), scale=size / 2)
    return seen(f"voxels of {size} mm", _write(draw, _image(made, made.affine)), made)


def huge_voxels(draw: Draw) -> OddInput:
    size = draw.one_of(30.0, 200.0, 1000.0)
    made = scene(draw.rng, affine_of(np.diag([size, size, 1.5 * size])), scale=size / 2)
    # A click alone tells nothing of the size of what is meant.
    odd = seen(f"voxels of {size} mm, a box", _write(draw, _image(made, made.affine)), made)
    odd.options["box"] = made.box
    return odd


def oblique(draw: Draw) -> OddInput:
    angles = draw.rng.uniform(-180, 180, 3)
    made = scene(draw.rng, affine_of(rotation(*angles) @ np.diag([2.0, 2.0, 3.0])))
    return seen(f"turned by {np.round(angles)} degrees", _write(draw, _image(made, made.affine)), made)


def sheared(draw: Draw) -> OddInput:
    axes = np.diag([2.0, 2.0, 3.0])
    axes[draw.one_of(1, 0), 2] = draw.rng.uniform(0.5, 1.5)
    made = scene(draw.rng, affine_of(axes))
    image = _image(made, made.affine)
    image.set_qform(None, code=0)
    return seen("a sheared sform", _write(draw, image), made)


def turned_and_flipped(draw: Draw) -> OddInput:
    order = draw.rng.permutation(3)
    axes = (np.diag([2.0, 2.0, 3.0]) * draw.rng.choice([-1, 1], 3))[order]
    made = scene(draw.rng, affine_of(axes))
    return seen(f"axes {nib.aff2axcodes(made.affine)}", _write(draw, _image(made, made.affine)), made)


def ones_at_the_end(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    more = draw.one_of((1,), (1, 1), (1, 1, 1))
    image = _image(made, made.affine)
    image = nib.Nifti1Image(np.asarray(image.dataobj).reshape(*SHAPE, *more), made.affine, dtype=np.int16)
    return seen(f"a shape of x, y, z and {more}", _write(draw, image), made)


def nifti_2(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    image = nib.Nifti2Image(np.round(made.values).astype(np.int16), made.affine)
    return seen("NIfTI-2", _write(draw, image, draw.one_of("scan.nii.gz", "scan.nii")), made)


def number_types(draw: Draw) -> OddInput:
    name = draw.one_of("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
    made = scene(draw.rng, look="bytes" if name in ("uint8", "int8") else "mr")
    values = made.values / 2 if name == "int8" else made.values.clip(0)
    return seen(f"voxels of {name}", _write(draw, _image(replace(made, values=values), made.affine, name)), made)


def slopes(draw: Draw) -> OddInput:
    slope, intercept = draw.one_of((0.01, 5.0), (-1.0, 0.0), (1e-7, 0.0), (1e6, -3.0))
    made = scene(draw.rng, look="mr")
    stored = made.values * (-1 if slope < 0 else 1)
    file = _write(draw, _image(replace(made, values=stored), made.affine))
    return seen(f"scl_slope {slope}, scl_inter {intercept}", _patched(file, (SLOPE, "<2f", [slope, intercept])), made)


def slopes_without_meaning(draw: Draw) -> OddInput:
    slope, intercept = draw.one_of((0.0, 0.0), (np.nan, np.nan), (1.0, np.nan), (np.inf, 0.0), (0.0, 7.0))
    made = scene(draw.rng)
    file = _patched(_write(draw, _image(made, made.affine)), (SLOPE, "<2f", [slope, intercept]))
    return seen(f"scl_slope {slope}, scl_inter {intercept}", file, made, expect="either")


def big_endian(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    image = nib.Nifti1Image(np.round(made.values).astype(">i2"), made.affine, nib.Nifti1Header(endianness=">"))
    image.header.set_data_dtype(">i2")
    return seen("big-endian", _write(draw, image), made)


def header_extension(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    image = _image(made, made.affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a comment of some length " * 40))
    return seen("a header extension before the voxels", _write(draw, image), made)


def gzip_forms(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    content = gzip.decompress(_write(draw, _image(made, made.affine)).read_bytes())
    form, packed = draw.one_of(
        ("several members", gzip.compress(content[:9000], mtime=0) + gzip.compress(content[9000:], mtime=0)),
        ("zeros after the end", gzip.compress(content, mtime=0) + bytes(512)),
        ("bytes after the voxels", gzip.compress(content + bytes(4096), mtime=0)),
    )
    file = draw.folder / "scan.nii.gz"
    file.write_bytes(packed)
    return seen(f"gzip: {form}", file, made)


def name_against_content(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    file = _write(draw, _image(made, made.affine), draw.one_of("x.nii", "x.nii.gz"))
    other = file.rename(draw.folder / ("scan.nii.gz" if file.name == "x.nii" else "scan.nii"))
    return seen("packed as .nii, or not packed as .nii.gz", other, made, expect="either")


def pair_of_files(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    nib.save(nib.Nifti1Pair(np.round(made.values).astype(np.int16), made.affine), draw.folder / "scan.img")
    return seen("a pair of .hdr and .img", draw.folder / draw.one_of("scan.hdr", "scan.img"), made, expect="either")


def freesurfer(draw: Draw) -> OddInput:
    made = scene(draw.rng, look=draw.one_of("mr", "bytes"))
    image = nib.MGHImage(np.round(made.values).astype(np.int16 if made.values.max() > 300 else np.uint8), made.affine)
    file = draw.folder / draw.one_of("scan.mgz", "scan.mgh")
    nib.save(image, file)
    return seen("FreeSurfer's .mgz", file, made)


def cut_short(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    file = _write(draw, _image(made, made.affine), draw.one_of("scan.nii.gz", "scan.nii"))
    content = file.read_bytes()
    file.write_bytes(content[: int(draw.rng.uniform(0.02, 0.98) * len(content))])
    return refused("cut short", file, made)


def flipped_bits(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    file = _write(draw, _image(made, made.affine))
    content = bytearray(file.read_bytes())
    content[int(draw.rng.integers(len(content) // 4, len(content) - 8))] ^= 1 << int(draw.rng.integers(8))
    file.write_bytes(content)
    return refused("one bit of the packed voxels flipped", file, made)


def several_channels(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    count = draw.one_of(2, 3, 20)
    stack = np.stack([np.round(made.values).astype(np.int16)] * count, -1)
    stack = stack[..., None, :] if draw.turn % 2 else stack
    return refused(f"{count} volumes in one file", _write(draw, nib.Nifti1Image(stack, made.affine)), made)


def colours(draw: Draw) -> OddInput:
    made = scene(draw.rng, look="bytes")
    pixels = np.stack([made.values.astype(np.uint8)] * 3, -1).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    return seen("voxels of RGB", _write(draw, nib.Nifti1Image(pixels, made.affine)), made, expect="either")


def dimensions_of_nonsense(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    dim = draw.one_of(
        [3, 44, 40, -30, 1, 1, 1, 1],
        [3, 0, 40, 30, 1, 1, 1, 1],
        [0, 44, 40, 30, 1, 1, 1, 1],
        [9, 44, 40, 30, 1, 1, 1, 1],
    )
    file = _patched(_write(draw, _image(made, made.affine)), (DIM, "<8h", dim))
    return refused(f"dim {dim}", file, made, apart=True)


def larger_than_memory(draw: Draw) -> OddInput:
    side = draw.one_of(1600, 3000, 32767)
    header = nib.Nifti1Header()
    header.set_data_shape((side, side, side))
    header.set_data_dtype(draw.one_of(np.int16, np.uint8))
    header["magic"], header["vox_offset"] = b"n+1", 352
    file = draw.folder / "scan.nii.gz"
    # A few kilobytes: what they would unpack to is what the header says, if one tries.
    packed = b"".join(gzip.compress(bytes(1 << 20), mtime=0) for _ in range(64))
    file.write_bytes(gzip.compress(header.binaryblock + bytes(4), mtime=0) + packed)
    return OddInput(
        f"{side}^3 voxels by the header",
        {"image": str(file), "foreground": [[9, 9, 9]], **CHEAP},
        "refused",
        names="scan.nii.gz|memory",
        apart=True,
    )


def flat(draw: Draw) -> OddInput:
    """One slice is little for a network that sees volumes: right is what is said of the grid and of the mL."""
    made = scene(draw.rng, affine_of(np.diag([2.0, 2.0, 3.0]), (44, 40, 1)), (44, 40, 1))
    return seen(
        "a single slice", _write(draw, _image(made, made.affine)), made, expect="either", check=check_ball(made, 0.0)
    )


def long_and_thin(draw: Draw) -> OddInput:
    shape = draw.one_of((600, 12, 12), (12, 12, 600), (5, 40, 40))
    made = scene(draw.rng, affine_of(np.diag([2.0, 2.0, 2.0]), shape), shape)
    return seen(f"{shape} voxels", _write(draw, _image(made, made.affine)), made)


KINDS = (
    sform_against_pixdim, sform_against_qform, qform_alone, pixdim_alone, broken_sform, broken_sform_alone,
    broken_qform, units, unknown_units, tiny_voxels, huge_voxels, oblique, sheared, turned_and_flipped,
    ones_at_the_end, nifti_2, number_types, slopes, slopes_without_meaning, big_endian, header_extension, gzip_forms,
    name_against_content, pair_of_files, freesurfer, cut_short, flipped_bits, several_channels, colours,
    dimensions_of_nonsense, larger_than_memory, flat, long_and_thin,
)  # fmt: skip
