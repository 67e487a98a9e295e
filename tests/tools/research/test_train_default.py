# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bundles.fastsam3d.scripts.networks.fastsam3d import FastSAM3D
from bundles.fastsam3d.scripts.networks.mask_decoder import MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.student import ConvStem3D, StudentEncoder3D
from bundles.fastsam3d.scripts.training.cubes import FEWEST_VOXELS
from bundles.fastsam3d.scripts.training.interactive import interact
from tools.bundle_network import BUNDLE, build_network
from tools.research.train_default import MIXED, Training, main, taking_turns
from tools.research.training_cubes import SHARES, TrainingCubes

SIZE = 32


def small_network():
    torch.manual_seed(0)
    encoder = StudentEncoder3D(SIZE, 8, 24, 2, 3, 2.0, 1, 24, ((8, 1),), "morton", ConvStem3D((4, 8), 24))
    return FastSAM3D(encoder, PromptEncoder3D(24, 8, boxes=True), MaskDecoder3D(24, 1, 4, 32, 1, 2, 16, (8, 4)))


def training(run, **changes):
    stages = ((0.0, ((SIZE, 2), (SIZE + 16, 1))), (0.5, ((SIZE, 1),)))
    settings = {"steps": 4, "stages": stages, "objects": 2, "amp": False, "workers": 0}
    return Training(run, None, small_network(), **{**settings, **changes})


def weights(path):
    return torch.load(path, weights_only=True)


def test_cubes_are_normalised_and_show_their_objects():
    cubes = TrainingCubes(None, seed=0, objects=3)
    for number in range(6):
        cube = cubes[number, SIZE]
        assert cube.image.shape == (1, SIZE, SIZE, SIZE)
        assert cube.targets.shape == (3, 1, SIZE, SIZE, SIZE)
        assert (cube.targets.flatten(1).sum(1) >= FEWEST_VOXELS).all()
        assert torch.isfinite(cube.image).all()
        assert abs(float(cube.image.mean())) < 1e-3
    assert torch.equal(cubes[1, SIZE].image, cubes[1, SIZE].image)
    assert not torch.equal(cubes[1, SIZE].image, cubes[2, SIZE].image)


def test_the_bundle_names_a_network_that_can_be_built():
    assert sum(p.numel() for p in build_network().parameters()) * 2 < 25e6


def test_a_few_steps_export_weights_that_load_safely(tmp_path):
    run = training(tmp_path / "run")
    run.run(tmp_path / "model.pt")
    assert run.step == 4
    exported = weights(tmp_path / "model.pt")
    small_network().load_state_dict(exported)
    assert all(torch.isfinite(v).all() for v in exported.values())
    assert any(
        not torch.equal(v.float(), w.half().float())
        for v, w in zip(exported.values(), small_network().state_dict().values(), strict=True)
    )
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path, stop_after):
    training(tmp_path / "whole").run()
    first = training(tmp_path / "parts")
    step = first._train

    def train_and_stop(*arguments):
        step(*arguments)
        if first.step == stop_after:
            first.stop()

    first._train = train_and_stop
    first.run()
    assert first.step == stop_after
    training(tmp_path / "parts").run()
    whole, parts = (weights(tmp_path / name / "state.pt") for name in ("whole", "parts"))
    assert parts["position"]["step"] == 4
    start = small_network().state_dict()
    for kind in ("network", "average"):
        for name, value in whole[kind].items():
            moved = (value.float() - start[name]).abs().max()
            # Written in half precision: the averages.
            torch.testing.assert_close(
                parts[kind][name].float(), value.float(), rtol=2**-10, atol=float(0.02 * moved) + 1e-6
            )


def test_the_state_of_the_default_weights_is_small_enough_to_carry_about(tmp_path):
    run = Training(tmp_path, None, build_network(), steps=1, stages=((0.0, ((SIZE, 1),)),), amp=False, workers=0)
    run.run()
    assert (tmp_path / "state.pt").stat().st_size < 60e6


def test_the_loss_falls(tmp_path):
    losses = []
    run = training(tmp_path / "run", steps=30, rate=3e-3)
    step = run._train
    run._train = lambda cubes, means: (step(cubes, means), losses.append(means["loss"]))
    run.run()
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_sizes_take_turns(tmp_path):
    run = training(tmp_path / "run")
    assert [run.sizes(step) for step in range(4)] == [(SIZE, 2), (SIZE + 16, 1), (SIZE, 1), (SIZE, 1)]


def test_small_cubes_come_in_twos():
    assert taking_turns(MIXED) == ((0.0, ((64, 2), (96, 1), (128, 1), (64, 2), (96, 1))),)
    assert taking_turns((128, 32)) == ((0.0, ((128, 1), (32, 2))),)


