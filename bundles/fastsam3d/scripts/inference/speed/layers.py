# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Faster layers for inference that compute the same, and how they take the place of the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...networks.layers import MLP, PatchEmbed3D
from ...networks.mask_decoder import Attention, SplitCells
from .few_tokens import ImageToTokens, TokensToImage

# oneDNN lays a weight out for products with about so many rows; any other number works as well.
ROWS = 512


def faster(module: nn.Module, products: str = "packed") -> nn.Module:
    """Replace the layers inside ``module`` (in inference, of one dtype) by faster ones; returns ``module``.

    Args:
        module: changed in place.
        products: how linear layers compute: ``packed`` where that is possible, or ``plain`` for the compiler, which
            cannot look into packed weights.
    """
    for name, child in module.named_children():
        if _is(child, MLP) and isinstance(child.act, nn.GELU):
            child.lin1, child.act = linear_gelu(child.lin1, products), nn.Identity()
            child.lin2 = linear(child.lin2, products, many_rows=True)
        elif _is(child, Attention) and name.endswith("token_to_image"):
            setattr(module, name, faster(TokensToImage(child), products))
        elif _is(child, Attention) and name.endswith("image_to_token"):
            setattr(module, name, faster(ImageToTokens(child), products))
        elif isinstance(child, nn.Linear):
            setattr(module, name, linear(child, products))
        elif _is(child, SplitCells):
            setattr(module, name, SplitCellsProduct(child, products))
        elif _is(child, PatchEmbed3D) and child.proj.weight.dtype != torch.float32:
            setattr(module, name, PatchProduct(child, products))
        elif isinstance(child, nn.GroupNorm) and child.weight.device.type == "cpu" and child.weight.dtype.itemsize < 4:
            setattr(module, name, ExactGroupNorm(child))
        elif isinstance(child, nn.Conv3d):
            setattr(module, name, convolution(child, products))
        else:
            faster(child, products)
    return module


