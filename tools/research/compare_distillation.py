# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Does progressive layer-wise distillation beat its simpler neighbours on small data? Measured by the bundle's configs.

::

    python -m tools.research.compare_distillation --run runs/distillation

A small teacher is trained on hippocampi once. For each seed and variant a student is distilled from it with equal
steps, its decoder tuned with equal steps on the frozen encoder, and evaluated on kept-out volumes. Stopped at any
moment, the same command goes on; at the end it prints a table and draws the curves.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import run as run_bundle
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.drawn_names import drawn_name
from common.files import whole_files

BUNDLE = Path(__file__).parents[2] / "bundles" / "fastsam3d"
VARIANTS = {
    "progressive": [],
    "fitnets": ["variants/fitnets.json"],
    "final_only": ["variants/final_only.json"],
    "logits": ["variants/logits.json"],
    # The encoder stays as it was initialised: what tuning the teacher's decoder reaches by itself.
    "not_distilled": [],
}
# Trainings with clicks are the paper's.
PAPER = "experiments/paper_training.json"
CLICKS = (1, 3, 5, 10)
SIZE, PATCH, WIDTH, OUT = 32, 4, 48, 48


def networks() -> tuple[dict[str, Any], dict[str, Any]]:
    """Student and teacher in the paper's form, at the smallest size: 512 tokens of 48 channels."""
    shared = {
        "_target_": "scripts.networks.fastsam3d.FastSAM3D",
        "prompt_encoder": {
            "_target_": "scripts.networks.prompt_encoder.PromptEncoder3D",
            "embed_dim": OUT,
            "boxes": True,
        },
        "mask_decoder": {
            "_target_": "scripts.networks.mask_decoder.MaskDecoder3D",
            "embed_dim": OUT,
            "heads": 4,
            "mlp_dim": 192,
            "iou_head_hidden_dim": OUT,
        },
        "draw_prompts": True,
    }
    student = {
        "_target_": "scripts.networks.student.StudentEncoder3D",
        "image_size": SIZE,
        "patch_size": PATCH,
        "embed_dim": WIDTH,
        "out_channels": OUT,
    }
    teacher = {
        "_target_": "scripts.networks.image_encoder.ImageEncoder3D",
        "img_size": SIZE,
        "patch_size": PATCH,
        "embed_dim": WIDTH,
        "num_heads": 2,
        "out_chans": OUT,
        "window_size": 0,
        "use_rel_pos": False,
    }
    return {**shared, "image_encoder": student}, {**shared, "image_encoder": teacher}


