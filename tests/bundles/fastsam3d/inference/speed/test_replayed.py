# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The encoder as one CUDA graph: on a GPU the same values as kernel by kernel, on a CPU nothing of it."""

import pytest
import torch

from bundles.fastsam3d.scripts.inference.speed.fast_path import in_one_piece
from bundles.fastsam3d.scripts.inference.speed.replayed import Replayed
from bundles.fastsam3d.scripts.networks.student import ConvStem3D, StudentEncoder3D

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return StudentEncoder3D(32, 8, 48, 3, 3, 2.0, 1, 24, ((8, 1),), "morton", ConvStem3D((8, 8), 48)).eval()


def test_on_a_cpu_the_encoder_stays_as_it_is(encoder):
    assert in_one_piece(encoder, compiled=False) is encoder


@needs_cuda
@torch.no_grad()
def test_replays_give_what_the_encoder_gives_and_do_not_touch_earlier_answers(encoder):
    encoder = encoder.cuda()
    replayed = in_one_piece(encoder, compiled=False)
    assert isinstance(replayed, Replayed)
    images = [torch.randn(1, 1, size, size, size, device="cuda") for size in (32, 32, 48, 32)]
    with torch.inference_mode():
        replayed(images[0])
    answers = [replayed(image) for image in images]
    for image, answer in zip(images, answers, strict=True):
        expected = encoder(image)
        torch.testing.assert_close(answer.features, expected.features, rtol=1e-3, atol=1e-3)
        for got, wanted in zip(answer.skips, expected.skips, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
