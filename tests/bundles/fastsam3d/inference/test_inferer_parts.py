# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The inferer's parts: cubes, replayed clicks, remembered embeddings, label maps, scribbles, devices, weights."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from stand_in import ThresholdNetwork
from volumes import Phantom, dice, grid_around, rotation

from bundles.fastsam3d.scripts.common.geometry import Grid, cube_around
from bundles.fastsam3d.scripts.common.prompts import read_prompts
from bundles.fastsam3d.scripts.common.request import put_request
from bundles.fastsam3d.scripts.inference import zoom
from bundles.fastsam3d.scripts.inference.click_inferer import ClickInferer
from bundles.fastsam3d.scripts.inference.decoding import CubeMemory, CubePrompt, decode_clicks
from bundles.fastsam3d.scripts.inference.drawn import POINTS_PER_STROKE, lasso_points, scribble_points
from bundles.fastsam3d.scripts.inference.items import list_items
from bundles.fastsam3d.scripts.inference.label_map import count_voxels, label_map
from bundles.fastsam3d.scripts.inference.search import Look, Stage, View
from bundles.fastsam3d.scripts.inference.summary import IGNORED
from common.devices import checked_device
from common.weights import load_weights

IMAGE = grid_around(np.diag([2.0, 2.0, 3.0]), (60, 60, 30))
PAIR = Phantom(((4, -30, 45), (6, 7, 6)), ((20, -30, 45), (6, 7, 6)), ramp=4)


# ---- cubes


def test_steps_are_powers_of_the_root_of_two():
    assert zoom.step_up(1.5, 1.5) == 1.5
    assert zoom.step_up(1.51, 1.5) == pytest.approx(1.5 * math.sqrt(2))
    assert zoom.step_up(3.0, 1.5) == pytest.approx(3.0)
    assert zoom.step_up(0.6, 1.5) == pytest.approx(0.75)
    for wanted in (0.01, 0.3, 2, 77):
        assert wanted * (1 - 1e-5) <= zoom.step_up(wanted, 1.5) < wanted * math.sqrt(2) * (1 + 1e-5)


def test_finest_spacing_follows_the_image_but_not_above_the_default():
    assert zoom.finest_spacing(grid_around(np.diag([7.0, 7.0, 7.0]), (9, 9, 9)), 1.5) == 1.5
    # Four voxels of the cube to one of the image's, along its finest axis.
    assert zoom.finest_spacing(grid_around(np.diag([3.0, 3.0, 3.0]), (9, 9, 9)), 1.5) == pytest.approx(0.75)
    assert 0.075 <= zoom.finest_spacing(grid_around(np.diag([0.3, 0.3, 5]), (9, 9, 9)), 1.5) <= 0.075 * math.sqrt(2)


def test_the_first_cube_is_no_wider_than_the_image_needs():
    for affine, shape, expected in (
        (np.diag([1, 1, 1]), (36, 50, 36), 0.53),
        # Wider than the default cube; tilted, as wide as its corners lie apart; no finer than its voxels are worth.
        (np.diag([1, 1, 3]), (300, 90, 30), 1.5),
        (rotation(0, 0, 45), (36, 50, 36), 0.53),
        (rotation(0, 0, 45), (60, 60, 36), 0.75),
        (np.diag([2, 2, 2]), (20, 20, 20), 0.53),
    ):
        grid = grid_around(np.array(affine, dtype=float), shape)
        assert zoom.first_spacing(grid, 128, 1.5) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("radius", [3.0, 20.0, 90.0])
def test_spacing_shows_all_points_with_context(radius):
    centre = np.array([1.0, 2.0, 3.0])
    points = centre + radius * np.array([[1, 0, 0], [0, -1, 0], [0.2, 0.3, 0.9]])
    spacing = zoom.spacing_for(points, centre, 32, 1.5)
    assert radius <= zoom.FILL * 16 * spacing * (1 + 1e-5) < radius * 1.5


def test_box_corners_hold_both_corner_voxels():
    corners = zoom.box_corners_mm([[1, 2, 3], [1, 4, 8]], Grid(np.eye(4), (9, 9, 9)))
    assert corners.min(axis=0).tolist() == [0.5, 1.5, 2.5] and corners.max(axis=0).tolist() == [1.5, 4.5, 8.5]


