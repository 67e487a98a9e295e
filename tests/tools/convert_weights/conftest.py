# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Files of the published formats at small size, made from seeded networks and from the reference tensors."""

import argparse
import collections
from pathlib import Path

import numpy as np
import pytest
import torch
from small_published import SAM, SIZES_3D, joined, seeded

from bundles.fastsam3d.scripts.networks.image_encoder import ImageEncoder3D
from bundles.fastsam3d.scripts.networks.published import PublishedStudent3D
from bundles.ssam_2d.scripts.networks.published import PublishedImageEncoder, PublishedTextDecoder
from tools.check_reference import read_reference
from tools.convert_weights.__main__ import main
from tools.convert_weights.images import sam_network

GOLDEN = Path("../shared/golden")


@pytest.fixture
def student() -> dict[str, torch.Tensor]:
    return seeded(joined(PublishedStudent3D(**SIZES_3D, skip_layer=2)))


@pytest.fixture
def teacher() -> dict[str, torch.Tensor]:
    return seeded(joined(ImageEncoder3D(**SIZES_3D, global_attn_indexes=[1, 3], window_size=3)), 1)


@pytest.fixture
def sam() -> dict[str, torch.Tensor]:
    return seeded(sam_network(SAM), 2)


@pytest.fixture
def ssam() -> dict[str, torch.Tensor]:
    """Under the names of the published code, with a bit of CLIP."""
    encoder = PublishedImageEncoder(32, 8, 24, 2, 12, 16, 2)
    decoder = PublishedTextDecoder(16, 4, 32, 8, 20, 2, 32, 8, 3, 3, 16)
    state = {f"sam_encoder.{key}": value for key, value in seeded(encoder, 3).items()}
    state |= seeded(decoder, 4)
    state["Text_Embedding_Affine.2.running_var"] = state["Text_Embedding_Affine.2.running_var"].abs() + 0.5
    for key in [k for k in state if k.endswith("trainable_scale")]:
        state[key] = state[key] + 1
    return state | {"clip_model.visual.proj": torch.zeros(2, 3), "clip_model.logit_scale": torch.zeros(())}


@pytest.fixture
def golden():
    """A reference file by its name, or the test is skipped."""
    if not GOLDEN.is_dir():
        pytest.skip("the reference files (../shared/golden) are not here")
    return lambda name: read_reference(GOLDEN / f"{name}.npz")


@pytest.fixture
def golden_student(golden):
    """The reference student and decoder as one published checkpoint, with the references themselves."""
    encoder, decoder = golden("fastsam3d_student_dense"), golden("sammed3d_prompt_decoder")
    return {**{f"image_encoder.{k}": v for k, v in encoder.state.items()}, **decoder.state}, encoder, decoder


@pytest.fixture
def publish(tmp_path):
    """Writes a state as trainers do: ``publish(state, wrapper, prefix, name, **more) -> path``."""

    def write(state, wrapper="model_state_dict", prefix="", name="published.pth", **more) -> Path:
        state = collections.OrderedDict((prefix + key, value) for key, value in state.items())
        if wrapper:
            state = {
                "epoch": 84,
                wrapper: state,
                "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 8e-4}]},
                "lr_scheduler_state_dict": {"milestones": collections.Counter([120, 180]), "_last_lr": [8e-4]},
                "losses": [np.float64(0.5), np.float32(0.25)],
                "best_loss": np.inf,
                "args": argparse.Namespace(device=torch.device("cpu"), gpu_ids=[0, 1], lr=8e-4, resume=False),
                "used_datas": ["data/train/liver/ct_WORD"],
                **more,
            }
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def convert(tmp_path, capsys):
    """``convert(path, *options) -> (exit status, tensors or None, what was printed)``."""

    def run(path, *options, name="converted.pt"):
        output = tmp_path / "out" / name
        status = main([str(path), str(output), *map(str, options)])
        printed = capsys.readouterr()
        tensors = torch.load(output, weights_only=True) if status == 0 else None
        return status, tensors, printed.out + printed.err

    return run
