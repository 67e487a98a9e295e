# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What is written of a mask beside it, where it is asked for: DICOM for DICOM images, and surfaces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .dicom_out.segmentation import missing_package, write_segmentation
from .dicom_out.segments import Maker, Segment
from .dicom_out.source import Source, check_dicom, picture_source, series_source
from .dicom_out.structures import write_structures
from .geometry import Grid
from .overlay import colour
from .reading.options import Reading
from .surface import MESHES, WRITERS, surface_of

# Of each form of DICOM: what follows the stem, its name in the description, and what writes it.
DICOM = {
    "seg": (".dcm", "dicom_seg", write_segmentation),
    "rtstruct": ("_rtstruct.dcm", "rtstruct", write_structures),
}
# Of a label's name in that of its surface's file.
LONGEST = 40


@dataclass(frozen=True)
class FurtherFiles:
    """What is asked for.

    Attributes:
        dicom: some of ``DICOM``.
        mesh: one of ``MESHES``, or None.
        reading: how the image was read.
        maker: name and version of the bundle.
    """

    dicom: tuple[str, ...]
    mesh: str | None
    reading: Reading
    maker: Maker

    @classmethod
    def asked(
        cls, dicom: str | Sequence[str] | None, mesh: str | None, reading: Reading | None, maker: Maker
    ) -> FurtherFiles:
        """From options.

        Raises:
            ValueError: another form, or a package that is missing.
        """
        forms = () if not dicom else (dicom,) if isinstance(dicom, str) else tuple(dict.fromkeys(dicom))
        if unknown := [form for form in forms if form not in DICOM]:
            raise ValueError(f"dicom {', '.join(map(repr, unknown))}: expected {' or '.join(DICOM)}, or both")
        if mesh is not None and mesh not in MESHES:
            raise ValueError(f"mesh {mesh!r}: expected one of {', '.join(MESHES)}")
        if "seg" in forms and (why := missing_package()) is not None:
            raise ValueError(f"dicom seg {why}")
        return cls(forms, mesh, reading or Reading(), maker)

    @property
    def endings(self) -> list[str]:
        """What follows the stem in the names of the DICOM files."""
        return [DICOM[form][0] for form in self.dicom]

    def check(self, source: str, volume: bool) -> None:
        """A quick look before the work.

        Raises:
            ValueError: an image that is no DICOM where DICOM is asked for, or a surface of a picture.
        """
        if self.dicom:
            check_dicom(source)
        if self.mesh and not volume:
            raise ValueError(f"{source}: is a 2D image, which has no surface: expected volumes for mesh {self.mesh}")

    def write(
        self, side: Path, stem: str, labels: np.ndarray, affine: np.ndarray | None, result: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The files' names for the description, and under ``notes`` what has to be said.

        Args:
            side: folder to write to.
            stem: of all names.
            labels: (X, Y, Z) of a volume; (columns, rows, 1) of a picture.
            affine: (4, 4) in RAS; None of a picture.
            result: the description of the mask.

        Raises:
            ValueError: an image that DICOM results cannot refer to.
        """
        found = [o for o in result["objects"] if (labels == o["label"]).any()]
        names: dict[str, Any] = {"notes": []}
        if self.dicom and not found:
            names["notes"].append(f"no label has a voxel: no DICOM ({', '.join(self.dicom)}) was written")
        if self.dicom and found:
            source = self._source(result["image"], affine)
            names["notes"] += source.notes
            segments = [Segment(o["label"], o["name"], "prompts" not in o, colour(o["label"])) for o in found]
            for form in self.dicom:
                ending, key, write = DICOM[form]
                write(side / (stem + ending), labels, segments, source, self.maker)
                names[key] = stem + ending
        if self.mesh and affine is not None:
            names["meshes"] = self._meshes(side, stem, labels, Grid(affine, labels.shape), found)
        return names

    def _source(self, image: str, affine: np.ndarray | None) -> Source:
        return picture_source(image) if affine is None else series_source(image, self.reading)

    def _meshes(
        self, side: Path, stem: str, labels: np.ndarray, grid: Grid, found: Sequence[Mapping[str, Any]]
    ) -> dict[str, str]:
        files: dict[str, str] = {}
        for described in found:
            part = re.sub(r"[^\w-]+", "_", described["name"])[:LONGEST].strip("_")
            name = f"{stem}_{part}.{self.mesh}"
            if not part or name in files.values():
                name = f"{stem}_{part}_{described['label']}.{self.mesh}"
            WRITERS[self.mesh](side / name, surface_of(labels == described["label"], grid), described["name"])
            files[described["name"]] = name
        return files
