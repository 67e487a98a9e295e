# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The cache: bounded in bytes, one maker a key, nothing mixed up among threads."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from common import bounded_cache
from common.bounded_cache import BoundedCache, digest, tensor_bytes


class Maker:
    """Makes tensors of some bytes and counts how often."""

    def __init__(self, size: int = 100) -> None:
        self.size = size
        self.made: list = []

    def __call__(self, name):
        def make():
            self.made.append(name)
            return torch.full((self.size,), len(self.made), dtype=torch.uint8)

        return make


def test_the_least_recently_used_goes_first():
    cache, maker = BoundedCache(300, tensor_bytes), Maker()
    for name in "abcab":
        cache.get(name, 0, maker(name))
    assert maker.made == ["a", "b", "c"] and cache.nbytes == 300
    assert not cache.get("d", 0, maker("d"))[1]
    assert [cache.get(name, 0, maker(name))[1] for name in "abd"] == [True, True, True]
    assert not cache.get("c", 0, maker("c"))[1]
    assert cache.nbytes == 300 and len(cache) == 3


def test_another_version_takes_the_place_of_the_earlier_one():
    cache, maker = BoundedCache(1000, tensor_bytes), Maker()
    first, _ = cache.get("a", 1, maker("a"))
    second, known = cache.get("a", 2, maker("a"))
    assert not known and not torch.equal(first, second) and cache.nbytes == 100
    assert cache.get("a", 2, maker("a")) == (second, True)


def test_what_is_larger_than_the_bound_is_not_kept():
    cache, maker = BoundedCache(99, tensor_bytes), Maker()
    for _ in range(2):
        value, known = cache.get("a", 0, maker("a"))
        assert value is not None and not known
    assert cache.nbytes == 0 and len(cache) == 0
    assert not BoundedCache(0, tensor_bytes).get("a", 0, maker("a"))[1]
    with pytest.raises(ValueError, match="-1 bytes"):
        BoundedCache(-1, tensor_bytes)


def test_values_that_grow_are_counted_as_they_are():
    cache = BoundedCache(300, tensor_bytes)
    grown, _ = cache.get("a", 0, lambda: [torch.zeros(100, dtype=torch.uint8)])
    cache.get("b", 0, Maker()("b"))
    grown.append(torch.zeros(150, dtype=torch.uint8))
    assert cache.get("b", 0, Maker()("b"))[1] and cache.nbytes == 100
    assert not cache.get("a", 0, lambda: grown)[1]


def test_a_failure_is_told_and_leaves_nothing():
    cache = BoundedCache(300, tensor_bytes)

    def fail():
        raise ValueError("no such file")

    for _ in range(2):
        with pytest.raises(ValueError, match="no such file"):
            cache.get("a", 0, fail)
    assert len(cache._entries) == 0
    assert not cache.get("a", 0, Maker()("a"))[1]


def test_a_value_is_made_once_however_many_ask():
    cache, maker, started = BoundedCache(10_000, tensor_bytes), Maker(), threading.Event()

    def slowly():
        started.wait(5)
        return maker("a")()

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(cache.get, "a", 0, slowly) for _ in range(8)]
        started.set()
        answers = [a.result(5) for a in asked]
    assert maker.made == ["a"] and sorted(known for _, known in answers) == [False] + [True] * 7
    assert all(value is answers[0][0] for value, _ in answers)


def test_others_are_not_kept_waiting():
    cache, maker, go_on = BoundedCache(10_000, tensor_bytes), Maker(), threading.Event()
    slow = threading.Thread(target=cache.get, args=("a", 0, lambda: go_on.wait(5) and maker("a")()))
    slow.start()
    assert cache.get("b", 0, maker("b"))[1] is False and maker.made == ["b"]
    go_on.set()
    slow.join(5)
    assert cache.get("a", 0, maker("a"))[1]


def test_many_threads_and_too_little_room():
    cache = BoundedCache(350, tensor_bytes)

    def ask(number: int) -> bool:
        key = number * 7 % 10
        value, _ = cache.get(key, 0, lambda: torch.full((100,), key, dtype=torch.uint8))
        return bool((value == key).all()) and cache.nbytes <= 350

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(2000)))
    assert 0 < cache.nbytes <= 350


def test_copies_start_empty():
    cache = BoundedCache(1000, tensor_bytes)
    cache.get("a", 0, Maker()("a"))
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert len(other) == 0 and other.max_bytes == 1000


def test_digests_tell_content_shape_and_type():
    x = torch.arange(24.0)
    others = [x + 1e-6, x.view(4, 6), x.double(), x.view(4, 6).T]
    assert len({digest(v) for v in (x, *others)}) == 5
    assert digest(x.view(4, 6).T) == digest(x.view(4, 6).T.contiguous())


def test_digests_tell_the_order_of_what_threads_hash(monkeypatch):
    monkeypatch.setattr(bounded_cache, "PIECE", 16)
    x = torch.arange(26.0)
    others = [x.roll(4), x.roll(1), x.flip(0), torch.cat([x[4:8], x[:4], x[8:]])]
    assert digest(x) == digest(x.clone()) and len({digest(v) for v in (x, *others)}) == 5


def test_bytes_of_nested_tensors():
    x = torch.zeros(10)
    assert tensor_bytes({"a": (x, None, [x.half()]), "b": "text"}) == 60
