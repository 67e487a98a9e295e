# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The scan that a page looks at: read once, shown on the page's grid, answered in boxes of changed voxels."""

from __future__ import annotations

import gzip
import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from sam_bundles.common.dicom_out.segmentation import missing_package
from sam_bundles.common.dicom_out.source import check_dicom
from sam_bundles.common.intensity import CT_WINDOW, intensity_bounds
from sam_bundles.common.result_files import stem_of

from sam_bundles import Session

from .received import Received
from .shown_grid import Box, ShownGrid

# Ranges of Hounsfield units, as radiologists set them.
CT_WINDOWS = {"Abdomen": (-160, 240), "Lung": (-1350, 150), "Bone": (-500, 1300), "Brain": (0, 80)}
# So many slices of the volume are packed at a time.
SLAB = 16
LONGEST_SIDE = 32767
KINDS = {"scribble": "brush"}


class Scan:
    """What the page sees of a session.

    Attributes:
        stage: ``empty``, ``reading``, ``choose``, ``ready`` or ``failed``.
        error: why it failed.
        choices: at ``choose``, the series of which one is wanted: number and description.
        uploads: files that came from the browser; they live as long as this.
    """

    FORMS = {"nifti": "_seg.nii.gz", "seg": "_seg.dcm", "session": "_session.json"}

    def __init__(self, session: Session) -> None:
        self.session = session
        self.stage = "empty"
        self.error = ""
        self.choices: list[tuple[int, str]] = []
        self.uploads: list[Received] = []
        self.path = Path()
        self.title = ""

    def read(self, find: Callable[[], tuple[Path, str]], series: int | None = None) -> None:
        """Open the scan; a failure is kept as a sentence, since nobody waits for this.

        Args:
            find: the file, and the name that people know it by.
            series: of a DICOM folder, its number among :attr:`choices`.
        """
        try:
            path, self.title = find()
            self._open(path, series)
            self.stage = "ready"
        except ValueError as error:
            # The bundle has a copy of common of its own, so its SeveralStacks is known by what it carries.
            self.choices = getattr(error, "choices", [])
            self.error, self.stage = ("", "choose") if self.choices else (self._plain(str(error)), "failed")
        except MemoryError:
            self.error, self.stage = "the memory of this computer does not suffice for this scan", "failed"
        except Exception as error:
            self.error, self.stage = f"the scan could not be opened: {type(error).__name__}: {error}", "failed"
            raise

    def _open(self, path: Path, series: int | None) -> None:
        self.session.set_image(path, None if series is None else {"series": series})
        self.path = path
        image = self.session.image
        self.grid = ShownGrid.of(self.session.affine, self.session.shape)
        if max(self.grid.stored) > LONGEST_SIDE:
            raise ValueError(f"a scan of {self.grid.stored} voxels: expected at most {LONGEST_SIDE} along each axis")
        self._values = self.grid.show(image.as_tensor()[0].numpy())
        self._range = tuple(float(v) for v in image.as_tensor().aminmax())
        self._type = np.dtype(np.int16 if _fits_int16(image.as_tensor()[0].numpy(), self._range) else np.float32)
        self._no_seg = _no_seg(path)
        self._bounds = intensity_bounds(image.as_tensor(), "auto")
        self._labels = np.zeros(self.grid.stored[::-1], np.uint8).T
        self._counts = np.zeros(256, np.int64)
        self._counts[0] = self._labels.size

    def _plain(self, sentence: str) -> str:
        for received in self.uploads:
            sentence = received.plain(sentence)
        return sentence

    def meta(self) -> dict[str, Any]:
        """What the page has to know before it shows anything; ``no_seg`` says why DICOM SEG cannot be written."""
        spacing = np.linalg.norm(self.session.affine[:3, :3], axis=0)
        return {
            "name": self.title,
            "shape": list(self.grid.shape),
            "spacing": self._turned(spacing),
            "affine": self._affine().tolist(),
            "stored_shape": list(self.grid.stored),
            "stored_spacing": [float(s) for s in spacing],
            "axes": [{"axis": a, "flipped": f} for a, f in zip(self.grid.axes, self.grid.flipped, strict=True)],
            "range": list(self._range),
            "windows": self._windows(),
            "notes": self.session.notes,
            "no_seg": self._no_seg,
        }

    def _turned(self, of_stored: np.ndarray) -> list[float]:
        return [float(of_stored[i]) for i in np.argsort(self.grid.axes)]

    def _affine(self) -> np.ndarray:
        """(4, 4) voxel of the page -> mm in RAS."""
        corner, *ends = (self.grid.stored_voxel(v) for v in np.concatenate([np.zeros((1, 3)), np.eye(3)]))
        to_stored = np.eye(4)
        to_stored[:3, 3] = corner
        to_stored[:3, :3] = (np.array(ends) - corner).T
        return self.session.affine @ to_stored

    def _windows(self) -> list[dict[str, Any]]:
        whole = {"Whole range": self._range}
        if self._bounds == CT_WINDOW:
            named = {**CT_WINDOWS, **whole}
        else:
            low, high = self._bounds
            named = {"Auto": (low, high), "Brighter": (low, low + 0.6 * (high - low)), **whole}
        return [{"name": name, "low": float(low), "high": float(high)} for name, (low, high) in named.items()]

    def volume_size(self) -> int:
        """Bytes of :meth:`volume`."""
        return len(self._header()) + self._values.size * self._type.itemsize

    def volume(self) -> Iterator[bytes]:
        """The voxels as NIfTI, in the page's order; its affine says their size alone, so that no viewer turns them."""
        yield self._header()
        for k in range(0, self._values.shape[2], SLAB):
            yield self._values[:, :, k : k + SLAB].astype(self._type).tobytes(order="F")

    def _header(self) -> bytes:
        spacing = self._turned(np.linalg.norm(self.session.affine[:3, :3], axis=0))
        header = nib.Nifti1Image(np.empty((1, 1, 1), self._type), np.diag([*spacing, 1.0])).header
        header.set_data_shape(self.grid.shape)
        header.set_zooms(spacing)
        header["vox_offset"] = 352
        header["magic"] = b"n+1"
        header["scl_slope"], header["scl_inter"] = 1, 0
        header["cal_min"], header["cal_max"] = self._bounds
        return header.binaryblock + b"\0\0\0\0"

    def answer(self, box: Box | None, started: float, **more: Any) -> bytes:
        """The state of all objects, and the voxels of a stored box that changed, gzipped.

        The length of the JSON (4 bytes, the lowest first), the JSON, then one byte for each voxel, the object's number,
        in the page's order, its first axis fastest.
        """
        numbers, session = self.session.numbers, self.session
        packed = b""
        if box is not None:
            part = self._labels[tuple(slice(*side) for side in box)]
            self._counts -= np.bincount(part.ravel(), minlength=256)
            part[:] = session.labels(box)
            self._counts += np.bincount(part.ravel(), minlength=256)
            packed = self.grid.show(part).tobytes(order="F")
        ml = abs(float(np.linalg.det(session.affine[:3, :3]))) / 1000
        told = {
            "box": box and self.grid.shown_box(box),
            "objects": [
                {"name": name, "number": numbers[name], "ml": round(int(self._counts[numbers[name]]) * ml, 6)}
                for name in session.objects
            ],
            "current": session.current,
            "prompts": [self._prompt(p) for p in session.prompts],
            "can_undo": session.can_undo,
            "can_redo": session.can_redo,
            "seconds": round(time.perf_counter() - started, 4),
            **more,
        }
        text = json.dumps(told).encode()
        return gzip.compress(struct.pack("<I", len(text)) + text + packed, 1)

    def everything(self, started: float) -> bytes:
        """As :meth:`answer`, of all voxels that may be an object's."""
        return self.answer([[0, n] for n in self.grid.stored], started)

    def _prompt(self, prompt: Any) -> dict[str, Any]:
        told = {"id": prompt.id, "kind": KINDS.get(prompt.kind, prompt.kind), "include": prompt.include}
        if prompt.kind == "point":
            return {**told, "at": self.grid.shown_voxel(prompt.given)}
        box = prompt.given if prompt.kind == "box" else prompt.given.box
        return {**told, "box": self.grid.shown_box(box)}

    def start_from(self, received: Received) -> Box | None:
        """Make a mask file of the browser's the current object's mask; the box of changed voxels.

        Raises:
            ValueError: unreadable, on another grid, or empty.
        """
        try:
            return self.session.add_initial_seg_interaction(received.path())
        except ValueError as error:
            raise ValueError(received.plain(str(error))) from error

    def restore(self, saved: bytes) -> bytes:
        """Go on with a saved session, in place of what was said so far; the answer has all masks.

        Raises:
            ValueError: no session, or one of another image.
        """
        started = time.perf_counter()
        with TemporaryDirectory(prefix="sam-bundles-") as folder:
            file = Path(folder) / "session.json"
            file.write_bytes(saved)
            try:
                self.session = Session.load(file, image=self.path, engine=self.session.engine)
            except ValueError as error:
                raise ValueError(self._plain(str(error)).replace(str(file), "the session")) from error
        return self.everything(started)

    def save(self, form: str) -> tuple[str, bytes]:
        """A file's name and what is in it.

        Args:
            form: one of FORMS.

        Raises:
            ValueError: what keeps it from being written.
        """
        stem = stem_of(self.title) or "scan"
        with TemporaryDirectory(prefix="sam-bundles-") as folder:
            file = Path(folder) / (stem + self.FORMS[form])
            if form == "nifti":
                self.session.export(file)
            elif form == "session":
                self.session.save(file)
                # The place where an upload lay means nothing to anybody.
                saved = json.loads(file.read_text())
                file.write_text(json.dumps({**saved, "image": {**saved["image"], "file": self.title}}))
            elif (why := self._no_seg) is not None:
                raise ValueError(f"no DICOM segmentation is written: {why}")
            else:
                self._save_seg(file)
            return file.name, file.read_bytes()

    def _save_seg(self, file: Path) -> None:
        try:
            mask = self.session.export(file.with_name("masks.nii.gz"), dicom="seg")
        except ValueError as problem:
            raise ValueError(self._plain(str(problem))) from problem
        written = mask.with_name("masks.dcm")
        if not written.exists():
            raise ValueError("no object has a voxel: expected a click on one before a segmentation is saved")
        written.replace(file)


def _no_seg(path: Path) -> str | None:
    """Why no DICOM segmentation can be written for a scan, as people read it; None where it can."""
    try:
        check_dicom(path)
    except ValueError:
        return "only for scans that are DICOM files"
    return missing_package()


def _fits_int16(values: np.ndarray, limits: tuple[float, float]) -> bool:
    """Whether 2 bytes a voxel hold them as they are."""
    low, high = limits
    if low < np.iinfo(np.int16).min or high > np.iinfo(np.int16).max:
        return False
    # Mostly a few tell that there are others; only then is the whole volume looked at.
    some = values.reshape(-1)[:: max(1, values.size >> 16)]
    return bool((some == np.rint(some)).all()) and all(bool((s == np.rint(s)).all()) for s in values)
