# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""28 small volumes and 500 pictures by one command, killed by signal 9 and resumed."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from many_balls import journal
from PIL import Image

ROOT = Path(__file__).parents[3]
DATA = ROOT.parent / "shared" / "data"
VOLUMES, PICTURES = 28, 500
KILLED_AFTER = (120, 300)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data"),
]


def pictures(folder: Path) -> list[Path]:
    """All pictures of the sets, and slices of CT volumes to make up the number."""
    kinds = ("*.png", "*.jpg", "*.tif", "*.bmp")
    found = sorted(f for kind in kinds for f in DATA.glob(f"*/images/{kind}"))[:PICTURES]
    for i, volume in enumerate(sorted(DATA.glob("msd_hippocampus/images/*.nii.gz"))[: PICTURES - len(found)]):
        values = np.asarray(nib.load(volume).dataobj, dtype=np.float32)
        middle = values[:, :, values.shape[2] // 2]
        grey = (255 * (middle - middle.min()) / np.ptp(middle)).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"slice{i}.png")
        found.append(folder / f"slice{i}.png")
    return found


@pytest.fixture
def table(tmp_path) -> Path:
    """Of both bundles: clicks from another mask for the volumes, label names for the pictures."""
    rows = []
    hippocampi = sorted((DATA / "msd_hippocampus" / "images").glob("*.nii.gz"))[-VOLUMES:]
    for image in hippocampi:
        mask = image.parents[1] / "labels" / image.name
        rows.append({"name": f"volumes/{image.name[:-7]}", "image": image, "bundle": "fastsam3d", "mask": mask})
    for image in pictures(tmp_path):
        name = f"pictures/{image.parents[1].name}/{image.stem}{image.suffix}"
        rows.append({"name": name, "image": image, "bundle": "ssam_2d", "labels": '["liver", "spleen"]'})
    with open(tmp_path / "jobs.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["name", "image", "bundle", "mask", "labels"])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "jobs.csv"


def test_killed_twice_and_resumed(table, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "tools.batch", str(table), "--output", str(output), "--workers", "2"]
    kept: set[tuple] = set()
    for count in KILLED_AFTER:
        # A group of their own, all of which is killed at once.
        run = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE)
        while len(journal(output)) < count and run.poll() is None:
            time.sleep(0.1)
        assert run.poll() is None, run.stderr.read()
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        now = {(row["name"], row["finished"]) for row in journal(output)}
        assert kept <= now and len(now) >= count
        kept = now
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout, f"{time.monotonic() - start:.0f} s")
    assert done.returncode == 0, done.stderr[-2000:]
    rows = journal(output)
    assert kept <= {(row["name"], row["finished"]) for row in rows}
    names = [row["name"] for row in rows]
    assert len(names) == len(set(names)) == VOLUMES + PICTURES
    results = list(csv.DictReader(open(output / "results.csv", encoding="utf-8")))
    assert len(results) == VOLUMES + PICTURES and {row["status"] for row in results} == {"done"}
    assert all((output / row["mask"]).is_file() for row in results)
    assert "jpeg;base64" in (output / "report.html").read_text()
    assert (
        f"{VOLUMES + PICTURES} jobs, 0 of them now"
        in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    )
