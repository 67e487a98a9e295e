# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How networks see a picture: where a pixel goes, and that it comes back."""

import pytest
import torch

from bundles.ssam_2d.scripts.images import SAM_MEAN, normalise
from bundles.ssam_2d.scripts.view import VIEWS, ToSquared, View

SHAPES = [(40, 64), (64, 40), (33, 33), (4, 200)]


def picture(shape) -> torch.Tensor:
    """From 30 to 230, not in step with the sides."""
    rows, columns = torch.meshgrid(*(torch.arange(n) / max(n - 1, 1) for n in shape), indexing="ij")
    return (30 + 100 * rows + 100 * columns).expand(3, -1, -1)


@pytest.mark.parametrize("how", VIEWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_lies_somewhere_comes_back_there(how, shape):
    """A ramp of columns in the square, brought back, is the ramp of the picture's own columns."""
    view = View(how, 32)
    across, down = view.scale(shape)
    ramp = torch.arange(32.0).expand(32, 32)
    for logits, step, axis in ((ramp, across, 1), (ramp.t(), down, 0)):
        back = view.back(logits[None, None], shape)[0, 0]
        expected = ((torch.arange(shape[axis]) + 0.5) * step - 0.5).clamp(min=0)
        line = back.select(1 - axis, shape[1 - axis] // 2)
        inner = slice(int(1 / step) + 1, shape[axis] - int(1 / step) - 1)
        torch.testing.assert_close(line[inner], expected[inner], atol=1e-3, rtol=0)


def test_padded_views_keep_proportions_and_fill_as_each_was_trained():
    shown = picture((40, 64))
    for how in ("sam", "medsam"):
        view = View(how, 32)
        assert view.sides((40, 64)) == (20, 32) and view.scale((40, 64)) == (0.5, 0.5)
        taken = view(shown)
        # Zeros in what the network takes, whatever the intensities.
        assert taken.shape == (3, 32, 32) and taken[:, 20:].abs().max() < 1e-6
    lowest, highest = taken[:, :20].aminmax()
    assert lowest == 0 and highest == pytest.approx(1)
    assert View("medsam", 32)(0.2 * shown + 9).sub(taken).abs().max() < 1e-5
    square = View("sam", 32).square(shown)
    torch.testing.assert_close(View("sam", 32)(shown), normalise(square))
    assert square[:, -1, -1].tolist() == pytest.approx(SAM_MEAN)
    assert View("stretch", 32).scale((40, 64)) == (0.5, 0.8)


@pytest.mark.parametrize("how", VIEWS)
def test_what_is_displayed_is_what_was_normalised(how):
    view = View(how, 32)
    square = view.square(picture((40, 64)))
    torch.testing.assert_close(view.displayed(view.normalised(square)), square, atol=1e-3, rtol=0)


def test_masks_go_where_the_picture_goes():
    mask = torch.zeros(2, 40, 64, dtype=torch.uint8)
    mask[1, 10:20, 32:64] = 1
    shown = ToSquared(("image", "label"), View("medsam", 32))({"image": picture((40, 64)), "label": mask})
    assert shown["label"].dtype == torch.uint8 and shown["label"].shape == (2, 32, 32)
    assert shown["label"][1, 5:10, 16:].all() and int(shown["label"].sum()) == 5 * 16


def test_a_very_wide_picture_keeps_a_row():
    assert View("medsam", 32).sides((2, 400)) == (1, 32)


def test_another_view_is_refused():
    with pytest.raises(ValueError, match="expected one of stretch, sam, medsam"):
        View("crop")
