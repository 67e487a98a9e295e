# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the papers' trainings cost: operations counted, hours estimated.

::

    python -m tools.research.training_cost --tflops 20

For each experiment one training step on one image is run with the configuration's own network, and the floating-point
operations of all its products are counted, those of the backward pass too. From that follow hours for 1,000 images
on a device that sustains so many TFLOP/s: an estimate, as good as that number, which has to be measured. Reading and
augmenting images, clicks and the optimizer are not in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from monai.bundle import ConfigParser
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from bundles.ssam_2d.scripts.networks.ssam import LABEL_TENSORS
from common.svd_affine import adapt

BUNDLES = Path(__file__).parents[2] / "bundles"


class Experiment(NamedTuple):
    """A training: its bundle, its configuration and the overlays on top, in order."""

    name: str
    bundle: str
    files: Sequence[str]


def _ssam(*overlays: str) -> Experiment:
    files = ["train.json", "vit_b.json", "variants/paper.json"]
    files += [f"experiments/{overlay}.json" for overlay in overlays]
    return Experiment(f"S-SAM ViT-B, {' + '.join(overlays)}", "ssam_2d", files)


def _fastsam3d(name: str, *files: str) -> Experiment:
    return Experiment(name, "fastsam3d", [f"{file}.json" for file in files])


PAPER = "experiments/paper_training"
EXPERIMENTS = (
    _ssam("cholecseg8k"),
    _ssam("abdominal_us"),
    _ssam("chestx_det"),
    _ssam("lits"),
    _ssam("glas"),
    _ssam("glas", "published_glas"),
    _ssam("vessels"),
    _ssam("vessels", "lora_rank_4"),
    _fastsam3d("FastSAM3D, teacher", "train", "teacher", "train_teacher", "experiments/teacher", PAPER),
    _fastsam3d("FastSAM3D, distillation", "train", "teacher", "distill", "experiments/teacher", "experiments/student"),
    _fastsam3d("FastSAM3D, decoder", "train", "experiments/student", PAPER, "experiments/decoder"),
)


def count(experiment: Experiment, overrides: dict[str, object] | None = None) -> int:
    """Floating-point operations of one training step on one image."""
    root = BUNDLES / experiment.bundle
    with _scripts_of(root):
        config = ConfigParser(ConfigParser.load_config_files([str(root / "configs" / f) for f in experiment.files]))
        config["bundle_root"] = str(root)
        for key, value in (overrides or {}).items():
            config[key] = value
        torch.manual_seed(0)
        step = _ssam_step(config) if experiment.bundle == "ssam_2d" else _fastsam3d_step(config)
        with FlopCounterMode(display=False) as counter:
            step().backward()
    return counter.get_total_flops()


def _ssam_step(config: ConfigParser) -> Callable[[], torch.Tensor]:
    labels, size = config["labels"], config["image_size"]
    tuning = json.dumps(config["tuning"], sort_keys=True)
    if tuning not in _ADAPTED:
        config["label_names"] = labels
        _ADAPTED[tuning] = _adapted(config.get_parsed_content("network_def"), config["tuning"])
    network = _ADAPTED[tuning]
    # The network takes images of any size; factoring its weights anew for each would take most of the time.
    network.set_labels(labels, torch.zeros(len(labels), config.get_parsed_content("text_dim")))
    return lambda: network(torch.randn(1, 3, size, size)).mean()


# Networks by how they are tuned.
_ADAPTED: dict[str, nn.Module] = {}


def _adapted(network: nn.Module, tuning: dict[str, object]) -> nn.Module:
    options = {key: tuning[key] for key in ("trainable", "values", "rank")}
    adapt(network, tuning["method"], tuning["targets"], apart=LABEL_TENSORS, **options)
    return network.train()


def _fastsam3d_step(config: ConfigParser) -> Callable[[], torch.Tensor]:
    size = config["cube_size"]
    cube, ball = torch.randn(1, 1, size, size, size), torch.zeros(1, 1, 1, size, size, size, dtype=torch.uint8)
    ball[..., size // 4 : size // 2, size // 4 : size // 2, size // 4 : size // 2] = 1
    seed = torch.zeros(1, dtype=torch.long)
    config["device"] = "cpu"
    if "distillation" in config.config:
        # Neither the weights nor the number of images matter here.
        config["distillation#images"] = 1
        # All layers count, as they do from half of the training on.
        config["k_start"] = "$len(@pairs)"
        config["teacher"] = "$@teacher_def"
        module: nn.Module = config.get_parsed_content("distillation", instantiate=True)
        return lambda: module.train()(cube, ball, seed)["loss"]
    network = config.get_parsed_content("network")
    for part in config["frozen"]:
        getattr(network, part).requires_grad_(False)
    interactive = config.get_parsed_content("train#network")
    return lambda: interactive.train()(cube, ball, seed)["logits"].mean()


@contextmanager
def _scripts_of(root: Path) -> Iterator[None]:
    """The bundle's ``scripts``, as ``monai.bundle`` imports them: another's are forgotten before, these after."""
    _forget_scripts()
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        _forget_scripts()


def _forget_scripts() -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "scripts"]:
        del sys.modules[name]


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.research.training_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tflops", type=float, default=20, help="that the device sustains, assumed (default 20)")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="experiments with one of these words in their name")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    chosen = [e for e in EXPERIMENTS if not options.only or any(word in e.name for word in options.only)]
    if not chosen or not options.tflops > 0:
        print(
            f"{parser.prog}: expected a word of {[e.name for e in EXPERIMENTS]}, and TFLOP/s above 0", file=sys.stderr
        )
        return 1
    rows = []
    for experiment in tqdm(chosen, unit="experiment", disable=options.no_progress):
        flops = count(experiment)
        hours = 1000 * flops / (options.tflops * 1e12) / 3600
        rows.append({"name": experiment.name, "gflop_per_image": flops / 1e9, "hours_per_1000_images": hours})
    print("| experiment | GFLOP for a step on one image | hours for 1,000 images (estimate) |\n|---|---|---|")
    for row in rows:
        print(f"| {row['name']} | {row['gflop_per_image']:.0f} | {row['hours_per_1000_images']:.4f} |")
    print(f"at {options.tflops:g} TFLOP/s, an assumption; nothing but the network's own products is counted")
    if options.json:
        options.json.write_text(json.dumps({"tflops": options.tflops, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
