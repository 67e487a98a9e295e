# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A cache of recent values that is limited in bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import torch
from torch import Tensor

# Bytes that one thread hashes at a time.
PIECE = 1 << 24


class BoundedCache:
    """Values by key, at most ``max_bytes`` of them, the least recently used one dropped first; safe among threads.

    A value is made once: other threads that ask for it wait, threads that ask for other values do not.

    Args:
        max_bytes: 0 keeps nothing.
        size_of: bytes of a value; asked for all of them whenever one is wanted, since values may grow.

    Raises:
        ValueError: a negative bound.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[Any], int]) -> None:
        if max_bytes < 0:
            raise ValueError(f"a cache of {max_bytes} bytes: expected 0 or more")
        self.max_bytes = int(max_bytes)
        self.size_of = size_of
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, version: Hashable, make: Callable[[], Any]) -> tuple[Any, bool]:
        """The value of ``key``, and whether it was there already.

        Args:
            key: what the value is of.
            version: if it differs from the version of the stored value, the value is made again.
            make: makes the value if it is not stored.
        """
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        with entry.lock:
            known = entry.made and entry.version == version
            if not known:
                # Before the new one is made, so that both are never there together.
                self._set(entry, None, None, False)
                try:
                    self._set(entry, make(), version, True)
                finally:
                    self._drop_failed(key, entry)
            value = entry.value
        with self._lock:
            # What was there may have grown.
            self._drop_too_many()
        return value, known

    def __reduce__(self) -> tuple:
        # A copy, or the one of another process, starts empty.
        return BoundedCache, (self.max_bytes, self.size_of)

    @property
    def nbytes(self) -> int:
        """Of all values that are kept."""
        with self._lock:
            return sum(self._sizes().values())

    def __len__(self) -> int:
        with self._lock:
            return len(self._sizes())

    def _sizes(self) -> dict[Hashable, int]:
        # One that is being made has no size yet; it is counted when it has.
        return {key: self.size_of(entry.value) for key, entry in self._entries.items() if entry.made}

    def _set(self, entry: _Entry, value: Any, version: Hashable, made: bool) -> None:
        with self._lock:
            entry.value, entry.version, entry.made = value, version, made
            self._drop_too_many()

    def _drop_failed(self, key: Hashable, entry: _Entry) -> None:
        with self._lock:
            if not entry.made and self._entries.get(key) is entry:
                del self._entries[key]

    def _drop_too_many(self) -> None:
        sizes = self._sizes()
        total = sum(sizes.values())
        for key in [k for k in self._entries if k in sizes]:
            if total <= self.max_bytes:
                break
            total -= sizes[key]
            del self._entries[key]


class _Entry:
    """A place for one value, and the lock of whoever fills it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.value: Any = None
        self.version: Hashable = None
        self.made = False


def digest(values: Tensor) -> str:
    """A hash of the content, shape and dtype of a tensor."""
    plain = values.detach().cpu().contiguous()
    content = plain.flatten().view(torch.uint8).numpy()
    pieces = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        # SHA-256, because processors compute it themselves: twice as fast as BLAKE2 there.
        hashes = threads.map(lambda piece: hashlib.sha256(piece).digest(), pieces)
        whole = hashlib.sha256(b"".join(hashes)).hexdigest()
    return f"{whole} {tuple(plain.shape)} {plain.dtype}"


def tensor_bytes(value: Any) -> int:
    """Bytes of the tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(tensor_bytes(v) for v in value.values())
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return sum(tensor_bytes(v) for v in value)
    return 0
