# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a server keeps of volumes: read and encoded once, never mixed up, never stale, never too much."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from stand_in import ThresholdNetwork
from volumes import dice, write_itk

from bundles.fastsam3d.scripts.common.geometry import Grid
from bundles.fastsam3d.scripts.volumes import LoadVolumed, file_version

SHAPE = (40, 36, 32)
VOLUME_BYTES = 4 * int(np.prod(SHAPE))
NEW = {"read": 1, "reused": 0}
KNOWN = {"read": 0, "reused": 1}


class Quiet(ThresholdNetwork):
    """The stand-in network, which forgets what it was asked: it would be what grows."""

    def decode(self, *args, **kwargs):
        self.calls.clear()
        return super().decode(*args, **kwargs)


def write(path: Path, start: tuple[int, int, int], size: int = 8, seed: int = 0) -> np.ndarray:
    """A bright block at ``start`` in a volume of noise; returns where the block is."""
    block = np.zeros(SHAPE, dtype=bool)
    block[tuple(slice(a, a + size) for a in start)] = True
    image = np.where(block, 1000, 0) + np.random.default_rng(seed).normal(0, 5, SHAPE)
    nib.save(nib.Nifti1Image(image.astype(np.float32), np.diag([1.5, 1.5, 1.5, 1])), path)
    return block


def middle(block: np.ndarray) -> list[int]:
    return [int(x) for x in np.argwhere(block).mean(axis=0).round()]


def mask(data) -> np.ndarray:
    return data["pred"].numpy()[0] > 0


@pytest.fixture
def eight(tmp_path):
    """Eight volumes with their blocks at eight places: ``[(path, block)]``."""
    places = [(4 + 14 * (k & 1), 4 + 12 * (k >> 1 & 1), 4 + 12 * (k >> 2)) for k in range(8)]
    return [(tmp_path / f"{k}.nii.gz", write(tmp_path / f"{k}.nii.gz", place)) for k, place in enumerate(places)]


def test_a_volume_is_read_and_encoded_once(serve, eight, monkeypatch):
    path, block = eight[0]
    first = serve(path, foreground=[middle(block)])
    assert first["result"]["volume"] == NEW and first["result"]["embeddings"]["computed"] >= 1
    monkeypatch.setattr(nib, "load", lambda *a, **k: pytest.fail("the file was read again"))
    beside = [(np.array(middle(block)) + 1).tolist()]
    second = serve(path, foreground=[middle(block), *beside])
    assert second["result"]["volume"] == KNOWN
    # The mask follows this click already: the decoder need not be asked.
    assert second["result"]["embeddings"]["computed"] == 0 and second["result"]["decoder_calls"] == 0
    assert serve(path, foreground=[middle(block)], background=beside)["result"]["decoder_calls"] > 0
    # Nothing that the first request added to the image is seen by the second.
    assert second["image"].meta is not first["image"].meta
    assert dice(mask(second), block) > 0.9


def test_a_remembered_answer_is_the_fresh_one(new_server, eight):
    path, block = eight[3]
    clicks = [middle(block), (np.array(middle(block)) + 2).tolist()]
    served = new_server(Quiet())
    for _ in range(2):
        serve_again = [served(path, foreground=clicks[:k]) for k in (1, 2)]
    fresh = new_server(Quiet())(path, foreground=clicks)
    assert torch.equal(serve_again[1]["pred"].as_tensor(), fresh["pred"].as_tensor())
    without = new_server(Quiet(), volume_cache_bytes=0, embedding_cache_bytes=0)
    for _ in range(2):
        plain = without(path, foreground=clicks)
        assert plain["result"]["volume"] == NEW and plain["result"]["embeddings"]["reused"] == 0
    assert torch.equal(plain["pred"].as_tensor(), fresh["pred"].as_tensor())
    assert plain["result"]["objects"] == fresh["result"]["objects"]


@pytest.mark.parametrize("how", ["rewritten", "replaced", "with its old times"])
def test_a_changed_file_is_read_again(serve, tmp_path, how):
    path = tmp_path / "volume.nii"
    first = write(path, (4, 4, 4))
    before = os.stat(path)
    assert dice(mask(serve(path, foreground=[middle(first)])), first) > 0.9
    second = write(tmp_path / "other.nii" if how == "replaced" else path, (22, 20, 18))
    if how == "replaced":
        os.replace(tmp_path / "other.nii", path)
    if how == "with its old times":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_size == before.st_size
    data = serve(path, foreground=[middle(second)])
    assert data["result"]["volume"] == NEW and dice(mask(data), second) > 0.9
    assert len(serve.volumes) == 1, "the earlier content is of no use to anybody"


def test_equal_content_shares_its_embedding(serve, eight, tmp_path):
    path, block = eight[5]
    serve(path, foreground=[middle(block)])
    copy = shutil.copy(path, tmp_path / "copy.nii.gz")
    result = serve(copy, foreground=[middle(block)])["result"]
    assert result["volume"] == NEW and result["embeddings"]["computed"] == 0
    # The same voxels elsewhere in space are another scene.
    moved = nib.load(path)
    nib.save(nib.Nifti1Image(moved.get_fdata(dtype=np.float32), np.diag([-3.0, 3, 3, 1])), tmp_path / "moved.nii.gz")
    assert serve(tmp_path / "moved.nii.gz", foreground=[middle(block)])["result"]["embeddings"]["computed"] >= 1