def write_list(data: Path, path: Path, training: int, validation: int) -> None:
    """A data list of hippocampi: the first ones by name to train on, the last ones kept out."""
    images = sorted((data / "msd_hippocampus" / "images").glob("*.nii.gz"))
    if len(images) < training + validation:
        raise ValueError(f"{data}: {len(images)} hippocampi; expected {training + validation} or more")
    item = lambda image: {"image": str(image), "label": str(image.parents[1] / "labels" / image.name)}  # noqa: E731
    content = {
        "labels": {"1": "anterior hippocampus", "2": "posterior hippocampus"},
        "training": [item(i) for i in images[:training]],
        "validation": [item(i) for i in images[-validation:]],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


class Comparison:
    """The runs, each in a folder of its own, each done once.

    Args:
        run: folder of all.
        data: folder of the sets.
        seeds: of students.
        epochs: of the teacher, of distilling and of tuning.
        draws: cubes an epoch.
        volumes: to train on and to evaluate on.
    """

    def __init__(
        self, run: Path, data: Path, seeds: int, epochs: tuple[int, int, int], draws: int, volumes: tuple[int, int]
    ) -> None:
        self.run = run
        self.seeds = range(seeds)
        self.epochs = epochs
        self.student, self.teacher = networks()
        write_list(data, run / "list.json", *volumes)
        self.shared = {
            "bundle_root": str(BUNDLE),
            "data_list_file_path": str(run / "list.json"),
            "cube_size": SIZE,
            "spacing": 1.5,
            "progress": False,
        }
        self.training = {"augment": False, "draws": draws, "batch_size": 4, "resume": True, "val_draws": 8}
        self.clicking = {"clicking#steps": 4, "clicking#promptless": 1}

    def __call__(self) -> None:
        """Train and evaluate whatever is not there yet."""
        teacher_epochs, distill_epochs, tune_epochs = self.epochs
        teacher = self.run / "teacher"
        self._train(
            teacher,
            ["train.json", "teacher.json", "train_teacher.json", PAPER],
            network_def=self.teacher,
            max_epochs=teacher_epochs,
            val_interval=10,
            learning_rate=1e-3,
            encoder_rate=1e-3,
            **self.clicking,
        )
        self._evaluate(teacher, self.teacher)
        for seed in self.seeds:
            for variant, overlays in VARIANTS.items():
                folder = self.run / f"{variant}_{seed}"
                self._train(
                    folder / "distilled",
                    ["train.json", "teacher.json", "distill.json", *overlays],
                    network_def=self.student,
                    teacher_def=self.teacher,
                    teacher_path=str(teacher / "last.pt"),
                    max_epochs=1 if variant == "not_distilled" else distill_epochs,
                    k_every=max(1, distill_epochs // 12),
                    learning_rate=0.0 if variant == "not_distilled" else 2e-3,
                    val_interval=2,
                    seed=seed,
                )
                self._train(
                    folder / "tuned",
                    ["train.json", PAPER],
                    network_def=self.student,
                    ckpt_path=str(folder / "distilled" / "last.pt"),
                    max_epochs=tune_epochs,
                    val_interval=tune_epochs,
                    learning_rate=5e-4,
                    seed=seed,
                    **self.clicking,
                )
                self._evaluate(folder / "tuned", self.student)

    def _train(self, folder: Path, configs: list[str], **settings: Any) -> None:
        """Train and keep the last weights: equal steps for all, whatever was best in between."""
        if (folder / "last.pt").exists():
            return
        print(f"{time.strftime('%H:%M:%S')} {folder.relative_to(self.run)}", flush=True)
        self._run(configs, output_dir=str(folder), **self.training, **settings)
        state = torch.load(folder / "state.pt", weights_only=True)
        with whole_files(folder) as side:
            torch.save(state["parts"]["network"], side / "last.pt")

    def _evaluate(self, folder: Path, network: dict[str, Any]) -> None:
        if not (folder / "evaluation" / "metrics.json").exists():
            self._run(
                ["inference.json", "evaluate.json"],
                output_dir=str(folder / "evaluation"),
                ckpt_path=str(folder / "last.pt"),
                network_def=network,
                rounds=1,
                clicks=list(CLICKS),
                previews=0,
            )

    def _run(self, configs: list[str], **settings: Any) -> None:
        files = [str(BUNDLE / "configs" / c) for c in configs]
        run_bundle(config_file=files, logging_file=False, **self.shared, **settings)


def read_scores(run: Path) -> dict[str, list[dict[str, float]]]:
    """variant -> the mean scores of each seed that is there, the teacher first."""
    found = {"teacher": sorted(run.glob("teacher/evaluation/metrics.json"))}
    found |= {v: sorted(run.glob(f"{v}_[0-9]*/tuned/evaluation/metrics.json")) for v in VARIANTS}
    return {v: [json.loads(f.read_text())["mean"] for f in files] for v, files in found.items() if files}


def curves(run: Path) -> dict[str, list[np.ndarray]]:
    """variant -> for each seed (n, 2): epoch, likeness of the embeddings of student and teacher on kept-out cubes."""
    found: dict[str, list[np.ndarray]] = {}
    for folder in sorted(run.glob("*/distilled")):
        events = EventAccumulator(str(folder))
        events.Reload()
        if "val_likeness" not in events.Tags()["scalars"]:
            continue
        points = {e.step: e.value for e in events.Scalars("val_likeness")}
        found.setdefault(folder.parent.name.rsplit("_", 1)[0], []).append(np.array(sorted(points.items())))
    return found


def draw(run: Path, scores: dict[str, list[dict[str, float]]], path: Path) -> None:
    """The likeness while distilling, and Dice over clicks after tuning, mean and spread over seeds, as one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = {v: f"C{i}" for i, v in enumerate(["teacher", *VARIANTS])}
    for variant, rows in curves(run).items():
        shortest = min(len(r) for r in rows)
        values = np.stack([r[:shortest, 1] for r in rows])
        left.plot(rows[0][:shortest, 0], values.mean(0), label=drawn_name(variant), color=colours[variant])
        left.fill_between(rows[0][:shortest, 0], values.min(0), values.max(0), alpha=0.2, color=colours[variant])
    left.set(xlabel="epoch of distillation", ylabel="cosine of student's and teacher's embedding")
    for variant, rows in scores.items():
        values = np.array([[row[f"dice@{k}"] for k in CLICKS] for row in rows])
        mean, low, high = values.mean(0), values.min(0), values.max(0)
        right.errorbar(
            CLICKS, mean, [mean - low, high - mean], label=drawn_name(variant), capsize=3, color=colours[variant]
        )
    right.set(xlabel="clicks", ylabel="Dice on the original grid")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def table(scores: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean Dice over seeds, and the lowest and highest seed."""
    lines = ["| variant | seeds | " + " | ".join(f"Dice@{k}" for k in CLICKS) + " |", "|---" * (2 + len(CLICKS)) + "|"]
    for variant, rows in scores.items():
        cells = []
        for k in CLICKS:
            values = [row[f"dice@{k}"] for row in rows]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        lines.append(f"| {variant} | {len(rows)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare ways of distilling: same teacher, same steps, several seeds.")
    parser.add_argument("--run", type=Path, default=Path("runs/distillation"), help="folder of all runs")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data", help="real sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, nargs=3, default=(48, 12, 6), help="of teacher, distilling, tuning")
    parser.add_argument("--draws", type=int, default=32, help="cubes an epoch")
    parser.add_argument("--volumes", type=int, nargs=2, default=(60, 6), help="to train and to evaluate on")
    parser.add_argument("--table", action="store_true", help="only table and picture of what is there so far")
    parser.add_argument("--picture", type=Path, help="where to draw the curves; default RUN/distillation.png")
    arguments = parser.parse_args()
    logging.getLogger("ignite").setLevel(logging.WARNING)
    settings = arguments.seeds, tuple(arguments.epochs), arguments.draws, tuple(arguments.volumes)
    if not arguments.table:
        Comparison(arguments.run.absolute(), arguments.data.absolute(), *settings)()
    scores = read_scores(arguments.run)
    draw(arguments.run, scores, arguments.picture or arguments.run / "distillation.png")
    print(table(scores))


if __name__ == "__main__":
    main()
