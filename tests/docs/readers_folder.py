# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A folder with the files that documents speak of, small ones, in which their commands can be run as they stand."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from data_set_trees import pairs, photograph, save
from documented import ROOT, Command
from volumes import GRIDS, PAIR, Phantom, grid_around, write_nifti
from workflows import scripts_of

# Of the 3D commands, which click on voxel (120, 98, 44).
CLICKED = grid_around(np.diag([-1.5, -1.5, 2.0]), (170, 120, 60))


def make_folder(folder: Path) -> None:
    """Fill an empty folder: ``scan.nii.gz``, ``list.json`` and ``data``, ``DATA``, pictures, weights without names."""
    for name in ("bundles", "tools"):
        (folder / name).symlink_to(ROOT / name)
    ball = Phantom((tuple((CLICKED.affine @ [120, 98, 44, 1])[:3]), 15))
    write_nifti(folder / "scan.nii.gz", ball.image(CLICKED), CLICKED)
    (folder / "data").mkdir()
    items = []
    for name, grid in GRIDS.items():
        files = {"image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz"}
        write_nifti(folder / "data" / files["image"], PAIR.image(grid), grid)
        write_nifti(folder / "data" / files["label"], PAIR.truth(grid).astype(np.uint8), grid)
        items.append(files)
    lists = {"labels": {"1": "organ"}, "training": items[:2], "validation": items[2:]}
    (folder / "list.json").write_text(json.dumps(lists))
    pairs(folder / "DATA")
    for i, name in enumerate(("frame.png", "new_images/a.png", "new_images/b.png")):
        save(folder / name, photograph(i, 60, 80))
    (folder / "OLD").mkdir()
    weights = torch.load(ROOT / "bundles" / "ssam_2d" / "models" / "model.pt", weights_only=True)
    names = json.loads(bytes(weights.pop("label_names").tolist()))
    torch.save(weights, folder / "OLD" / "model.pt")
    (folder / "OLD" / "labels.json").write_text(json.dumps(names))


def smaller(words: list[str]) -> list[str]:
    """Words that make a bundle's command take seconds: one epoch, few small cubes, no GPU."""
    configs = next((word for word, flag in zip(words[1:], words, strict=False) if flag == "--config_file"), "")
    more = ["--device", "cpu"] if "configs/" in configs else []
    if more and "--output_dir" not in words:
        # The bundle's own folder, which is the project's here.
        more += ["--output_dir", "own"]
    if "train.json" in configs:
        more += ["--max_epochs", "1", "--progress", "false"]
        if "fastsam3d" in configs:
            more += ["--draws", "2", "--val_draws", "1", "--cube_size", "32", "--sizes", "[32]"]
    elif "evaluate.json" in configs and "fastsam3d" in configs:
        more += ["--clicks", "[1]", "--cube_size", "64", "--small_cube_size", "64"]
    return more


def run(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m ...`` in this process, in the folder, as the document has it and smaller.

    Raises:
        AssertionError: it ends with another status than 0, or leaves nothing where it says that it writes.
    """
    module, *words = command.words[2:]
    words += smaller(words)
    bundle = "fastsam3d" if "bundles/fastsam3d" in words else "ssam_2d"
    monkeypatch.chdir(folder)
    with scripts_of(ROOT / "bundles" / bundle), mock.patch.object(sys, "argv", [module, *words]):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code, f"{command}\n    ends with {end.code}"
        except Exception as error:
            raise AssertionError(f"{command}\n    {type(error).__name__}: {error}") from error
    if "--output_dir" in words:
        written = folder / words[words.index("--output_dir") + 1]
        assert any(file.is_file() for file in written.rglob("*")), f"{command}\n    wrote nothing to {written}"


def copy_run(trained: Path, folder: Path, *names: str) -> None:
    """Put a training's folder where documents speak of one."""
    for name in names:
        shutil.copytree(trained, folder / "runs" / name)
