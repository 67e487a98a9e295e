# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A part of a network written as a file and compared with what torch computes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .parts import Part

# Largest difference allowed, relative to an output's largest value.
TOLERANCE = 1e-4
FORMATS = {"onnx": ".onnx", "torchscript": ".ts"}
Run = Callable[..., list[np.ndarray]]


def write_part(part: Part, form: str, path: Path) -> float:
    """Write one file; returns the largest relative error of what it computes, for several sizes.

    Raises:
        ValueError: an error above the tolerance.
    """
    part.module.eval()
    with warnings.catch_warnings(), torch.no_grad():
        # Both exporters warn of their own inner workings, which nobody here can change.
        warnings.simplefilter("ignore")
        run = {"onnx": write_onnx, "torchscript": write_torchscript}[form](part, path)
        error = max(largest_error(part, run, inputs) for inputs in examples(part))
    if not error <= TOLERANCE:
        raise ValueError(f"{path.name}: differs from torch by {error:.1e}, {TOLERANCE:.0e} allowed; nothing is written")
    return error


def write_torchscript(part: Part, path: Path) -> Run:
    """By tracing: scripting cannot take the networks (see --help)."""
    torch.jit.trace(part.module, part.example, check_trace=False).save(path)
    loaded = torch.jit.load(path)

    def run(*inputs: Tensor) -> list[np.ndarray]:
        outputs = loaded(*inputs)
        return [x.numpy() for x in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return run


def write_onnx(part: Part, path: Path) -> Run:
    """By torch.export."""
    import onnxruntime
    from onnxscript import optimizer

    from .onnx_ops import TRANSLATIONS

    names = {name for axes in part.varying.values() for name in axes.values()}
    sizes = {name: torch.export.Dim(name, min=1, max=1024) for name in names}
    shapes = tuple({axis: sizes[n] for axis, n in part.varying.get(name, {}).items()} or None for name in part.inputs)
    exported = torch.export.export(part.module, part.example, dynamic_shapes=by_argument(part, shapes), strict=False)
    program = torch.onnx.export(
        exported,
        dynamo=True,
        optimize=False,
        verbose=False,
        input_names=part.inputs,
        output_names=part.outputs,
        custom_translation_table=TRANSLATIONS,
    )
    # One turn without inferring shapes anew: onnxruntime optimises the rest when it loads the file.
    optimizer.optimize(program.model, num_iterations=1, onnx_shape_inference=False)
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> list[np.ndarray]:
        return session.run(part.outputs, {name: x.numpy() for name, x in zip(part.inputs, inputs, strict=True)})

    return run


def by_argument(part: Part, shapes: tuple) -> tuple:
    """The shapes as torch.export wants them: those of ``*tensors`` are one argument."""
    code = part.module.forward.__code__
    takes_any = bool(code.co_flags & 0x04)
    return (shapes,) if takes_any else shapes


def examples(part: Part) -> Iterator[tuple[Tensor, ...]]:
    """Inputs of other values, and of other sizes where these may vary."""
    generator = torch.Generator().manual_seed(1)
    for size in (1, 2, 5) if part.varying else (1,):
        inputs = []
        for name, example in zip(part.inputs, part.example, strict=True):
            shape = [size if axis in part.varying.get(name, {}) else n for axis, n in enumerate(example.shape)]
            if example.is_floating_point():
                low, high = example.min(), example.max()
                inputs.append(low + (high - low) * torch.rand(shape, generator=generator))
            else:
                inputs.append(torch.randint(int(example.min()), 2, shape, generator=generator))
        yield tuple(inputs)


def largest_error(part: Part, run: Run, inputs: tuple[Tensor, ...]) -> float:
    """The largest difference from torch over all outputs, relative to an output's largest value."""
    expected = part.module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    errors = []
    for ours, theirs in zip(run(*inputs), expected, strict=True):
        theirs = theirs.numpy()
        if ours.shape != theirs.shape:
            raise ValueError(f"{part.name}: an output of shape {ours.shape}, expected {theirs.shape}")
        errors.append(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12))
    return float(np.max(errors))
