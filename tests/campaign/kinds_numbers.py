# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Intensities, label values and weights that numbers of 32 bits do not hold, or that mean nothing."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from odd_input import Draw, OddInput
from PIL import Image
from scenes import Scene, check_ball, refused, scene, seen
from verdicts import ROOT


def _nifti(draw: Draw, values: np.ndarray, made: Scene, name: str = "scan.nii.gz") -> Path:
    file = draw.folder / name
    nib.save(nib.Nifti1Image(values, made.affine, dtype=values.dtype), file)
    return file


def scaled(draw: Draw) -> OddInput:
    factor = draw.one_of(1e15, 1e-30, 1e30, 1e-20, 1e34, 1e-38)
    made = scene(draw.rng, look="mr")
    # At the ends of what float32 holds a refusal is as good.
    expect = "right" if 1e-30 <= factor <= 1e15 else "either"
    file = _nifti(draw, (made.values * factor).astype(np.float32), made)
    return seen(f"intensities x {factor}", file, made, expect=expect)


def scaled_beyond_float32(draw: Draw) -> OddInput:
    factor = draw.one_of(1e60, 1e-60, 1e300, 1e-300)
    made = scene(draw.rng, look="mr")
    file = _nifti(draw, made.values.astype(np.float64) * factor, made)
    return seen(f"float64 intensities x {factor}", file, made, expect="either")


def on_an_offset(draw: Draw) -> OddInput:
    offset, dtype = draw.one_of((1e6, np.float32), (1e9, np.float64), (2**30, np.int32), (2**40, np.int64))
    made = scene(draw.rng, look="mr")
    file = _nifti(draw, (np.round(made.values).astype(np.float64) + offset).astype(dtype), made)
    return seen(f"intensities + {offset}", file, made, expect="right" if offset <= 1e6 else "either")


