# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A TinyViT for inference: what its weights alone decide is computed once, and the rest without needless passes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .tiny_vit import MLP, ConvNorm, Downsample, MBConv, PatchEmbedding, TinyViT, WindowAttention

# Layers that a GELU follows, with its name.
FOLLOWED = {
    MBConv: (("conv1", "act1"), ("conv2", "act2")),
    Downsample: (("conv1", "act1"), ("conv2", "act2")),
    PatchEmbedding: (("seq.0", "seq.1"),),
    MLP: (("fc1", "act"),),
}


class FoldedTinyViT(nn.Module):
    """The same embedding as the encoder's, of which it keeps a copy: later changes of the encoder are not seen.

    Norms are folded into their convolutions, the biases of the attention laid out for its scores, and GELUs computed
    with the layer before them, where torch's library for this processor does so.

    Args:
        encoder: without adapted layers, or with merged ones.
        dtype: to compute in.
    """

    def __init__(self, encoder: TinyViT, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.patch_size = encoder.patch_size
        self.encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
        modules = list(self.encoder.modules())
        for module in modules:
            for name, child in list(module.named_children()):
                if isinstance(child, ConvNorm):
                    setattr(module, name, folded(child))
        for module in modules:
            for layer, act in FOLLOWED.get(type(module), ()):
                module.set_submodule(layer, WithGELU(module.get_submodule(layer)))
                module.set_submodule(act, nn.Identity())
            if isinstance(module, WindowAttention):
                ready = module.biases().detach().to(dtype)
                module.biases = lambda ready=ready: ready
        # What the patch embedding loses in bfloat16 is most of all that is lost, and it costs next to nothing.
        first = self.encoder.patch_embed
        self.encoder.patch_embed = nn.Identity()
        self.encoder.to(dtype=dtype, memory_format=torch.channels_last)
        self.encoder.patch_embed = nn.Sequential(first.float(), Cast(dtype))

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, h, w) in the image's dtype."""
        return self.encoder(image.float()).to(image.dtype)

    @torch.no_grad()
    def begin(self, image: Tensor, stages: int) -> Tensor:
        """See :meth:`.tiny_vit.TinyViT.begin`; in the image's dtype."""
        return self.encoder.begin(image.float(), stages).to(image.dtype)


class Cast(nn.Module):
    """To another dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return x.to(self.dtype)


class WithGELU(nn.Module):
    """A linear layer or convolution and the GELU after it, in one pass over its output on the CPU."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """What the layer takes -> what it gives."""
        layer = self.layer
        if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
            return F.gelu(layer(x))
        weight, bias = layer.weight, layer.bias
        if isinstance(layer, nn.Linear):
            return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "none")
        sizes = [list(v) for v in (layer.padding, layer.stride, layer.dilation)]
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *sizes, layer.groups, "gelu", [], "none")


def folded(layer: ConvNorm) -> nn.Conv2d:
    """One convolution with a bias that computes what the layer does."""
    convolution, norm = layer.c, layer.bn
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = convolution.weight.double() * scale[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * scale
    sizes = convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation
    made = nn.Conv2d(convolution.in_channels, convolution.out_channels, *sizes, convolution.groups, device="meta")
    kind = convolution.weight.dtype
    made.weight, made.bias = (nn.Parameter(v.detach().to(kind), requires_grad=False) for v in (weight, bias))
    return made
