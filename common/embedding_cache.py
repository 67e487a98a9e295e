# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Embeddings of the last images, so that a further prompt costs the decoder alone."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

import torch
from torch import Tensor


class EmbeddingCache:
    """At most ``size`` embeddings, the least recently used one dropped first; safe among threads.

    The key is content: of the cube, and of the weights that encode it. A file that changed under the same name, or
    weights that were loaded anew, do not meet an old embedding.
    """

    def __init__(self, size: int = 4) -> None:
        if size < 1:
            raise ValueError(f"cache size {size}: expected 1 or more")
        self.size = size
        self._entries: OrderedDict[tuple, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, cube: Tensor, weights: Hashable, encode: Callable[[], Any]) -> tuple[Any, bool]:
        """The embedding of ``cube``, and whether it was there already.

        Args:
            cube: what the encoder is given, any shape.
            weights: the key of the network, such as its weights and precision.
            encode: called where the embedding is not there.
        """
        key = (_digest(cube), weights)
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key], True
        embedding = encode()
        with self._lock:
            self._entries[key] = embedding
            self._entries.move_to_end(key)
            while len(self._entries) > self.size:
                self._entries.popitem(last=False)
        return embedding, False


def _digest(cube: Tensor) -> str:
    values = cube.detach().cpu().contiguous()
    return hashlib.blake2b(values.view(torch.uint8).numpy(), digest_size=16).hexdigest() + str(tuple(cube.shape))
