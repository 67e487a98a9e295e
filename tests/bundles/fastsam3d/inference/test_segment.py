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


def segment(prompts, **more):
    engine = Segmenter(32, window=[-100, 100])
    return engine.segment(PAIR.image(GRID), GRID.affine, prompts, ThresholdNetwork(), **more)


def test_two_objects():
    found = segment({"objects": {"left": [LEFT], "right": [RIGHT]}})
    assert found.summary["label_names"] == {"1": "left", "2": "right"} and found.scores == pytest.approx([0.9, 0.9])
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
