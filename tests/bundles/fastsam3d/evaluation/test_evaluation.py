# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""evaluate.json from a data list to its report, with a network whose answer is known."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from scipy.spatial import cKDTree
from small_networks import CONFIGS, EVALUATE
from volumes import GRIDS, PAIR, dice, write_itk, write_nifti
from workflows import run_configs

from common.metrics import mask_scores

WINDOW = [-100.0, 100.0]


@pytest.fixture
def case(tmp_path):
    """``case(grid, names=..., name=...)``: an image of two objects and its label map, 1 and 4, as an item of a list."""

    def write(grid, names=None, name="a", labels=None):
        if labels is None:
            labels = PAIR.truth(grid, 0) + 4 * PAIR.truth(grid, 1).astype(np.uint8)
        write_nifti(tmp_path / f"{name}.nii.gz", PAIR.image(grid), grid)
        write_nifti(tmp_path / f"{name}_seg.nii.gz", labels, grid)
        item = {"image": f"{name}.nii.gz", "label": f"{name}_seg.nii.gz"}
        return item if names is None else {**item, "label_names": names}

    return write


@pytest.fixture
def evaluate(fastsam3d_path, tmp_path, threshold_network):
    """``evaluate([items], **overrides) -> (report, output folder)``: the configuration in this process."""
    weights = tmp_path / "stand_in.pt"
    torch.save(threshold_network.state_dict(), weights)

    def run(items, out="out", **overrides):
        (tmp_path / "list.json").write_text(json.dumps({"validation": items}))
        settings = {
            "data_list_file_path": str(tmp_path / "list.json"),
            "dataset_dir": str(tmp_path),
            "output_dir": str(tmp_path / out),
            "network_def": threshold_network,
            "ckpt_path": str(weights),
            "device": "cpu",
            "cube_size": 32,
            "window": WINDOW,
            "clicks": [1, 3],
            "progress": "false",
            "previews": 0,
        }
        run_configs(fastsam3d_path, EVALUATE, **{**settings, **overrides})
        return json.loads((tmp_path / out / "metrics.json").read_text()), tmp_path / out

    return run


def scores_of(report):
    """The report without what no two runs have in common."""
    text = json.dumps(report)
    return json.loads(text, object_hook=lambda d: {k: v for k, v in d.items() if not k.startswith("seconds")})


@pytest.mark.parametrize("name", GRIDS)
def test_report_is_what_inference_does_with_the_same_clicks(evaluate, case, run_bundle, tmp_path, name):
    """The clicks of the report given to inference.json: its masks have the report's scores, on the image's grid."""
    grid = GRIDS[name]
    report, folder = evaluate([case(grid, {"1": "body", "4": "nodule"})], clicks=[1, 2, 3])
    assert [(c["class"], c["label"]) for c in report["cases"]] == [("body", 1), ("nodule", 4)]
    for ball, row in enumerate(report["cases"]):
        truth = PAIR.truth(grid, ball)
        assert row["image"] == str(tmp_path / "a.nii.gz")
        for count in (1, 2, 3):
            clicks = row["clicks"][:count]
            prompts = {"points": [c[:3] for c in clicks], "point_labels": [c[3] for c in clicks]}
            mask, _ = run_bundle(image=row["image"], window=WINDOW, **prompts)
            mask = np.asarray(mask.dataobj) > 0
            assert row[f"dice@{count}"] == pytest.approx(dice(mask, truth), abs=1e-6)
            scores = mask_scores(mask, truth, grid.spacing)
            assert row[f"nsd@{count}"] == pytest.approx(scores["nsd"])
            assert row[f"hd95@{count}"] == pytest.approx(scores["hd95"])
        # Later clicks correct half voxels at the border: the stand-in may drop a piece with clicks of both kinds in it.
        assert row["dice@1"] > 0.7
        *voxel, label = row["clicks"][0]
        assert label == 1
        outside = cKDTree(np.argwhere(~truth) * grid.spacing)
        deepest = outside.query(np.argwhere(truth) * grid.spacing)[0].max()
        assert outside.query(voxel * grid.spacing)[0] == pytest.approx(deepest)


