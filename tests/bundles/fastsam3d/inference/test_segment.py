# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The engine on arrays in memory."""

import numpy as np
import pytest
import torch
from stand_in import ThresholdNetwork
from volumes import Phantom, dice, grid_around, rotation

from bundles.fastsam3d.scripts.common.prompts import read_prompts
from bundles.fastsam3d.scripts.inference.segment import Segmenter

GRID = grid_around(rotation(10, 20, 5) @ np.diag([2.0, -2.0, 3.0]), (60, 60, 30))
PAIR = Phantom(((4, -30, 45), (6, 7, 6)), ((20, -30, 45), (6, 7, 6)), ramp=4)
LEFT, RIGHT = PAIR.click(GRID, 0), PAIR.click(GRID, 1)
# A voxel outside both, in the cube of the left one.
BESIDE = GRID.to_voxels(np.array([4, -30, 45]) + [0, 10, 0]).round().astype(int).tolist()


def segment(prompts, **more):
    engine = Segmenter(32, window=[-100, 100])
    return engine.segment(PAIR.image(GRID), GRID.affine, prompts, ThresholdNetwork(), **more)


def test_two_objects():
    found = segment({"objects": {"left": [LEFT], "right": [RIGHT]}})
    assert found.summary["label_names"] == {"1": "left", "2": "right"} and all(0.5 < s < 0.9 for s in found.scores)
    for value in (1, 2):
        mask = (found.labels == value).numpy()
        assert dice(mask, PAIR.truth(GRID, value - 1)) >= 0.9
        logits = found.logits(value - 1)
        assert logits.shape == GRID.shape and logits.dtype == torch.float32
        assert np.array_equal((logits > 0).numpy(), mask), "these objects lie apart: nobody wins over the other"


def test_checked_prompts_are_taken_as_they_are():
    asked = {"foreground": [LEFT], "background": [[1, 1, 1]]}
    found, again = segment(asked), segment(read_prompts(asked, GRID.shape))
    assert torch.equal(found.labels, again.labels) and found.labels.any()


def test_masks_by_name():
    drawn = PAIR.truth(GRID, 1)
    found = segment({"previous_mask": "last"}, masks={"last": drawn})
    assert dice(found.labels.numpy(), drawn) >= 0.9
    strokes = np.zeros(GRID.shape, dtype=np.uint8)
    strokes[tuple(np.round(LEFT).astype(int))] = 1
    assert dice(segment({"scribble": "s"}, masks={"s": strokes}).labels.numpy(), PAIR.truth(GRID, 0)) >= 0.9
    outline = np.where(np.arange(GRID.shape[2]) == round(LEFT[2]), PAIR.truth(GRID, 0), 0)
    assert dice(segment({"lasso": "s"}, masks={"s": outline}).labels.numpy(), PAIR.truth(GRID, 0)) >= 0.9


def test_the_volume_stays_as_it_is_and_is_known_again():
    engine, network, image = Segmenter(32, window=[-100, 100]), ThresholdNetwork(), torch.as_tensor(PAIR.image(GRID))
    before = image.clone()
    first, second = (engine.segment(image, GRID.affine, {"foreground": [LEFT]}, network) for _ in range(2))
    assert torch.equal(image, before) and torch.equal(first.labels, second.labels)
    assert second.summary["embeddings"]["computed"] == 0 and second.summary["decoder_calls"] == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prompts": {"previous_mask": "last"}}, "the mask 'last' is missing: expected one on the grid"),
        (
            {"prompts": {"previous_mask": "last"}, "masks": {"last": np.ones((2, 3, 4))}},
            r"the mask 'last' is \(2, 3, 4\): expected one on the grid of the volume, \(60, 60, 30\)",
        ),
        ({"prompts": {"foreground": [[60, 0, 0]]}}, "outside the volume"),
        ({"prompts": {}}, "no prompt was given"),
        ({"volume": np.zeros((1, 9, 9, 9))}, r"a volume of shape \(1, 9, 9, 9\).*expected \(X, Y, Z\)"),
        ({"affine": np.eye(3)}, r"an affine of \(3, 3\): expected"),
    ],
)
def test_what_is_refused(more, message):
    given = {"volume": PAIR.image(GRID), "affine": GRID.affine, "prompts": {"foreground": [LEFT]}, **more}
    with pytest.raises(ValueError, match=message):
        Segmenter(32).segment(**given, network=ThresholdNetwork())


def counted(prompts, network=None, **more):
    """What is found, and how often the network was asked."""
    network = network or ThresholdNetwork()
    engine = Segmenter(32, window=[-100, 100])
    found = engine.segment(PAIR.image(GRID), GRID.affine, prompts, network, **more)
    return found, len(network.calls)


