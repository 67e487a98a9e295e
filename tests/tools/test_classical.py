# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What needs no model, on phantoms of any geometry, and its comparison with the bundle."""

import json

import numpy as np
import pytest
import torch
from volumes import CENTRE, Phantom, dice, grid_around, rotation, write_nifti

from common.geometry import Grid
from common.prompts import ObjectPrompt
from tools import evaluation_sets
from tools.benchmark import classical
from tools.benchmark.__main__ import main
from tools.benchmark.classical_inferers import METHODS, ClassicalInferer, box_around, place_seeds

SIDE = (CENTRE[0] + 32, CENTRE[1], CENTRE[2])
PAIR = Phantom((CENTRE, (14, 12, 11)), (SIDE, 9), ramp=2)
# In this noise and from one click; the walker keeps away from the object's border.
REACHED = {"random_walker": 0.45, "geodesic": 0.75}
GRIDS = {
    "LPS": grid_around(np.diag([-2.0, -2.0, 2.0]), (50, 36, 30)),
    "oblique and left-handed": grid_around(rotation(-50, 70, 15) @ np.diag([1.8, 1.8, -1.8]), (50, 50, 50)),
    "thick slices": grid_around(rotation(0, 10, 0) * [0.9, 0.9, 3.0], (90, 60, 20)),
}


def segment(method, grid, clicks, **options):
    """(X, Y, Z) mask after clicks in mm, by ``ClassicalInferer``."""
    rng = np.random.default_rng(0)
    image = PAIR.image(grid) + rng.normal(0, 8, grid.shape).astype(np.float32)
    points = tuple(tuple(float(x) for x in grid.to_voxels(np.array(place))) for place, _ in clicks)
    prompt = ObjectPrompt("object", points, tuple(label for _, label in clicks))
    labels = ClassicalInferer(method, **options).segment(torch.from_numpy(image), grid.affine, [prompt]).labels
    assert labels.shape == image.shape and labels.dtype == torch.uint8
    return labels.numpy()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", GRIDS)
def test_the_clicked_object_and_not_the_other(method, name):
    """The mask is where the object is, for any affine."""
    grid = GRIDS[name]
    mask = segment(method, grid, [(CENTRE, 1), (SIDE, 0)])
    assert dice(mask, PAIR.truth(grid, 0)) > REACHED[method]
    assert not mask[tuple(grid.to_voxels(np.array(SIDE)).round().astype(int))]
    assert (mask.astype(bool) & PAIR.truth(grid, 0)).sum() > 0.88 * mask.sum()
    # This one lies beside the middle of the volume: turned over along an axis it would be elsewhere.
    assert dice(segment(method, grid, [(SIDE, 1)]), PAIR.truth(grid, 1)) > REACHED[method]


@pytest.mark.parametrize("method", METHODS)
def test_coarser_boxes_lie_in_the_same_place(method):
    grid = GRIDS["oblique and left-handed"]
    coarse = segment(method, grid, [(CENTRE, 1)], voxels=15_000)
    assert dice(coarse, PAIR.truth(grid, 0)) > REACHED[method] - 0.1


def test_clicks_that_leave_nothing():
    grid = GRIDS["LPS"]
    assert not segment("geodesic", grid, [(CENTRE, 1), (CENTRE, 0)]).any()


def test_unknown_method():
    with pytest.raises(ValueError, match="'graph_cut': expected one of random_walker, geodesic"):
        ClassicalInferer("graph_cut")


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("voxels", [10**7, 20_000])
def test_box_lies_in_the_volume_and_is_small_enough(name, voxels):
    grid = GRIDS[name]
    box = box_around(grid, np.array(CENTRE), 40.0, voxels)
    assert np.prod(box.shape) <= voxels
    corners = grid.to_voxels(box.corners_mm())
    assert (corners >= -0.5 - 1e-6).all() and (corners <= np.array(grid.shape) - 0.5 + 1e-6).all()
    extent = np.array(box.shape) * box.spacing
    assert (extent <= 40.0 + grid.spacing).all() and (extent >= 40.0 - 2 * grid.spacing).all()
    np.testing.assert_allclose(box.to_mm((np.array(box.shape) - 1) / 2), CENTRE, atol=max(grid.spacing))
    if voxels == 10**7:
        np.testing.assert_allclose(box.spacing, grid.spacing)


