# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Small image files of every kind, whose every pixel is another one."""

import struct
import zlib
from pathlib import Path

import itk
import numpy as np

HEIGHT, WIDTH = 20, 31


def gradient(channels: int = 1, dtype: type = np.uint8, top: int | None = None) -> np.ndarray:
    """(H, W) or (H, W, channels): values rise along rows and columns, each in its own way."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    top = top or int(np.iinfo(dtype).max)
    planes = [(rows * a + columns * b) / (HEIGHT * a + WIDTH * b) for a, b in ((7, 1), (1, 5), (3, 2), (2, 9))]
    values = (np.stack(planes[:channels], axis=-1) * top).astype(dtype)
    return values[..., 0] if channels == 1 else values


def write_png16(path: Path, values: np.ndarray) -> Path:
    """A PNG of 16 bits and several channels, which no installed library writes."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def write_dicom_slice(path: Path, values: np.ndarray, spacing: tuple[float, float] = (0.8, 0.5)) -> Path:
    """A single CT slice of signed values; ``spacing`` of rows and columns in mm."""
    image = itk.image_from_array(values.astype(np.int16)[None])
    image.SetSpacing((spacing[1], spacing[0], 1.0))
    image.GetMetaDataDictionary()["0008|0060"] = "CT"
    itk.ImageFileWriter.New(Input=image, FileName=str(path), ImageIO=itk.GDCMImageIO.New()).Update()
    return path