def test_extent_is_the_box_around_the_mask():
    mask = torch.zeros(60, 60, 30, dtype=torch.bool)
    mask[10, 20:25, 7] = mask[12, 22, 9] = True
    expected = IMAGE.crop((10, 20, 7), (13, 25, 10)).corners_mm()
    np.testing.assert_allclose(zoom.extent_mm(mask, IMAGE), expected)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("index", [0, -1])
def test_border(axis, index):
    mask = torch.zeros(6, 6, 6, dtype=torch.bool)
    mask[1:5, 1:5, 1:5] = True
    inside = torch.ones_like(mask)
    assert not zoom.touches_border(mask, inside)
    mask.select(axis, index)[2, 2] = True
    assert zoom.touches_border(mask, inside)
    inside.select(axis, index)[:] = False
    assert not zoom.touches_border(mask, inside), "where the image ends there is nothing more to see"


@pytest.mark.parametrize("click", [(0, 0, 0), (59, 30, 2), (30, 30, 15)])
def test_coarser_cubes_end_with_the_whole_image(click):
    cube, shown = cube_around(IMAGE.to_mm(np.array(click)), 1.5, 32), []
    while cube is not None:
        shown.append(cube)
        cube = zoom.coarser(cube, IMAGE, 32)
        assert len(shown) < 9
    widths = [float(c.spacing[0]) for c in shown]
    assert widths == sorted(widths) and len(widths) >= 2
    inside = IMAGE.corners_mm()
    last = shown[-1].corners_mm()
    assert (last.min(axis=0) <= inside.min(axis=0) + 0.1).all() and (last.max(axis=0) >= inside.max(axis=0) - 0.1).all()
    for a, b in zip(shown[:-1], shown[1:], strict=True):
        assert b.spacing[0] <= 2 * a.spacing[0] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("voxel", "expected"),
    # A cube of 24 mm: of 24 voxels its cells are 2 mm wide, of 32 they are 1.5 mm wide.
    [(1.0, 32), (1.9, 32), (2.0, 24), (3.0, 24)],
)
def test_a_finer_cube_has_few_voxels_where_they_show_all_of_the_image(voxel, expected):
    image, wide = grid_around(np.diag([voxel, voxel, 6.0]), (90, 90, 30)), cube_around((0, 0, 0), 3.0, 32)
    shown = np.array([[9.0, 0, 0], [-5, 2, 1]])
    cube = zoom.finer(wide, shown, image, 1.5, (24, 32))
    assert cube.shape == (expected,) * 3 and cube.spacing[0] * expected == pytest.approx(24)
    np.testing.assert_allclose(cube.corners_mm(), cube_around((0, 0, 0), 0.75, 32).corners_mm())
    assert zoom.finer(cube, shown, image, 1.5, (24, 32)) is None, "half as wide would not show it"
    # The next one has the usual number of voxels, and is twice as wide.
    coarser = zoom.coarser(cube, image, 32)
    assert coarser.shape == (32,) * 3 and coarser.spacing[0] == pytest.approx(1.5)


# ---- clicks, one after the other


def prompt(*points, labels=None, **more) -> CubePrompt:
    labels = [1] * len(points) if labels is None else labels
    return CubePrompt(torch.tensor(points, dtype=torch.float32).reshape(-1, 3), torch.tensor(labels), **more)


def memory_of(network) -> CubeMemory:
    image = torch.as_tensor(PAIR.image(cube_around((12, -30, 45), 1.5, 32)))[None, None]
    return CubeMemory(network.encode(image))