def test_seeds():
    box = Grid(np.diag([1.0, 1.0, 2.0, 1.0]), (20, 20, 5))
    seeds = place_seeds(box, np.array([[10.0, 10, 4], [4, 4, 2], [100, 0, 0]]), (1, 0, 1), 1.0)
    assert seeds[10, 10, 2] == 1 and seeds[9, 10, 2] == 1 and seeds[10, 10, 3] == 0
    assert seeds[4, 4, 1] == 2
    assert (seeds[0] == 2).all() and (seeds[:, -1] == 2).all()
    # The shortest axis has no border.
    assert (seeds[2:-2, 2:-2, 0] == 0).all()
    assert (seeds == 1).sum() == 5


@pytest.fixture
def data(tmp_path):
    """A folder with one patient of BraTS, whose tumour has two classes."""
    grid = GRIDS["LPS"]
    patient = tmp_path / "data" / "brats" / "brats_2013_pat0001_1"
    patient.mkdir(parents=True)
    write_nifti(patient / "Flair_subtrMeanDivStd.nii.gz", PAIR.image(grid), grid)
    labels = PAIR.truth(grid, 0).astype(np.uint8)
    labels[:, 18:] *= 3
    write_nifti(patient / "OTMultiClass.nii.gz", labels, grid)
    return tmp_path / "data"


def test_sets_whose_files_are_there(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(evaluation_sets.SETS, "mni152_brain", lambda data, output: None)
    assert evaluation_sets.main([str(data), str(tmp_path / "sets")]) == 0
    assert capsys.readouterr().out == f"brats_tumour: {tmp_path / 'sets/brats_tumour/data_list.json'}\n"
    content = json.loads((tmp_path / "sets/brats_tumour/data_list.json").read_text())
    assert content["labels"] == {"1": "whole tumour"} and len(content["validation"]) == 1
    assert evaluation_sets.main([str(tmp_path), str(tmp_path / "sets"), "--sets", "hippocampus"]) == 1
    assert "none of the sets hippocampus is there" in capsys.readouterr().err


def test_volumes_in_memory(data, monkeypatch):
    monkeypatch.setitem(evaluation_sets.SETS, "mni152_brain", lambda data, output: None)
    (volume,) = evaluation_sets.never_trained_on(data)
    assert volume.name == "brats_tumour" and volume.targets == ((1,),)
    np.testing.assert_array_equal(volume.labels[0].numpy(), PAIR.truth(GRIDS["LPS"], 0))


def test_comparison(data, tmp_path, capsys, fastsam3d_path, random_weights, monkeypatch):
    runs = tmp_path / "runs"
    command = ["classical", str(data), "--output", str(runs), "--sets", "brats_tumour", "--methods", *METHODS]
    command += ["--ckpt-path", str(random_weights), "--json", str(tmp_path / "means.json")]
    assert main(command) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[2] for row in rows[2:]] == list(METHODS)
    means = json.loads((tmp_path / "means.json").read_text())["brats_tumour"]
    for method, row in zip(METHODS, rows[2:], strict=True):
        report = json.loads((runs / "brats_tumour" / method / "metrics.json").read_text())
        assert report["about"]["inferer"] == method
        assert report["mean"] == means[method]
        assert f"| {report['mean']['dice@1']:.3f} | {report['mean']['dice@3']:.3f} |" in row
        assert report["mean"]["dice@5"] > 0.7
    # What is there is not measured again.
    monkeypatch.setattr(classical, "run_configs", None)
    assert main(command) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")] == rows


def test_settings_are_measured_anew(tmp_path, monkeypatch):
    """What lies there was measured with other settings, or is not asked for with any others."""
    measured = []
    report = {"about": {"weights": {"file": "model.pt", "sha256": "0"}, "rounds": 3}, "mean": {}}
    (tmp_path / "metrics.json").write_text(json.dumps(report))
    monkeypatch.setattr(classical, "describe_weights", lambda path: report["about"]["weights"])
    monkeypatch.setattr(classical, "run_configs", lambda bundle, configs, **settings: measured.append(settings))
    for overrides, anew in (({}, False), ({"rounds": 3}, False), ({"rounds": 1}, True)):
        measured.clear()
        classical.measure(tmp_path / "list.json", tmp_path, "fastsam3d", tmp_path / "model.pt", **overrides)
        assert bool(measured) == anew
        assert not anew or measured[0]["rounds"] == 1


@pytest.mark.parametrize("text", ["rounds", "=1"])
def test_an_override_has_a_name_and_a_value(text, data, capsys):
    with pytest.raises(SystemExit):
        main(["classical", str(data), "--override", text])
    assert "expected ID=VALUE" in capsys.readouterr().err
