# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Clicks, boxes, scribbles and last masks: each alone, at the border, beyond it, without end, and of other forms."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from odd_input import Draw, OddInput, Wrong
from scenes import CHEAP, Scene, check_ball, scene
from volumes import dice


def _prompted(draw: Draw, made: Scene, said: str, prompts: dict[str, Any], **more: Any) -> OddInput:
    file = draw.folder / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.round(made.values).astype(np.int16), made.affine), file)
    more.setdefault("check", check_ball(made))
    return OddInput(said, {"image": str(file), **prompts, **CHEAP}, **more)


def _label_map(draw: Draw, values: np.ndarray, affine: np.ndarray, name: str) -> str:
    nib.save(nib.Nifti1Image(values.astype(np.uint8), affine), draw.folder / name)
    return str(draw.folder / name)


def _voxel_is(voxel: list[int], inside: bool, then: Callable[[Path], None] | None = None) -> Callable[[Path], None]:
    def check(out: Path) -> None:
        (file,) = out.rglob("*_seg.nii.gz")
        value = bool(np.asarray(nib.load(file).dataobj)[tuple(voxel)] > 0)
        if value != inside:
            raise Wrong(f"the voxel {voxel} is {'in' if value else 'outside'} the mask, the last click says otherwise")
        if then is not None:
            then(out)

    return check


def one_click(draw: Draw) -> OddInput:
    made = scene(draw.rng, look=draw.one_of("ct", "mr"))
    point = made.voxel(made.centre)
    form = draw.one_of(
        {"foreground": [point]},
        {"points": [point], "point_labels": [1]},
        {"objects": {"ball": [point]}},
        {"foreground": point},
        {"objects": {"ball": {"foreground": [point]}}},
        {"foreground": [[float(x) + 0.3 for x in point]]},
    )
    return _prompted(draw, made, f"one click alone: {form}", form)


def box_alone(draw: Draw) -> OddInput:
    made = scene(draw.rng, look=draw.one_of("ct", "mr"))
    return _prompted(draw, made, "a box alone", {"box": made.box})


