# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Files whole or not at all, and paths that cannot be."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
import torch

from common.files import check_path, check_writable, existing, remove_unfinished, whole_file, whole_files

VOLUME = np.zeros((100, 100, 300), np.uint8)
# How results are written: by Python, by PyTorch's zip writer in C++, by ITK's streams in C++.
WRITERS = {
    "a.bin": lambda path: path.write_bytes(bytes(3_000_000)),
    "model.pt": lambda path: torch.save(torch.zeros(750_000), path),
    "scan_seg.nii": lambda path: nib.save(nib.Nifti1Image(VOLUME, np.eye(4)), path),
    "scan_seg.mha": lambda path: itk.imwrite(itk.image_from_array(VOLUME), str(path)),
}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    yield place
    # Lazily: what a library left open goes with the test's objects.
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_the_earlier_file_stays(small_disk, name):
    (small_disk / name).write_bytes(b"earlier")
    with pytest.raises(ValueError) as refused, whole_file(small_disk / name) as side:
        WRITERS[name](side)
    said = str(refused.value)
    assert said.startswith(f"{small_disk / name}: the disk is full") and "make room" in said
    assert [(f.name, f.read_bytes()) for f in small_disk.iterdir()] == [(name, b"earlier")]


@pytest.mark.parametrize("name", WRITERS)
def test_a_limit_of_the_size_of_files_is_named(tmp_path, name):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        with pytest.raises(ValueError) as refused, whole_file(tmp_path / name) as side:
            WRITERS[name](side)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = str(refused.value)
    assert said.startswith(f"{tmp_path / name}: no room") and "ulimit" in said
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_found_before_the_work(small_disk):
    check_writable(small_disk / "new")
    with open(small_disk / "filler", "wb") as filler, pytest.raises(OSError):
        while True:
            filler.write(bytes(1 << 16))
            filler.flush()
    with pytest.raises(ValueError, match="new: the disk is full.*make room"):
        check_writable(small_disk / "new")


def test_other_errors_stay_what_they_are(tmp_path):
    for error in (RuntimeError("something else"), ValueError("ours"), FileNotFoundError("no source")):
        with pytest.raises(type(error), match=str(error)), whole_file(tmp_path / "a" / "b.txt") as side:
            side.write_text("half")
            raise error
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]


def test_files_are_whole(tmp_path):
    (tmp_path / "a.txt").write_text("earlier")
    with whole_files(tmp_path) as side:
        (side / "a.txt").write_text("new")
        (side / "b.txt").write_text("other")
        assert (tmp_path / "a.txt").read_text() == "earlier" and not (tmp_path / "b.txt").exists()
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {"a.txt": "new", "b.txt": "other"}
    # As others may read it, not as a temporary file.
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".writing_abc").mkdir()
    (tmp_path / ".writing_abc" / "model.pt").write_bytes(b"half")
    (tmp_path / "state.pt").write_bytes(b"whole")
    remove_unfinished(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["state.pt"]


def test_folders_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="output_dir .*file/out: .*file is a file; expected a folder"):
        check_writable(tmp_path / "file" / "out")
    with pytest.raises(ValueError, match="cannot be written to"), whole_files(tmp_path / "file" / "out"):
        pass
    for path, reason in (
        (tmp_path / ("x" * 256), "has 256 bytes, a file system takes 255"),
        # Characters are not bytes.
        (tmp_path / ("é" * 128), "has 256 bytes"),
        (Path("/".join(["x" * 100] * 50)), "expected a path of less than 4096"),
        (tmp_path / "a\0b", "NUL character"),
    ):
        with pytest.raises(ValueError, match=reason):
            check_writable(path)
    check_writable(tmp_path / ("x" * 255))
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def locked():
    """A folder that may be read and not written to, and a user who is held to that."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        superuser = os.geteuid() == 0
        if superuser:
            os.seteuid(65534)
        yield Path(folder)
        if superuser:
            os.seteuid(0)
        Path(folder).chmod(0o755)


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
def test_a_read_only_folder(locked):
    with pytest.raises(ValueError, match=r"out: .* is not writable \(Permission denied\); expected a folder"):
        check_writable(locked / "out")
    with pytest.raises(ValueError, match=r"cannot be written to \(Permission denied\)"), whole_files(locked):
        pass


def test_the_longest_name_in_a_folder(tmp_path):
    check_path(tmp_path, longest="x" * 255)
    with pytest.raises(ValueError, match="has 256 bytes, a file system takes 255; expected a shorter one"):
        check_path(tmp_path, "output_dir", "x" * 252 + ".png")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "broken.png").symlink_to("gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    for path, reason in (
        (tmp_path / "b.png", "no such file; expected an image"),
        (tmp_path / "a.png" / "c.png", "no such file; expected an image"),
        (tmp_path / "broken.png", "a link to gone.png, which is not there"),
        (tmp_path, "a folder; expected an image"),
        (tmp_path / "pipe.png", "a device or pipe"),
        ("/dev/zero", "a device or pipe"),
        ("x" * 300, "has 300 bytes, a file system takes 255"),
        ("a\0b.png", "NUL character"),
        ("~nobody_of_this_name/a.png", "cannot be read|no such file"),
    ):
        with pytest.raises(ValueError, match=reason):
            existing(path, "an image")
    assert existing(str(tmp_path / "a.png"), "an image") == tmp_path / "a.png"
    assert existing(tmp_path, "an image", folders=True) == tmp_path


def test_weights_on_a_full_disk_leave_the_earlier_ones(small_disk):
    from common.training.best_weights import BestWeights

    class State:
        rank = 0

    class Engine:
        state = State()

    network = torch.nn.Linear(10, 10)
    BestWeights(small_disk / "best.pt", network)._write(Engine(), "first")
    earlier = (small_disk / "best.pt").read_bytes()
    large = BestWeights(small_disk / "best.pt", torch.nn.Linear(1000, 1000))
    with pytest.raises(ValueError, match=r"best\.pt: the disk is full"):
        large._write(Engine(), "too large")
    assert [f.name for f in small_disk.iterdir()] == ["best.pt"]
    assert (small_disk / "best.pt").read_bytes() == earlier
