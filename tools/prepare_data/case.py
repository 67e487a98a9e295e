# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The terms of this package: a data set, what was found of it, and one case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from common.json_files import read_json

VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


class About(NamedTuple):
    """What a person needs to know of a data set before fetching it.

    Attributes:
        title: what it shows, and of how many.
        licence: as the distributor states it.
        where: to get it.
        size: of the download.
        layout: of the source folder, a text, or one for each kind of file.
        notes: what is particular, what the official split is, and what we are not sure of.
        slices: what becomes of volumes unless the person says: ``no``, ``labelled`` or ``all`` slices as images.
    """

    title: str
    licence: str
    where: str
    size: str
    layout: str | list[str]
    notes: str = ""
    slices: str = "no"


class Problem(NamedTuple):
    """Something that a person has to know of: its kind, and the sentence that says it."""

    kind: str
    text: str


@dataclass(frozen=True)
class Choices:
    """Options that some data sets read.

    Attributes:
        contrast: which channel of a multi-channel image, by name or number.
        modality: only cases of this one.
        labels: names of the label values, or colours, where the data set does not say them.
        images: pattern of the image files in the source, with one ``*`` for what names the case.
        masks: the same of the label files.
    """

    contrast: str | None = None
    modality: str | None = None
    labels: Mapping[str, Any] | None = None
    images: str | None = None
    masks: str | None = None


@dataclass(frozen=True)
class Case:
    """An image and where its labels come from.

    Attributes:
        name: unique in the data set.
        patient: (video, slide) that must not be split.
        image: its file.
        label: one of the classes in the modules ``labels`` and ``masks`` of this package.
        modality: such as CT, MR, ultrasound.
        section: of the official split, where there is one.
        label_names: of this case where it has its own.
        channel: of a file that holds several.
    """

    name: str
    patient: str
    image: Path
    label: Any
    modality: str
    section: str | None = None
    label_names: Mapping[int, str] | None = None
    channel: int | None = None

    @property
    def files(self) -> list[Path]:
        """All that the case is read from."""
        return [self.image, *self.label.files]


@dataclass
class Found:
    """What a source folder holds.

    Attributes:
        labels: name of each index, from 1.
        cases: complete ones, as far as names tell.
        problems: missing files and the like.
        complete: number of cases of the whole data set where it is known.
        unit: what a case is called.
    """

    labels: Mapping[int, str]
    cases: list[Case] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    complete: int | None = None
    unit: str = "cases"
    _seen: set[Path] = field(default_factory=set)

    def add(self, case: Case) -> None:
        """Take the case if its files are there, else note which one is missing."""
        self._seen.update(case.files)
        missing = [path for path in case.files if not path.is_file()]
        if missing:
            self.problems.append(Problem("missing pair", f"{case.name}: {missing[0]} is not there: left out"))
        else:
            self.cases.append(case)

    def note_unused(self, files: Iterable[Path], lacking: str) -> None:
        """Note those of the files that no case wanted, after all cases were added."""
        for path in sorted(set(files) - self._seen):
            self.problems.append(Problem("missing pair", f"{path} has no {lacking}: left out"))


def stem(path: Path) -> str:
    """The file's name without its extension, ``.nii.gz`` being one."""
    name = path.name
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else path.stem


def is_volume(path: Path) -> bool:
    """Whether the name is that of a 3D file."""
    return path.name.lower().endswith(VOLUMES)


def files_in(folder: Path, pattern: str) -> list[Path]:
    """Sorted files by pattern, without what operating systems leave behind (``._name``, ``.DS_Store``)."""
    return sorted(p for p in folder.glob(pattern) if p.is_file() and not p.name.startswith("."))


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty where there is none, or something else than an object in it.

    Raises:
        ValueError: a broken one.
    """
    content = read_json(path, "a JSON object; half a download?") if path.is_file() else {}
    return content if isinstance(content, dict) else {}