def test_a_further_click_where_the_mask_is_already_changes_nothing():
    once, calls = counted({"foreground": [LEFT]})
    near = [[LEFT[0] + dx, LEFT[1] + dy, LEFT[2]] for dx in (-1, 0, 1) for dy in (-1, 1)]
    again, more_calls = counted({"foreground": [LEFT, *near], "background": [BESIDE]})
    assert torch.equal(once.labels, again.labels) and more_calls == calls
    assert again.summary["objects"][0]["notes"] == []


class Flooding(ThresholdNetwork):
    """From the second click on all of the image is the object."""

    def decode(self, embedding, points, *args, **kwargs):
        logits, score = super().decode(embedding, points, *args, **kwargs)
        return (torch.full_like(logits, 9.0) if points.shape[1] > 1 else logits), score


def test_a_right_click_does_not_flood_the_image():
    beside = GRID.to_voxels(np.array([4, -30, 45]) + [0, 8.5, 0]).tolist()
    found, calls = counted({"foreground": [LEFT, beside]}, Flooding())
    assert calls > 2, "the second click was shown"
    labels = found.labels.numpy()
    assert labels[tuple(np.round(beside).astype(int))] and labels.sum() < 0.02 * labels.size


LAST = PAIR.truth(GRID, 1)


def test_a_last_mask_stays_where_nothing_is_clicked():
    holes = LAST & (np.indices(GRID.shape)[0] % 3 > 0)
    found, calls = counted({"previous_mask": "last"}, masks={"last": holes})
    assert np.array_equal(found.labels.numpy() > 0, holes) and calls == 0
    assert found.scores == [None] and found.summary["objects"][0]["predicted_iou"] is None
    inside = np.argwhere(holes)[len(np.argwhere(holes)) // 2].tolist()
    found, calls = counted({"previous_mask": "last", "foreground": [inside]}, masks={"last": holes})
    assert np.array_equal(found.labels.numpy() > 0, holes) and calls == 0


def test_clicks_correct_a_last_mask():
    both = LAST | PAIR.truth(GRID, 0)
    # The wrong object is taken away by a background click alone, the right one added by a foreground click alone.
    found, calls = counted({"previous_mask": "last", "background": [LEFT]}, masks={"last": both})
    assert (
        calls > 0 and dice(found.labels.numpy() > 0, LAST) > 0.9 and not found.labels[tuple(np.round(LEFT).astype(int))]
    )
    found, _ = counted({"previous_mask": "last", "foreground": [LEFT]}, masks={"last": LAST})
    assert dice(found.labels.numpy() > 0, both) > 0.75 and (found.labels.numpy()[LAST] > 0).all()
    assert isinstance(found.scores[0], float)


def test_a_click_on_a_single_voxel_of_a_last_mask():
    """Cells are coarser than voxels: the voxel is what was said all the same."""
    thin = np.zeros(GRID.shape, dtype=bool)
    thin[10:40, 30, 15] = True
    found, _ = counted({"previous_mask": "last", "background": [[20, 30, 15]]}, masks={"last": thin})
    assert not found.labels[20, 30, 15] and found.labels[15, 30, 15] and found.labels[30, 30, 15]


def flat_box(slices: int) -> list[list[int]]:
    """Around the left object in some slices in its middle."""
    voxels = np.argwhere(PAIR.truth(GRID, 0))
    low, high, middle = voxels.min(axis=0), voxels.max(axis=0), round(LEFT[2])
    low[2], high[2] = middle - (slices - 1) // 2, middle + slices // 2
    return [low.tolist(), high.tolist()]


def test_a_box_on_one_slice_finds_the_object():
    found = segment({"box": flat_box(1)})
    assert dice(found.labels.numpy(), PAIR.truth(GRID, 0)) >= 0.9
    (note,) = found.summary["objects"][0]["notes"]
    assert note.startswith("the box is flat")
    assert segment({"box": [[0, 0, 0], [30, 30, 20]]}).summary["objects"][0]["notes"] == []


@pytest.mark.parametrize("labels", [[1, 0], [0, 1], [1, 0, 1], [0, 1, 0]])
def test_the_last_click_on_a_voxel_counts(labels):
    clicks = [LEFT, *[BESIDE] * len(labels)]
    for order in ("first", "last"):
        given = clicks if order == "first" else [*clicks[1:], clicks[0]]
        signs = [1, *labels] if order == "first" else [*labels, 1]
        labelled = segment({"points": given, "point_labels": signs}).labels
        assert bool(labelled[tuple(BESIDE)]) == bool(labels[-1]), order


def test_a_voxel_clicked_as_the_object_and_then_not():
    found = segment({"points": [LEFT, LEFT], "point_labels": [1, 0]})
    assert not found.labels[tuple(np.round(LEFT).astype(int))]


def test_too_many_rounds():
    with pytest.raises(ValueError, match="rounds 1000000: expected at most 20; max_rounds raises it"):
        Segmenter(rounds=10**6)
    Segmenter(rounds=30, max_rounds=30)
