# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The form for inference gives the encoder's embedding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_tiny_vit import SMALL

from bundles.ssam_2d.scripts import lite_medsam as published
from bundles.ssam_2d.scripts.checkpoints import load_start
from bundles.ssam_2d.scripts.images import LoadImage2Dd
from bundles.ssam_2d.scripts.networks.folded import FoldedTinyViT
from bundles.ssam_2d.scripts.networks.lite_medsam import lite_medsam
from bundles.ssam_2d.scripts.networks.tiny_vit import ConvNorm, TinyViT
from bundles.ssam_2d.scripts.view import View

BUSI = Path(__file__).parents[5] / "shared" / "data" / "busi100"


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


@pytest.mark.skipif(published.found() is None, reason=f"LiteMedSAM is not here: {published.COMMAND} brings it")
@pytest.mark.skipif(not BUSI.is_dir(), reason="needs ../shared/data/busi100")
def test_masks_of_the_published_weights_are_those_of_float32():
    network, view = lite_medsam().eval(), View("medsam", 256)
    load_start(network, published.found())
    fast = FoldedTinyViT(network.image_encoder)
    for file in sorted((BUSI / "images").iterdir())[:40:20]:
        picture = LoadImage2Dd("image")({"image": file})["image"].as_tensor()
        rows, columns = np.nonzero(np.asarray(Image.open(BUSI / "masks" / file.name)) > 0)
        across, down = view.scale(picture.shape[1:])
        corners = [columns.min() * across, rows.min() * down, columns.max() * across, rows.max() * down]
        boxes = torch.tensor([corners], dtype=torch.float32)
        with torch.no_grad():
            whole, half = (
                network.decode(encode(view(picture)[None]), boxes=boxes)[0] > 0 for encode in (network.encode, fast)
            )
        assert whole.any()
        assert float(2 * (whole & half).sum() / (whole.sum() + half.sum())) >= 0.995
