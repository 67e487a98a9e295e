# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Where the results of an image go, and what they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import check_writable
from .flags import flag


class ResultFiles:
    """The place of each image's results: ``NAME_POSTFIX`` in one folder, or in a folder for each image.

    Args:
        output_dir: of all results; made where it does not exist.
        postfix: added to the image's name; may be empty.
        separate_folder: a folder for each image, named as it; true or false, or these words.

    Raises:
        ValueError: a folder that cannot be written to, or a switch that is neither true nor false.
    """

    def __init__(self, output_dir: str | Path, postfix: str = "seg", separate_folder: Any = False) -> None:
        self.output_dir = Path(output_dir).expanduser()
        self.postfix = postfix
        self.separate_folder = flag("separate_folder", separate_folder)
        check_writable(self.output_dir)

    def place(self, source: str, name: str, extension: str) -> tuple[Path, str]:
        """The folder and the file name without its extension.

        Args:
            source: the image's file.
            name: the image's, without its extension.
            extension: of the index map.

        Raises:
            ValueError: the index map would take the place of the image.
        """
        folder = self.output_dir / name if self.separate_folder else self.output_dir
        stem = f"{name}_{self.postfix}" if self.postfix else name
        if (folder / (stem + extension)).resolve() == Path(source).expanduser().resolve():
            raise ValueError(f"{source}: the index map would overwrite the image; expected an output_postfix")
        return folder, stem
