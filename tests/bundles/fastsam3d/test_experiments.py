# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Every overlay of configs/experiments runs a few steps on miniature data that tools.prepare_data made ready.

What an overlay sets stays as it is, but for sizes: networks a hundred times narrower, cubes of 16 voxels.
"""

import json

import numpy as np
import pytest
import torch
from data_set_trees import AFFINE, ball, prepared_lists
from monai.bundle import ConfigParser
from small_networks import DISTILL, EVALUATE, TRAIN_TEACHER
from workflows import run_configs

STAGES = {"train": ["train.json"], "evaluate": EVALUATE, "train_teacher": TRAIN_TEACHER, "distill": DISTILL}
SMALL = {"cube_size": 16, "progress": False, "device": "cpu"}
STEPS = {"seed": 0, "max_epochs": 1, "draws": 2, "val_draws": 1, "batch_size": 1, "num_workers": 0}
CLICKS = {"clicking#steps": 2, "clicking#promptless": 1, "val_clicks": 1}
DATA = {"amos22": "official", "totalsegmentator": "official", "brats": "seed"}


def small(part, encoder):
    """Overrides that make a network of the paper's form tiny: 4^3 tokens of 24 channels."""
    size, out, heads = {"teacher": ("img_size", "out_chans", 2), "student": ("image_size", "out_channels", 6)}[encoder]
    return {
        f"{part}#image_encoder#{size}": 16,
        f"{part}#image_encoder#patch_size": 4,
        f"{part}#image_encoder#embed_dim": 24,
        f"{part}#image_encoder#{out}": 24,
        f"{part}#image_encoder#{'num_heads' if encoder == 'teacher' else 'heads'}": heads,
        f"{part}#prompt_encoder#embed_dim": 24,
        f"{part}#mask_decoder#embed_dim": 24,
        f"{part}#mask_decoder#heads": 4,
        f"{part}#mask_decoder#mlp_dim": 32,
    }


# Windows of 14 would be padded to 40 times as many tokens as there are.
TEACHER = small("teacher_def", "teacher") | {"teacher_def#image_encoder#window_size": 2}
STUDENT = small("network_def", "student")


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """The data list of each data set."""
    return prepared_lists(tmp_path_factory.mktemp("data"), DATA)


@pytest.fixture
def run(fastsam3d_path, tmp_path, lists):
    """Runs a configuration with overlays: ``run("train", ["student", "amos22"], "amos22", ...) -> output folder``."""

    def run_config(stage, overlays, data, **overrides):
        files = [*STAGES[stage], *(f"experiments/{name}.json" for name in overlays)]
        output = tmp_path / f"{stage}_{'_'.join(overlays)}"
        data_list = {"data_list_file_path": lists[data], "dataset_dir": lists[data].parent}
        run_configs(fastsam3d_path, files, output_dir=output, **data_list, **{**SMALL, **overrides})
        return output

    return run_config


def overlay(path):
    return ConfigParser.load_config_file(str(path))


def test_the_papers_three_stages_and_their_evaluation(run, lists):
    teacher = run(
        "train_teacher", ["teacher", "paper_training", "amos22"], "amos22", ckpt_path=None, **STEPS, **CLICKS, **TEACHER
    )
    distilled = run(
        "distill",
        ["teacher", "student", "amos22"],
        "amos22",
        teacher_path=str(teacher / "model.pt"),
        **STEPS,
        **TEACHER,
        **STUDENT,
    )
    tuned = run(
        "train",
        ["student", "paper_training", "decoder", "amos22"],
        "amos22",
        ckpt_path=str(distilled / "model.pt"),
        **STEPS,
        **CLICKS,
        **STUDENT,
    )
    scored = run(
        "evaluate",
        ["student", "amos22"],
        "amos22",
        ckpt_path=str(tuned / "model.pt"),
        clicks=[1, 3],
        previews=1,
        amp=False,
        **STUDENT,
    )
    report = json.loads((scored / "metrics.json").read_text())
    assert {"dice@1", "nsd@3", "hd95@3"} <= report["mean"].keys()
    volume = report["per_class"]["liver"]["volume_ml"]
    voxel = abs(np.linalg.det(AFFINE[:3, :3])) / 1000
    assert volume["max"] == pytest.approx((ball(6) > 0).sum() * voxel, rel=0.02)
    assert report["per_class"]["liver"]["predicted_ml"]["min"] >= 0
    assert {"spleen", "liver", "prostate or uterus"} == report["per_class"].keys()
    assert {"mean", "median", "min", "max"} == report["per_class"]["liver"]["dice@3"].keys()