class Said(ThresholdNetwork):
    """Says what it was told to say, one answer a call."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = [torch.full((1, 1, 32, 32, 32), 1.0) * a for a in answers]

        self.rounds = []

    def decode(self, *args, rounds=1, **kwargs):
        self.rounds.append(rounds)
        return self.answers.pop(0), torch.ones(1, 1)


def test_the_first_click_is_asked_several_times_and_corrections_once():
    network = Said(1, 2, 3)
    memory = memory_of(network)
    decode_clicks(network, memory, [prompt((10, 16, 16), (20, 16, 16), (16, 3, 3))], rounds=3)
    assert network.rounds == [3, 1, 1] and memory.decoded == 5


def test_a_first_click_that_was_asked_once_goes_on_from_its_answer():
    class Growing(ThresholdNetwork):
        """Adds to the last mask, as rounds of one call do."""

        def __init__(self):
            super().__init__()
            self.rounds = []

        def decode(self, embedding, points, labels, boxes=None, masks=None, multimask=False, rounds=1):
            self.rounds.append(rounds)
            masks = torch.zeros(len(points), 1, 32, 32, 32) if masks is None else masks
            return masks + rounds, torch.ones(len(points), 1)

    network = Growing()
    memory, given = memory_of(network), [prompt((10, 16, 16)), prompt((20, 16, 16))]
    ((once, *_),) = decode_clicks(network, memory, given[:1], rounds=1)
    both = decode_clicks(network, memory, given, rounds=3)
    assert (once == 1).all() and all((logits == 3).all() for logits, *_ in both)
    # The one goes on, the other begins; what is known is not asked again, and a known last answer is no shorter way.
    assert sorted(network.rounds) == [1, 2, 3] and memory.decoded == 6
    for rounds, known in ((1, once), (3, both[0][0])):
        ((again, *_),) = decode_clicks(network, memory, given[:1], rounds=rounds)
        assert torch.equal(again, known)
    assert memory.decoded == 6


@pytest.mark.parametrize("one_way", [True, False])
def test_a_further_click_adds_or_takes_away_but_never_both(one_way):
    halves = torch.ones(32, 32, 32)
    halves[:16] = -1
    for label, expected in ((1, torch.maximum), (0, torch.minimum)):
        network = Said(halves, 2 * halves.flip(0))
        given = [prompt((10, 16, 16), (20, 16, 16), labels=[1, label])]
        ((logits, *_),) = decode_clicks(network, memory_of(network), given, one_way=one_way)
        assert torch.equal(logits[0], expected(halves, 2 * halves.flip(0)) if one_way else 2 * halves.flip(0))
    # The first click has no mask to keep.
    network = Said(halves)
    ((logits, *_),) = decode_clicks(network, memory_of(network), [prompt((10, 16, 16))], one_way=one_way)
    assert torch.equal(logits[0], halves)


def test_clicks_are_replayed_with_the_last_logits():
    network = ThresholdNetwork()
    decode_clicks(network, memory_of(network), [prompt((10, 16, 16), (20, 16, 16), (16, 3, 3), labels=[1, 1, 0])])
    assert [c["points"].shape[1] for c in network.calls] == [1, 2, 3]
    assert network.calls[0]["masks"] is None
    assert all(c["masks"] is not None and c["masks"].abs().max() <= 10 for c in network.calls[1:])


def test_a_mask_sums_up_earlier_clicks():
    network = ThresholdNetwork()
    mask = torch.full((1, 32, 32, 32), 50.0)
    decode_clicks(network, memory_of(network), [prompt((10, 16, 16), (20, 16, 16), mask=mask, at_once=2)])
    (call,) = network.calls
    assert call["points"].shape[1] == 2 and call["masks"].max() == 10


def test_objects_together_are_as_objects_alone():
    network = ThresholdNetwork()
    given = [
        prompt((10, 16, 16)),
        prompt((21, 16, 16)),
        prompt((10, 16, 16), (21, 16, 16)),
        prompt(box=torch.tensor([[5.0, 9, 9], [15, 22, 22]])),
        prompt((10, 16, 16), (3, 3, 3), labels=[1, 0]),
    ]
    together = decode_clicks(network, memory_of(network), given)
    assert len(network.calls) < 7, "objects with as many clicks share a call"
    for item, (logits, score, _) in zip(given, together, strict=True):
        ((alone, alone_score, _),) = decode_clicks(network, memory_of(network), [item])
        assert torch.equal(logits, alone) and score == alone_score


def test_only_the_new_click_is_decoded():
    network = ThresholdNetwork()
    memory = memory_of(network)
    first = decode_clicks(network, memory, [prompt((10, 16, 16))])
    decode_clicks(network, memory, [prompt((10, 16, 16), (21, 16, 16))])
    assert len(network.calls) == 2
    again = decode_clicks(network, memory, [prompt((10, 16, 16))])
    assert len(network.calls) == 2 and torch.equal(first[0][0], again[0][0])
    # Another place, another label, a box: none of these is known.
    decode_clicks(network, memory, [prompt((11, 16, 16))])
    decode_clicks(network, memory, [prompt((10, 16, 16), labels=[0], mask=torch.zeros(1, 32, 32, 32))])
    decode_clicks(network, memory, [prompt((10, 16, 16), box=torch.tensor([[5.0, 9, 9], [15, 22, 22]]))])
    assert len(network.calls) == 5


def test_a_box_alone_is_remembered_too():
    network = ThresholdNetwork()
    memory = memory_of(network)
    for _ in range(2):
        ((logits, *_),) = decode_clicks(network, memory, [prompt(box=torch.tensor([[5.0, 9, 9], [15, 22, 22]]))])
        assert (logits > 0).any() and len(network.calls) == 1


def test_memory_of_steps_is_bounded():
    network = ThresholdNetwork()
    memory = memory_of(network)
    for k in range(memory.size + 1):
        decode_clicks(network, memory, [prompt((k % 32, k // 32, 16))])
    calls = len(network.calls)
    decode_clicks(network, memory, [prompt((1, 0, 16))])
    assert len(network.calls) == calls
    decode_clicks(network, memory, [prompt((0, 0, 16))])
    assert len(network.calls) == calls + 1


# ---- embeddings


def scene(image: np.ndarray, grid: Grid, **prompts) -> MetaTensor:
    inputs = MetaTensor(torch.as_tensor(image.copy())[None, None], affine=torch.as_tensor(grid.affine))
    put_request(inputs, read_prompts(prompts, grid.shape))
    return inputs


def summary_of(result: MetaTensor) -> dict:
    return json.loads(result.meta["summary"])


def test_further_clicks_and_objects_use_the_embedding_again():
    # At this spacing the objects are not small: no finer cube follows.
    network, inferer = ThresholdNetwork(), ClickInferer(32, spacing=1.0, window=[-100, 100], progress=False)
    image = PAIR.image(IMAGE)
    left, right = PAIR.click(IMAGE, 0), PAIR.click(IMAGE, 1)
    first = summary_of(inferer(scene(image, IMAGE, foreground=[left]), network))
    assert first["embeddings"] == {"computed": network.encoded, "reused": 0}
    before = network.encoded
    second = summary_of(inferer(scene(image, IMAGE, foreground=[left], background=[[1, 1, 1]]), network))
    assert second["embeddings"] == {"computed": 0, "reused": before} and network.encoded == before
    # Both objects lie in the inner half of the first one's cube.
    inferer = ClickInferer(32, spacing=1.0, window=[-100, 100], progress=False)
    network = ThresholdNetwork()
    near = summary_of(inferer(scene(image, IMAGE, objects={"a": [left], "b": [np.add(left, [1, 0, 0])]}), network))
    assert near["embeddings"]["computed"] == 1
    far = summary_of(inferer(scene(image, IMAGE, objects={"a": [left], "b": [right]}), network))
    assert far["embeddings"] == {"computed": 1, "reused": 1}


def test_other_content_or_weights_are_encoded_anew():
    network, inferer = ThresholdNetwork(), ClickInferer(32, spacing=1.0, window=[-100, 100], progress=False)
    image = PAIR.image(IMAGE)
    click = PAIR.click(IMAGE)
    inferer(scene(image, IMAGE, foreground=[click]), network)
    assert network.encoded == 1
    changed = image.copy()
    changed[tuple(np.round(click).astype(int))] += 1e-3
    inferer(scene(changed - 2, IMAGE, foreground=[click]), network)
    assert network.encoded == 2
    with torch.no_grad():
        network.weight += 1e-3
    inferer(scene(image, IMAGE, foreground=[click]), network)
    assert network.encoded == 3
    inferer(scene(image, IMAGE, foreground=[click]), network)
    assert network.encoded == 3


# ---- a small object


class Spoken(ThresholdNetwork):
    """Finds what is bright; from the second click on it answers for the cubes as it is told to."""

    def __init__(self, **further):
        super().__init__()
        self.further = further
        self.asked = []

    def decode(self, embedding, points, labels, boxes=None, masks=None, multimask=False, rounds=1):
        logits, score = super().decode(embedding, points, labels, boxes, masks, multimask, rounds)
        # A thing fills more of a finer cube.
        cube = "fine" if (logits > 0).float().mean() > 0.02 else "wide"
        self.asked.append((cube, points.shape[1], masks is not None))
        if points.shape[1] > 1 and cube in self.further:
            logits = torch.full_like(logits, self.further[cube])
        return logits, score


FINE = grid_around(np.diag([0.5, 0.5, 0.7]), (90, 90, 60))
NODULE = Phantom(((12, -30, 45), (4.5, 5.0, 4.5)), ramp=3)


def clicked(network, inferer, count: int, label: int = 1) -> tuple[np.ndarray, dict]:
    """One click on the nodule, then some beside it, one after the other: news to who takes them for the object."""
    beside = [FINE.to_voxels(np.array([12, -30, 45]) + [4.7, k / 2, 0]) for k in range(count - 1)]
    prompts = {"points": [NODULE.click(FINE), *beside], "point_labels": [1, *[label] * (count - 1)]}
    result = inferer(scene(NODULE.image(FINE), FINE, **prompts), network)
    return result[0, 0].numpy(), summary_of(result)


def test_a_small_object_s_further_clicks_are_asked_in_the_finer_cube_alone():
    network = Spoken(wide=-3.0)
    inferer = ClickInferer(32, window=[-100, 100], progress=False, rounds=3)
    for count in (1, 2, 3):
        network.asked.clear()
        mask, summary = clicked(network, inferer, count)
        assert [c["why"] for c in summary["objects"][0]["cubes"]] == ["first prompt", "the mask is small"]
        # The finer cube starts from the wide one's mask, and a further click from the finer one's.
        expected = [("wide", 1, False), ("fine", 1, True)] if count == 1 else [("fine", count, True)]
        # So small a thing is found in one round; its finer cube is asked three times.
        assert network.asked == expected and summary["decoder_calls"] == (4 if count == 1 else 1)
        assert summary["embeddings"]["computed"] == (2 if count == 1 else 0)
        assert dice(mask, NODULE.truth(FINE)) >= 0.95
    # Asked at once it is the same.
    network.asked.clear()
    again, _ = clicked(network, ClickInferer(32, window=[-100, 100], progress=False, rounds=3), 3)
    assert network.asked == [("wide", 1, False), *(("fine", n, True) for n in (1, 2, 3))]
    assert (again == mask).all()


@pytest.mark.parametrize(("spacing", "calls"), [(1.5, 1 + 3), (1.0, 3 + 3), (0.75, 3)])
def test_only_a_very_small_first_answer_is_not_asked_again(spacing, calls):
    """The nodule asks for a cube of 16 mm or less: a third of the width, half of it, more."""
    inferer = ClickInferer(32, spacing=spacing, window=[-100, 100], progress=False, rounds=3)
    mask, summary = clicked(Spoken(), inferer, 1)
    assert summary["decoder_calls"] == calls and dice(mask, NODULE.truth(FINE)) >= 0.95


@pytest.mark.parametrize("few", [24, 64, None])
def test_a_small_object_s_cube_may_have_fewer_voxels(few):
    # Voxels so coarse that a finer cube shows more of nothing.
    image = grid_around(rotation(10, 20, 5) @ np.diag([1.2, -1.2, 1.5]), (60, 60, 44))
    thing = Phantom(((12, -30, 45), (4.5, 5.0, 4.5)), ramp=3)
    network = Spoken()
    inferer = ClickInferer(32, small_cube_size=few, window=[-100, 100], progress=False)
    result = inferer(scene(thing.image(image), image, foreground=[thing.click(image)]), network)
    wide, fine = summary_of(result)["objects"][0]["cubes"]
    assert (wide["voxels_a_side"], fine["voxels_a_side"]) == (32, 24 if few == 24 else 32)
    assert fine["spacing_mm"] * fine["voxels_a_side"] <= wide["spacing_mm"] * wide["voxels_a_side"] / 2
    assert dice(result[0, 0].numpy(), thing.truth(image)) >= 0.9


def test_without_a_cache_no_cube_is_encoded_twice():
    network, inferer = ThresholdNetwork(), ClickInferer(32, window=[-100, 100], progress=False, cache_bytes=0)
    clicked(network, inferer, 3)
    assert network.encoded == 2
    # One that is not small.
    inferer = ClickInferer(32, spacing=0.75, window=[-100, 100], progress=False, cache_bytes=0)
    clicked(network, inferer, 3)
    assert network.encoded == 3


def test_corrections_that_reach_the_finer_cube_s_border_are_followed_in_a_wider_one():
    network = Spoken(fine=3.0)
    inferer = ClickInferer(32, window=[-100, 100], progress=False, one_way=False)
    _, summary = clicked(network, inferer, 2)
    first, fine, *wider = summary["objects"][0]["cubes"]
    assert fine["why"] == "the mask is small" and wider
    assert all("border" in c["why"] and c["spacing_mm"] > fine["spacing_mm"] for c in wider)


def test_a_click_outside_the_finer_cube_asks_for_one_that_shows_it():
    inferer = ClickInferer(32, window=[-100, 100], progress=False)
    network = ThresholdNetwork()
    _, summary = clicked(network, inferer, 1)
    narrow = summary["objects"][0]["cubes"][-1]["spacing_mm"]
    click = NODULE.click(FINE)
    far = FINE.to_voxels(np.array([12, -30, 45]) + [0, 0, 14])
    summary = summary_of(inferer(scene(NODULE.image(FINE), FINE, foreground=[click, far]), network))
    assert summary["objects"][0]["cubes"][-1]["spacing_mm"] > narrow
    # There is nothing there to be found.
    assert summary["objects"][0]["notes"] == [IGNORED.format(1)]


def test_an_object_that_corrections_make_small_gets_its_finer_cube_then():
    """The wide cube's first mask is no small one: the second click is asked there as well."""

    class Wide(ThresholdNetwork):
        def decode(self, embedding, points, *args, **kwargs):
            logits, score = super().decode(embedding, points, *args, **kwargs)
            if points.shape[1] == 1:
                logits = logits.clone()
                logits[:, :, 4:-4, 4:-4, 4:-4] = 1.0
            return logits, score

    inferer = ClickInferer(32, window=[-100, 100], progress=False, one_way=False)
    _, summary = clicked(Wide(), inferer, 1)
    assert [c["why"] for c in summary["objects"][0]["cubes"]] == ["first prompt"]
    mask, summary = clicked(Wide(), inferer, 2, label=0)
    assert [c["why"] for c in summary["objects"][0]["cubes"]] == ["first prompt", "the mask is small"]
    assert dice(mask, NODULE.truth(FINE)) >= 0.95