def test_bytes_are_bounded(new_server, eight):
    room = int(2.5 * VOLUME_BYTES)
    serve = new_server(Quiet(), volume_cache_bytes=room, embedding_cache_bytes=1 << 20)
    for path, block in eight:
        for k in range(12):
            click = (np.array(middle(block)) + [k % 3, k // 6, k % 2]).tolist()
            assert dice(mask(serve(path, foreground=[click])), block) > 0.9
        assert 0 < serve.volumes.nbytes <= room
        # The memory of a cube may grow while it is used; the next request drops what is too much.
        assert serve.embeddings.nbytes <= (1 << 20) + 2 * 32**3 * 4
    assert len(serve.volumes) == 2
    assert serve(eight[-1][0], foreground=[middle(eight[-1][1])])["result"]["volume"] == KNOWN
    assert serve(eight[0][0], foreground=[middle(eight[0][1])])["result"]["volume"] == NEW


def test_eight_clients_on_eight_volumes_at_once(new_server, eight):
    # Room for less than all of them: volumes and embeddings come and go while others use them.
    serve = new_server(Quiet(), volume_cache_bytes=5 * VOLUME_BYTES, embedding_cache_bytes=2 << 20)
    alone = new_server(Quiet())
    expected = [alone(path, foreground=[middle(block)])["pred"].as_tensor() for path, block in eight]

    def client(number: int) -> list[bool]:
        (path, block), right = eight[number], []
        for _ in range(6):
            data = serve(path, foreground=[middle(block)])
            right.append(torch.equal(data["pred"].as_tensor(), expected[number]))
            right.append(data["result"]["objects"][0]["voxels"] == int(expected[number].sum()))
        return right

    with ThreadPoolExecutor(8) as pool:
        assert all(all(right) for right in pool.map(client, range(8)))


def test_clients_of_one_volume_do_not_share_their_clicks(new_server, tmp_path):
    blocks = [write(tmp_path / "ignored.nii", place) for place in ((4, 4, 4), (24, 20, 18))]
    image = np.where(blocks[0] | blocks[1], 1000, 0) + np.random.default_rng(0).normal(0, 5, SHAPE)
    path = tmp_path / "both.nii.gz"
    nib.save(nib.Nifti1Image(image.astype(np.float32), np.diag([1.5, 1.5, 1.5, 1])), path)
    serve = new_server(Quiet())

    def client(number: int) -> dict:
        block = blocks[number % 2]
        return serve(path, foreground=[middle(block)], label=f"client {number}")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client, range(16)))
    for number, data in enumerate(answers):
        assert dice(mask(data), blocks[number % 2]) > 0.9
        assert data["result"]["objects"][0]["name"] == f"client {number}"
    # One of them read the file, and each cube was encoded once.
    assert sum(a["result"]["volume"]["read"] for a in answers) == 1
    assert sum(a["result"]["embeddings"]["computed"] for a in answers) == len(serve.embeddings) - 1


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc")
def test_memory_is_flat_over_500_clicks(new_server, eight):
    serve = new_server(Quiet(), volume_cache_bytes=3 * VOLUME_BYTES, embedding_cache_bytes=4 << 20)
    rng, seen = np.random.default_rng(0), []
    for k in range(500):
        path, block = eight[k // 3 % 8]
        clicks = np.array(middle(block)) + rng.integers(-2, 3, (1 + k % 3, 3))
        serve(path, foreground=clicks.tolist())
        if k % 50 == 49:
            seen.append(resident_bytes())
    assert max(seen[5:]) - max(seen[:5]) < 8e6, [round(s / 1e6) for s in seen]


def test_a_long_session_costs_a_step_a_click_at_most(new_server, eight):
    path, block = eight[0]
    serve, clicks = new_server(Quiet(), rounds=1), [middle(block)]
    serve(path, foreground=clicks)
    for k in range(60):
        clicks.append((np.array(clicks[0]) + [k % 3, k // 3 % 3, k // 9 % 3]).tolist())
        result = serve(path, foreground=clicks)["result"]
        # In the finer cube alone, though both are looked up; a click that the mask follows already costs nothing.
        assert result["decoder_calls"] <= 1 and result["embeddings"] == {"computed": 0, "reused": 2}


def test_every_file_of_a_series_counts(tmp_path):
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(b"0123")
    first = file_version(tmp_path)
    assert file_version(tmp_path) == first
    (tmp_path / "b.dcm").write_bytes(b"4567")
    second = file_version(tmp_path)
    (tmp_path / "c.dcm").write_bytes(b"")
    assert len({first, second, file_version(tmp_path)}) == 3


def test_the_voxels_beside_a_detached_header_count(tmp_path):
    voxels = np.random.default_rng(0).normal(0, 50, SHAPE).astype(np.float32)
    load = LoadVolumed("image", cache_bytes=1 << 24)
    read = []
    for offset in (0, 7):
        write_itk(tmp_path / "other.mhd", voxels + offset, Grid(np.eye(4), SHAPE))
        # The header stays as it was.
        os.replace(tmp_path / "other.raw", tmp_path / "volume.raw")
        if not offset:
            header = (tmp_path / "other.mhd").read_text().replace("other.raw", "volume.raw")
            (tmp_path / "volume.mhd").write_text(header)
        read.append(load({"image": str(tmp_path / "volume.mhd")})["image"])
    assert torch.allclose(read[1].as_tensor(), read[0].as_tensor() + 7, atol=1e-4)
    assert load({"image": str(tmp_path / "volume.mhd")})["image"].meta["reused"]
