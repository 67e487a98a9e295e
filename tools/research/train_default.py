# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Train the weights that the bundle ``fastsam3d`` ships, by simulated clicks.

::

    python -m tools.research.train_default --data ../shared/data --run runs/default --mixed --batch 8 --objects 3 \\
        --minutes 8
    python -m tools.benchmark classical ../shared/data --methods fastsam3d --ckpt-path runs/default/model.pt \\
        --output runs/scores

The same command on a GPU and, with ``--batch 1`` and hours instead of minutes, on a CPU; it goes on where it was
stopped, on either. How the shipped weights came about, command by command, is in the bundle's docs.

Without ``--mixed`` most steps are on cubes of 64 voxels a side, which are cheap, and the last tenth on the 128 that
inference shows; with it sizes take turns, so that objects that fill many voxels are learned at a rate that still moves
the weights.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from bundles.fastsam3d.scripts.training.clicking import Clicking
from bundles.fastsam3d.scripts.training.cubes import Cube
from bundles.fastsam3d.scripts.training.interactive import InteractiveLoss, interact
from common.devices import checked_device
from common.files import whole_file
from common.precision import computes_bfloat16
from common.weights import load_weights
from tools.bundle_network import build_network
from tools.named_numbers import named_numbers
from tools.research.training_cubes import REAL_SHARE, SHARES, SMALL, TrainingCubes

# Voxels a side of the cubes and cubes a step, which take turns.
Sizes = Sequence[tuple[int, int]]
# From this share of the training on: sizes.
STAGES: tuple[tuple[float, Sizes], ...] = ((0.0, ((64, 2),)), (0.9, ((128, 1),)))
MIXED = (64, 96, 128, 64, 96)
# Two steps are learned from; how many lead to them is drawn from REHEARSED. Most see the last step's logits.
PERSON = Clicking(
    steps=2,
    promptless=0,
    clicks={"deepest": 0.4, "distance": 0.3, "random": 0.3},
    box=0.1,
    scribble=0.1,
    mask=0.1,
    forget=0.1,
    again=0.2,
)
REHEARSED = (0, 0, 0, 0, 0, 1, 1, 2, 4, 8)
WARM_UP = 0.02
AVERAGE = 0.998


def taking_turns(sizes: Sequence[int]) -> tuple[tuple[float, Sizes], ...]:
    """The stages of a training whose cubes have these voxels a side in turns; of small ones there are two a step."""
    return ((0.0, tuple((size, 2 if size <= SMALL else 1) for size in sizes)),)


def interactive_loss(
    network: nn.Module, cubes: Cube, rng: np.random.Generator, rehearsed: int = 0
) -> tuple[Tensor, list[float]]:
    """Loss over the last prompts on some cubes, and the mean Dice after each.

    Args:
        network: offers ``encode`` and ``decode``.
        cubes: the cubes of a step, see :func:`stacked`.
        rng: where all chance comes from.
        rehearsed: prompts that come before, and only lead to the others.
    """
    device = next(network.parameters()).device
    image, label = (x.to(device).float() for x in cubes)
    own = rng.spawn(label.shape[0] * label.shape[1])
    answers = interact(network, image, label, PERSON, PERSON.steps + rehearsed, rng, own, rehearsed=rehearsed)
    return InteractiveLoss()(answers), answers["dice"].mean(dim=1).tolist()


class CubeNumbers(torch.utils.data.Sampler):
    """The numbers and sizes of the cubes of each step, from the step after the last one on.

    Args:
        training: tells the next step, the next number and how far the training has come.
    """

    def __init__(self, training: Training) -> None:
        self.training = training

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        number = self.training.number
        for step in itertools.count(self.training.step):
            size, count = self.training.sizes(step)
            count *= self.training.batch
            yield [(n, size) for n in range(number, number + count)]
            number += count


def stacked(cubes: Sequence[Cube]) -> Cube:
    """B cubes as one: images (B, 1, S, S, S), and K objects of each as shares of the logits' cells, (B, K, 1, s, s, s).

    In half precision: a third of the bytes from the processes that make cubes to the device.
    """
    targets = [F.avg_pool3d(c.targets.float(), 2).half() for c in cubes]
    return Cube(torch.stack([c.image.half() for c in cubes]), torch.stack(targets))


