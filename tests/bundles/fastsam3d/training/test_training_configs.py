# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Every training configuration from a data list to weights, on small networks; killed and resumed; refused in time."""

import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from small_networks import CONFIGS, DISTILL, TRAIN_TEACHER, small_student, small_teacher, weights_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from workflows import in_own_process, run_until_killed


def assert_equal(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def curve(folder: Path, name: str) -> list[float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [e.value for e in events.Scalars(name)]


@pytest.fixture
def teacher(train, tmp_path) -> Path:
    """The weights of a teacher after its short training."""
    return train(*TRAIN_TEACHER, output_dir=tmp_path / "teacher") / "model.pt"


def test_from_teacher_to_student_to_decoder(train, teacher, tmp_path):
    distilled = train(*DISTILL, teacher_path=teacher, output_dir=tmp_path / "distilled") / "model.pt"
    tuned = train("train.json", ckpt_path=distilled, output_dir=tmp_path / "tuned") / "model.pt"
    theirs, before, after = (torch.load(p, weights_only=True) for p in (teacher, distilled, tuned))
    decoder = [k for k in before if not k.startswith("image_encoder.")]
    assert_equal({k: before[k] for k in decoder}, {k: theirs[k] for k in decoder})
    encoder = [k for k in before if k.startswith("image_encoder.")]
    assert_equal({k: after[k] for k in encoder}, {k: before[k] for k in encoder})
    assert any(not torch.equal(after[k], before[k]) for k in decoder)
    assert len(curve(tmp_path / "tuned", "val_dice")) == 2
    likeness = curve(tmp_path / "distilled", "val_likeness")
    assert -1 < likeness[0] < likeness[1] < 1


@pytest.mark.parametrize("variant", ["fitnets", "final_only", "logits", "cosine", "mse"])
def test_variants_of_distillation(train, teacher, variant):
    folder = train(*DISTILL, f"variants/{variant}.json", teacher_path=teacher)
    assert np.isfinite(curve(folder, "train_loss")).all()
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["settings"]["k_start"] == (3 if variant == "fitnets" else 1)


@pytest.mark.parametrize("variant, depth", [("one_teacher_block", 12), ("three_teacher_blocks", 4)])
def test_the_other_ratios_name_layers_that_the_default_networks_have(variant, depth):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in (*DISTILL, f"variants/{variant}.json")])
    blocks = [pair for pair in parser["pairs"] if pair != ["embedding", "embedding"]]
    assert parser["network_def#image_encoder#depth"] == depth == len(blocks)
    assert blocks[-1] == [parser["teacher_def#image_encoder#depth"], depth]
    ratio = blocks[0][0]
    assert blocks == [[ratio * i, i] for i in range(1, depth + 1)]


@pytest.mark.parametrize(
    "variant, depth, width",
    [("one_teacher_block", 12, 12), ("three_teacher_blocks", 4, 12), ("sammed3d_teacher", 6, 16)],
)
def test_variants_of_a_twelve_block_teacher(train, tmp_path, variant, depth, width):
    deep = small_teacher(12, width)
    weights = train(*TRAIN_TEACHER, network_def=deep, output_dir=tmp_path / "deep", max_epochs=1) / "model.pt"
    content = ConfigParser.load_config_file(str(CONFIGS / "variants" / f"{variant}.json"))
    pairs = content.get("pairs") or ConfigParser.load_config_file(str(CONFIGS / "distill.json"))["pairs"]
    settings = {"network_def": small_student(depth), "teacher_def": deep, "pairs": pairs, "max_epochs": 1}
    if "widths" in content:
        settings["widths"] = [[width, 12]] * (len(pairs) - 1) + [[12, 12]]
    folder = train(*DISTILL, f"variants/{variant}.json", teacher_path=weights, **settings)
    assert np.isfinite(curve(folder, "train_loss")).all()
    assert len([k for k in weights_of(folder) if k.endswith("mlp.lin1.weight") and "encoder.blocks" in k]) == depth