@pytest.mark.parametrize("data", ["totalsegmentator", "brats"])
def test_the_other_data_sets(run, data):
    output = run(
        "train", ["student", "paper_training", "decoder", data], data, ckpt_path=None, **STEPS, **CLICKS, **STUDENT
    )
    assert (output / "model.pt").is_file()


@pytest.mark.parametrize(
    "ablation", ["ffn_blocks_0", "ffn_blocks_1", "ffn_blocks_4", "dense_attention", "published_decoder"]
)
def test_ablations_on_the_second_stage(run, ablation):
    output = run(
        "train", ["student", "paper_training", ablation, "brats"], "brats", ckpt_path=None, **STEPS, **CLICKS, **STUDENT
    )
    assert (output / "model.pt").is_file()


def test_the_published_distillation(run):
    teacher = run(
        "train_teacher", ["teacher", "paper_training", "brats"], "brats", ckpt_path=None, **STEPS, **CLICKS, **TEACHER
    )
    overlays = ["teacher", "student", "published_distillation", "brats"]
    weights = str(teacher / "model.pt")
    output = run("distill", overlays, "brats", teacher_path=weights, **STEPS, **TEACHER, **STUDENT)
    assert (output / "model.pt").is_file()


def test_every_overlay_says_what_it_is_and_is_run_here(fastsam3d_path):
    folder = fastsam3d_path / "configs" / "experiments"
    with open(__file__) as file:
        tests = file.read()
    for path in folder.glob("*.json"):
        assert len(overlay(path)["experiment"]) > 40
        assert f'"{path.stem}"' in tests


def test_overlays_hold_what_the_papers_state(fastsam3d_path):
    folder = fastsam3d_path / "configs" / "experiments"
    student = overlay(folder / "student.json")["network_def"]["image_encoder"]
    assert (student["depth"], student["embed_dim"], student["heads"], student["ffn_blocks"]) == (6, 768, 6, 2)
    assert student["patterns"] == [[4, 1], [8, 2], [16, 4]]
    teacher = overlay(folder / "teacher.json")["teacher_def"]["image_encoder"]
    assert (teacher["depth"], teacher["embed_dim"], teacher["num_heads"], teacher["patch_size"]) == (12, 768, 12, 16)
    for data in DATA:
        content = overlay(folder / f"{data}.json")
        assert (content["cube_size"], content["spacing"]) == (128, 1.5)
    person = overlay(folder / "paper_training.json")["clicking"]
    assert (person["steps"], person["promptless"], person["clicks"]) == (11, 2, "paper")
    distill = overlay(folder.parent / "distill.json") | overlay(folder / "published_distillation.json")
    assert (distill["learning_rate"], distill["max_epochs"], distill["accumulation"]) == (8e-4, 84, 10)
    assert distill["optimizer"]["weight_decay"] == 0.1


def test_converted_weights_of_sammed3d_fit_the_teacher(fastsam3d_path):
    """Their overlay and the teacher's name the same tensors, and the student takes over the teacher's decoder."""
    configs = fastsam3d_path / "configs"

    def shapes(part, *names):
        parser = ConfigParser(ConfigParser.load_config_files([str(configs / n) for n in names]))
        with torch.device("meta"):
            network = parser.get_parsed_content(part)
        return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

    teacher = shapes("teacher_def", *DISTILL, "experiments/teacher.json", "experiments/student.json")
    assert teacher == shapes("network_def", "inference.json", "published.json", "published_sammed3d.json")
    assert teacher == shapes("network_def", *TRAIN_TEACHER, "experiments/teacher.json")
    student = shapes("network_def", *DISTILL, "experiments/teacher.json", "experiments/student.json")
    shared = ("prompt_encoder.", "mask_decoder.")
    assert {k: v for k, v in student.items() if k.startswith(shared)} == {
        k: v for k, v in teacher.items() if k.startswith(shared)
    }
