# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A session: prompts in, masks out, every step can be taken back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from monai.data import MetaTensor
from torch import Tensor

from ..common.geometry import Grid
from ..common.prompts import ObjectPrompt
from ..inference.label_map import occupied
from ..inference.scene import Scene
from ..inference.segment import Segmentation
from ..volumes import read_labels
from . import target_buffer
from .engine import Engine, default_engine
from .export import export
from .history import Step, removed, replaced
from .image import new_content, read_image, reading_of
from .packed import Box, Difference, slices
from .prompts import BOX, LASSO, MASK, POINT, SCRIBBLE, Prompt, Said, read_box, read_mask, read_point, request
from .storage import check_image, describe_image, read_objects, read_session, write_session

FIRST = "object 1"
# Values of the label map that tell the objects apart.
MOST_OBJECTS = 255


class Session:
    """One image and the objects that are clicked in it. Safe among threads.

    All positions are voxel indices of the image as it is stored, and all masks lie on its grid. Prompts go to the
    current object. Every call that changes a mask returns the box of changed voxels, half open, or None; a call with
    wrong arguments raises ValueError and changes nothing.

    Args:
        engine: may be shared among sessions; None for one that the whole process shares, loaded at first need.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine
        self._lock = RLock()
        self._image: MetaTensor | None = None

    def set_image(self, image: Any, image_properties: Mapping[str, Any] | None = None) -> None:
        """Begin anew with an image.

        Args:
            image: path of a file or DICOM folder; ``MetaTensor``, tensor or array, (1, X, Y, Z) or (X, Y, Z).
            image_properties: of an array or tensor: ``{"affine": (4, 4) voxel -> mm in RAS}``, or ``{"spacing": (3,)
                in mm}``, maybe with ``"orientation"``, where the axes run to. Missing: 1 mm, ``LPS`` is assumed.
                Of a DICOM folder that holds several stacks ``{"series": number in the list, or SeriesInstanceUID}``.

        Raises:
            ValueError: no 3D image of one channel with contrast; properties of another form.
        """
        reading = reading_of(image, image_properties, self.engine.reading)
        volume = read_image(image, image_properties, reading)
        with self._lock:
            self._image, self._reading = volume, reading
            self._grid = Grid(np.asarray(volume.affine.cpu(), dtype=np.float64), tuple(volume.shape[1:]))
            self._content = new_content()
            # The first axis innermost, as the engine has it.
            self._labels = np.zeros(self._grid.shape[::-1], np.uint8).T
            self._objects: tuple[Said, ...] = (Said(1, FIRST),)
            self._current = 1
            self._done: list[Step] = []
            self._undone: list[Step] = []
            self._result: Segmentation | None = None
            self._next_id = 1
            self._buffer: Any = None

    def prepare(self) -> None:
        """Compute what the first click would wait for and that needs no click; meanwhile the session can be used."""
        with self._lock:
            scene = self._there()._scene([])
        self.engine.segmenter.prepare(scene, self.engine.network)

    @property
    def engine(self) -> Engine:
        """What answers the prompts."""
        with self._lock:
            if self._engine is None:
                self._engine = default_engine()
            return self._engine

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the image."""
        return self._there()._grid.shape

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel -> mm in RAS."""
        return self._there()._grid.affine.copy()

    @property
    def image(self) -> MetaTensor:
        """(1, X, Y, Z) float32, as it was read; not to be changed."""
        return self._there()._image

    @property
    def notes(self) -> list[str]:
        """What was assumed of the image, or done to it when it was read."""
        return json.loads(self._there()._image.meta["notes"])

    @property
    def objects(self) -> list[str]:
        """Their names, in the order in which they were added."""
        return [o.name for o in self._there()._objects]

    @property
    def current(self) -> str:
        """The name of the object that prompts go to."""
        return self._there()._object().name

    @property
    def prompts(self) -> list[Prompt]:
        """Of the current object, in their order."""
        return list(self._there()._object().prompts)

    def add_object(self, name: str | None = None) -> str:
        """Add an object and make it the current one.

        Raises:
            ValueError: a name that is taken, or too many objects.
        """
        with self._lock:
            names = self.objects
            most = min(self.engine.max_objects, MOST_OBJECTS)
            if len(names) >= most:
                raise ValueError(f"{len(names)} objects already: expected at most {most}")
            if name is None:
                name = next(n for i in range(1, len(names) + 2) if (n := f"object {i}") not in names)
            self._check_name(name)
            taken = {o.id for o in self._objects}
            new = Said(next(i for i in range(1, MOST_OBJECTS + 1) if i not in taken), name)
            self._take((*self._objects, new), new.id)
            return name

    def select_object(self, name: str) -> None:
        """Make it the current one; this is no step that can be undone.

        Raises:
            ValueError: no such object.
        """
        with self._lock:
            self._current = self._named(name).id
            self._fill_buffer()

    def rename_object(self, old: str, new: str) -> None:
        """Give an object another name.

        Raises:
            ValueError: no such object, or a name that is taken.
        """
        with self._lock:
            said = self._named(old)
            if new != old:
                self._check_name(new)
                self._take(replaced(self._objects, said._replace(name=new)), self._current)

    def remove_object(self, name: str) -> Box | None:
        """Remove an object with all that was said of it; of the last one an empty one is left.

        Raises:
            ValueError: no such object.
        """
        with self._lock:
            said = self._named(name)
            left = removed(self._objects, said) or (Said(1, FIRST),)
            current = self._current if said.id != self._current else left[-1].id
            return self._take(left, current)

    def add_point_interaction(
        self, coordinates: Any, include_interaction: bool = True, run_prediction: bool = True
    ) -> Box | None:
        """A click.

        Args:
            coordinates: (3,) voxel indices.
            include_interaction: on the object, or else on the background.
            run_prediction: answer now, or when :meth:`predict` or a later prompt asks.
        """
        with self._lock:
            given = read_point(coordinates, self.shape)
            if sum(p.kind == POINT for p in self.prompts) >= self.engine.max_clicks:
                raise ValueError(f"{self.engine.max_clicks} clicks already: expected no more; max_clicks raises it")
            return self._add(POINT, include_interaction, given, run_prediction)

    def add_bbox_interaction(
        self, bbox_coords: Any, include_interaction: bool = True, run_prediction: bool = True
    ) -> Box | None:
        """A box; several are taken as the one around them all. On the background it counts as clicks inside it.

        Args:
            bbox_coords: [[lo, hi], [lo, hi], [lo, hi]], half open; one voxel thick where it was drawn on a slice.
            include_interaction: on the object, or else on the background.
            run_prediction: answer now, or when :meth:`predict` or a later prompt asks.
        """
        with self._lock:
            return self._add(BOX, include_interaction, read_box(bbox_coords, self.shape), run_prediction)

    def add_scribble_interaction(
        self,
        scribble_image: Any,
        include_interaction: bool = True,
        run_prediction: bool = True,
        interaction_bbox: Any = None,
    ) -> Box | None:
        """Strokes of a brush.

        Args:
            scribble_image: (X, Y, Z) bool or whole numbers, nonzero where it was drawn.
            include_interaction: on the object, or else on the background.
            run_prediction: answer now, or when :meth:`predict` or a later prompt asks.
            interaction_bbox: half open, the part of the image that ``scribble_image`` covers; None for all of it.
        """
        return self._add_mask(SCRIBBLE, scribble_image, include_interaction, run_prediction, interaction_bbox)

    def add_lasso_interaction(
        self,
        lasso_image: Any,
        include_interaction: bool = True,
        run_prediction: bool = True,
        interaction_bbox: Any = None,
    ) -> Box | None:
        """A lasso: what is inside of it, mostly in one slice; arguments as of :meth:`add_scribble_interaction`."""
        return self._add_mask(LASSO, lasso_image, include_interaction, run_prediction, interaction_bbox)

    def add_initial_seg_interaction(self, initial_seg: Any, run_prediction: bool = False) -> Box | None:
        """A mask to be corrected, in place of all that was said of the object before; it is shown as it is.

        Args:
            initial_seg: (X, Y, Z) bool or whole numbers, nonzero inside; or the path of a mask on the image's grid.
            run_prediction: makes no difference: what is given alone comes back as it is.
        """
        with self._lock:
            if isinstance(initial_seg, (str, Path)):
                initial_seg = read_labels(str(initial_seg), self.image)
            given = read_mask(initial_seg, self.shape, name="initial_seg")
            return self._set_prompts((self._prompt(MASK, True, given),), run=True)

    def predict(self) -> Box | None:
        """Answer what was added with ``run_prediction=False`` to the current object."""
        with self._lock:
            said = self._object()
            if said.answered == said.prompts:
                return None
            return self._set_prompts(said.prompts, run=True)

    def remove_prompt(self, id: int) -> Box | None:
        """Take back any one prompt of the current object, and answer the others anew.

        Raises:
            ValueError: no such prompt.
        """
        with self._lock:
            said = self._object()
            left = tuple(p for p in said.prompts if p.id != id)
            if len(left) == len(said.prompts):
                known = ", ".join(str(p.id) for p in said.prompts) or "none"
                raise ValueError(f"{said.name} has no prompt {id!r}: expected one of {known}")
            answered = tuple(p for p in said.answered if p.id != id)
            return self._take(replaced(self._objects, said._replace(prompts=left, answered=answered)), said.id)

    def reset_interactions(self) -> Box | None:
        """Take back all prompts of the current object."""
        with self._lock:
            return self._set_prompts((), run=True) if self._object().prompts else None

    @property
    def steps(self) -> int:
        """How many steps were taken, and can be taken back."""
        return len(self._there()._done)

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return self.steps > 0

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back, and none taken since."""
        return bool(self._there()._undone)

    def undo(self) -> Box | None:
        """Take back the last step, on whichever object it was taken: that one is the current one then."""
        with self._lock:
            if not self.can_undo:
                return None
            step = self._done.pop()
            self._undone.append(step)
            return self._go(step.before, step.current_before, step.difference)

    def redo(self) -> Box | None:
        """Take the step again that was taken back last."""
        with self._lock:
            if not self.can_redo:
                return None
            step = self._undone.pop()
            self._done.append(step)
            return self._go(step.after, step.current_after, step.difference)

    def set_target_buffer(self, array: Any) -> None:
        """An array or tensor, (X, Y, Z) of bool or whole numbers: the current object's mask is written into it.

        Raises:
            ValueError: another shape or type, or one that cannot be written to; None takes the last one away.
        """
        with self._lock:
            self._buffer = None if array is None else target_buffer.checked(array, self.shape)
            self._fill_buffer()

    def mask(self, name: str | None = None) -> np.ndarray:
        """(X, Y, Z) bool, of the current object unless another is named.

        Raises:
            ValueError: no such object.
        """
        with self._lock:
            said = self._named(name)
            return self._labels == said.id

    @property
    def numbers(self) -> dict[str, int]:
        """Of each object, 1 to 255: the one that it keeps as long as it is there, whatever comes and goes."""
        return {o.name: o.id for o in self._there()._objects}

    def labels(self, box: Sequence[Sequence[int]] | None = None) -> np.ndarray:
        """uint8: 0, and the :attr:`numbers` of the objects, (X, Y, Z) or the half-open ``box`` of it; a copy."""
        with self._lock:
            whole = self._there()._labels
            return (whole if box is None else whole[slices(box)]).copy(order="K")

    def label_map(self) -> np.ndarray:
        """(X, Y, Z) uint8: 0, then 1, 2, ... in the order of :attr:`objects`."""
        with self._lock:
            values = np.zeros(MOST_OBJECTS + 1, np.uint8)
            values[[o.id for o in self._there()._objects]] = range(1, len(self._objects) + 1)
            return values[self._labels]

    def volume_ml(self, name: str | None = None) -> float:
        """Of the mask, in mL."""
        with self._lock:
            voxel_ml = abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000
            return int(np.count_nonzero(self.mask(name))) * voxel_ml

    def probabilities(self, name: str | None = None) -> np.ndarray:
        """(X, Y, Z) float32: how likely each voxel is the object's, whatever other objects say of it.

        Raises:
            ValueError: no such object.
        """
        with self._lock:
            said = self._named(name)
            if not said.is_placed:
                return np.zeros(self.shape, np.float32)
            asked = [o.id for o in self._objects if o.is_placed]
            return self._answer().probabilities(asked.index(said.id)).cpu().numpy()

    def save(self, path: str | Path) -> None:
        """Write what was said as a small JSON file; undone steps are not in it.

        Raises:
            ValueError: another file is there, or it cannot be written.
        """
        with self._lock:
            image = {**describe_image(self._there()._image), "series": self._reading.series}
            write_session(path, image, self._objects, self.current)

    @classmethod
    def load(cls, path: str | Path, image: Any = None, engine: Engine | None = None, **properties: Any) -> Session:
        """The session that was saved: the same prompts, and with the same weights the same masks.

        Args:
            path: of the file.
            image: as of :meth:`set_image`; None reads the file that the session was of.
            engine: as of the session.
            properties: ``image_properties`` as of :meth:`set_image`.

        Raises:
            ValueError: no session, or one of another image.
        """
        content = read_session(path)
        source = content["image"].get("file") if image is None else image
        if source is None:
            raise ValueError(f"{path}: its image came from no file; expected image, the array that it was")
        if image is None and content["image"].get("series") is not None:
            properties = {"image_properties": {"series": content["image"]["series"]}, **properties}
        session = cls(engine)
        session.set_image(source, **properties)
        check_image(path, content, session._image)
        objects, current = read_objects(path, content, session.shape)
        session._take(objects, current)
        session._done.clear()
        session._next_id = max((p.id for o in objects for p in o.prompts), default=0) + 1
        return session

    def export(self, path: str | Path, dicom: str | Sequence[str] | None = None, mesh: str | None = None) -> Path:
        """Write the label map on the image's own grid and its description, as ``python -m monai.bundle run`` does.

        Objects of which nothing says where they are are left out.

        Args:
            path: of the label map, or a folder for ``NAME_seg.nii.gz``.
            dicom: of a DICOM image also a segmentation, ``NAME_seg.dcm`` (``seg``), a structure set,
                ``NAME_seg_rtstruct.dcm`` (``rtstruct``), or a list of both.
            mesh: also the surface of each object, ``stl``, ``ply`` or ``obj``.

        Returns:
            where the label map lies.

        Raises:
            ValueError: nothing was segmented, a file that is there and is no such result, another ending, or DICOM
                asked for of an image that is none.
        """
        with self._lock:
            result = self._answer() if any(o.is_placed for o in self._there()._objects) else None
            if result is None:
                raise ValueError("nothing was segmented: expected a prompt on an object first")
            return export(path, self._image, result, self.engine, self._reading, dicom, mesh)

    def _answer(self) -> Segmentation:
        """Of all that was answered, asked for again where steps were taken back since."""
        if self._result is None:
            self._result = self._segment(self._objects)
        return self._result

    def _there(self) -> Session:
        if self._image is None:
            raise ValueError("the session has no image: expected set_image first")
        return self

    def _object(self) -> Said:
        return next(o for o in self._there()._objects if o.id == self._current)

    def _named(self, name: str | None) -> Said:
        if name is None:
            return self._object()
        found = [o for o in self._there()._objects if o.name == name]
        if not found:
            raise ValueError(f"no object {name!r}: expected one of {', '.join(map(repr, self.objects))}")
        return found[0]

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"the name {name!r}: expected some text")
        if name in self.objects:
            raise ValueError(f"the name {name!r} is taken: expected another")

    def _prompt(self, kind: str, include: Any, given: Any) -> Prompt:
        if not isinstance(include, (bool, np.bool_)):
            raise ValueError(f"include_interaction {include!r}: expected true or false")
        self._next_id += 1
        return Prompt(self._next_id - 1, kind, bool(include), given)

    def _add(self, kind: str, include: Any, given: Any, run: bool) -> Box | None:
        return self._set_prompts((*self._object().prompts, self._prompt(kind, include, given)), run)

    def _add_mask(self, kind: str, mask: Any, include: Any, run: bool, box: Any) -> Box | None:
        with self._lock:
            return self._add(kind, include, read_mask(mask, self.shape, box, f"{kind}_image"), run)

    def _set_prompts(self, prompts: tuple[Prompt, ...], run: bool) -> Box | None:
        said = self._object()
        new = said._replace(prompts=prompts, answered=prompts if run else said.answered)
        return self._take(replaced(self._objects, new), said.id)

    def _take(self, objects: tuple[Said, ...], current: int) -> Box | None:
        """Take a step. Nothing of the session is changed before the engine has answered."""
        difference, result = None, self._result
        if [(o.id, o.answered) for o in objects] != [(o.id, o.answered) for o in self._objects]:
            result = self._segment(objects)
            difference = self._difference(objects, result)
        self._done.append(Step(self._objects, self._current, objects, current, difference))
        self._undone.clear()
        box = self._go(objects, current, difference)
        self._result = result
        return box

    def _go(self, objects: tuple[Said, ...], current: int, difference: Difference | None) -> Box | None:
        self._objects, other = objects, self._current != current
        self._current = current
        if difference is not None:
            self._result = None
            difference.apply(self._labels)
        if other:
            self._fill_buffer()
        elif difference is not None:
            self._fill_buffer(difference.box)
        return None if difference is None else [list(side) for side in difference.box]

    def _segment(self, objects: tuple[Said, ...]) -> Segmentation | None:
        """All objects together, as one run of the bundle does: the answer, None where nothing says where one is."""
        asked = [request(o, self.shape) for o in objects if o.is_placed]
        if not asked:
            return None
        return self.engine.segmenter.segment_scene(self._scene(asked), self.engine.network)

    def _scene(self, asked: list[tuple[ObjectPrompt, dict[str, Tensor]]]) -> Scene:
        device = next(self.engine.network.parameters()).device
        masks = {name: mask.to(device) for _, named in asked for name, mask in named.items()}
        # On the device at the first click, and kept there.
        self._image = self._image.to(device)
        prompts = [prompt for prompt, _ in asked]
        return Scene(self._image.as_tensor(), self._grid, prompts, masks, self.notes, self._content, True)

    def _difference(self, objects: tuple[Said, ...], result: Segmentation | None) -> Difference | None:
        """Between the label map as it is and as ``result`` has it."""
        boxes = [self._filled()]
        if result is not None:
            boxes.append(occupied(result.views, result.grid, result.given))
        boxes = [[(s.start, s.stop) for s in b] for b in boxes if b is not None]
        if not boxes:
            return None
        box = [(min(s[0] for s in sides), max(s[1] for s in sides)) for sides in zip(*boxes, strict=True)]
        before = self._labels[slices(box)]
        after = np.zeros_like(before)
        if result is not None:
            values = np.array([0, *(o.id for o in objects if o.is_placed)], np.uint8)
            after = values[result.labels[slices(box)].cpu().numpy()]
        return Difference.between(before, after, [low for low, _ in box])

    def _filled(self) -> tuple[slice, ...] | None:
        result = self._result
        if result is not None:
            return occupied(result.views, result.grid, result.given)
        return slices([(0, n) for n in self.shape]) if self._labels.any() else None

    def _fill_buffer(self, box: Box | None = None) -> None:
        if self._buffer is not None:
            box = box or [(0, n) for n in self.shape]
            target_buffer.fill(self._buffer, self._labels[slices(box)] == self._current, box)
