# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The project as a package: what a wheel holds, and that it works where no clone is."""

import configparser
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from two_balls import GRID, LEFT, PAIR
from volumes import CENTRE, Phantom, dice, write_nifti

from sam_bundles.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
FOLDERS = dict(line.split(" = ") for line in SETUP["options"]["package_dir"].split("\n") if " = " in line)
# Where the heavy packages lie: this environment's.
PACKAGES = sysconfig.get_paths()["purelib"]


def test_every_folder_of_python_files_is_a_package():
    named = set(SETUP["options"]["packages"].split())
    found = set(FOLDERS) - {"sam_bundles.fastsam3d"}
    for package, folder in {**FOLDERS, "sam_bundles.fastsam3d.scripts": "bundles/fastsam3d/scripts"}.items():
        for file in (ROOT / folder).rglob("*.py"):
            part = file.parent.relative_to(ROOT / folder).parts
            if package in ("sam_bundles.fastsam3d", "sam_bundles.fastsam3d.scripts") and "common" in part:
                continue
            found.add(".".join((package, *part)))
    assert named == found | {"sam_bundles.fastsam3d"}


def test_a_command_that_is_none(capsys):
    assert main(["segmnt"]) == 2 and "no such command" in capsys.readouterr().err
    assert main([]) == 2 and main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_the_clone_has_the_commands(tmp_path, capsys):
    image = write_nifti(tmp_path / "x.nii.gz", PAIR.image(GRID), GRID)
    click = [str(round(x)) for x in LEFT]
    assert main(["segment", str(image), "--click", *click, "--output", str(tmp_path), "--name", "ball"]) == 0
    assert "ball: " in capsys.readouterr().out and json.loads((tmp_path / "x_seg.json").read_text())["objects"]
    assert main(["segment", str(image), "--click", "99", "0", "0"]) == 1
    assert "Error: " in capsys.readouterr().err
    assert main(["segment", str(image)]) == 1
    assert "expected a prompt" in capsys.readouterr().err


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An environment with the wheel, built from a copy of the clone without links, as on Windows."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("needs a git clone, to know its files")
    for name in filter(None, listed.stdout.split("\0")):
        if not (ROOT / name).is_file():
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder / "wheel"), str(source)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    shutil.rmtree(source)
    venv.create(folder / "env", with_pip=False)
    python = next((folder / "env" / ("Scripts" if os.name == "nt" else "bin")).glob("python*"))
    (wheel,) = (folder / "wheel").glob("*.whl")
    install = ["--python", str(python), "install", "--no-deps", "--no-index", "-q", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    # Paths of a .pth file come after the environment's own packages.
    (Path(site) / "heavy.pth").write_text(PACKAGES + "\n")
    return python.parent


def run(command: list, cwd: Path) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_wheel_segments_where_no_clone_is(installed, tmp_path):
    ball = Phantom((CENTRE, (24, 20, 22)), ramp=6)
    write_nifti(tmp_path / "x.nii.gz", ball.image(GRID), GRID)
    click = [round(x) for x in ball.click(GRID)]
    command = [installed / "sam-bundles", "segment", "x.nii.gz", "--click", *click, "--background", 2, 2, 2]
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    mask = np.asarray(nib.load(tmp_path / "x_seg.nii.gz").dataobj) > 0
    assert dice(mask, ball.truth(GRID)) > 0.5
    # The clone, and both bundles' way to be run, answer the same.
    code = "import sam_bundles, sys; from sam_bundles import Session; print(Session.__module__, sam_bundles.__file__)"
    said = run([installed / "python", "-c", code], tmp_path).stdout
    assert said.startswith("sam_bundles.fastsam3d.scripts.session") and str(installed.parent) in said
    root = Path(said.split()[-1]).parent / "fastsam3d"
    bundle = [installed / "python", "-m", "monai.bundle", "run", "--bundle_root", root]
    bundle += ["--config_file", root / "configs" / "inference.json", "--image", "x.nii.gz", "--output_dir", "run"]
    bundle += ["--foreground", json.dumps([click]), "--background", json.dumps([[2, 2, 2]])]
    done = run(bundle, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "x_seg.nii.gz").read_bytes() == (tmp_path / "x_seg.nii.gz").read_bytes()
    from_here = tmp_path / "here"
    assert main(["segment", str(tmp_path / "x.nii.gz"), *map(str, command[3:]), "--output", str(from_here)]) == 0
    assert (from_here / "x_seg.nii.gz").read_bytes() == (tmp_path / "x_seg.nii.gz").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_wheel_helps(installed, tmp_path, command):
    done = run([installed / "sam-bundles", command, "--help"], tmp_path)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
