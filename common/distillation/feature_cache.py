# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A teacher's features on disk: each image goes through the teacher once."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..files import whole_file

logger = logging.getLogger(__name__)


class FeatureCache:
    """Features of images in a folder, one safetensors file an image, fp16.

    The key is content: the teacher's weights and its layers, and the image as the teacher sees it, after all
    preprocessing, crops and flips. So a wrong feature cannot be returned, and a
    folder may serve several trainings, or one that was stopped. A file whose content is not what was written is
    computed anew.

    Args:
        folder: made where it does not exist.
        teacher: whose weights count.
        layers: names of the features that are kept.
    """

    def __init__(self, folder: str | Path, teacher: nn.Module, layers: tuple[int | str, ...]) -> None:
        self.folder = Path(folder)
        self.layers = tuple(layers)
        self.teacher = _digest(*teacher.state_dict().values(), text="|".join(teacher.state_dict()) + str(self.layers))
        self.hits = self.misses = 0

    def get(self, images: Tensor, compute: Callable[[Tensor], Mapping[int | str, Tensor]]) -> dict[int | str, Tensor]:
        """The layers' features of a batch, (B, ...) each, float32 on the device of the images.

        Args:
            images: (B, ...) as the teacher sees them.
            compute: the teacher, for those that are not there yet.
        """
        keys = [_digest(image, text=self.teacher) for image in images]
        rows = [self._read(key) for key in keys]
        missing = [i for i, row in enumerate(rows) if row is None]
        self.hits, self.misses = self.hits + len(rows) - len(missing), self.misses + len(missing)
        if missing:
            computed = compute(images[missing])
            for place, i in enumerate(missing):
                # Rounded as they will be read, so that it makes no difference which of the two happens.
                rows[i] = {name: computed[name][place].detach().half().cpu().contiguous() for name in self.layers}
                self._write(keys[i], rows[i])
        return {name: torch.stack([row[name] for row in rows]).to(images.device).float() for name in self.layers}

    def announce(self, images: int, features: Mapping[int | str, Tensor]) -> int:
        """Say how many bytes so many images will take, before they are computed.

        Args:
            images: how many in all.
            features: of a batch of images, to see how large they are.

        Raises:
            ValueError: more than the disk has left.
        """
        size = images * sum(2 * features[name][0].numel() for name in self.layers)
        there = sum(f.stat().st_size for f in self.folder.glob("*.safetensors"))
        existing = next(p for p in (self.folder.absolute(), *self.folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(existing).free
        logger.info("teacher features of %d images: %.3f GB in %s", images, size / 1e9, self.folder)
        if size - there > free:
            raise ValueError(
                f"feature cache {self.folder}: {images} images need {size / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
                f"give another folder, fewer cubes, or no cache"
            )
        return size

    def _read(self, key: str) -> dict[int | str, Tensor] | None:
        path = self.folder / f"{key}.safetensors"
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                row = {name: file.get_tensor(str(name)) for name in self.layers}
                written = file.metadata()["digest"]
        except (SafetensorError, OSError, KeyError, TypeError):
            written = None
        if written is None or written != _digest(*row.values(), text=key):
            logger.warning("%s is damaged: its features are computed again", path)
            return None
        return row

    def _write(self, key: str, row: dict[int | str, Tensor]) -> None:
        content = save({str(k): v for k, v in row.items()}, {"digest": _digest(*row.values(), text=key)})
        # Processes that meet on one image write the same; each has its own side file.
        with whole_file(self.folder / f"{key}.safetensors") as side:
            side.write_bytes(content)


def _digest(*tensors: Tensor, text: str = "") -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{tuple(values.shape)}{values.dtype}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
