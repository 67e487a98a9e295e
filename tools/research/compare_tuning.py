# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Ways to fine-tune one base on the same images with the same steps and seeds: scores, size, time and memory.

::

    python -m tools.research.compare_tuning --run runs/tuning --data busi=runs/sets/busi/data_list.json --seeds 0 1 2

Each method is a configuration of the bundle ``ssam_2d``: train.json, with overlays of ``configs/variants`` on top.
Each seed splits the images anew; all methods see the same split, order and augmentation, take the same number of steps
and are scored by evaluate.json on what was kept out. Stopped at any moment, the same command goes on. At the end
``comparison.md``, ``comparison.csv`` and ``comparison.png`` are in the run's folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.bundle import ConfigWorkflow
from tqdm import tqdm

from bundles.ssam_2d.scripts.data.items import label_list, labelled_items, split
from common.drawn_names import drawn_name
from common.files import whole_files
from common.json_files import read_json
from common.metrics import METRICS
from tools.benchmark.peak import HIGHEST, RESET, RESIDENT, give_back, megabytes
from tools.bundle_workflow import started
from tools.named_numbers import named_numbers

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "ssam_2d"
# The overlays of each method, which bring its learning rate along.
METHODS: dict[str, tuple[str, ...]] = {
    "svd_affine": (),
    "svd_affine_paper": ("variants/paper.json",),
    "lora": ("variants/lora.json",),
    "lora_paper": ("variants/paper.json", "variants/lora.json"),
    "salt": ("variants/salt.json",),
    "full": ("variants/full.json",),
    "norms_only": ("variants/norms_only.json",),
    "decoder_only": ("variants/decoder_only.json",),
}
SETTINGS = ("base", "steps", "batch_size", "image_size", "held_out", "images", "flip", "focal_weight")
COLUMNS = {
    "dice": "Dice",
    "hd95": "HD95 (px)",
    "trained": "trained",
    "adapter_mb": "adapter (MB)",
    "step_s": "step (s)",
    "peak_mb": "peak (MB)",
}


def read_items(path: Path) -> list[dict[str, Any]]:
    """All labelled images of a folder or of a data list, whatever section they are in."""
    if path.is_dir():
        return labelled_items("all", dataset_dir=path)
    sections = [key for key, value in read_json(path, "a data list").items() if isinstance(value, list) and value]
    return [item for section in sections for item in labelled_items(section, path) if "label" in item]


def run_config(configs: Sequence[str], overrides: Mapping[str, Any]) -> Iterator[ConfigWorkflow]:
    """Yields the bundle's workflow before it runs, and again when it has run."""
    workflow = started(BUNDLE, configs, **overrides)
    yield workflow
    workflow.run()
    yield workflow
    workflow.finalize()


def measure(folder: Path, items: list[dict[str, Any]], method: str, seed: int, settings: Mapping[str, Any]) -> None:
    """Train one method and score it; the numbers go to ``folder/numbers.json``."""
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    sys.path.insert(0, str(BUNDLE))
    training, held = split(items, settings["held_out"], seed)
    if settings["images"] is not None:
        drawn = np.random.default_rng((seed, 1)).permutation(len(training))[: settings["images"]]
        training = [training[i] for i in sorted(drawn)]
    epochs = max(1, round(settings["steps"] * settings["batch_size"] / len(training)))
    shared = {"image_size": settings["image_size"], "device": "cpu", "progress": False}
    overrides = {
        **shared,
        "train#dataset#data": training,
        "validate#dataset#data": [],
        "label_names": label_list(items),
        "base_path": str(settings["base"]),
        "output_dir": str(folder),
        "batch_size": settings["batch_size"],
        "max_epochs": epochs,
        "seed": seed,
        "previews": 0,
        "flip": settings["flip"],
        "focal_weight": settings["focal_weight"],
        # A run that was killed is started anew: it is short.
        "resume": (folder / "state.pt").exists(),
    }
    if method in settings["rates"]:
        overrides["learning_rate"] = settings["rates"][method]
    workflow = run_config(["train.json", *METHODS[method]], overrides)
    parser = next(workflow).parser
    trainer, clock = parser.get_parsed_content("train#trainer"), StepClock()
    clock.attach(trainer)
    give_back()
    before = megabytes(RESIDENT) if RESET.exists() else 0.0
    if RESET.exists():
        RESET.write_text("5")
    next(workflow)
    peak = megabytes(HIGHEST) - before if RESET.exists() else None
    trained = parser.get_parsed_content("adaptation").count()
    evaluation = {
        **shared,
        "items": held,
        "scored_labels": label_list(items),
        "label_names": label_list(items),
        "ckpt_path": str(folder / "model.pt"),
        "output_dir": str(folder / "scores"),
        "previews": 1,
    }
    list(run_config(["inference.json", "evaluate.json"], evaluation))
    report = json.loads((folder / "scores" / "metrics.json").read_text())
    numbers = {
        **{metric: report["mean"][metric] for metric in METRICS},
        "trained": trained,
        "adapter_mb": (folder / "adapter.safetensors").stat().st_size / 1e6,
        "step_s": float(np.median(clock.seconds)) if clock.seconds else None,
        "steps": len(clock.seconds),
        "peak_mb": peak,
        "held_out": len(held),
    }
    with whole_files(folder) as side:
        (side / "numbers.json").write_text(json.dumps(numbers, indent=1))