# ---- label maps


def view(grid: Grid, logits: torch.Tensor) -> View:
    look = Look(Stage.CLICKS, grid, 1, 1, "")
    return View(look, grid, logits[None], torch.ones(grid.shape, dtype=torch.bool), 1.0)


SMALL = Grid(np.eye(4), (12, 12, 12))


def ramp(at: float, slope: float = 1.0) -> torch.Tensor:
    return (torch.arange(12.0) - at).view(12, 1, 1).expand(12, 12, 12) * slope


def test_the_larger_logit_wins():
    up, down = ramp(3.5), ramp(8.5, -1)
    labels = label_map([[view(SMALL, up)], [view(SMALL, down)]], SMALL, torch.device("cpu"))
    assert labels.dtype == torch.uint8
    # Where both say the same, the first keeps it.
    assert labels[:, 0, 0].tolist() == [2] * 6 + [1] * 6
    swapped = label_map([[view(SMALL, down)], [view(SMALL, up)]], SMALL, torch.device("cpu"))
    assert swapped[:, 5, 5].tolist() == [1] * 7 + [2] * 5


def test_a_finer_view_has_the_word_in_its_cube():
    wide = cube_around((5.5, 5.5, 5.5), 4.0, 12)
    fine = cube_around((5.5, 5.5, 5.5), 0.5, 12)
    views = [view(fine, torch.full((12, 12, 12), -5.0)), view(wide, torch.full((12, 12, 12), 3.0))]
    labels = label_map([views], SMALL, torch.device("cpu"))
    hole = torch.zeros(12, 12, 12, dtype=torch.bool)
    hole[3:9, 3:9, 3:9] = True
    assert torch.equal(labels == 0, hole)


