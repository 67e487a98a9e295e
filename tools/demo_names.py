# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The second part of the demo: a network fine-tuned on a few slices of a brain, then asked for tissues by name.

``python -m tools.demo_names`` runs this part alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tools.run_python import run_python

BUNDLE = Path("bundles/ssam_2d")
OUTPUT = Path("output/demo_names")
TISSUES = ("grey matter", "white matter")
# Axial slices of the MNI152 template at 1 mm that show both tissues. Those in between are kept out of the training.
TRAINING = range(40, 152, 6)
HELD_OUT = range(43, 146, 18)
EPOCHS = 24
SETTINGS = ("--batch_size", "2", "--validation_share", "0.0")


def write_slices(folder: Path) -> Path:
    """Slices of the template that nilearn carries, with its own tissue maps as masks; replaces an earlier folder.

    ``folder/training`` is what train.json takes as ``dataset_dir``, ``folder/held_out`` is of the same form.
    """
    from nilearn import datasets

    loads = datasets.load_mni152_template, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template
    template, grey, white = (load(resolution=1).get_fdata() for load in loads)
    picture = (255 * (template / np.percentile(template, 99.8)).clip(0, 1)).astype(np.uint8)
    tissue = np.where(grey > 0.5, 1, np.where(white > 0.5, 2, 0)).astype(np.uint8)
    shutil.rmtree(folder, ignore_errors=True)
    for part, numbers in (("training", TRAINING), ("held_out", HELD_OUT)):
        for kind, values in (("images", picture), ("masks", tissue)):
            (folder / part / kind).mkdir(parents=True)
            for number in numbers:
                # As a radiologist sees it: front up, the patient's right on the left.
                rows = np.ascontiguousarray(values[::-1, ::-1, number].T)
                Image.fromarray(rows).save(folder / part / kind / f"mni152_z{number:03d}.png")
        labels = {str(value): name for value, name in enumerate(TISSUES, start=1)}
        (folder / part / "labels.json").write_text(json.dumps(labels))
    return folder


def run(output: Path, call: Callable[[Sequence[str]], None]) -> list[str]:
    """Fine-tune, evaluate and segment, each by the command that a user would type.

    Args:
        output: folder of data and results; an earlier run in it is replaced.
        call: runs a command of Python's, given its arguments, and raises ValueError where it fails.

    Returns:
        what to tell.
    """
    data, trained = write_slices(output / "data"), output / "run"
    shutil.rmtree(trained, ignore_errors=True)
    names = json.dumps(list(TISSUES))
    start = time.perf_counter()
    training = ["--dataset_dir", str(data / "training"), "--output_dir", str(trained)]
    call(_bundle(["train.json"], *training, *SETTINGS, "--max_epochs", str(EPOCHS)))
    seconds = time.perf_counter() - start
    weights = ["--ckpt_path", str(trained / "model.pt")]
    held_out, scores = data / "held_out", output / "scores"
    scoring = ["--dataset_dir", str(held_out), "--section", "all", "--output_dir", str(scores)]
    call(_bundle(["inference.json", "evaluate.json"], *scoring, *weights))
    pictures = ["--image", str(held_out / "images"), "--labels", names, "--output_dir", str(output / "segmented")]
    call(_bundle(["inference.json"], *pictures, *weights))
    report = json.loads((scores / "metrics.json").read_text())
    dice = ", ".join(f"{name} {found['dice']['mean']:.3f}" for name, found in report["per_class"].items())
    size = (trained / "adapter.safetensors").stat().st_size / 1e6
    return [
        f"fine-tuned {len(TRAINING)} slices, {seconds:.0f} s, an adapter of {size:.1f} MB: {trained}",
        f"by name    Dice on {len(HELD_OUT)} slices kept out: {dice}",
        f"picture    {next(iter(sorted((output / 'segmented').glob('*_overlay.png'))))}",
    ]


def _bundle(configs: Sequence[str], *options: str) -> list[str]:
    command = ["-m", "monai.bundle", "run", "--bundle_root", str(BUNDLE)]
    return [*command, "--config_file", str([str(BUNDLE / "configs" / name) for name in configs]), *options]


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_names", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"folder of the results ({OUTPUT})")
    given = parser.parse_args(arguments)
    print("\n" + "\n".join(run(given.output, run_python)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
