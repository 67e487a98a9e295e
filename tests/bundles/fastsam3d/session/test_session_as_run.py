# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A session says what ``monai.bundle run`` says of the same prompts, voxel for voxel, and writes the same files."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from two_balls import BESIDE, BOXES, GRID, LEFT, PAIR, RIGHT, TRUTH
from volumes import dice, write_nifti

from bundles.fastsam3d.scripts.session import Engine, Session

ROOT = Path(__file__).parents[4]
WEIGHTS = ROOT / "bundles" / "fastsam3d" / "models" / "model.pt"
HIPPOCAMPUS = ROOT.parent / "shared" / "data" / "msd_hippocampus"
IMAGE = PAIR.image(GRID)


@pytest.fixture(scope="module")
def shipped() -> Engine:
    return Engine.load(device="cpu", preview=False)


@pytest.fixture
def stand_in(threshold_network, tmp_path) -> Engine:
    torch.save(threshold_network.state_dict(), tmp_path / "stand_in.pt")
    weights = str(tmp_path / "stand_in.pt")
    return Engine.load(network_def=threshold_network, ckpt_path=weights, cube_size=32, device="cpu")


@pytest.fixture(params=["stand-in", "shipped"])
def both(request, run_workflow):
    """An engine, and ``monai.bundle run`` with the same network."""
    if request.param == "stand-in":
        return request.getfixturevalue("stand_in"), run_workflow
    return request.getfixturevalue("shipped"), lambda **more: run_workflow(
        ckpt_path=str(WEIGHTS), cube_size=128, **more
    )


def test_every_kind_of_prompt(both, tmp_path):
    engine, run = both
    image = write_nifti(tmp_path / "x.nii.gz", IMAGE, GRID)
    strokes = np.zeros(GRID.shape, np.uint8)
    strokes[round(RIGHT[0]) - 1 : round(RIGHT[0]) + 2, round(RIGHT[1]), round(RIGHT[2])] = 1
    strokes[tuple(BESIDE)] = 2
    asked = {
        "clicks": {"points": [LEFT, BESIDE, [30, 30, 15]], "point_labels": [1, 0, 0]},
        "boxed": {"box": [[low for low, _ in BOXES[1]], [high - 1 for _, high in BOXES[1]]]},
        "drawn": {"scribble": str(write_nifti(tmp_path / "strokes.nii.gz", strokes, GRID))},
        "last": {
            "previous_mask": str(write_nifti(tmp_path / "last.nii.gz", TRUTH[0].astype(np.uint8), GRID)),
            "background": [BESIDE],
        },
    }
    outlines = np.zeros(GRID.shape, np.uint8)
    outlines[:, :, round(LEFT[2])] = TRUTH[0][:, :, round(LEFT[2])]
    outlines[tuple(slice(low, high) for low, high in BOXES[1])] = 2
    asked["outlined"] = {"lasso": str(write_nifti(tmp_path / "outlines.nii.gz", outlines, GRID))}
    for name, prompts in asked.items():
        session = Session(engine)
        session.set_image(image)
        session.rename_object("object 1", name)
        if name == "clicks":
            for place, label in zip(prompts["points"], prompts["point_labels"], strict=True):
                session.add_point_interaction(place, bool(label))
        elif name == "boxed":
            session.add_bbox_interaction(BOXES[1])
        elif name == "drawn":
            session.add_scribble_interaction(strokes == 1)
            session.add_scribble_interaction(strokes == 2, include_interaction=False)
        elif name == "outlined":
            session.add_lasso_interaction(outlines == 1)
            session.add_bbox_interaction(BOXES[1], include_interaction=False)
        else:
            session.add_initial_seg_interaction(TRUTH[0])
            session.add_point_interaction(BESIDE, False)
        expected = run(image=str(image), objects={name: prompts}) / "x_seg.nii.gz"
        assert np.array_equal(session.mask(), np.asarray(nib.load(expected).dataobj) > 0), name
        written = session.export(tmp_path / name)
        assert written == tmp_path / name / "x_seg.nii.gz" and written.read_bytes() == expected.read_bytes()


def test_several_objects_clicked_in_turns(both, tmp_path):
    engine, run = both
    image = write_nifti(tmp_path / "x.nii", IMAGE, GRID, sform=2, qform=0)
    session = Session(engine)
    session.set_image(image)
    session.add_point_interaction(LEFT)
    session.add_object("right")
    session.add_point_interaction(RIGHT)
    session.add_point_interaction([2, 2, 2])
    session.undo()
    session.select_object("object 1")
    session.add_point_interaction(BESIDE, False)
    session.add_object("of which nothing was said")
    asked = {"object 1": {"foreground": [LEFT], "background": [BESIDE]}, "right": {"foreground": [RIGHT]}}
    expected = run(image=str(image), objects=asked)
    values = np.asarray(nib.load(expected / "x_seg.nii.gz").dataobj)
    assert np.array_equal(session.label_map(), values) and set(np.unique(values)) == {0, 1, 2}
    written = session.export(tmp_path / "both.nii.gz")
    assert written.read_bytes() == (expected / "x_seg.nii.gz").read_bytes()
    described, theirs = (json.loads(f.read_text()) for f in (tmp_path / "both.json", expected / "x_seg.json"))
    for name in ("label_names", "weights", "bundle_version", "intensity_bounds", "image", "notes"):
        assert described[name] == theirs[name], name
    for ours, other in zip(described["objects"], theirs["objects"], strict=True):
        assert ours["prompts"] == other["prompts"] and ours["voxels"] == other["voxels"]


def test_an_export_overwrites_nothing_but_its_own(session, tmp_path):
    with pytest.raises(ValueError, match="nothing was segmented"):
        session.export(tmp_path)
    session.add_point_interaction(LEFT)
    (tmp_path / "image_seg.nii.gz").write_text("somebody's")
    for path in (tmp_path, tmp_path / "image_seg.nii.gz"):
        with pytest.raises(ValueError, match="is not overwritten"):
            session.export(path)
    with pytest.raises(ValueError, match="expected a folder, or a file that ends with"):
        session.export(tmp_path / "mask.png")
    for ending in (".nii.gz", ".nii", ".nrrd", ".mha"):
        written = session.export(tmp_path / f"mask{ending}")
        assert session.export(written) == written, "its own result may be replaced"
    loaded = nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(loaded.dataobj) > 0, session.mask()) and np.allclose(loaded.affine, GRID.affine)


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="no hippocampus images beside the project")
def test_a_hippocampus(shipped, run_workflow, tmp_path):
    image = sorted((HIPPOCAMPUS / "images").glob("*.nii.gz"))[0]
    truth = np.asarray(nib.load(HIPPOCAMPUS / "labels" / image.name).dataobj) > 0
    session = Session(shipped)
    session.set_image(image)
    session.prepare()
    places = [np.argwhere(truth)[i].tolist() for i in (truth.sum() // 2, truth.sum() // 6)]
    for place in places:
        session.add_point_interaction(place)
    expected = run_workflow(ckpt_path=str(WEIGHTS), cube_size=128, image=str(image), foreground=places)
    written = session.export(tmp_path)
    assert written.read_bytes() == (expected / written.name).read_bytes() and dice(session.mask(), truth) > 0.5
    session.save(tmp_path / "session.json")
    assert np.array_equal(Session.load(tmp_path / "session.json", engine=shipped).mask(), session.mask())
