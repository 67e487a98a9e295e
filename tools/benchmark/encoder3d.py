# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Image encoders at the paper's size: the published forms against this project's, in full precision and fast."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bundles.fastsam3d.scripts.inference.speed.fast_path import choose_precision, in_one_piece
from bundles.fastsam3d.scripts.inference.speed.layers import faster
from bundles.fastsam3d.scripts.networks.image_encoder import ImageEncoder3D
from bundles.fastsam3d.scripts.networks.published import PublishedStudent3D
from bundles.fastsam3d.scripts.networks.student import StudentEncoder3D
from tools.benchmark import published_forms
from tools.benchmark.timing import Contestant

AGAINST = "default"
TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 6, "out_chans": 24}


def about(quick: bool) -> str:
    """What is measured, in a line."""
    return "a tiny cube" if quick else "one cube of 128^3 through encoders of width 768"


def contestants(device: torch.device, quick: bool) -> list[Contestant]:
    """The published forms, this project's student in float32, its default, and its options."""
    sizes, windows = (TINY, {"window_size": 3}) if quick else ({}, {})
    volume = torch.randn(1, 1, *(sizes.get("img_size", 128),) * 3, device=device)
    built = {
        "teacher_published": lambda: published_forms.teacher(**sizes, **windows),
        "student_published_dense": lambda: published_forms.dense_student(**sizes),
        "student_published_sparse": lambda: published_forms.sparse_student(**sizes),
        "student_fp32": lambda: _student(sizes),
        "teacher_sdpa": lambda: ImageEncoder3D(**sizes, **windows),
        "student_dense_sdpa": lambda: PublishedStudent3D(**sizes),
    }
    notes = {
        "student_published_sparse": "torch's fused attention in place of flash-attn",
        "teacher_sdpa": "not published: this project's faster reproduction",
        "student_dense_sdpa": "not published: this project's faster reproduction",
    }
    found = [_contestant(name, build, volume, notes.get(name, "")) for name, build in built.items()]
    student, flops = _student(sizes).to(device), found[3].flops
    auto = choose_precision("auto", device)
    fast = {
        "default": (auto, False, f"amp auto: {auto}"),
        "compile": (auto, True, f"{auto}, torch.compile"),
        "bfloat16_plain": ("plain", False, "network.bfloat16() without the fast path"),
    }
    reference = student(volume).features
    rows = []
    for name, (precision, compiled, note) in fast.items():
        encoder = _fast(student, precision, compiled)
        run = _run(encoder, volume)
        # What the compiler makes of it is only known when it was called, in the warming up.
        extra = {} if compiled else {"error": _relative_error(run().features, reference)}
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        rows.append(Contestant(name, run, flops, dtype, note, extra))
    return [*found[:4], rows[0], *found[4:], *rows[1:]]


def _student(sizes: dict[str, Any]) -> StudentEncoder3D:
    torch.manual_seed(0)
    if not sizes:
        return StudentEncoder3D().eval()
    names = {"img_size": "image_size", "num_heads": "heads", "out_chans": "out_channels"}
    return StudentEncoder3D(**{names.get(k, k): v for k, v in sizes.items()}).eval()


def _contestant(name: str, build: Any, volume: Tensor, note: str) -> Contestant:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build()(torch.empty(volume.shape))
    encoder = build().to(volume.device).eval()
    return Contestant(name, lambda: encoder(volume), float(counter.get_total_flops()), torch.float32, note)


def _fast(student: nn.Module, precision: str, compiled: bool) -> nn.Module:
    plain = precision == "plain"
    dtype = torch.bfloat16 if plain else getattr(torch, precision)
    encoder = copy.deepcopy(student).to(dtype)
    if plain:
        return encoder
    return in_one_piece(faster(encoder, "plain" if compiled else "packed"), compiled)


def _run(encoder: nn.Module, volume: Tensor) -> Any:
    dtype = next(encoder.parameters()).dtype
    # The cast of the volume is part of what the fast path costs.
    return lambda: encoder(volume.to(dtype))


def _relative_error(features: Tensor, reference: Tensor) -> float:
    return float((features.float() - reference).norm() / reference.norm())
