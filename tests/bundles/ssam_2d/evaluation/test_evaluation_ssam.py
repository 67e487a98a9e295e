# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""evaluate.json: the numbers are those of hand-made masks, absent labels stay apart."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import make_folder, make_list, run, tiny_base

from bundles.ssam_2d.scripts.evaluation.scored_labels import scored_labels
from bundles.ssam_2d.scripts.evaluation.scores import as_index_map, label_scores
from bundles.ssam_2d.scripts.evaluation.whole_image import WholeImageInferer, masks_of
from bundles.ssam_2d.scripts.view import View
from common.label_names import to_tensor


class SquareNetwork(torch.nn.Module):
    """Answers every image alike: a square for the first label, and the left half for the second."""

    def __init__(self, labels=("square", "half")):
        super().__init__()
        self.labels = list(labels)
        self.label_features = torch.nn.Parameter(torch.zeros(len(labels), 8))
        self.register_buffer("label_names", to_tensor(labels))

    def encode(self, image):
        return image

    def decode(self, embedding, features):
        logits = torch.full((len(embedding), 2, *embedding.shape[2:]), -20.0)
        logits[:, 0, 8:24, 8:24] = 12
        logits[:, 1, :, :16] = 6
        return logits[:, : len(features)], torch.ones(len(embedding), len(features))