def test_means_classes_and_absent_classes(evaluate, case):
    a = case(GRIDS["LPS"], {"1": "body", "4": "nodule", "9": "spleen"})
    b = case(GRIDS["LPS"], {"1": "body", "9": "spleen"}, name="b")
    c = case(GRIDS["LPS"], name="c")
    report, folder = evaluate([a, b, c])
    names = ["body", "nodule", "body", "label 4", "label 1", "label 4"]
    assert [row["class"] for row in report["cases"]] == names
    assert set(report["per_class"]) == set(names)
    assert report["per_class"]["body"]["cases"] == 2
    assert report["absent"] == {"spleen": {"cases": 2}}
    assert report["mean"]["dice@3"] == pytest.approx(np.mean([row["dice@3"] for row in report["cases"]]))
    scores = ("dice", "nsd", "hd95", "dice_above_0.8", "dice_above_0.9")
    assert set(report["mean"]) == {f"{m}@{k}" for m in scores for k in (1, 3)} | {
        "noc@85",
        "seconds_first_click",
        "seconds_per_click",
        "seconds_total",
        "volume_ml",
        "predicted_ml",
    }
    truth_ml = PAIR.truth(GRIDS["LPS"]).sum() * 8 / 1000
    assert report["per_class"]["body"]["volume_ml"]["mean"] == pytest.approx(truth_ml)
    assert report["cases"][0]["predicted_ml"] == pytest.approx(truth_ml, rel=0.1)
    assert report["about"]["cube_size"] == 32 and report["about"]["weights"]["file"] == "stand_in.pt"
    with open(folder / "metrics.csv", newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == names
    assert (folder / "dice_over_clicks.png").stat().st_size > 1000
    assert not (folder / "unfinished").exists() and not (folder / "previews").exists()


def test_previews_of_best_and_worst(evaluate, case):
    whole = PAIR.truth(GRIDS["LPS"], 0).astype(np.uint8)
    worse = whole.copy()
    worse[:, : worse.shape[1] // 2] = 0
    items = [case(GRIDS["LPS"], {"1": "whole"}, labels=whole), case(GRIDS["LPS"], {"1": "half / left"}, "b", worse)]
    report, folder = evaluate(items, previews=1)
    assert report["per_class"]["half / left"]["dice@3"]["mean"] < report["per_class"]["whole"]["dice@3"]["mean"] - 0.1
    shown = sorted(path.name for path in (folder / "previews").iterdir())
    assert shown == ["best_1_a_whole.png", "worst_1_b_half___left.png"]


def test_other_formats(evaluate, tmp_path):
    grid = GRIDS["oblique"]
    write_itk(tmp_path / "a.nrrd", PAIR.image(grid), grid)
    write_itk(tmp_path / "a_seg.mha", PAIR.truth(grid).astype(np.int16) * 300, grid)
    report, _ = evaluate([{"image": "a.nrrd", "label": "a_seg.mha", "label_names": {"300": "body"}}])
    assert report["mean"]["dice@1"] > 0.9
    assert report["cases"][0]["label"] == 300


class Fails(RuntimeError):
    pass


def test_killed_and_started_again(evaluate, case, threshold_network, monkeypatch, tmp_path):
    """What was finished is not done again, and the report is that of a run which was never killed."""
    items = [case(grid, {"1": "body", "4": "nodule"}, name=f"case{i}") for i, grid in enumerate(GRIDS.values())]
    whole, _ = evaluate(items, "whole", previews=1)
    asked = len(threshold_network.calls)
    decode, threshold_network.calls = threshold_network.decode, []

    def fails(*args, **kwargs):
        if len(threshold_network.calls) >= asked // 2:
            raise Fails
        return decode(*args, **kwargs)

    monkeypatch.setattr(threshold_network, "decode", fails)
    with pytest.raises((Fails, RuntimeError)):
        evaluate(items, "killed", previews=1)
    assert not (tmp_path / "killed" / "metrics.json").exists()
    finished = len(list((tmp_path / "killed" / "unfinished").glob("*.json")))
    assert 1 <= finished < 6
    monkeypatch.setattr(threshold_network, "decode", decode)
    threshold_network.calls = []
    report, folder = evaluate(items, "killed", previews=1)
    assert len(threshold_network.calls) < asked
    assert scores_of(report) == scores_of(whole)
    assert len(list((folder / "previews").iterdir())) == 2


def test_other_settings_do_not_meet_results_of_before(evaluate, case, threshold_network, monkeypatch, tmp_path):
    items = [case(GRIDS["LPS"], {"1": "body"}, labels=PAIR.truth(GRIDS["LPS"]).astype(np.uint8))]
    monkeypatch.setattr("scripts.evaluation.report.EvaluationReport.__call__", lambda self, engine: None)
    with pytest.raises(FileNotFoundError):
        evaluate(items, tolerance=1.0)
    assert len(list((tmp_path / "out" / "unfinished").glob("*.json"))) == 1
    monkeypatch.undo()
    asked = len(threshold_network.calls)
    report, folder = evaluate(items, tolerance=3.0)
    assert len(threshold_network.calls) == 2 * asked
    assert report["about"]["tolerance"] == 3.0
    assert not (folder / "unfinished").exists()


def test_twice_the_same(evaluate, case, random_weights):
    """A real network with random weights: the same numbers, and the same clicks."""
    items = [case(GRIDS["anisotropic"], {"1": "body"})]
    network = {"network_def": ConfigParser.load_config_file(str(CONFIGS / "inference.json"))["network_def"]}
    settings = {**network, "ckpt_path": str(random_weights), "clicks": [1, 2]}
    first, _ = evaluate(items, "first", **settings)
    second, _ = evaluate(items, "second", **settings)
    assert scores_of(first) == scores_of(second)
    assert first["cases"][0]["hd95@2"] > 0


def test_a_perfect_mask_needs_no_more_clicks(evaluate, case, run_bundle):
    """Where the label map is the network's own answer the first click is the last, and its scores stay."""
    grid = GRIDS["LPS"]
    rough, folder = evaluate([case(grid, {"1": "body"})])
    *voxel, _ = rough["cases"][0]["clicks"][0]
    answer, _ = run_bundle(image=folder.parent / "a.nii.gz", window=WINDOW, foreground=[voxel])
    item = case(grid, {"1": "body"}, labels=np.asarray(answer.dataobj))
    report, _ = evaluate([item], "perfect", clicks=[1, 3, 10])
    (row,) = report["cases"]
    assert len(row["clicks"]) == 1
    for count in (1, 3, 10):
        assert (row[f"dice@{count}"], row[f"nsd@{count}"], row[f"hd95@{count}"]) == (1.0, 1.0, 0.0)


def test_scores_are_those_of_each_click_and_never_the_best(evaluate, case, threshold_network, monkeypatch):
    """A network that loses everything with the third click: the report says so."""
    decode = threshold_network.decode

    def forgets(embedding, points, *args, **kwargs):
        logits, iou = decode(embedding, points, *args, **kwargs)
        return (-torch.ones_like(logits) if points.shape[1] >= 3 else logits), iou

    monkeypatch.setattr(threshold_network, "decode", forgets)
    half = PAIR.truth(GRIDS["LPS"]).astype(np.uint8)
    half[:, : half.shape[1] // 2] = 0
    report, _ = evaluate([case(GRIDS["LPS"], {"1": "body"}, labels=half)], clicks=[1, 3, 5])
    row = report["cases"][0]
    assert row["dice@1"] > 0.5
    # Of what is lost, only the voxels that were clicked on come back.
    for count in (3, 5):
        assert row[f"dice@{count}"] < 0.1 and row[f"nsd@{count}"] < 0.1


def test_a_box_and_five_clicks(evaluate, case):
    """The challenge's protocol: the box alone, then five clicks, and what follows from the curves."""
    overrides = {"protocol": "cvpr25", "clicks": "$[1, 2, 3, 4, 5]"}
    report, folder = evaluate([case(GRIDS["LPS"], {"1": "body", "4": "nodule"})], **overrides)
    assert (report["about"]["first"], report["about"]["clicks"]) == ("box", [1, 2, 3, 4, 5])
    for row in report["cases"]:
        curve = [row[f"dice@{k}"] for k in range(1, 6)]
        assert row["dice@0"] > 0.5 and len(row["clicks"]) <= 5
        assert row["dice_auc"] == pytest.approx(np.trapezoid(curve)) and row["dice_final"] == curve[-1]
        assert row["seconds_total"] >= row["seconds_first_click"] > 0
    assert {"nsd_auc", "nsd_final", "seconds_total"} <= set(report["per_class"]["nodule"])
    assert (folder / "dice_over_clicks.png").is_file()


@pytest.mark.parametrize("first", ["flat_box", "scribble", "lasso"])
def test_a_first_prompt_of_another_kind_is_scored_alone(evaluate, case, first):
    report, _ = evaluate([case(GRIDS["LPS"], {"1": "body"})], first=first, clicks=[1])
    row = report["cases"][0]
    assert 0 < row["dice@0"] <= 1 and row["dice@1"] > 0.7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"protocol": "cvpr24"}, "protocol is 'cvpr24'"),
        ({"protocol": "cvpr25", "first": "click"}, r"expected box and \[1, 2, 3, 4, 5\]"),
        ({"clicks": []}, "clicks .*expected rising numbers"),
        ({"clicks": [3, 1]}, "expected rising numbers"),
        ({"clicks": [0, 1]}, "expected rising numbers"),
        ({"progress": "perhaps"}, "progress is 'perhaps': expected true or false"),
        ({"section": "testing"}, r"no section 'testing' \(there: validation\)"),
        ({"dataset_dir": "/nowhere"}, "dataset_dir /nowhere: no such folder"),
        ({"data_list_file_path": None}, "no data list was given: expected --data_list_file_path"),
        ({"ckpt_path": "/nowhere/model.pt"}, "/nowhere/model.pt: no such file"),
        ({"output_dir": str(Path(__file__))}, "is a file; expected a folder"),
    ],
)
def test_wrong_settings(evaluate, case, overrides, message):
    with pytest.raises((ValueError, RuntimeError)) as caught:
        evaluate([case(GRIDS["LPS"])], **overrides)
    assert_says(caught.value, message)


