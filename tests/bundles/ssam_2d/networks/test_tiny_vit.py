# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""TinyViT as LiteMedSAM and MobileSAM have it: any size, frozen statistics, names of the checkpoints."""

import pytest
import torch
from torch.nn import functional as F

from bundles.ssam_2d.scripts.networks.tiny_vit import ConvNorm, TinyViT, WindowAttention

SMALL = {"widths": (8, 32, 32, 64), "depths": (1, 1, 1, 1), "windows": (3, 5, 3), "out_chans": 16}


@pytest.fixture
def encoder() -> TinyViT:
    """Small, with random numbers everywhere, statistics and biases of the attention included."""
    torch.manual_seed(0)
    network = TinyViT(**SMALL)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 0.5 if "running_var" in name else 0.3 * torch.randn(tensor.shape))
    return network.eval()


def padded_first(attention: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """The definition: the grid filled up with zeros, cut into windows, scores of all pairs of cells with their bias."""
    batch, height, width, channels = x.shape
    side, heads = attention.window, attention.heads
    x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    answer = torch.zeros_like(x)
    for top in range(0, x.shape[1], side):
        for left in range(0, x.shape[2], side):
            cells = x[:, top : top + side, left : left + side].reshape(batch, side * side, channels)
            own = attention.qkv(attention.norm(cells)).reshape(batch, side * side, heads, 3, -1)
            query, key, value = own.permute(3, 0, 2, 1, 4)
            scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
            for i in range(side * side):
                for j in range(side * side):
                    down, across = abs(i // side - j // side), abs(i % side - j % side)
                    scores[..., i, j] += attention.attention_biases[:, down * side + across]
            mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, side, side, channels)
            answer[:, top : top + side, left : left + side] = attention.proj(mixed)
    return answer[:, :height, :width]


@pytest.mark.parametrize("grid", [(3, 3), (7, 5), (2, 8), (1, 1)])
def test_attention_in_windows_is_what_it_says(grid):
    """Whole windows, cut-off ones, and a grid smaller than a window."""
    torch.manual_seed(1)
    attention = WindowAttention(64, 2, 3)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, *grid, 64)
    with torch.no_grad():
        torch.testing.assert_close(attention(x), padded_first(attention, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sides", [(32, 32), (20, 44), (4, 8)])
def test_any_size_of_whole_cells(encoder, sides):
    with torch.no_grad():
        assert encoder(torch.randn(1, 3, *sides)).shape == (1, 16, sides[0] // 4, sides[1] // 4)


@pytest.mark.parametrize("sides", [(30, 32), (2, 4)])
def test_other_sizes_are_refused(encoder, sides):
    with pytest.raises(ValueError, match="multiples of 4"):
        encoder(torch.zeros(1, 3, *sides))


def test_training_leaves_the_statistics_as_they_are(encoder):
    image = torch.randn(2, 3, 16, 16)
    before = {name: tensor.clone() for name, tensor in encoder.named_buffers()}
    with torch.no_grad():
        expected = encoder(image)
        trained = encoder.train()(image)
    torch.testing.assert_close(trained, expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.named_buffers())
    # It is torch's own norm in evaluation.
    layer, x = encoder.layers[0].blocks[0].conv1, torch.randn(1, 8, 4, 4)
    plain = torch.nn.BatchNorm2d(32).eval()
    plain.load_state_dict(layer.bn.state_dict())
    torch.testing.assert_close(layer(x), plain(layer.c(x)))


def test_mobile_sams_form_sees_a_cell_of_16_pixels():
    encoder = TinyViT(**SMALL, reduction=4).eval()
    assert encoder.patch_size == TinyViT.cell(4) == 16
    with torch.no_grad():
        assert encoder(torch.zeros(1, 3, 48, 32)).shape == (1, 16, 3, 2)
    assert [m.c.kernel_size for m in encoder.patch_embed.modules() if isinstance(m, ConvNorm)] == [(3, 3), (3, 3)]


@pytest.mark.parametrize(
    "change", [{"reduction": 2}, {"widths": (8, 32, 40, 64)}, {"depths": (1, 1, 1)}, {"windows": (3, 5, 3, 3)}]
)
def test_sizes_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match="expected|one a stage"):
        TinyViT(**{**SMALL, **change})
