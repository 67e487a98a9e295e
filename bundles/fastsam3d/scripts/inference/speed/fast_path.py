# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A copy of a network that computes the same in less time, for inference only; docs/notebook/speed.md has the gain."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from threading import Lock

import torch
from torch import nn

from ...common.precision import computes_bfloat16
from ...common.weights import weights_key
from .layers import faster, mlps_in
from .refiner import FastRefiner
from .replayed import Replayed

PRECISIONS = ("float32", "mixed", "bfloat16", "float16")


def choose_precision(amp: bool | str, device: torch.device) -> str:
    """One of PRECISIONS for the configuration's ``amp``.

    ``auto`` takes bfloat16, and ``mixed`` takes it where masks bear it, if the processor computes in it; both take
    float32 elsewhere, as emulation would be slower. ``True`` takes half precision anyhow, ``False`` float32;
    another name out of PRECISIONS is taken as it is.

    Raises:
        ValueError: another value.
    """
    # A command line gives words.
    amp = {"true": True, "false": False}.get(str(amp).lower(), amp)
    if amp in ("auto", "mixed"):
        half = "bfloat16" if amp == "auto" else "mixed"
        return half if computes_bfloat16(device) else "float32"
    if isinstance(amp, bool):
        return ("bfloat16" if device.type == "cpu" else "float16") if amp else "float32"
    if amp not in PRECISIONS:
        raise ValueError(f"amp {amp!r}: expected auto, true, false or one of {', '.join(PRECISIONS)}")
    return amp


def prepare_for_inference(network: nn.Module, precision: str, compiled: bool = False) -> nn.Module:
    """A copy of a joined encoder and decoder for inference in ``precision``; ``network`` itself stays as it is.

    Prompts are encoded in float32 in every precision: the phase of a positional code needs its digits. The copy knows
    nothing of later changes to the weights, see :class:`FastPath`.

    Args:
        network: as :class:`...networks.fastsam3d.FastSAM3D`; one without these parts is returned as it is.
        precision: one of PRECISIONS. float32 changes nothing but the order of sums; mixed, of a network with a refiner,
            computes that one's inner part and the encoder's MLPs in bfloat16, and the rest in float32.
        compiled: run the image encoder through ``torch.compile`` (with CUDA graphs on a GPU): the first cube of each
            shape then waits for the compiler.
    """
    exact = precision in ("float32", "mixed")
    if not hasattr(network, "image_encoder") or not hasattr(network, "mask_decoder"):
        return network
    refined = getattr(network, "refiner", None) is not None
    fast = copy.deepcopy(network).eval().requires_grad_(False)
    half = torch.bfloat16 if precision == "mixed" else getattr(torch, precision)
    products = "plain" if compiled else "packed"
    if precision == "mixed" and refined:
        fast.image_encoder = mlps_in(fast.image_encoder, half)
    if not exact:
        fast.image_encoder, fast.mask_decoder = fast.image_encoder.to(half), fast.mask_decoder.to(half)
    fast.image_encoder = faster(fast.image_encoder, products)
    fast.mask_decoder = faster(fast.mask_decoder)
    if refined:
        fast.refiner = faster(FastRefiner(fast.refiner.to(torch.float32 if exact else half), half))
    fast.image_encoder = in_one_piece(fast.image_encoder, compiled)
    return fast


def in_one_piece(encoder: nn.Module, compiled: bool) -> nn.Module:
    """The encoder through ``torch.compile`` where asked for, and on a GPU as one CUDA graph."""
    if compiled:
        encoder = torch.compile(encoder, dynamic=False)
    return Replayed(encoder) if any(p.is_cuda for p in encoder.parameters()) else encoder


class FastPath:
    """The prepared copy of the network that was seen last, made anew whenever its weights are others.

    Servers hand over a network that they load, and load again, themselves: its weights alone tell what it is.

    Args:
        amp: see :func:`choose_precision`.
        compiled: see :func:`prepare_for_inference`.
    """

    def __init__(self, amp: bool | str = "mixed", compiled: bool = False) -> None:
        choose_precision(amp, torch.device("cpu"))
        self.amp = amp
        self.compiled = compiled
        self._key: Hashable = None
        self._fast: nn.Module | None = None
        self._lock = Lock()

    def __call__(self, network: nn.Module, device: torch.device) -> tuple[nn.Module, Hashable]:
        """The copy for this device, and a key that changes with weights, device and precision."""
        precision = choose_precision(self.amp, device)
        key = (weights_key(network), precision, str(device))
        with self._lock:
            if self._key != key:
                self._fast, self._key = prepare_for_inference(network, precision, self.compiled), key
            return self._fast, key