def not_finite(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    values = made.values.copy()
    value = draw.one_of(np.nan, np.inf, -np.inf)
    values[draw.rng.uniform(size=values.shape) < 0.01] = value
    return seen(
        f"1 % of the voxels {value}", _nifti(draw, values, made), made, check=check_ball(made, note="NaN|infinite")
    )


def nothing_finite(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    return refused(
        "no finite voxel",
        _nifti(draw, np.full_like(made.values, draw.one_of(np.nan, np.inf)), made),
        made,
    )


def constant(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    values = np.full(made.shape, draw.one_of(0, 7, -1000, 255), draw.one_of(np.int16, np.float32))
    if draw.one_of(False, False, True):
        values = values.astype(np.float32)
        values[0, 0, 0] = np.nan
    return refused("every voxel alike", _nifti(draw, values, made), made)


def one_wild_voxel(draw: Draw) -> OddInput:
    made = scene(draw.rng, look="mr")
    values = made.values.copy()
    values[2, 3, 4] = draw.one_of(3e38, -3e38, 1e20)
    return seen("one voxel out of all proportion", _nifti(draw, values, made), made, expect="either")


def windows_without_contrast(draw: Draw) -> OddInput:
    window = draw.one_of(
        [-np.inf, np.inf],
        [1e4, 2e4],
        [5.0, 5.0],
        [300.0, -200.0],
        [np.nan, 400.0],
        [-9000.0, -8000.0],
        [-np.inf, 100.0],
    )
    made = scene(draw.rng)
    return refused(
        f"window {window}",
        _nifti(draw, np.round(made.values).astype(np.int16), made),
        made,
        options={"window": window},
        names="window",
    )


def odd_windows(draw: Draw) -> OddInput:
    window = draw.one_of([-1e30, 1e30], [139.0, 141.0], [-1e6, 1e6], "percentile", "ct", [0, 100])
    made = scene(draw.rng)
    # A window that shows no ball gives no ball: right is what is said of the grid and of the mL.
    least = 0.7 if window in ("percentile", "ct") else 0.0
    return seen(
        f"window {window}",
        _nifti(draw, np.round(made.values).astype(np.int16), made),
        made,
        expect="either",
        options={"window": window},
        names="window",
        check=check_ball(made, least),
    )


def complex_numbers(draw: Draw) -> OddInput:
    made = scene(draw.rng, look="mr")
    phase = np.exp(1j * np.linspace(0, 6, made.shape[0]))[:, None, None]
    file = _nifti(draw, (made.values * phase).astype(draw.one_of(np.complex64, np.complex128)), made)
    return refused("complex voxels", file, made, names="complex")


def last_masks(draw: Draw) -> OddInput:
    """A mask to correct whose values are odd; the click stands on the ball."""
    made = scene(draw.rng)
    file = _nifti(draw, np.round(made.values).astype(np.int16), made)
    truth = made.truth.astype(np.float64)
    said, values, expect = draw.one_of(
        ("above 2^24", truth * (2**24 + 1), "right"),
        ("1 + 1e-6", (truth * (1 + 1e-6)).astype(np.float32), "right"),
        ("255", (truth * 255).astype(np.uint8), "right"),
        ("-1", -truth, "either"),
        ("NaN outside", np.where(truth > 0, 1.0, np.nan), "either"),
        ("probabilities", truth * 0.3 + 0.4, "either"),
        ("all inside", np.ones_like(truth), "either"),
        ("none inside", np.zeros_like(truth), "either"),
    )
    mask = _nifti(draw, values, made, "last.nii.gz")
    return seen(
        f"a last mask of {said}",
        file,
        made,
        expect=expect,
        options={"previous_mask": str(mask)},
        names="previous_mask|last.nii.gz",
        check=check_ball(made, 0.6),
    )


def strokes(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    file = _nifti(draw, np.round(made.values).astype(np.int16), made)
    i, j, k = made.voxel(made.centre)
    values = np.zeros(made.shape, np.float32)
    value, expect = draw.one_of(
        (1, "right"), (1 + 1e-6, "right"), (3, "refused"), (0, "refused"), (1.5, "refused"), (np.nan, "refused")
    )
    values[i - 2 : i + 3, j, k] = value
    scribble = _nifti(draw, values, made, "strokes.nii.gz")
    return seen(
        f"a scribble of {value}",
        file,
        made,
        expect=expect,
        names="scribble|strokes.nii.gz",
        options={"scribble": str(scribble), "foreground": None, "background": None},
    )


def odd_weights(draw: Draw) -> OddInput:
    bundle = draw.one_of("fastsam3d", "fastsam3d", "ssam_2d")
    state = torch.load(ROOT / "bundles" / bundle / "models" / "model.pt", map_location="cpu", weights_only=True)
    state = dict(state)
    # The smallest tensor of at least a thousand numbers, so that nothing but the values is odd.
    key = min(
        (k for k, v in state.items() if torch.is_tensor(v) and v.is_floating_point() and v.numel() > 1000),
        key=lambda k: state[k].numel(),
    )
    said = draw.one_of(
        "NaN", "inf", "a missing tensor", "a tensor too many", "another shape", "text", "nothing", "a pickle"
    )
    changed = state[key].clone()
    if said in ("NaN", "inf"):
        changed.view(-1)[int(draw.rng.integers(changed.numel()))] = float(said)
        state[key] = changed
    elif said == "a missing tensor":
        del state[key]
    elif said == "a tensor too many":
        state["odd.weight"] = torch.zeros(3)
    elif said == "another shape":
        state[key] = changed[..., :-1].clone()
    file = draw.folder / "odd.pt"
    if said == "text":
        file.write_text("weights")
    elif said == "nothing":
        file.write_bytes(b"")
    elif said == "a pickle":
        torch.save({"state": Path("x")}, file)
    else:
        torch.save(state, file)
    options = {"ckpt_path": str(file), "device": "cpu"}
    if bundle == "ssam_2d":
        pixels = draw.rng.integers(0, 255, (40, 50)).astype(np.uint8)
        Image.fromarray(pixels).save(draw.folder / "p.png")
        return OddInput(
            f"weights of ssam_2d with {said}",
            {"image": str(draw.folder / "p.png"), "labels": ["liver"], **options},
            "refused",
            names="odd.pt",
            run="ssam_2d",
        )
    made = scene(draw.rng)
    file3d = _nifti(draw, np.round(made.values).astype(np.int16), made)
    return refused(f"weights with {said}", file3d, made, names="odd.pt", options=options)


def few_grey_values(draw: Draw) -> OddInput:
    made = scene(draw.rng, look="bytes")
    values = np.where(made.truth, 255, 0).astype(np.uint8)
    return seen("a volume of 0 and 255 alone", _nifti(draw, values, made), made)


def low_contrast_far_from_zero(draw: Draw) -> OddInput:
    made = scene(draw.rng, look="mr")
    values = (made.values * 1e-4 + 1000).astype(np.float32)
    return seen(
        "contrast of a ten-thousandth of the level",
        _nifti(draw, values, made),
        replace(made, values=values),
        expect="either",
    )


KINDS = (
    scaled, scaled_beyond_float32, on_an_offset, not_finite, nothing_finite, constant, one_wild_voxel,
    windows_without_contrast, odd_windows, complex_numbers, last_masks, last_masks, strokes, odd_weights, odd_weights,
    few_grey_values, low_contrast_far_from_zero, windows_without_contrast,
)  # fmt: skip
