# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Where the results of an image are written, what they are called, and how they are recognised later."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import check_path, check_writable
from .flags import flag

DICOM = (".dcm", ".dicom", ".ima")
# Of images, those of two parts first: what is left of a name is the image's.
ENDINGS = (
    *(".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh"),
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", *DICOM),
)
# What every description of a result says, and the files that it names.
DESCRIBED = {"image", "mask", "bundle_version"}
NAMED = ("mask", "overlay", "probabilities", "dicom_seg", "rtstruct")
# The same, of each label.
NAMED_BY_LABEL = "meshes"
SURFACES = (".stl", ".ply", ".obj")
# Between a stem and an ending, of the files beside the mask.
PARTS = ("_overlay", "_probabilities", "_rtstruct")


class ResultFiles:
    """The place of each image's results: ``NAME_POSTFIX`` in one folder, or in a folder for each image.

    Args:
        output_dir: of all results; made where it does not exist.
        postfix: added to the image's name; may be empty.
        separate_folder: a folder for each image, named as it; true or false, or these words.

    Raises:
        ValueError: a folder that cannot be written to, a postfix that is a path, or a switch that is neither true nor
            false.
    """

    def __init__(self, output_dir: str | Path, postfix: str = "seg", separate_folder: Any = False) -> None:
        self.output_dir = Path(output_dir).expanduser()
        self.postfix = str(postfix)
        if Path(self.postfix).name != self.postfix:
            raise ValueError(f"output_postfix {postfix!r}: expected a part of a file's name, not a path")
        self.separate_folder = flag("separate_folder", separate_folder)
        check_writable(self.output_dir)

    def check(self, sources: Iterable[str], endings: Callable[[str], Sequence[str]]) -> None:
        """Find before the work what would go wrong after it.

        Args:
            sources: files of all images.
            endings: of the results of an image, the index map's first.

        Raises:
            ValueError: a name or path that the file system refuses, results that would take the place of an image, of
                each other, or of a file that is no result.
        """
        sources = list(sources)
        images = {place for source in sources for place in _places(source)}
        taken: dict[Path, str] = {}
        for source in sources:
            extension, *others = endings(source)
            folder, stem = self._names(source)
            check_path(folder, "output_dir", stem + max((extension, *others), key=len))
            for file in (folder / (stem + ending) for ending in (extension, *others)):
                place = _places(file)[0]
                if place in images:
                    raise ValueError(
                        f"{file}: the result of {source} would overwrite this image; expected another output_dir or "
                        "output_postfix"
                    )
                if place in taken:
                    raise ValueError(
                        f"{file}: the results of {taken[place]} and of {source} would overwrite each other; expected "
                        "images whose names differ"
                    )
                taken[place] = source
            self.place(source, extension)

    def place(self, source: str | Path, extension: str) -> tuple[Path, str]:
        """The folder and the file name without its extension.

        Args:
            source: the image's file, or the folder of its series.
            extension: of the index map.

        Raises:
            ValueError: the index map would take the place of the image, of another image's result, or of a file that is
                no result.
        """
        folder, stem = self._names(source)
        check_place(folder / (stem + extension), source)
        return folder, stem

    def _names(self, source: str | Path) -> tuple[Path, str]:
        name = case_name(source)
        folder = self.output_dir / name if self.separate_folder else self.output_dir
        return folder, f"{name}_{self.postfix}" if self.postfix else name


def check_place(file: Path, source: str | Path) -> None:
    """Raises ValueError where the result of an image would take the place of the image, of another image's result, or
    of what is no result.
    """
    if _places(file)[0] in _places(source):
        raise ValueError(f"{source}: the index map would overwrite the image; expected an output_postfix")
    beside = file.with_name(f"{stem_of(file.name)}.json")
    described = _description(beside).get("image")
    if described and _places(described)[0] != _places(source)[0]:
        raise ValueError(
            f"{beside}: describes the result of {described}, which that of {source} would overwrite; expected another "
            "output_dir or output_postfix"
        )
    if file.exists() and not is_result(file):
        raise ValueError(
            f"{file}: is there already and is no result of an earlier run, which {stem_of(file.name)}.json would "
            "describe; expected another output_dir or output_postfix: it is not overwritten"
        )


def case_name(path: str | Path) -> str:
    """The name of an image file or of a folder without its extension; a link has its own name, not its target's.

    A DICOM file keeps its extension: what was exported from ``x.dcm`` is ``x.png`` or ``x.nii.gz`` beside it.
    """
    # Made absolute, because "." and ".." have no name.
    name = Path(os.path.abspath(Path(path).expanduser())).name
    return name if name.lower().endswith(DICOM) else stem_of(name)


def stem_of(name: str) -> str:
    """The name of a file without the ending of an image."""
    ending = next((e for e in ENDINGS if name.lower().endswith(e)), "")
    return name[: len(name) - len(ending)]


def is_result(file: Path) -> bool:
    """Whether a description beside a file says that it is the result of an earlier run: its mask or what is beside."""
    stem = stem_of(file.name)
    stems = [stem, *(stem.removesuffix(part) for part in PARTS)]
    if file.suffix in SURFACES:
        # Between the stem and the ending stands the name of a label, which may have any number of words.
        words = file.stem.split("_")
        stems += ["_".join(words[:count]) for count in range(len(words) - 1, 0, -1)]
    for described in dict.fromkeys(stems):
        content = _description(file.with_name(f"{described}.json"))
        if content:
            return file.name in (*_named(content), f"{described}.png")
    return False


def _named(content: Mapping[str, Any]) -> list[str]:
    """The files that a description names."""
    return [*(content[key] for key in NAMED if key in content), *(content.get(NAMED_BY_LABEL) or {}).values()]


def check_further(folder: Path, stem: str, side: Path) -> None:
    """Raises ValueError where a DICOM file or surface in ``side`` would take the place of one in ``folder`` that is no
    result of an earlier run.
    """
    earlier = _named(_description(folder / f"{stem}.json"))
    for file in side.iterdir():
        place = folder / file.name
        if file.suffix in (".dcm", *SURFACES) and place.exists() and file.name not in earlier:
            raise ValueError(
                f"{place}: is there already and is no result of an earlier run, which {stem}.json would describe; "
                "expected another output_dir or output_postfix: it is not overwritten"
            )


def _description(file: Path) -> dict[str, Any]:
    """What a result says of itself; nothing where the file is not there or describes none."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.keys() >= DESCRIBED else {}


def _places(path: str | Path) -> tuple[Path, Path]:
    """Where a file itself lies, and where it leads if it is a link: writing to either takes it away."""
    path = Path(path).expanduser()
    return path.parent.resolve() / path.name, path.resolve()
