# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What 3D Slicer's and napari's extensions send, in the order in which they send it, and what has to come back.

SlicerNNInteractive 1.0 sends the array ``[1, k, j, i]``, uint8 crops of what was drawn, boxes one voxel thick and the
spacing in the array's order. napari-nninteractive 2.5.4 sends places as floats, and boxes that may reach beyond the
image.
"""

import nibabel as nib
import numpy as np
import pytest
from interactive_server_help import dice
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Client

# (k, j, i): no axis is as long as another, and none as coarse.
SHAPE, SPACING = (24, 56, 64), (3.0, 1.2, 1.0)
CENTER = (13, 22, 40)


def ellipsoid() -> tuple[np.ndarray, np.ndarray]:
    """A volume as Slicer holds it, and an object in it that is a ball in mm."""
    mm = (np.indices(SHAPE) - np.reshape(CENTER, (3, 1, 1, 1))) * np.reshape(SPACING, (3, 1, 1, 1))
    truth = (mm**2).sum(axis=0) < 14**2
    return (np.random.default_rng(3).normal(0, 20, SHAPE) + 250 * truth).astype(np.int16), truth


@pytest.fixture
def slicer(server):
    """A session as the extension sets it up: image, buffer, then a reset."""
    image, _ = ellipsoid()
    with Client(server) as client:
        client.set_image(image[None], {"spacing": list(SPACING)})
        client.set_target_buffer(np.zeros(SHAPE, np.uint8))
        client.reset_interactions()
        yield client


def test_a_click_in_slicer(slicer):
    box = slicer.add_point_interaction(CENTER, True)
    assert dice(slicer.target_buffer, ellipsoid()[1]) > 0.9
    # Slicer copies this part alone into its segment.
    found = np.argwhere(slicer.target_buffer)
    assert (found.min(axis=0) >= [low for low, _ in box]).all() and (found.max(axis=0) < [h for _, h in box]).all()


@pytest.mark.parametrize("axis", range(3))
def test_a_box_drawn_in_each_of_slicers_views_is_flat(slicer, axis):
    truth = ellipsoid()[1]
    corners = np.argwhere(truth)
    low, high = corners.min(axis=0), corners.max(axis=0)
    low[axis] = high[axis] = CENTER[axis]
    box = [[int(min(a, b)), int(max(a, b)) + 1] for a, b in zip(low, high, strict=True)]
    assert box[axis][1] - box[axis][0] == 1
    slicer.add_bbox_interaction(box, True)
    assert slicer.target_buffer[CENTER] == 1
    assert dice(slicer.target_buffer, truth) > 0.5


@pytest.mark.parametrize("axis", range(3))
def test_a_lasso_is_a_crop_one_voxel_thick(slicer, axis):
    truth = ellipsoid()[1]
    flat = np.zeros_like(truth)
    place = [slice(None)] * 3
    place[axis] = CENTER[axis]
    flat[tuple(place)] = truth[tuple(place)]
    corners = np.argwhere(flat)
    box = [[int(a), int(b) + 1] for a, b in zip(corners.min(axis=0), corners.max(axis=0), strict=True)]
    crop = np.ascontiguousarray(flat[tuple(slice(*side) for side in box)].astype(np.uint8))
    slicer.add_lasso_interaction(crop, True, interaction_bbox=box)
    assert slicer.target_buffer[CENTER] == 1
    assert dice(slicer.target_buffer, truth) > 0.5


def test_another_segment_is_seeded_with_what_it_has(slicer):
    truth = ellipsoid()[1]
    slicer.add_point_interaction((3, 5, 5), True)
    slicer.reset_interactions()
    slicer.add_initial_seg_interaction(truth.astype(np.uint8), run_prediction=False)
    assert np.array_equal(slicer.target_buffer, truth)
    slicer.add_point_interaction((CENTER[0], CENTER[1], 5), False)
    assert dice(slicer.target_buffer, truth) > 0.9
    assert slicer.undo() is True
    assert np.array_equal(slicer.target_buffer, truth)


def test_napari_sends_floats_and_boxes_beyond_the_image(slicer):
    slicer.set_do_autozoom(True)
    slicer.add_point_interaction(np.array([13.0, 21.6, 40.4]), True, True)
    assert slicer.target_buffer[CENTER] == 1
    slicer.reset_interactions()
    slicer.add_bbox_interaction([[13.0, 14.0], [-3.2, 57.7], [20.4, 66.0]], True, True)
    slicer.add_scribble_interaction(
        np.ones((1, 1, 3), bool), True, True, interaction_bbox=[[13, 14], [22, 23], [39, 42]]
    )
    assert slicer.target_buffer[CENTER] == 1


def ras(shape, spacing, orientation):
    """(4, 4) of an array ``[k, j, i]`` whose i, j, k run as ``orientation`` says."""
    directions = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    affine = np.eye(4)
    affine[:3, :3] = np.array([directions[c] for c in reversed(orientation)]).T * spacing
    return affine


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LSA", "PSR"])
def test_a_wrong_guess_never_costs_the_place(server, orientation):
    """The same patient, stored in other orders of axes, none of which the client tells."""
    image, truth = ellipsoid()
    # As a reader of files would turn it: from LPS to what the scanner stored.
    ours = nib.io_orientation(ras(SHAPE, SPACING, "LPS"))
    theirs = nib.io_orientation(ras(SHAPE, SPACING, orientation))
    turn = nib.orientations.ornt_transform(ours, theirs)
    stored, wanted = (np.ascontiguousarray(nib.apply_orientation(a, turn)) for a in (image, truth))
    spacing = np.empty(3)
    spacing[turn[:, 0].astype(int)] = SPACING
    with Client(server) as client:
        client.set_image(stored[None], {"spacing": spacing})
        client.set_target_buffer(np.zeros(stored.shape, np.uint8))
        middle = np.argwhere(wanted).mean(axis=0).round().astype(int)
        client.add_point_interaction(middle, True)
        assert dice(client.target_buffer, wanted) > 0.8


def test_who_says_how_the_axes_run_gets_what_the_session_gives(server):
    """Told as an affine or as letters, with more beside it: the very same mask."""
    image, _ = ellipsoid()
    masks = []
    told = {"spacing": SPACING, "orientation": "SAR", "sitk_stuff": {"direction": [1, 0, 0]}}
    # As napari-nifti reads every file.
    napari = {"spacing": [-s for s in SPACING]}
    for properties in ({"affine": ras(SHAPE, SPACING, "RAS")}, told, napari):
        with Client(server) as client:
            client.set_image(image[None], properties)
            client.set_target_buffer(np.zeros(SHAPE, np.uint8))
            client.add_point_interaction(CENTER, True)
            client.add_point_interaction((CENTER[0], CENTER[1], CENTER[2] + 16), False)
            masks.append(client.target_buffer)
    assert masks[0].any() and all(np.array_equal(masks[0], mask) for mask in masks[1:])


def test_the_option_says_it_for_clients_that_do_not():
    from tools.interactive_server.__main__ import arguments, read_settings
    from tools.interactive_server.orientation import placed

    chosen = read_settings(arguments().parse_args(["--orientation", "psr"])).orientation
    spacing = list(SPACING)
    assert placed({"spacing": spacing}, chosen) == {"spacing": spacing, "orientation": "RSP"}
    # An axis that is drawn the other way round.
    assert placed({"spacing": [3.0, -1.2, 1.0]}, chosen) == {"spacing": spacing, "orientation": "RSP"}
    assert placed({"spacing": [-3.0, -1.2, -1.0]}, chosen) == {"spacing": spacing, "orientation": "SAR"}
    assert placed({}) == {"orientation": "SPL"}
    assert placed({"orientation": "LPS"}, chosen) == {"orientation": "LPS"}
    assert placed({"affine": "told", "spacing": SPACING}, chosen) == {"affine": "told"}


def test_the_wire_gives_the_masks_of_a_session_in_python(server):
    from sam_bundles import Session

    image, _ = ellipsoid()
    session = Session()
    session.set_image(image[None], {"spacing": SPACING, "orientation": "SPL"})
    buffer = np.zeros(SHAPE, np.uint8)
    session.set_target_buffer(buffer)
    with Client(server) as client:
        client.set_image(image[None], {"spacing": SPACING})
        client.set_target_buffer(np.zeros(SHAPE, np.uint8))
        for point, include in ((CENTER, True), ((CENTER[0], CENTER[1], CENTER[2] + 16), False)):
            boxes = [s.add_point_interaction(point, include) for s in (session, client)]
            assert boxes[0] == boxes[1]
            assert np.array_equal(buffer, client.target_buffer)