def test_sam_med3ds_teacher_fits_the_students_layers(fastsam3d_path):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in (*DISTILL, "variants/sammed3d_teacher.json")])
    with torch.device("meta"):
        student, teacher = (parser.get_parsed_content(n).image_encoder for n in ("network_def", "teacher_def"))
    loss = parser.get_parsed_content("loss")
    for (theirs, ours), projection in zip(loss.pairs, loss.projections, strict=True):
        channels = [
            n.neck[0].out_channels if p == "embedding" else n.pos_embed.shape[-1]
            for n, p in ((teacher, theirs), (student, ours))
        ]
        assert [projection.out_features, projection.in_features] == channels
        assert theirs == "embedding" or theirs <= len(teacher.blocks)


def test_k_grows_and_the_loss_takes_in_more_pairs(train, teacher, tmp_path):
    folder = train(*DISTILL, teacher_path=teacher, k_every=1, k_unit="steps", max_epochs=1)
    assert torch.load(folder / "state.pt", weights_only=True)["parts"]["schedule"] == {"done": 4, "unit": "steps"}


def test_cached_features_train_the_same_student(train, teacher, tmp_path):
    options = {"teacher_path": teacher, "learning_rate": 1e-3, "max_epochs": 3}
    cached = train(*DISTILL, output_dir=tmp_path / "a", feature_cache_dir=tmp_path / "features", **options)
    files = list((tmp_path / "features").glob("*.safetensors"))
    assert len(files) == 4
    again = train(*DISTILL, output_dir=tmp_path / "b", feature_cache_dir=tmp_path / "features", **options)
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 4
    assert_equal(weights_of(cached), weights_of(again))


def test_encoder_and_decoder_together_after_some_epochs(train, tmp_path):
    options = {"ckpt_path": "", "max_epochs": 2}
    frozen = weights_of(train("train.json", output_dir=tmp_path / "a", **options))
    later = weights_of(train("train.json", output_dir=tmp_path / "b", frozen_epochs=1, **options))
    encoder = [k for k in frozen if k.startswith("image_encoder.")]
    assert any(not torch.equal(frozen[k], later[k]) for k in encoder)


def test_boxes_scribbles_and_accumulation_are_options(train):
    shares = {f"clicking#{kind}": 0.3 for kind in ("box", "scribble", "mask")} | {"clicking#jitter": 1.0}
    folder = train("train.json", ckpt_path="", accumulation=2, draws=6, objects=2, **shares)
    assert np.isfinite(curve(folder, "train_loss")).all()


def test_the_same_seed_gives_the_same_weights_whatever_the_workers(train, tmp_path):
    first = weights_of(train("train.json", ckpt_path="", output_dir=tmp_path / "a"))
    assert_equal(weights_of(train("train.json", ckpt_path="", output_dir=tmp_path / "b", num_workers=1)), first)
    other = weights_of(train("train.json", ckpt_path="", output_dir=tmp_path / "c", seed=1))
    assert any(not torch.equal(other[k], first[k]) for k in first)


def test_a_server_that_hands_over_items_trains(train, labelled_list, tmp_path):
    """MONAI Label gives items with absolute paths and nothing else, and maybe nothing to validate on."""
    items = json.loads(labelled_list.read_text())["training"]
    items = [{k: str(tmp_path / v) for k, v in item.items()} for item in items]
    overrides = {"train#dataset#data": items, "validate#dataset#data": [], "train#trainer#max_epochs": 1}
    folder = train("train.json", ckpt_path="", data_list_file_path="", dataset_dir="", **overrides)
    assert_equal(torch.load(folder / "model.pt", weights_only=True), averaged_in(folder))


def test_what_is_tuned_is_the_network_that_inference_runs():
    """Both files have to be whole: MONAI Label and the Zoo read each of them alone."""
    inference, train = (json.loads((CONFIGS / f"{name}.json").read_text()) for name in ("inference", "train"))
    assert train["network_def"] == inference["network_def"]


def test_an_overlay_switches_a_named_handler_off(train, tmp_path):
    folder = train("train.json", ckpt_path="", max_epochs=1, **{"train#tensorboard": None})
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert "val_dice" in tags and "train_loss" not in tags


def test_the_handlers_that_a_server_edits_are_dictionaries():
    handlers = json.loads((CONFIGS / "train.json").read_text())["train"]["handlers"]
    assert all(isinstance(h, dict) for h in handlers)