def write_data(folder, truths):
    """Images of 32 x 32 pixels with masks (L, 32, 32) of square and half, one file a label."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    (folder / "labels.json").write_text('{"1": "square", "2": "half"}')
    rng = np.random.default_rng(0)
    for i, truth in enumerate(truths):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / "images" / f"{i}.png")
        for name, mask in zip(("square", "half"), truth, strict=True):
            if mask.any():
                Image.fromarray(255 * mask.astype(np.uint8)).save(folder / "masks" / f"{i}_{name}.png")
    return folder


def evaluate(tmp_path, folder, known=("square", "half"), **settings):
    network = SquareNetwork(known)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    overrides = {"network_def": network, "ckpt_path": tmp_path / "weights.pt"}
    overrides |= {"section": "all", "dataset_dir": folder, "output_dir": tmp_path / "scores"} | settings
    run("inference.json", "evaluate.json", **overrides, image_size=32)
    return json.loads((tmp_path / "scores" / "metrics.json").read_text())


@pytest.fixture(autouse=True)
def scripts(ssam_path, monkeypatch):
    monkeypatch.setattr("training_runs.TINY", {})


def square(first, last):
    mask = np.zeros((32, 32), bool)
    mask[first:last, first:last] = True
    return mask


def test_numbers_of_hand_made_masks(tmp_path):
    nothing = np.zeros((32, 32), bool)
    truths = [(square(8, 24), nothing), (square(8, 16), nothing), (square(8, 24), nothing)]
    report = evaluate(tmp_path, write_data(tmp_path / "data", truths))
    scores = report["per_class"]["square"]
    assert scores["cases"] == 3 and "half" not in report["per_class"]
    expected = [1.0, 2 * 64 / (256 + 64), 1.0]
    assert [case["dice"] for case in report["cases"]] == pytest.approx(expected, abs=1e-6)
    assert [case["iou"] for case in report["cases"]] == pytest.approx([1, 64 / 256, 1], abs=1e-6)
    assert scores["dice"] == pytest.approx({"mean": 0.8, "median": 1.0, "min": 0.4, "max": 1.0}, abs=1e-6)
    assert scores["hd95"]["min"] == 0 and scores["hd95"]["max"] == pytest.approx(np.hypot(8, 8), rel=0.2)
    assert scores["area"]["min"] == 64 and scores["predicted_area"]["mean"] == 256
    assert report["mean"]["dice"] == pytest.approx(0.8, abs=1e-6)


def test_absent_labels_are_no_successes(tmp_path):
    nothing = np.zeros((32, 32), bool)
    report = evaluate(tmp_path, write_data(tmp_path / "data", [(square(8, 24), nothing)]))
    assert report["absent"]["half"]["cases"] == 1
    # Left half (512 pixels) without the pixels that the square takes.
    assert report["absent"]["half"]["predicted_area"]["mean"] == 16 * 32 - 16 * 8
    assert report["mean"]["dice"] == pytest.approx(1.0)
    with open(tmp_path / "scores" / "metrics.csv") as file:
        (row,) = csv.DictReader(file)
    assert row["class"] == "square" and float(row["dice"]) == pytest.approx(1.0) and row["image"] == "0.png"


def test_overlaps_may_be_kept(tmp_path):
    half = np.zeros((32, 32), bool)
    half[:, :16] = True
    folder = write_data(tmp_path / "data", [(square(8, 24), half)])
    dice = {}
    for overlaps in (False, True):
        report = evaluate(tmp_path, folder, overlaps=overlaps)
        dice[overlaps] = report["per_class"]["half"]["dice"]["mean"]
    assert dice == pytest.approx({False: 2 * 384 / (512 + 384), True: 1.0})


def test_best_and_worst_are_shown(tmp_path):
    truths = [(square(8, 24 - i), np.zeros((32, 32), bool)) for i in range(6)]
    evaluate(tmp_path, write_data(tmp_path / "data", truths), previews=2)
    shown = sorted(file.name for file in (tmp_path / "scores").glob("*.png"))
    assert shown == ["best_1.png", "best_2.png", "worst_1.png", "worst_2.png"]


def test_a_label_that_the_weights_do_not_know(tmp_path):
    folder = write_data(tmp_path / "data", [(square(8, 24), square(0, 4))])
    with pytest.raises((ValueError, RuntimeError)) as caught:
        evaluate(tmp_path, folder, known=("square", "whole"))
    error = caught.value
    while not isinstance(error, ValueError):
        error = error.__cause__
    assert "unknown label half: the weights were trained on square, whole" in str(error)
    assert not (tmp_path / "scores" / "metrics.json").exists()
    report = evaluate(tmp_path, folder, known=("square", "whole"), labels=["square"])
    assert list(report["per_class"]) == ["square"]


def test_nothing_to_evaluate():
    with pytest.raises(ValueError, match="no image to evaluate"):
        scored_labels([], ["a"])


def test_a_pixel_has_its_most_probable_label():
    probability = torch.tensor([[[0.6, 0.9, 0.4]], [[0.7, 0.8, 0.3]]])
    assert masks_of(probability, 0.5, False).tolist() == [[[False, True, False]], [[True, False, False]]]
    assert masks_of(probability, 0.5, True).tolist() == [[[True, True, False]], [[True, True, False]]]


def test_small_labels_lie_on_top_in_pictures():
    masks = torch.tensor([[[1, 1, 1]], [[0, 1, 0]]]).bool()
    assert as_index_map(masks).tolist() == [[1, 2, 1]]


def test_rows_of_an_image():
    truth = torch.zeros(8, 8, dtype=torch.bool)
    truth[2:4, 2:4] = True
    nothing = torch.zeros_like(truth)
    masks = {"found": (truth, truth), "missed": (nothing, truth), "invented": (truth, nothing)}
    cases, absent = label_scores("a.png", "/x/a.png", masks, 1.0)
    assert [(case["class"], case["dice"], case["area"], case["predicted_area"]) for case in cases] == [
        ("found", 1.0, 4, 4),
        ("missed", 0.0, 4, 0),
    ]
    assert absent == [{"image": "a.png", "class": "invented", "file": "/x/a.png", "predicted_area": 4}]


def test_the_image_keeps_its_own_pixels():
    inferer = WholeImageInferer(["square", "half"], View(size=32))
    found = inferer(torch.rand(1, 3, 64, 48) * 255, SquareNetwork())
    assert found.shape == (1, 2, 64, 48)
    assert bool((found[0, 0, 18:46, 14:34] > 0.5).all()) and float(found[0, 0, :10].max()) < 0.5


def test_trained_weights_of_a_run_are_evaluated_by_their_labels(tmp_path, monkeypatch):
    monkeypatch.undo()
    folder, base = make_folder(tmp_path / "data"), tiny_base(tmp_path / "base.pt")
    listed = make_list(folder)
    settings = {"data_list_file_path": listed, "base_path": base, "output_dir": tmp_path / "run", "max_epochs": 1}
    run("train.json", **settings, batch_size=2)
    run(
        "inference.json",
        "evaluate.json",
        data_list_file_path=listed,
        ckpt_path=tmp_path / "run" / "model.pt",
        output_dir=tmp_path / "s",
    )
    report = json.loads((tmp_path / "s" / "metrics.json").read_text())
    assert [(c["image"], c["class"]) for c in report["cases"]] == [
        ("case_4.png", "bar"),
        ("case_4.png", "disc"),
        ("case_5.png", "disc"),
    ]
    assert list(report["absent"]) == ["bar"]
