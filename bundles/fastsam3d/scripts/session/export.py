# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The masks of a session as files, by what writes those of ``monai.bundle run``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai.data import MetaTensor

from ..common.label_volume import EXTENSIONS
from ..common.reading.options import Reading
from ..common.result_files import check_place, stem_of
from ..inference.segment import Segmentation
from ..inference.writer import SaveSegmentationd
from .engine import Engine

# Of an image that came from no file.
UNNAMED = "image"


def export(
    path: str | Path,
    image: MetaTensor,
    result: Segmentation,
    engine: Engine,
    reading: Reading,
    dicom: str | Sequence[str] | None = None,
    mesh: str | None = None,
) -> Path:
    """Write label map and description, and what else is asked for.

    Args:
        path: of the label map, or a folder, where its name is that of the image with ``_seg``.
        image: (1, X, Y, Z).
        result: the answer for all objects.
        engine: whose weights and version are described.
        reading: how the image was read.
        dicom, mesh: see :class:`..common.result_writer.ResultWriterd`.

    Raises:
        ValueError: a file that is there and is no such result, a folder that cannot be written to, or DICOM asked for
            of another image.
    """
    path = Path(path).expanduser()
    extension = next((e for e in EXTENSIONS if path.name.lower().endswith(e)), None)
    image = MetaTensor(image.as_tensor(), meta={"filename_or_obj": UNNAMED, **image.meta})
    source = image.meta["filename_or_obj"]
    folder = path if extension is None else path.parent
    if extension is None and path.suffix and not path.is_dir():
        raise ValueError(f"{path}: expected a folder, or a file that ends with one of {', '.join(EXTENSIONS)}")
    writer = SaveSegmentationd(
        output_dir=str(folder),
        output_ext=extension or ".nii.gz",
        preview=False,
        weights=engine.weights,
        version=engine.version,
        dicom=dicom,
        mesh=mesh,
        reading=reading,
    )
    writer.further.check(source, volume=True)
    if extension is None:
        place = writer.files.place(source, writer.extension)
    else:
        check_place(path, source)
        place = folder, stem_of(path.name)
    labels = MetaTensor(result.labels[None], meta=dict(image.meta))
    return writer.save(place, writer.extension, image, labels, result.summary)