def test_prompts_that_are_rehearsed_are_drawn_from_those_given(tmp_path, monkeypatch):
    seen = []

    def noted(network, image, label, clicking, steps, shared, own, rehearsed):
        seen.append((steps - clicking.steps, rehearsed))
        return interact(network, image, label, clicking, steps, shared, own, rehearsed=rehearsed)

    monkeypatch.setattr("tools.research.train_default.interact", noted)
    training(tmp_path / "run", steps=10, rehearsed=(1, 3)).run()
    assert len(seen) == 10 and set(seen) == {(1, 1), (3, 3)}


def test_weights_to_start_from_have_to_fit(tmp_path, monkeypatch, capsys):
    torch.save({"token": torch.zeros(1)}, tmp_path / "other.pt")
    arguments = ["train_default", "--run", str(tmp_path / "run"), "--start", str(tmp_path / "other.pt")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "weights of another architecture" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_batch_is_so_many_times_the_cubes_of_a_step(tmp_path):
    run = training(tmp_path / "run", batch=3, objects=2, steps=2, stages=((0.0, ((SIZE, 2),)),))
    seen = []
    step = run._train
    run._train = lambda cubes, means: (seen.append(cubes), step(cubes, means))
    run.run()
    assert [c.image.shape for c in seen] == [(6, 1, SIZE, SIZE, SIZE)] * 2
    # Shares of the cells of the logits, as the objects' own voxels give them.
    assert [c.targets.shape for c in seen] == [(6, 2, 1, SIZE // 2, SIZE // 2, SIZE // 2)] * 2
    voxels = run.cubes[0, SIZE].targets.float().flatten(1).sum(1)
    assert torch.equal(8 * seen[0].targets[0].float().flatten(1).sum(1), voxels)
    assert run.number == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "--batch 0"),
        (["--objects", "-1"], "--objects -1"),
        (["--device", "cuda:99"], "device 'cuda:99'"),
        (["--minutes", "0"], "--minutes 0"),
        (["--real", "1.5"], "--real 1.5"),
        (["--sizes", "64", "100"], "--sizes 64 100: expected multiples of 8"),
        (["--sizes", "16"], "--sizes 16"),
        (["--sizes", "64", "--mixed"], "not allowed with"),
        (["--rehearsed", "0", "-1"], "--rehearsed 0 -1: expected numbers from 0 on"),
        (["--share", "liver=2"], "--share liver=2: expected SET=NUMBER"),
        (["--share", "msd_hippocampus=-1"], "--share msd_hippocampus=-1"),
        (["--share", "msd_hippocampus=0"], "--share msd_hippocampus=0: expected SET=NUMBER, a positive number"),
        (["--share", "msd_hippocampus=nan"], "--share msd_hippocampus=nan"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["train_default", "--run", str(tmp_path / "run"), *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_weights_go_into_the_folder_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.research.train_default.build_network", small_network)
    monkeypatch.setattr("tools.research.train_default.STAGES", ((0.0, ((SIZE, 1),)),))
    arguments = ["--run", str(tmp_path / "run"), "--steps", "1", "--workers", "0", "--device", "cpu", "--fp32"]
    monkeypatch.setattr("sys.argv", ["train_default", *arguments])
    shipped = BUNDLE / "models" / "model.pt"
    before = shipped.stat().st_mtime_ns
    main()
    small_network().load_state_dict(weights(tmp_path / "run" / "model.pt"))
    assert shipped.stat().st_mtime_ns == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a training that moves from a GPU to a CPU needs both")
def test_a_training_moves_from_a_gpu_to_a_cpu(tmp_path):
    first = Training(tmp_path, None, small_network().cuda(), steps=2, stages=((0.0, ((SIZE, 1),)),), workers=0)
    first.run(tmp_path / "model.pt")
    assert all(v.device.type == "cpu" for v in weights(tmp_path / "model.pt").values())
    second = training(tmp_path, steps=3)
    second.run()
    assert second.step == 3


def test_a_stopped_training_goes_on_with_its_own_data_alone(tmp_path, monkeypatch):
    training(tmp_path, steps=1).run()
    real = SimpleNamespace(name=f"{next(iter(SHARES))}/some volume")
    monkeypatch.setattr("tools.research.training_cubes.real_volumes", lambda folder: [real])
    with pytest.raises(ValueError, match="0 real volumes, here are 1"):
        Training(tmp_path, tmp_path, small_network(), steps=2, workers=0)


def test_a_folder_that_is_not_there_is_not_replaced_by_made_up_volumes(tmp_path, monkeypatch, capsys):
    missing = tmp_path / "data"
    monkeypatch.setattr("sys.argv", ["train_default", "--run", str(tmp_path / "run"), "--data", str(missing)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"--data {missing}: no such folder" in capsys.readouterr().err
