# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The folder that MONAI Label serves: its stock app, our additions to it, and the bundles."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = Path(__file__).resolve().parent
# MONAI Label tells from a model's folder name which tools a viewer offers: "deepgrow" stands for clicks, any other
# name for segmentation by labels.
FOLDERS = {"fastsam3d": "fastsam3d_deepgrow", "ssam_2d": "ssam_2d"}
NEEDED = ("configs/inference.json", "configs/metadata.json", "models/model.pt")
STOCK = "stock_app.py"


def make_app(
    app: Path, bundles: Sequence[str], labels: Mapping[str, Sequence[str]] | None = None, fresh_weights: bool = False
) -> tuple[list[str], list[str]]:
    """Make ``app``, or bring it up to date: what was trained in it stays.

    Args:
        app: the folder.
        bundles: names out of FOLDERS.
        labels: by bundle, what is labelled: a viewer makes a segment of each. The bundle's own where none are given.
        fresh_weights: put weights that were trained in the folder aside, and take the project's.

    Returns:
        Names of the models, and a line for each bundle that was left out or keeps other weights than the project's.

    Raises:
        ValueError: none of the bundles is complete.
    """
    copy_stock_app(app)
    models, remarks = [], []
    for name in bundles:
        bundle = ROOT / "bundles" / name
        missing = [n for n in NEEDED if not (bundle / n).is_file()]
        if missing:
            remarks.append(f"{name} is left out: bundles/{name} has no {', no '.join(missing)}")
            continue
        target = app / "model" / FOLDERS[name]
        if fresh_weights and trained_in(target):
            (target / "models").rename(target / time.strftime("models_%Y%m%d_%H%M%S"))
        if not copy_bundle(bundle, target):
            remarks.append(f"{name} keeps the weights trained in {target / 'models'}: --fresh-weights takes ours again")
        if labels and labels.get(name):
            name_labels(target, labels[name])
        models.append(FOLDERS[name])
    if not models:
        raise ValueError("no bundle can be served: " + "; ".join(remarks))
    return models, remarks


def copy_stock_app(app: Path) -> None:
    """The stock ``monaibundle`` app from the package, and beside its main.py (under another name) ours."""
    if not (app / STOCK).is_file():
        app.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle"]
        fresh = app.parent / f".{app.name}"
        shutil.rmtree(fresh, ignore_errors=True)
        done = subprocess.run([*command, "--output", str(fresh)], capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"MONAI Label could not copy its app: {(done.stdout + done.stderr).strip()[-500:]}")
        (fresh / "monaibundle" / "main.py").rename(fresh / "monaibundle" / STOCK)
        shutil.copytree(fresh / "monaibundle", app, dirs_exist_ok=True)
        shutil.rmtree(fresh)
    shutil.copytree(OURS / "app", app, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


def copy_bundle(bundle: Path, target: Path) -> bool:
    """A self-contained copy of a bundle, links resolved; False where weights trained in ``target`` were kept."""
    trained = trained_in(target)
    ignored = ["__pycache__", "eval", "runs", *(["model.pt"] if trained else [])]
    # Of an earlier version's copy: MONAI Label would serve it in the place of model.pt.
    (target / "models" / "base.pt").unlink(missing_ok=True)
    for part in ("configs", "scripts", "docs"):
        shutil.rmtree(target / part, ignore_errors=True)
    shutil.copytree(bundle, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*ignored))
    return not trained


def trained_in(target: Path) -> bool:
    """Whether a training has put its weights into this copy of a bundle: it keeps the earlier ones beside them."""
    return any((target / "models").glob("model_*.pt"))


def name_labels(target: Path, labels: Sequence[str]) -> None:
    """Give a served copy other labels. What its weights know stays, until a training publishes others."""
    metadata = target / "configs" / "metadata.json"
    content = json.loads(metadata.read_text())
    prediction = content["network_data_format"]["outputs"]["pred"]
    prediction["channel_def"] = {str(value): name for value, name in enumerate(["background", *labels])}
    metadata.write_text(json.dumps(content, indent=4))
