# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A data set of images that carry their prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset


class CaseDataset(Dataset):
    """A ``Dataset`` that returns only the image, with its prompts in the meta, because prompts cannot be collated.

    If a transform fails, its own error is raised, not MONAI's wrapper, which only names the transform.

    Raises:
        ValueError: no items. A server resolves the rest of a configuration without them.
    """

    def __init__(self, data: Sequence[Any], transform: Callable | None = None) -> None:
        if not data:
            raise ValueError("no image was given: expected --image with a file, a folder or a list")
        super().__init__(data, transform)

    def _transform(self, index: int) -> dict[str, Any]:
        try:
            return {"image": super()._transform(index)["image"]}
        except RuntimeError as error:
            cause: BaseException = error
            while str(cause).startswith("applying transform") and cause.__cause__ is not None:
                cause = cause.__cause__
            raise cause from None