def test_nothing_found_and_many_objects():
    nothing = [view(SMALL, torch.full((12, 12, 12), -1.0))]
    assert not label_map([nothing], SMALL, torch.device("cpu")).any()
    labels = label_map([nothing] * 255 + [[view(SMALL, ramp(3.5))]], SMALL, torch.device("cpu"))
    assert labels.dtype == torch.uint16 and set(labels.int().unique().tolist()) == {0, 256}


def test_voxels_are_counted_where_objects_are_and_nowhere_else():
    image = Grid(np.eye(4), (12, 14, 13))
    block = torch.full((12, 12, 12), -1.0)
    block[3:6, 4:9, 2] = 1.0
    objects = [[view(SMALL, block)], [view(SMALL, torch.full_like(block, -1.0))]]
    labels = label_map(objects, image, torch.device("cpu"))
    expected = torch.bincount(labels.flatten().int(), minlength=3).tolist()
    assert expected[1] > 0 and count_voxels(labels, objects, image) == expected
    assert objects[0][0].bounds == ([3, 4, 2], [6, 9, 3])
    assert objects[1][0].bounds is None
    nothing = label_map(objects[1:], image, torch.device("cpu"))
    assert count_voxels(nothing, objects[1:], image) == [12 * 14 * 13, 0]