def assert_says(error, message):
    # The configuration's parser wraps what its expressions raise.
    while not isinstance(error, ValueError) and error.__cause__ is not None:
        error = error.__cause__
    assert isinstance(error, ValueError), repr(error)
    with pytest.raises(ValueError, match=message):
        raise error


def test_bad_volumes_are_all_named_before_anything_is_computed(evaluate, case, threshold_network, tmp_path):
    grid = GRIDS["LPS"]
    good = case(grid)
    empty = case(grid, name="empty", labels=np.zeros(grid.shape, np.uint8))
    halves = case(grid, name="halves", labels=PAIR.truth(grid) * np.float32(0.5))
    moved = case(grid, name="moved")
    write_nifti(
        tmp_path / "moved_seg.nii.gz", PAIR.truth(grid).astype(np.uint8), GRIDS["LPS"]._replace(affine=np.eye(4))
    )
    with pytest.raises((ValueError, RuntimeError)) as caught:
        evaluate([good, empty, halves, moved])
    for message in ("3 of 4", "empty_seg.*every voxel is 0", "halves_seg.*whole numbers", "moved_seg.*affine"):
        assert_says(caught.value, message)
    assert not threshold_network.calls and not (tmp_path / "out").exists()


def test_two_processes_report_what_one_does(evaluate, case, tmp_path):
    items = [case(grid, {"1": "body", "9": "gone"}, name=f"case{i}") for i, grid in enumerate(GRIDS.values())]
    one, _ = evaluate([*items, items[0]], previews=1)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command += ["monai.bundle", "run", "--bundle_root", str(CONFIGS.parent), "--config_file"]
    # (One thread or many: sums in another order would move voxels; the configuration sets their number.)
    command += [str([str(CONFIGS / name) for name in (*EVALUATE, "mgpu_evaluate.json")])]
    settings = one["about"]
    options = {
        "data_list_file_path": str(tmp_path / "list.json"),
        "dataset_dir": str(tmp_path),
        "output_dir": str(tmp_path / "two"),
        "network_def": json.dumps({"_target_": "stand_in.ThresholdNetwork"}),
        "ckpt_path": str(tmp_path / "stand_in.pt"),
        "previews": "1",
        "logging_file": "False",
        **{k: json.dumps(settings[k]) for k in ("cube_size", "window", "clicks")},
    }
    command += [word for key, value in options.items() for word in (f"--{key}", value)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert scores_of(two) == scores_of(one)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted(p.name for p in (tmp_path / "out").iterdir())