def scribble_alone(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    i, j, k = made.voxel(made.centre)
    strokes = np.zeros(made.shape)
    strokes[i - 3 : i + 4, j, k] = 1
    if draw.one_of(False, True):
        strokes[tuple(made.voxel(made.beside))] = 2
    return _prompted(
        draw, made, "a scribble alone", {"scribble": _label_map(draw, strokes, made.affine, "strokes.nii.gz")}
    )


def last_mask_alone(draw: Draw) -> OddInput:
    made = scene(draw.rng, look=draw.one_of("ct", "mr"))
    last = made.truth.copy()
    background = {}
    if draw.one_of(False, True):
        last |= np.roll(last, 2, axis=0)
        background = {"background": [made.voxel(made.beside)]}
    said = "a last mask and a background click" if background else "a last mask alone"
    return _prompted(
        draw, made, said, {"previous_mask": _label_map(draw, last, made.affine, "last.nii.gz"), **background}
    )


def box_and_click(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    extra = draw.one_of({"foreground": [made.voxel(made.centre)]}, {"background": [made.voxel(made.beside)]})
    return _prompted(draw, made, f"a box and {next(iter(extra))}", {"box": made.box, **extra})


def thin_box(draw: Draw) -> OddInput:
    """A box of few slices: whatever else is marked, within the box's own slices it is the ball."""
    made = scene(draw.rng)
    low, high = (np.array(c) for c in made.box)
    axis, thick = draw.one_of(2, 0, 1), draw.one_of(1, 2, 3, 4)
    middle = made.voxel(made.centre)[axis] - thick // 2
    low[axis], high[axis] = middle, middle + thick - 1

    def check(out: Path) -> None:
        (file,) = out.rglob("*_seg.nii.gz")
        inside = np.asarray(nib.load(file).dataobj) > 0
        part = np.take(inside, range(middle, middle + thick), axis)
        truth = np.take(made.truth, range(middle, middle + thick), axis)
        if (score := dice(part, truth)) < 0.7:
            raise Wrong(
                f"Dice {score:.3f} in the box's own {thick} slices: {int(part.sum())} of {int(truth.sum())} voxels"
            )
        notes = " ".join(n for o in json.loads(next(out.rglob("*.json")).read_text())["objects"] for n in o["notes"])
        if "other object" in notes:
            raise Wrong(f"a note speaks of other objects, there are none: {notes}")

    return _prompted(
        draw, made, f"a box of {thick} slices along axis {axis}", {"box": [low.tolist(), high.tolist()]}, check=check
    )


def box_to_the_shape(draw: Draw) -> OddInput:
    """The exclusive upper corner that Python slices have."""
    made = scene(draw.rng)
    low, high = made.box
    high = [
        n if k in draw.one_of((0,), (0, 1, 2), (2,)) else h
        for k, (h, n) in enumerate(zip(high, made.shape, strict=True))
    ]
    return _prompted(
        draw,
        made,
        "a box whose upper corner is the shape",
        {"box": [low, high]},
        check=check_ball(made, 0.0, note="box|clip"),
    )


def box_of_no_use(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    (a, b, c), (d, e, f) = made.box
    box = draw.one_of(
        [[d, e, f], [a, b, c]],
        [[a, b, c]],
        [a, b, c, d, e],
        [[a, b], [d, e]],
        [[-9, b, c], [d, e, f]],
        [[a, b, c], [900, e, f]],
        "whole",
        [[a, b, None], [d, e, f]],
        [[np.nan, b, c], [d, e, f]],
        {"low": [a, b, c]},
        True,
        7,
    )
    return _prompted(draw, made, f"box {box}", {"box": box}, expect="refused", names="box")


def clicks_outside(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    x, y, z = made.shape
    point = draw.one_of(
        [x, 9, 9], [-1, 9, 9], [9, y, 9], [9, 9, z], [1e9, 0, 0], [-0.6, 9, 9], [9, 9, z - 0.4], [2**40, 1, 1]
    )
    key = draw.one_of("foreground", "background")
    prompts = {"foreground": [made.voxel(made.centre)], "background": []}
    prompts[key] = prompts[key] + [point]
    return _prompted(draw, made, f"{key} at {point}", prompts, expect="refused", names="outside")


def clicks_at_the_border(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    x, y, z = made.shape
    point = draw.one_of([0, 0, 0], [x - 1, y - 1, z - 1], [0, y - 1, 9], [x - 0.5, 9, 9], [-0.5, 9, 9])
    return _prompted(
        draw, made, f"a background click at {point}", {"foreground": [made.voxel(made.centre)], "background": [point]}
    )


def clicks_of_other_forms(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    i, j, k = made.voxel(made.centre)
    prompts = draw.one_of(
        {"foreground": [[i, j]]},
        {"foreground": [[i, j, k, 0]]},
        {"foreground": "here"},
        {"foreground": 5},
        {"foreground": [[i, j, None]]},
        {"foreground": [[i, j, np.nan]]},
        {"foreground": [["1", "2", "3"]]},
        {"foreground": {"x": i, "y": j}},
        {"points": [[i, j, k]]},
        {"point_labels": [1]},
        {"points": [[i, j, k]], "point_labels": [2]},
        {"points": [[i, j, k]], "point_labels": [1, 0]},
        {"points": [[i, j, k]], "point_labels": ["1"]},
        {"foreground": [[[i, j, k]]]},
        {"foreground": [[i, j, k], [i, j]]},
        {"foreground": True},
        {"foreground": [[i, j, 1e400]]},
        {"foreground": [[1j, j, k]]},
        {"foreground": [[True, False, True]]},
    )
    return _prompted(draw, made, str(prompts), prompts, expect="refused", names="foreground|point|label")


def nothing_said(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    prompts = draw.one_of(
        {},
        {"background": [made.voxel(made.beside)]},
        {"foreground": []},
        {"objects": {}},
        {"objects": {"a": []}},
        {"points": [], "point_labels": []},
    )
    return _prompted(draw, made, f"no prompt: {prompts}", prompts, expect="refused", names="prompt|foreground|object")


def the_same_voxel(draw: Draw) -> OddInput:
    """The last click on a voxel is the last word on it."""
    made = scene(draw.rng)
    centre, at = made.voxel(made.centre), made.voxel(made.beside)
    first = draw.one_of(1, 0)
    prompts = {"points": [centre, at, at], "point_labels": [1, first, 1 - first]}
    return _prompted(
        draw, made, f"a voxel clicked as {first} and then as {1 - first}", prompts, check=_voxel_is(at, first == 0)
    )


def the_same_click_again(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    count = draw.one_of(2, 5, 20)
    return _prompted(draw, made, f"{count} clicks on one voxel", {"foreground": [made.voxel(made.centre)] * count})


def clicks_without_end(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    inside = np.argwhere(made.truth)
    count = draw.one_of(10_000, 100_000, 30_000)
    points = inside[draw.rng.integers(len(inside), size=count)].tolist()
    key = draw.one_of("foreground", "points")
    prompts = {"foreground": points} if key == "foreground" else {"points": points, "point_labels": [1] * count}
    return _prompted(
        draw, made, f"{count} clicks", prompts, expect="refused", names="click|point|foreground", apart=True
    )


def many_right_clicks(draw: Draw) -> OddInput:
    made = scene(draw.rng, look=draw.one_of("ct", "mr"))
    inside = np.argwhere(made.truth)
    count = draw.one_of(5, 10, 15)
    points = inside[draw.rng.integers(len(inside), size=count)].tolist()
    return _prompted(draw, made, f"{count} clicks inside the ball", {"foreground": points})


def objects_without_end(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    count = draw.one_of(300, 1000, 5000)
    inside = np.argwhere(made.truth)
    objects = {f"o{k}": [inside[k % len(inside)].tolist()] for k in range(count)}
    return _prompted(draw, made, f"{count} objects", {"objects": objects}, expect="refused", names="object", apart=True)


def two_objects(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    objects = {
        "ball": {"foreground": [made.voxel(made.centre)], "background": [made.voxel(made.beside)]},
        draw.one_of("rest", "a b", "ü", "1"): {"foreground": [made.voxel(made.beside)]},
    }

    def check(out: Path) -> None:
        (file,) = out.rglob("*_seg.nii.gz")
        report = json.loads(next(out.rglob("*.json")).read_text())
        (label,) = [o["label"] for o in report["objects"] if o["name"] == "ball"]
        if (score := dice(np.asarray(nib.load(file).dataobj) == label, made.truth)) < 0.7:
            raise Wrong(f"Dice {score:.3f} of the ball beside another object")

    return _prompted(draw, made, f"two objects {list(objects)}", {"objects": objects}, check=check)


def objects_of_other_forms(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    point = made.voxel(made.centre)
    objects = draw.one_of(
        [point],
        "ball",
        {"ball": "here"},
        {"ball": {"click": [point]}},
        {"ball": {"foreground": point[:2]}},
        {"": {"box": 3}},
        5,
        {"ball": None, "other": {}},
        {"ball": {"foreground": [point], "backgroud": [point]}},
    )
    return _prompted(
        draw, made, f"objects {objects}", {"objects": objects}, expect="refused", names="object|ball|foreground|box"
    )


def masks_that_do_not_fit(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    key = draw.one_of("previous_mask", "scribble")
    said, values, affine = draw.one_of(
        ("of another shape", np.ones((9, 9, 9)), made.affine),
        ("shifted by 5 mm", made.truth, made.affine + np.array([[0, 0, 0, 5.0]] + [[0] * 4] * 3)),
        ("of two channels", np.stack([~made.truth, made.truth], -1), made.affine),
        ("of another spacing", made.truth, made.affine * [[1.3], [1.3], [1.3], [1]]),
    )
    file = _label_map(draw, values, affine, "mask.nii.gz")
    return _prompted(
        draw,
        made,
        f"a {key} {said}",
        {"foreground": [made.voxel(made.centre)], key: file},
        expect="refused",
        names=f"{key}|mask.nii.gz",
    )


def masks_that_are_no_files(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    key = draw.one_of("previous_mask", "scribble")
    value = draw.one_of(
        str(draw.folder / "missing.nii.gz"), str(draw.folder), 5, [1, 2], "", True, str(draw.folder / "a.txt")
    )
    (draw.folder / "a.txt").write_text("no mask")
    # An empty string counts as not given.
    expect = "right" if value == "" else "refused"
    return _prompted(
        draw,
        made,
        f"{key} {value!r}",
        {"foreground": [made.voxel(made.centre)], key: value},
        expect=expect,
        names=f"{key}|missing|a.txt|{draw.folder.name}",
    )


def twisted_mask(draw: Draw) -> OddInput:
    """A last mask stored along other axes, in the same place of space."""
    made = scene(draw.rng)
    flipped = made.truth[::-1]
    affine = made.affine @ np.array([[-1, 0, 0, made.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    file = _label_map(draw, flipped, affine, "mask.nii.gz")
    return _prompted(
        draw,
        made,
        "a last mask whose first axis runs the other way",
        {"foreground": [made.voxel(made.centre)], "previous_mask": file},
        expect="either",
        names="mask",
    )


def both_spellings(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    point, beside = made.voxel(made.centre), made.voxel(made.beside)
    prompts, expect = draw.one_of(
        ({"foreground": [point], "points": [beside], "point_labels": [0]}, "right"),
        ({"foreground": [point], "objects": {"a": [point]}}, "refused"),
        ({"points": [point, [0, 0, 0]], "point_labels": [1, -1]}, "right"),
    )
    return _prompted(draw, made, f"two spellings at once: {prompts}", prompts, expect=expect, names="object|foreground")


KINDS = (
    one_click, box_alone, scribble_alone, last_mask_alone, last_mask_alone, box_and_click, thin_box, thin_box,
    box_to_the_shape, box_of_no_use, box_of_no_use, clicks_outside, clicks_at_the_border, clicks_of_other_forms,
    clicks_of_other_forms, nothing_said, the_same_voxel, the_same_click_again, clicks_without_end, many_right_clicks,
    objects_without_end, two_objects, objects_of_other_forms, masks_that_do_not_fit, masks_that_are_no_files,
    twisted_mask, both_spellings,
)  # fmt: skip
