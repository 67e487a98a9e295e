# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A data set of images that carry their prompts."""

from __future__ import annotations

from typing import Any

from monai.data import Dataset


class CaseDataset(Dataset):
    """A ``Dataset`` that returns only the image, with its prompts in the meta, because prompts cannot be collated.

    If a transform fails, its own error is raised, not MONAI's wrapper, which only names the transform.
    """

    def _transform(self, index: int) -> dict[str, Any]:
        try:
            return {"image": super()._transform(index)["image"]}
        except RuntimeError as error:
            cause: BaseException = error
            while str(cause).startswith("applying transform") and cause.__cause__ is not None:
                cause = cause.__cause__
            raise cause from None
