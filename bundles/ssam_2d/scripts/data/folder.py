# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A folder of images and masks as items. File names say which mask belongs to which image."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..common.json_files import read_json
from ..common.label_table import FORM, LabelNames, read_label_names
from ..common.mask_pairs import by_stem, mask_of
from ..common.result_files import is_result, stem_of
from ..image_files import DICOM, PICTURES, VOLUMES

logger = logging.getLogger(__name__)
ENDINGS = (*PICTURES, *DICOM, *VOLUMES)
SHOWN = 20


def read_folder(dataset_dir: str | Path) -> list[dict[str, Any]]:
    """The images of a folder with their masks.

    A mask is called as its image (``masks/a.png`` for ``images/a.jpg``), with or without a suffix such as ``_mask`` or
    ``_segmentation``; or each label has a file of its own: ``masks/a_gland.png``, or ``masks/gland/a.png``. An absent
    label needs no file then, but an image at least one.

    Returns:
        Items as :func:`..common.data_list.read_data_list` gives them.

    Raises:
        ValueError: what is missing, an empty folder, labels of another form, two images or masks of one name, images
            without a mask (all named).
    """
    folder = Path(dataset_dir).expanduser().absolute()
    expected = f"expected a folder with images/, masks/ and labels.json ({FORM})"
    if not folder.is_dir():
        raise ValueError(f"dataset_dir {dataset_dir}: no such folder; {expected}")
    missing = [name for name in ("images", "masks", "labels.json") if not (folder / name).exists()]
    if missing:
        raise ValueError(f"dataset_dir {folder}: no {', '.join(missing)} in it; {expected}")
    table = read_label_names(read_json(folder / "labels.json", FORM), str(folder / "labels.json"))
    images = by_stem(_images(folder / "images"), "images")
    if not images:
        raise ValueError(f"{folder / 'images'}: no image in it; expected {', '.join(ENDINGS)}")
    masks = _Masks(folder / "masks", table, images)
    items, without = [], []
    for stem, image in images.items():
        label = masks.of(stem)
        if not label:
            without.append(image.name)
        items.append({"image": str(image), "label": label, "label_names": dict(table)})
    if without:
        shown = ", ".join(without[:SHOWN]) + (f" and {len(without) - SHOWN} more" if without[SHOWN:] else "")
        raise ValueError(
            f"{folder / 'masks'}: no mask for {shown}; expected a file of the image's name, or one for each label such "
            f"as {stem_of(without[0])}_{masks.names[0]}.png"
        )
    masks.note_unused()
    return items


class _Masks:
    """The files of a folder of masks, and which of them were asked for."""

    def __init__(self, folder: Path, table: LabelNames, images: dict[str, Path]) -> None:
        self.folder, self.images = folder, images
        self.names = [key if isinstance(key, str) else table[key] for key in table]
        self.whole = by_stem(_files(folder), "masks")
        # A blank in a name may be an underscore in the file's.
        spelled = {name: dict.fromkeys((name, name.replace(" ", "_"))) for name in self.names}
        self.inner = {
            name: [by_stem(_files(folder / s), f"masks of {name}") for s in every if (folder / s).is_dir()]
            for name, every in spelled.items()
        }
        self.spelled = spelled
        self.used: set[Path] = set()

    def of(self, stem: str) -> str | dict[str, str] | None:
        """The file of an image's mask, or one of each of its labels by name."""
        own = {name: file for name in self.names if (file := self._of_label(stem, name))}
        others = {s: f for s, f in self.whole.items() if f not in own.values()}
        one = mask_of(stem, others, self.images)
        if one and own:
            raise ValueError(
                f"{self.folder}: {one.name} and {', '.join(f.name for f in own.values())} are both masks of {stem}; "
                "expected one mask with all labels, or a file for each label"
            )
        self.used |= {*own.values(), *([one] if one else [])}
        return str(one) if one else {name: str(file) for name, file in own.items()}

    def _of_label(self, stem: str, name: str) -> Path | None:
        found = [inner[stem] for inner in self.inner[name] if stem in inner]
        named = [f"{stem}_{spelled}" for spelled in self.spelled[name]]
        # Such a file may be the mask of another image, which is called so.
        found += [self.whole[s] for s in named if s in self.whole and s not in self.images]
        if len(found) > 1:
            files = ", ".join(str(f.relative_to(self.folder)) for f in found)
            raise ValueError(f"{self.folder}: several masks of {name} for {stem}: {files}; expected one")
        return found[0] if found else None

    def note_unused(self) -> None:
        """Say which masks belong to no image."""
        every = {*self.whole.values(), *(f for inner in self.inner.values() for i in inner for f in i.values())}
        unused = sorted(str(f.relative_to(self.folder)) for f in every - self.used)
        if unused:
            logger.warning("%s: %d masks have no image, such as %s", self.folder, len(unused), unused[0])


def _images(folder: Path) -> list[Path]:
    files = _files(folder)
    results = [f for f in files if is_result(f)]
    if results:
        logger.warning(
            "%s: %d results of earlier runs are no images, such as %s", folder, len(results), results[0].name
        )
    return [f for f in files if f not in results]


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_file() and f.name.lower().endswith(ENDINGS) and f.name[0] != ".")