@pytest.mark.parametrize("flip", [1, -1])
def test_a_mask_of_one_voxel_comes_back_where_it_was(flip):
    image = grid_around(rotation(0, 0, 30) @ np.diag([2.0 * flip, 2.0, 2.0]), (9, 9, 9))
    cube = cube_around((12, -30, 45), 0.5, 32)
    mm = cube.to_mm(np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), axis=-1))
    near = torch.as_tensor(0.9 - np.linalg.norm(mm - image.to_mm(np.array([4, 5, 4])), axis=-1)).float()
    labels = label_map([[view(cube, near)]], image, torch.device("cpu"))
    assert torch.nonzero(labels).tolist() == [[4, 5, 4]]


# ---- scribbles


def test_scribble_points_lie_on_the_strokes_and_spread():
    strokes = torch.zeros(60, 60, 30, dtype=torch.uint8)
    strokes[5:50, 10, 10] = 1
    strokes[20, 40:44, 10] = 2
    strokes[1, 1, 1] = 3
    points, labels = scribble_points(strokes, IMAGE)
    assert labels == [1] * POINTS_PER_STROKE + [0] * 4
    for point, label in zip(points, labels, strict=True):
        assert strokes[tuple(int(x) for x in point)] == (1 if label else 2)
    along = [p[0] for p, label in zip(points, labels, strict=True) if label]
    assert along[0] == 27 and {min(along), max(along)} == {5, 49}
    assert len({tuple(p) for p in points}) == len(points)