def mlps_in(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Have the MLPs inside ``module`` (changed in place) compute in ``dtype``, and all else as before."""
    for name, child in module.named_children():
        if _is(child, MLP):
            setattr(module, name, InDtype(child, dtype))
        else:
            mlps_in(child, dtype)
    return module


def _is(module: nn.Module, kind: type) -> bool:
    """Whether this is the very class, by its name.

    MONAI Label imports a bundle's modules anew between making the network and using it: its classes are then others.
    """
    return (type(module).__module__, type(module).__qualname__) == (kind.__module__, kind.__qualname__)


def linear(layer: nn.Linear, products: str, many_rows: bool = False) -> nn.Module:
    """A linear layer in the form asked for; ``many_rows`` where it is given thousands of tokens."""
    return PackedLinear(layer) if products == "packed" and can_pack(layer.weight, many_rows) else layer


def linear_gelu(layer: nn.Linear, products: str) -> nn.Module:
    """The same, followed by GELU, as in the blocks of an image encoder."""
    if products == "packed" and can_pack(layer.weight, many_rows=True):
        return PackedLinear(layer, "gelu")
    return nn.Sequential(linear(layer, products), nn.GELU())


def convolution(layer: nn.Conv3d, products: str) -> nn.Module:
    """A convolution in the form that is fastest with the channels innermost; the compiler gets torch's own."""
    layer.to(memory_format=torch.channels_last_3d)
    simple = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if products != "plain" and simple and can_pair(layer):
        return PairedConvolution(layer)
    # In half precision torch asks oneDNN by itself wherever it can.
    if products != "plain" and simple and _onednn_has(layer.weight) and layer.weight.dtype == torch.float32:
        return OneDNNConvolution(layer)
    return layer


def can_pack(weight: Tensor, many_rows: bool = False) -> bool:
    """Whether torch was built with oneDNN's packed products, and they are there and pay for this weight's dtype."""
    if not _onednn_has(weight) or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight.dtype == torch.float32:
        # torch's own products are MKL's: faster for few rows, but bias and GELU then pass over all rows again.
        return many_rows
    # Without AVX-512 oneDNN refuses bfloat16 weights, which plain products take anywhere.
    return weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def can_pair(layer: nn.Conv3d) -> bool:
    """Whether :class:`PairedConvolution` takes this convolution, and is the faster one.

    With AVX-512 a register holds sixteen channels, of which eight or fewer outputs would leave half unused.
    """
    plain = layer.kernel_size == (3,) * 3 and layer.padding == (1,) * 3 and layer.groups == 1
    plain = plain and layer.stride == layer.dilation == (1,) * 3
    wide = _onednn_has(layer.weight) and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return plain and wide and layer.out_channels <= 8 and layer.in_channels > 1


def _onednn_has(weight: Tensor) -> bool:
    """Whether torch was built with oneDNN, and the weight lies where that computes."""
    return torch.backends.mkldnn.is_available() and weight.device.type == "cpu"


class InDtype(nn.Module):
    """A module computed in another precision than what lies around it.

    Args:
        module: of inference; it is changed to ``dtype``.
        dtype: to compute in.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module.to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        """As the module, in the dtype of ``x``."""
        return self.module(x.to(self.dtype)).to(x.dtype)


class PackedLinear(nn.Module):
    """A linear layer on a CPU whose weight lies as the matrix kernel reads it, with what follows fused in.

    Args:
        layer: of inference, see ``can_pack``.
        activation: ``none`` or ``gelu``.
    """

    def __init__(self, layer: nn.Linear, activation: str = "none") -> None:
        super().__init__()
        # Neither a parameter nor a buffer: what oneDNN laid out can be neither copied nor saved.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().contiguous(), ROWS)
        self.bias = layer.bias
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], "none")


class OneDNNConvolution(nn.Module):
    """A convolution on a CPU that oneDNN computes whatever its size.

    In float32 torch takes a form of its own where the product of batch, channels and the first two axes is at most
    20,480, a rule made for images: in volumes of few channels that form is several times as slow.
    """

    def __init__(self, layer: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.settings = layer.padding, layer.stride, layer.dilation, layer.groups

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) -> (B, C', D', H', W')."""
        return torch.mkldnn_convolution(x, self.weight, self.bias, *self.settings)


class PairedConvolution(nn.Module):
    """A 3 x 3 x 3 convolution that computes two voxels, neighbours along the last axis, as if they were channels.

    The same sums: the kernel of a pair is four voxels wide, its first three for the one and its last three for the
    other, and moves by two. With the channels innermost, what comes out lies as the voxels do.

    Args:
        layer: of inference, see ``can_pair``.
    """

    def __init__(self, layer: nn.Conv3d) -> None:
        super().__init__()
        one, other = F.pad(layer.weight.detach(), (0, 1)), F.pad(layer.weight.detach(), (1, 0))
        weight = torch.cat([one, other]).contiguous(memory_format=torch.channels_last_3d)
        self.weight = nn.Parameter(weight, False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().repeat(2), False)
        self.plain = layer

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) -> (B, C', D, H, W), the channels innermost in memory."""
        if x.shape[4] % 2:
            return self.plain(x)
        pairs = torch.mkldnn_convolution(x, self.weight, self.bias, (1, 1, 1), (1, 1, 2), (1, 1, 1), 1)
        return pairs.movedim(1, 4).unflatten(4, (2, -1)).flatten(3, 4).movedim(4, 1)


class PatchProduct(nn.Module):
    """A patch embedding as a matrix product: oneDNN has no fast convolution of this kind in half precision."""

    def __init__(self, embed: PatchEmbed3D, products: str) -> None:
        super().__init__()
        self.patch = embed.proj.kernel_size[0]
        product = nn.Linear(embed.proj.weight[0].numel(), embed.proj.out_channels)
        product.weight, product.bias = nn.Parameter(embed.proj.weight.flatten(1), False), embed.proj.bias
        self.product = linear(product, products)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, D, H, W) -> tokens (B, d, h, w, embed_dim)."""
        for axis in (4, 3, 2):
            image = image.unflatten(axis, (-1, self.patch))
        return self.product(image.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4))


class SplitCellsProduct(nn.Module):
    """``SplitCells`` with its weight brought into the product's order once."""

    def __init__(self, split: SplitCells, products: str) -> None:
        super().__init__()
        product = nn.Linear(split.in_channels, 8 * split.out_channels)
        product.weight, product.bias = (nn.Parameter(x.contiguous(), False) for x in split.as_linear())
        self.product = linear(product, products)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cells, C) -> (B, 8 * cells, C')."""
        return self.product(x).unflatten(2, (8, -1)).flatten(1, 2)


class ExactGroupNorm(nn.Module):
    """A group norm in half precision computed in float32: faster on a CPU, where few channels lie innermost."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = (nn.Parameter(x.detach().float(), False) for x in (norm.weight, norm.bias))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape and dtype."""
        return F.group_norm(x.float(), self.groups, self.weight, self.bias, self.eps).to(x.dtype)
