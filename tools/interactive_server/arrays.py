# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Arrays as nninteractive-client packs them, looked at before they are unpacked: whoever sends them may be wrong.

The form: ``NNIA``, version, codec, number of axes, length of the type's name, the name, the shape, the number of
chunks, and chunks compressed by blosc2, each behind its two lengths.
"""

from __future__ import annotations

import struct
from math import prod

import blosc2
import numpy as np
from nnInteractive.inference.remote.serialization import pack_array, unpack_array
from sam_bundles.common.gate import Refusal

PREFIX = struct.Struct("<4sBBBB")
COUNT = struct.Struct("<I")
LENGTHS = struct.Struct("<QQ")
# Of the header of a blosc2 chunk.
CHUNK_HEADER = 32
MASKS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
IMAGES = (*MASKS, "float16", "float32", "float64")


def pack_mask(mask: np.ndarray) -> bytes:
    """The packed form of a mask."""
    return pack_array(mask, filters=[blosc2.Filter.NOFILTER], nthreads=1)


def unpack(packed: bytes | bytearray, axes: int, dtypes: tuple[str, ...], max_voxels: int) -> np.ndarray:
    """The array in ``packed``.

    Args:
        packed: its bytes.
        axes: how many it has to have.
        dtypes: names of the types that it may have.
        max_voxels: that it may have.

    Raises:
        ValueError: anything else, or bytes that are no packed array.
        Refusal: 413, more voxels.
    """
    dtype, shape = _header(packed)
    if len(shape) != axes or min(shape, default=0) < 1:
        raise ValueError(f"an array of shape {shape}: expected {axes} axes with a voxel or more each")
    if dtype not in dtypes:
        raise ValueError(f"an array of type {dtype[:20]!r}: expected one of {', '.join(dtypes)}")
    if prod(shape) > max_voxels:
        raise Refusal(413, f"an array of shape {shape} has more than {max_voxels} voxels: send a part of the image")
    _check_chunks(packed, PREFIX.size + len(dtype) + 8 * axes, prod(shape) * np.dtype(dtype).itemsize)
    try:
        return unpack_array(packed)
    except (ValueError, RuntimeError, struct.error) as error:
        raise _broken(str(error)) from error


def _header(packed: bytes | bytearray) -> tuple[str, tuple[int, ...]]:
    """Type and shape."""
    try:
        magic, version, _, axes, length = PREFIX.unpack_from(packed)
        dtype = bytes(packed[PREFIX.size : PREFIX.size + length]).decode("ascii")
        shape = struct.unpack_from(f"<{axes}q", packed, PREFIX.size + length)
    except (struct.error, UnicodeDecodeError) as error:
        raise _broken(str(error)) from error
    if magic != b"NNIA" or version != 1:
        raise _broken(f"it begins with {magic!r}, version {version}")
    return dtype, shape


def _check_chunks(packed: bytes | bytearray, offset: int, expected: int) -> None:
    """Raise a ValueError unless the chunks fill the array, and the rest of the bytes."""
    try:
        (count,) = COUNT.unpack_from(packed, offset)
        offset += COUNT.size
        unpacked = 0
        for _ in range(count):
            plain, length = LENGTHS.unpack_from(packed, offset)
            offset += LENGTHS.size
            chunk = memoryview(packed)[offset : offset + length]
            if len(chunk) != length or length < CHUNK_HEADER:
                raise _broken("a chunk ends too early")
            said, size, _ = blosc2.get_cbuffer_sizes(chunk)
            if said != plain or size != length or plain > expected:
                raise _broken(f"a chunk of {length} bytes says that it has {size}, and {said} unpacked")
            unpacked, offset = unpacked + plain, offset + length
    except (struct.error, RuntimeError) as error:
        raise _broken(str(error)) from error
    if unpacked != expected or offset != len(packed):
        raise _broken(f"{unpacked} bytes are unpacked where the shape has {expected}")


def _broken(why: str) -> ValueError:
    return ValueError(f"the body is no array packed by nninteractive-client ({why}): send what its pack_array returns")
