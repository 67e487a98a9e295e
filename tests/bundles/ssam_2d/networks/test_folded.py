# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The form for inference gives the encoder's embedding."""

import pytest
import torch
from test_tiny_vit import SMALL

from bundles.ssam_2d.scripts.networks.folded import FoldedTinyViT
from bundles.ssam_2d.scripts.networks.tiny_vit import ConvNorm, TinyViT


@pytest.fixture
def encoder() -> TinyViT:
    """Small; norms with statistics of their own."""
    torch.manual_seed(0)
    network = TinyViT(**SMALL).eval()
    for name, tensor in network.state_dict().items():
        if "running_var" in name or name.endswith("bn.weight"):
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
        elif "running_mean" in name or name.endswith(("bias", "biases")):
            tensor.copy_(0.3 * torch.randn(tensor.shape))
    return network


@pytest.mark.parametrize("sides", [(32, 32), (20, 44)])
def test_the_same_embedding(encoder, sides):
    image = torch.rand(2, 3, *sides)
    with torch.no_grad():
        expected = encoder(image)
    torch.testing.assert_close(FoldedTinyViT(encoder, torch.float32)(image), expected, atol=2e-4, rtol=1e-3)
    half = FoldedTinyViT(encoder)(image)
    assert half.dtype == torch.float32
    assert (half - expected).std() < 0.05 * expected.std()


def test_no_norm_of_a_convolution_is_left_and_the_encoder_stays(encoder):
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    made = FoldedTinyViT(encoder)
    assert not any(isinstance(module, ConvNorm) for module in made.modules())
    after = encoder.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