class Training:
    """All that changes while training, so that it can stop and go on.

    Args:
        run: folder of the state.
        data: folder of real sets, None for made-up volumes alone.
        network: to train.
        seed: of everything random.
        steps: to train for; None to let ``minutes`` decide.
        minutes: of training in all, earlier slices counted in, where ``steps`` is None.
        rate: largest learning rate.
        stages: see ``STAGES``.
        objects: in each cube.
        amp: compute in bfloat16, which is fast only where the device does, see :func:`computes_bfloat16`.
        workers: processes that make cubes.
        batch: how many times the cubes of ``stages`` in a step.
        real: share of the cubes that are of real volumes.
        shares: how often each of their sets is drawn, see :data:`tools.research.training_cubes.SHARES`.
        rehearsed: numbers of prompts one of which is drawn for each step, see :func:`interactive_loss`.

    Raises:
        ValueError: the run's state was trained on other real volumes.
    """

    def __init__(
        self,
        run: Path,
        data: Path | None,
        network: nn.Module,
        seed: int = 0,
        steps: int | None = None,
        minutes: float = 90,
        rate: float = 1e-3,
        stages: Sequence[tuple[float, Sizes]] = STAGES,
        objects: int = 2,
        amp: bool = True,
        workers: int = 1,
        batch: int = 1,
        real: float = REAL_SHARE,
        shares: Mapping[str, float] = SHARES,
        rehearsed: Sequence[int] = REHEARSED,
    ) -> None:
        self.state_path = run / "state.pt"
        self.cubes = TrainingCubes(data, seed, objects, real, shares)
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False)
        decayed = [p for p in network.parameters() if p.dim() > 1]
        others = [p for p in network.parameters() if p.dim() <= 1]
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
        self.seed, self.steps, self.minutes, self.rate = seed, steps, minutes, rate
        self.stages, self.amp, self.workers, self.batch, self.rehearsed = stages, amp, workers, batch, rehearsed
        self.device = next(network.parameters()).device
        self.step = self.number = 0
        self.seconds = 0.0
        self.stopped = False
        if self.state_path.is_file():
            self._load()

    def progress(self, step: int) -> float:
        """How much of the training lies behind, 0 to 1."""
        return step / self.steps if self.steps is not None else self.seconds / (60 * self.minutes)

    def sizes(self, step: int) -> tuple[int, int]:
        """Voxels a side of a step's cubes, and how many they are."""
        _, turns = [s for s in self.stages if s[0] <= self.progress(step)][-1]
        return turns[step % len(turns)]

    def stop(self, *_: Any) -> None:
        """End after the step under way."""
        self.stopped = True

    def run(self, export: Path | None = None, save_every: float = 60) -> None:
        """Train to the end, or until stopped; save, and export the averaged weights, every ``save_every`` seconds."""
        loader = torch.utils.data.DataLoader(
            self.cubes,
            batch_sampler=CubeNumbers(self),
            collate_fn=stacked,
            num_workers=self.workers,
            worker_init_fn=_quiet_worker if self.workers else None,
            prefetch_factor=3 if self.workers else None,
        )
        start, saved = time.monotonic() - self.seconds, time.monotonic()
        means: dict[str, float] = {}
        bar = tqdm(loader, initial=self.step, total=self.steps, desc="training", unit="step", mininterval=10)
        for cubes in bar:
            if self.stopped or self.progress(self.step) >= 1:
                break
            self._train(cubes, means)
            self.seconds = time.monotonic() - start
            bar.set_postfix(
                {k: f"{v:.3f}" for k, v in means.items()} | {"done": f"{self.progress(self.step):.3f}"}, refresh=False
            )
            if time.monotonic() - saved > save_every:
                self.save(export)
                saved = time.monotonic()
        bar.close()
        self.save(export)

    def _train(self, cubes: Cube, means: dict[str, float]) -> None:
        progress = self.progress(self.step)
        warm = min(1.0, (progress + 1e-4) / WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, progress))) / 2)
        rng = np.random.default_rng((self.seed, self.number, 1))
        rehearsed = int(rng.choice(self.rehearsed))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            loss, scores = interactive_loss(self.network, cubes, rng, rehearsed)
        loss.backward()
        values = {"loss": float(loss.detach())}
        values |= {f"dice@{k}": scores[k - 1 - rehearsed] for k in (1, 2, 10) if 0 <= k - 1 - rehearsed < len(scores)}
        for name, value in values.items():
            means[name] = 0.98 * means.get(name, value) + 0.02 * value
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        # A step that went wrong numerically must not spoil the weights.
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.number += len(cubes.image)
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)

    def save(self, export: Path | None = None) -> None:
        """Write the state, and the averaged weights to ``export``; a kill at any moment leaves the last whole ones.

        What forgets its rounding within some steps, the averages of the gradients, of their squares and of the weights,
        is written in half precision: less to carry about, and a training that goes on differs by that rounding alone.
        """
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {
            k: {**v, **{name: v[name].bfloat16() for name in ("exp_avg", "exp_avg_sq")}}
            for k, v in optimizer["state"].items()
        }
        state = {
            "network": self.network.state_dict(),
            "average": half(self.average.state_dict()),
            "optimizer": optimizer,
            "position": {"step": self.step, "number": self.number, "seconds": self.seconds},
            "real_volumes": len(self.cubes.volumes),
        }
        _write(state, self.state_path)
        if export:
            export_weights(self.average, export)

    def _load(self) -> None:
        state = torch.load(self.state_path, map_location="cpu", weights_only=True)
        if state["real_volumes"] != len(self.cubes.volumes):
            raise ValueError(
                f"{self.state_path} was trained on {state['real_volumes']} real volumes, here are "
                f"{len(self.cubes.volumes)}: give the folder of the data sets that it began with (--data)"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in state["position"].items():
            setattr(self, name, value)


def export_weights(network: nn.Module, path: Path) -> None:
    """Write a plain state dict in half precision, which halves the file and leaves the masks as they are."""
    _write(half(network.state_dict()), path)


def half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights in the memory of the CPU, numbers that are not whole in half precision."""
    return {k: (v.half() if v.is_floating_point() else v).cpu() for k, v in weights.items()}


def _write(content: Any, path: Path) -> None:
    with whole_file(path) as side:
        torch.save(content, side)


def _listed(shares: Mapping[str, float]) -> str:
    return " ".join(f"{name}={number}" for name, number in shares.items())


def _numbers(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _quiet_worker(_: int) -> None:
    # Ctrl-C and SIGTERM are for the training itself, which then lets its workers go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the weights that the bundle fastsam3d ships.")
    parser.add_argument("--run", type=Path, default=Path("runs/default"), help="folder of the state")
    parser.add_argument("--data", type=Path, help="folder of the real sets; without it only made-up volumes")
    parser.add_argument("--export", type=Path, help="file of the averaged weights (model.pt in the run's folder)")
    parser.add_argument("--start", type=Path, help="weights to start from, where the run has no state yet")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--mixed", action="store_true", help=f"cubes of {_numbers(MIXED)} voxels a side in turns")
    sizes.add_argument("--sizes", type=int, nargs="+", metavar="VOXELS", help="the same with other sizes")
    parser.add_argument(
        "--rehearsed",
        type=int,
        nargs="+",
        default=REHEARSED,
        metavar="PROMPTS",
        help=f"how many prompts lead to those that are learned, one drawn for each step ({_numbers(REHEARSED)})",
    )
    parser.add_argument("--batch", type=int, default=1, help="times as many cubes a step; 8 suits a large GPU")
    parser.add_argument("--objects", type=int, default=2, help="asked for in each cube (%(default)s)")
    parser.add_argument("--real", type=float, default=REAL_SHARE, help="share of cubes of real volumes (%(default)s)")
    parser.add_argument(
        "--share", nargs="+", default=[], metavar="SET=NUMBER", help=f"how often sets are drawn ({_listed(SHARES)})"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--steps", type=int, default=5000, help="to train for (%(default)s)")
    parser.add_argument("--minutes", type=float, help="of training instead of --steps, earlier slices counted in")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1e-3, help="largest learning rate")
    parser.add_argument("--workers", type=int, help="processes that make cubes (1, on a GPU one for each core but one)")
    parser.add_argument("--fp32", action="store_true", help="compute in float32 where bfloat16 could be had")
    arguments = parser.parse_args()
    if min(arguments.batch, arguments.objects) < 1:
        parser.error(f"--batch {arguments.batch}, --objects {arguments.objects}: expected positive numbers")
    if not 0 <= arguments.real <= 1:
        parser.error(f"--real {arguments.real}: expected a share, 0 to 1")
    if arguments.sizes and (min(arguments.sizes) < 32 or any(size % 8 for size in arguments.sizes)):
        parser.error(f"--sizes {_numbers(arguments.sizes)}: expected multiples of 8 from 32 on")
    if min(arguments.rehearsed) < 0:
        parser.error(f"--rehearsed {_numbers(arguments.rehearsed)}: expected numbers from 0 on")
    if arguments.steps < 1 or (arguments.minutes is not None and arguments.minutes <= 0):
        parser.error(f"--steps {arguments.steps}, --minutes {arguments.minutes}: expected positive numbers")
    if arguments.data is not None and not arguments.data.is_dir():
        parser.error(f"--data {arguments.data}: no such folder")
    torch.manual_seed(arguments.seed)
    network = build_network()
    try:
        shares = {**SHARES, **named_numbers("--share", arguments.share, "SET=NUMBER", SHARES)}
        device = checked_device(arguments.device)
        if arguments.start:
            load_weights(network, arguments.start)
    except ValueError as error:
        parser.error(str(error))
    # Shapes are few: it pays to try which algorithm is fastest for each, but not to try all of them.
    torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = True, 3
    workers = max(1, (os.cpu_count() or 2) - 1) if device.type == "cuda" else 1
    try:
        training = Training(
            arguments.run,
            arguments.data,
            network.to(device),
            arguments.seed,
            arguments.steps if arguments.minutes is None else None,
            arguments.minutes or 0,
            arguments.rate,
            taking_turns(arguments.sizes or MIXED) if arguments.sizes or arguments.mixed else STAGES,
            arguments.objects,
            # Emulated, bfloat16 would be many times as slow.
            amp=computes_bfloat16(device) and not arguments.fp32,
            workers=workers if arguments.workers is None else arguments.workers,
            batch=arguments.batch,
            real=arguments.real,
            shares=shares,
            rehearsed=arguments.rehearsed,
        )
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, training.stop)
    signal.signal(signal.SIGINT, training.stop)
    training.run(arguments.export or arguments.run / "model.pt")


if __name__ == "__main__":
    main()