def averaged_in(folder: Path) -> dict[str, torch.Tensor]:
    """The averaged weights in a run's state."""
    state = torch.load(folder / "state.pt", weights_only=True)["parts"]["average"]
    return {k.removeprefix("module."): v for k, v in state.items() if k != "n_averaged"}


class StepClock:
    """A clock that each step of the optimizer moves on by a second."""

    def __init__(self, monkeypatch) -> None:
        self.seconds = 0.0
        step = torch.optim.AdamW.step
        monkeypatch.setattr(torch.optim.AdamW, "step", lambda *a, **k: (self._tick(), step(*a, **k))[1])
        monkeypatch.setattr("scripts.common.training.progress.monotonic", lambda: self.seconds)

    def _tick(self) -> None:
        self.seconds += 1


@pytest.mark.parametrize("limit", [{"max_epochs": 3}, {"max_epochs": 100, "max_minutes": 11.5 / 60}])
def test_a_killed_training_of_the_whole_recipe_ends_in_the_same_weights(train, tmp_path, monkeypatch, limit):
    """Sizes in turns, rehearsed clicks, averaged weights, a limit in epochs or minutes; killed twice."""
    options = {"ckpt_path": "", "save_every": 2, "sizes": [8, 16, 24], "frozen": [], "draws": 5, **limit}
    with monkeypatch.context() as context:
        StepClock(context)
        whole = train("train.json", output_dir=tmp_path / "whole", **options)

    def killed(number: int, resume: bool) -> None:
        context = pytest.MonkeyPatch()
        clock, step = StepClock(context), torch.optim.AdamW.step

        def stepped(*arguments, **keywords):
            if clock.seconds == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **keywords)

        context.setattr(torch.optim.AdamW, "step", stepped)
        train("train.json", output_dir=tmp_path / "parts", resume=resume, **options)

    for number, resume in ((5, False), (4, True)):
        process = in_own_process(killed, number, resume)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    with monkeypatch.context() as context:
        StepClock(context)
        parts = train("train.json", output_dir=tmp_path / "parts", resume=True, **options)
    done, again = (torch.load(f / "state.pt", weights_only=True) for f in (whole, parts))
    assert done["iteration"] == again["iteration"] == 12
    assert done["parts"]["so_far"] == again["parts"]["so_far"] == {"seconds": 12.0}
    assert_equal(weights_of(parts), weights_of(whole))
    assert_equal(averaged_in(parts), averaged_in(whole))
    assert_equal(*(torch.load(f / "model.pt", weights_only=True) for f in (parts, whole)))
    assert any(not torch.equal(v, weights_of(whole)[k]) for k, v in averaged_in(whole).items())