class StepClock:
    """Seconds of every step of a trainer, without reading images."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def attach(self, engine: Engine) -> None:
        """Register for both ends of an iteration."""
        engine.add_event_handler(Events.ITERATION_STARTED, lambda: setattr(self, "_start", time.perf_counter()))
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop)

    def _stop(self) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def summarise(results: Mapping[tuple[str, str, int], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each set and method: means over the seeds, and of the scores their standard deviation too."""
    rows = []
    for name, method in dict.fromkeys((name, method) for name, method, _ in results):
        found = [numbers for (n, m, _), numbers in results.items() if (n, m) == (name, method)]
        row: dict[str, Any] = {"data": name, "method": method, "seeds": len(found), "steps": found[0]["steps"]}
        for key in dict.fromkeys((*METRICS, *COLUMNS)):
            values = [numbers[key] for numbers in found if numbers[key] is not None]
            row[key] = float(np.mean(values)) if values else None
            if key in METRICS:
                row[f"{key}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        rows.append(row)
    return rows


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table."""
    lines = [f"| data | method | {' | '.join(COLUMNS.values())} |", "|" + "---|" * (len(COLUMNS) + 2)]
    for row in rows:
        cells = [row["data"], row["method"]]
        for key in COLUMNS:
            spread = f" ± {row[f'{key}_sd']:.{3 if key == 'dice' else 1}f}" if row.get(f"{key}_sd") is not None else ""
            digits = {"dice": 3, "hd95": 1, "trained": 0, "adapter_mb": 2, "step_s": 3, "peak_mb": 0}[key]
            cells.append("" if row[key] is None else f"{row[key]:,.{digits}f}{spread}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Dice over the number of trained values, a panel for each set."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    figure = Figure(figsize=(3.6 * len(names) + 1, 3.6), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names), squeeze=False)[0]), names, strict=True):
        for row in (row for row in rows if row["data"] == name):
            axes.errorbar(
                row["trained"], row["dice"], row["dice_sd"], marker="o", capsize=3, label=drawn_name(row["method"])
            )
        axes.set(xscale="log", xlabel="trained values", ylabel="Dice", title=drawn_name(name))
    axes.legend(fontsize=8)
    canvas.print_png(str(path))


def write(folder: Path, results: Mapping[tuple[str, str, int], Mapping[str, Any]]) -> str:
    """The three files; returns the table."""
    rows = summarise(results)
    table = as_markdown(rows)
    with whole_files(folder) as side:
        (side / "comparison.md").write_text(table)
        with open(side / "comparison.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        draw(side / "comparison.png", rows)
    return table


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    given = _parser().parse_args(arguments)
    sets = {}
    for text in given.data:
        name, found, path = text.partition("=")
        if not found or not Path(path).exists():
            raise SystemExit(f"--data {text}: expected NAME=PATH of a data list or of a folder that is there")
        sets[name] = read_items(Path(path))
        left = len(split(sets[name], given.held_out, 0)[0])
        if given.images is not None and not 1 <= given.images <= left:
            raise SystemExit(f"--images {given.images}: {name} has {left} beside those held out; expected 1 to {left}")
    if not given.base.is_file():
        raise SystemExit(f"--base {given.base}: no such file; expected weights to tune")
    try:
        rates = named_numbers("--rate", given.rate, "METHOD=RATE", METHODS)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    settings = {**{k: getattr(given, k) for k in SETTINGS}, "rates": rates}
    about = {**settings, "base": str(given.base.resolve())}
    given.run.mkdir(parents=True, exist_ok=True)
    record = given.run / "settings.json"
    if record.exists() and json.loads(record.read_text()) != about:
        raise SystemExit(f"{record}: another comparison is in this folder; give its settings, or another --run")
    record.write_text(json.dumps(about, indent=1) + "\n")
    # Seed by seed, so that one that was stopped has compared all methods.
    jobs = [(name, method, seed) for seed in given.seeds for name in sets for method in given.methods]
    results: dict[tuple[str, str, int], dict[str, Any]] = {}
    for name, method, seed in tqdm(jobs, desc="comparing", unit="run", disable=given.no_progress):
        folder = given.run / name / f"{method}_{seed}"
        if not (folder / "numbers.json").is_file():
            job = (folder, sets[name], method, seed, settings)
            # A process for each, so that no run's memory counts for another's.
            process = multiprocessing.get_context("fork").Process(target=measure, args=job)
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{name}, {method}, seed {seed} failed: its error stands above")
        results[name, method, seed] = json.loads((folder / "numbers.json").read_text())
        write(given.run, results)
    print(write(given.run, results))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.research.compare_tuning", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the results; an earlier one is gone on with")
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="NAME=PATH", help="data lists, or folders with images and masks"
    )
    parser.add_argument("--base", type=Path, default=BUNDLE / "models/bases/small.pt", help="what all start from")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="all by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="0 1 2 by default")
    parser.add_argument("--steps", type=int, default=60, help="of training, about: whole epochs are made (60)")
    parser.add_argument("--batch-size", type=int, default=8, help="images a step (8)")
    parser.add_argument("--image-size", type=int, default=128, help="pixels a side (128)")
    parser.add_argument(
        "--held-out", type=float, default=0.3, help="share of the images that scores are taken on (0.3)"
    )
    parser.add_argument("--images", type=int, help="how many of the others to train on, drawn by the seed (all)")
    parser.add_argument("--focal-weight", type=float, default=1.0, help="of the focal loss beside Dice (1)")
    parser.add_argument(
        "--rate", nargs="+", default=[], metavar="METHOD=RATE", help="learning rates other than the configurations'"
    )
    parser.add_argument("--flip", type=float, default=0.0, help="chance to mirror an image in training (0)")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    sys.exit(main())