def test_scribble_distances_are_in_mm():
    strokes = torch.zeros(5, 5, 5, dtype=torch.uint8)
    strokes[2, 2, 2] = strokes[4, 2, 2] = strokes[2, 2, 3] = 1
    points, _ = scribble_points(strokes, Grid(np.diag([1.0, 1.0, 9.0, 1.0]), (5, 5, 5)))
    assert points[1] == [2, 2, 3], "one thick slice away is farther than two thin voxels"


def test_no_strokes():
    assert scribble_points(torch.zeros(5, 5, 5, dtype=torch.uint8), SMALL) == ([], [])


def test_an_outline_as_clicks():
    lasso = torch.zeros(40, 40, 40, dtype=torch.uint8)
    lasso[5:16, 9:30, 20] = 1
    lasso[16:19, 9:12, 20] = 2
    points, labels = lasso_points(lasso, IMAGE)
    assert points[0][0] == 10 and 14 <= points[0][1] <= 24 and all(p[2] == 20 for p in points)
    for (x, y, _), label in zip(points[:-1], labels[:-1], strict=True):
        away = max(5 - x, x - 15, 9 - y, y - 29)
        assert away <= -2 if label else away == 2
    assert len(set(map(tuple, points))) == len(points) and sum(labels) == 9 and len(labels) == 18
    # What is not the object has its own outline; what lies outside the one around the object is not looked for in it.
    assert points[-1] == [17, 10, 20] and labels[-1] == 0
    assert lasso_points(lasso * 0, IMAGE) == ([], [])
    small = torch.zeros(40, 40, 40, dtype=torch.uint8)
    small[0, 0, 0] = 1
    points, labels = lasso_points(small, IMAGE)
    assert points[0] == [0, 0, 0] and sum(labels) == 1 and 0 in labels


# ---- the rest