@pytest.mark.parametrize("moment, number", [("save", 2), ("writing", 3), ("iteration", 6)])
def test_a_killed_training_ends_in_the_same_weights(train, tmp_path, moment, number):
    options = {"ckpt_path": "", "save_every": 2, "max_epochs": 2}
    whole = weights_of(train("train.json", output_dir=tmp_path / "whole", **options))

    def die_at(count: list[int]) -> None:
        count[0] += 1
        if count[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def killed() -> None:
        count, save, step = [0], torch.save, torch.optim.AdamW.step
        if moment == "writing":
            # Half of the file is there when the process dies.
            def half(content, path, *rest) -> None:
                save(content, path, *rest)
                if Path(path).name == "state.pt":
                    os.truncate(path, os.path.getsize(path) // 2)
                    die_at(count)
                    save(content, path, *rest)

            torch.save = half
        elif moment == "save":
            torch.save = lambda *a: (save(*a), die_at(count))
        else:
            torch.optim.AdamW.step = lambda *a, **k: (step(*a, **k), die_at(count))[0]
        train("train.json", output_dir=tmp_path / "killed", **options)

    process = in_own_process(killed)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert_equal(weights_of(train("train.json", output_dir=tmp_path / "killed", resume=True, **options)), whole)


def test_a_killed_distillation_goes_on_with_its_schedule(train, teacher, tmp_path):
    options = {"teacher_path": teacher, "save_every": 1, "k_every": 3, "k_unit": "steps"}
    whole = train(*DISTILL, output_dir=tmp_path / "whole", **options)
    run_until_killed(5, train, *DISTILL, output_dir=tmp_path / "killed", **options)
    resumed = train(*DISTILL, output_dir=tmp_path / "killed", resume=True, **options)
    assert_equal(weights_of(resumed), weights_of(whole))


def test_two_processes_have_the_loss_curve_of_one_with_the_summed_batch(train, tmp_path):
    options = {"ckpt_path": "", "frozen_epochs": 1, "draws": 8, "max_epochs": 2}
    one = train("train.json", output_dir=tmp_path / "one", batch_size=2, **options)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def rank(number: int) -> None:
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        if number:
            sys.stdout = sys.stderr = open(os.devnull, "w")
        train("train.json", "multi_gpu_train.json", output_dir=tmp_path / "two", batch_size=1, **options)

    processes = [in_own_process(rank, i) for i in range(2)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for name in ("train_loss_mean", "val_dice"):
        np.testing.assert_allclose(curve(tmp_path / "two", name), curve(one, name), rtol=1e-4)
    ours, theirs = weights_of(tmp_path / "two"), weights_of(one)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=2e-4, rtol=1e-3)


def in_full(error: BaseException | None) -> str:
    """The message with those of its causes: MONAI's parser wraps what its components raise."""
    return "" if error is None else f"{error}\n{in_full(error.__cause__)}"


def spoil(labelled_list: Path, how: str) -> None:
    folder = labelled_list.parent
    label = nib.load(folder / "label1.nii.gz")
    values = np.asarray(label.dataobj)
    if how == "missing":
        (folder / "label1.nii.gz").unlink()
    elif how == "grid":
        nib.save(nib.Nifti1Image(values[1:], label.affine), folder / "label1.nii.gz")
    elif how == "moved":
        affine = label.affine.copy()
        affine[0, 3] += 5
        nib.save(nib.Nifti1Image(values, affine), folder / "label1.nii.gz")
    elif how == "classless":
        nib.save(nib.Nifti1Image(np.zeros_like(values), label.affine), folder / "label1.nii.gz")
    elif how == "fractions":
        nib.save(nib.Nifti1Image(values.astype(np.float32) * 0.3, label.affine), folder / "label1.nii.gz")
    else:
        labelled_list.write_text(json.dumps({"training": [], "validation": []}))


@pytest.mark.parametrize(
    "how, message",
    [
        ("missing", "1 files do not exist.*label1.nii.gz"),
        ("grid", "label1.nii.gz: .*voxels, the image has"),
        ("moved", "label1.nii.gz: its affine is not that of the image"),
        ("classless", "label1.nii.gz: every voxel is 0"),
        ("fractions", "label1.nii.gz: .*whole numbers"),
        ("empty", "training is an empty list"),
    ],
)
@pytest.mark.parametrize("configs", [("train.json",), TRAIN_TEACHER])
def test_data_that_cannot_be_used_is_named_before_training(train, labelled_list, tmp_path, how, message, configs):
    spoil(labelled_list, how)
    with pytest.raises((ValueError, RuntimeError)) as raised:
        train(*configs, ckpt_path="")
    assert re.search(message, in_full(raised.value), re.DOTALL)
    assert not (tmp_path / "out" / "state.pt").exists()


def test_a_folder_of_another_configuration_is_refused_before_data_is_read(train, labelled_list, tmp_path):
    train("train.json", ckpt_path="", max_epochs=1)
    labelled_list.unlink()
    for overrides, message in (
        ({}, "give --resume true"),
        ({"resume": True, "learning_rate": 0.5}, "learning_rate: was 0.0001, is 0.5"),
        ({"resume": True, "network_def": small_student(3)}, "tensors of network differ, first image_encoder.blocks.2"),
    ):
        with pytest.raises(Exception) as raised:
            train("train.json", **{"ckpt_path": "", "max_epochs": 1, **overrides})
        assert message in in_full(raised.value)


def test_a_run_on_other_data_is_refused(train, labelled_list):
    train("train.json", ckpt_path="", max_epochs=1)
    content = json.loads(labelled_list.read_text())
    content["training"].reverse()
    labelled_list.write_text(json.dumps(content))
    with pytest.raises(Exception) as raised:
        train("train.json", ckpt_path="", max_epochs=1, resume=True)
    assert "training: item 0 was image0.nii.gz, is image1.nii.gz" in in_full(raised.value)
