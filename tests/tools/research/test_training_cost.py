# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import json

import pytest

from tools.research import training_cost
from tools.research.training_cost import EXPERIMENTS, Experiment, count, main

SSAM = Experiment("small", "ssam_2d", ["train.json", "experiments/glas.json"])
CLICKS = {"clicking#steps": 2, "clicking#promptless": 0}


def narrow(part, size, heads, out):
    return {
        f"{part}#image_encoder#{size}": 16,
        f"{part}#image_encoder#patch_size": 4,
        f"{part}#image_encoder#embed_dim": 24,
        f"{part}#image_encoder#{heads}": 6,
        f"{part}#image_encoder#{out}": 24,
        f"{part}#prompt_encoder#embed_dim": 24,
        f"{part}#mask_decoder#embed_dim": 24,
        f"{part}#mask_decoder#heads": 4,
    }


TEACHER = narrow("teacher_def", "img_size", "num_heads", "out_chans") | {"teacher_def#image_encoder#window_size": 0}
STUDENT = narrow("network_def", "image_size", "heads", "out_channels")


@pytest.fixture(autouse=True)
def forget_networks():
    training_cost._ADAPTED.clear()


def test_operations_grow_with_the_image_and_the_labels():
    small = count(SSAM, {"image_size": 32})
    assert count(SSAM, {"image_size": 64}) > 1.2 * small
    assert count(SSAM, {"image_size": 32, "labels": ["a", "b", "c"]}) > small


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("FastSAM3D, teacher", TEACHER | CLICKS),
        ("FastSAM3D, distillation", TEACHER | STUDENT),
        ("FastSAM3D, decoder", STUDENT | CLICKS),
    ],
)
def test_the_stages_of_fastsam3d(name, sizes):
    (experiment,) = (e for e in EXPERIMENTS if e.name == name)
    assert count(experiment, sizes | {"cube_size": 16}) > 1e6


def test_the_hours_are_the_operations_over_what_the_device_sustains(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training_cost, "count", lambda experiment: 3_600_000_000_000)
    arguments = ["--tflops", "10", "--only", "teacher", "--json", str(tmp_path / "cost.json"), "--no-progress"]
    assert main(arguments) == 0
    (row,) = json.loads((tmp_path / "cost.json").read_text())["rows"]
    assert row["gflop_per_image"] == 3600
    assert row["hours_per_1000_images"] == pytest.approx(0.1)
    told = capsys.readouterr().out
    assert "| FastSAM3D, teacher | 3600 | 0.1000 |" in told and "an assumption" in told
    assert main(["--only", "nothing"]) == 1


def test_every_experiment_names_files_that_are_there():
    for experiment in EXPERIMENTS:
        for file in experiment.files:
            assert (training_cost.BUNDLES / experiment.bundle / "configs" / file).is_file()