def test_devices():
    assert checked_device("cpu") == torch.device("cpu")
    assert checked_device(torch.device("cpu")) == torch.device("cpu")
    assert checked_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("gpu", "cuda:99", "meta", None, 2.5):
        with pytest.raises(ValueError, match="expected auto or one of"):
            checked_device(wrong)


def test_items(tmp_path):
    a, b, pipe = (str(tmp_path / name) for name in ("a.nii", "b.nii", "pipe.nii"))
    for name in (a, b):
        Path(name).write_bytes(b"")
    assert list_items(a, foreground=[1], box=None) == [{"image": a, "foreground": [1], "box": None}]
    two = list_items([a, {"image": b, "foreground": [2]}], foreground=[1])
    assert [(c["image"], c["foreground"]) for c in two] == [(a, [1]), (b, [2])]
    os.mkfifo(pipe)
    for wrong, reason in ((f"{a}.gz", "no such file"), (pipe, "a device or pipe"), ("x" * 300, "has 300 bytes")):
        with pytest.raises(ValueError, match=f"{reason}.*"):
            list_items([a, wrong])
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.nii.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="named a"):
        list_items([a, str(tmp_path / "x" / "a.nii.gz")])


def test_weights_under_a_key_and_bare(tmp_path):
    network = torch.nn.Linear(2, 3)
    state = {k: torch.rand_like(v) for k, v in network.state_dict().items()}
    for name, saved in (("bare.pt", state), ("keyed.pt", {"model": state, "epoch": 3})):
        torch.save(saved, tmp_path / name)
        torch.nn.init.zeros_(network.weight)
        load_weights(network, tmp_path / name)
        assert torch.equal(network.weight, state["weight"])


def test_half_precision_weights_are_taken(tmp_path):
    network = torch.nn.Linear(2, 3)
    torch.save({k: v.half() for k, v in network.state_dict().items()}, tmp_path / "half.pt")
    load_weights(network, tmp_path / "half.pt")
    assert network.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalisation": "other"}, "normalisation 'other': expected clipped or above_zero"),
        ({"cube_size": 0}, "cube_size 0"),
        ({"small_cube_size": 0}, "small_cube_size 0: expected a positive number"),
        ({"spacing": -1}, "spacing -1"),
        ({"cache_bytes": -1}, "cache of -1 bytes"),
        ({"amp": "half"}, "amp 'half'"),
    ],
)
def test_inferer_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ClickInferer(**settings)


def test_inferer_wants_one_image_with_prompts():
    inferer = ClickInferer(32, progress=False)
    with pytest.raises(ValueError, match="carries no request"):
        inferer(MetaTensor(torch.rand(1, 1, 8, 8, 8)), ThresholdNetwork())
    for shape in ((2, 1, 8, 8, 8), (1, 2, 8, 8, 8), (1, 8, 8, 8)):
        with pytest.raises(ValueError, match="expected one image of one channel"):
            inferer(MetaTensor(torch.rand(shape)), ThresholdNetwork())


def test_inferer_leaves_its_input_alone():
    image = PAIR.image(IMAGE)
    inputs = scene(image, IMAGE, foreground=[PAIR.click(IMAGE)])
    meta = dict(inputs.meta)
    result = ClickInferer(32, window=[-100, 100], progress=False)(inputs, ThresholdNetwork())
    assert "summary" not in inputs.meta and inputs.meta.keys() == meta.keys()
    np.testing.assert_array_equal(inputs[0, 0].numpy(), image)
    assert torch.equal(result.affine, inputs.affine)
    assert dice(result[0, 0], PAIR.truth(IMAGE)) >= 0.9


@pytest.mark.parametrize("normalisation", ["clipped", "above_zero"])
def test_a_background_click_may_come_first(normalisation):
    network = ThresholdNetwork()
    inferer = ClickInferer(32, window=[-100, 100], progress=False, normalisation=normalisation)
    on, beside = PAIR.click(IMAGE, 0), IMAGE.to_voxels(np.array([4, -30, 45]) - [5, 0, 0])
    inputs = scene(PAIR.image(IMAGE) + 100, IMAGE, points=[beside, on], point_labels=[0, 1])
    inferer(inputs, network)
    assert network.calls[0]["labels"].tolist() == [[1]], "the first click that the network sees is a foreground one"
    assert network.calls[-1]["labels"].tolist() == [[1, 0]]
