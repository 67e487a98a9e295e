# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""S-SAM (arXiv 2408.06447) as its weights were published, so that these weights can be loaded and compared with.

The encoder has neither SAM's windows nor its relative positions, and its adapted layers re-form their weight on every
forward pass. What this project trains itself is SAM's encoder with common.svd_affine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .sam import LayerNorm2d, MaskDecoder, PromptEncoder, TwoWayTransformer


class ReformedWeight(nn.Module):
    """What the two layers below share: W' = U diag(ReLU(A * S + B)) V^T, W = U S V^T being their frozen ``weight``.

    The factors are no part of the state dict. They are taken from the weight when first needed, in its own precision:
    where singular values lie close, those of another precision turn with the rounding, and A and B belong to these.
    """

    weight: nn.Parameter

    def add_factors(self) -> None:
        """A, B and the place for the factors."""
        self.weight.requires_grad_(False)
        rank = min(len(self.weight), self.weight[0].numel())
        self.trainable_scale = nn.Parameter(torch.ones(rank))
        self.trainable_shift = nn.Parameter(torch.zeros(rank))
        self.drop_factors()
        self.register_load_state_dict_post_hook(lambda *_: self.drop_factors())

    def drop_factors(self) -> None:
        """For another weight."""
        for name in "USV":
            self.register_buffer(name, None, persistent=False)

    def reformed_weight(self) -> Tensor:
        """W', in the shape of W; with matrix products, whose gradients are matrix products too."""
        if self.U is None:
            factors = torch.linalg.svd(self.weight.detach().flatten(1).cpu(), full_matrices=False)
            self.U, self.S, self.V = (part.to(self.weight.device) for part in factors)
        values = torch.relu(self.trainable_scale * self.S + self.trainable_shift)
        return (self.U @ torch.diag(values) @ self.V).view_as(self.weight)

    def regularisation(self) -> Tensor:
        """norm(1 - A) + norm(B), a scalar."""
        return torch.linalg.vector_norm(1 - self.trainable_scale) + torch.linalg.vector_norm(self.trainable_shift)


class ReformedLinear(ReformedWeight, nn.Linear):
    """(..., in) -> (..., out)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        nn.Linear.__init__(self, inputs, outputs, bias)
        self.add_factors()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(x, self.reformed_weight(), self.bias)


class ReformedConv2d(ReformedWeight, nn.Conv2d):
    """(B, in, h, w) -> (B, out, h', w')."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        nn.Conv2d.__init__(self, inputs, outputs, kernel, stride, padding, bias=bias)
        self.add_factors()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h', w')."""
        return F.conv2d(x, self.reformed_weight(), self.bias, self.stride, self.padding)


class Attention(nn.Module):
    """Attention over the whole grid."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = ReformedLinear(width, 3 * width)
        self.proj = ReformedLinear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C)."""
        q, k, v = self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


class MLP(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = ReformedLinear(width, hidden)
        self.lin2 = ReformedLinear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.lin2(F.gelu(self.lin1(x)))


class Block(nn.Module):
    """Attention and MLP, each on the normed input and added to it. The norms' epsilon is torch's, not SAM's 1e-6."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PublishedImageEncoder(nn.Module):
    """S-SAM's image encoder; the defaults are ViT-B's at 256 px.

    Args:
        img_size, patch_size: pixels a side.
        embed_dim, depth, num_heads: width, blocks, and attention heads of each.
        out_chans: channels of the embedding.
        mlp_ratio: hidden width of an MLP over ``embed_dim``.
    """

    def __init__(
        self,
        img_size: int = 256,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        out_chans: int = 256,
        mlp_ratio: float = 4,
    ) -> None:
        super().__init__()
        side = img_size // patch_size
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, embed_dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, embed_dim, patch_size, patch_size)})
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio) for _ in range(depth))
        self.neck = nn.ModuleDict(
            {
                "conv1": ReformedConv2d(embed_dim, out_chans, 1, bias=False),
                "ln1": LayerNorm2d(out_chans),
                "conv2": ReformedConv2d(out_chans, out_chans, 3, padding=1, bias=False),
                "ln2": LayerNorm2d(out_chans),
            }
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, out_chans, h, w)."""
        x = self.patch_embed["proj"](image).permute(0, 2, 3, 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = x.permute(0, 3, 1, 2)
        for part in self.neck.values():
            x = part(x)
        return x

    def regularisation(self) -> Tensor:
        """The sum over the layers of the blocks, without the neck's, as in the published loss: a scalar."""
        layers = [layer for layer in self.blocks.modules() if isinstance(layer, ReformedWeight)]
        return torch.stack([layer.regularisation() for layer in layers]).sum()


class PositionFreeTransformer(TwoWayTransformer):
    """SAM's transformer as the published code left it: positions take no part, in any attention.

    What is added to queries and keys in SAM is left out; only the tokens are still added to the last query.
    """

    def forward(self, image_embedding: Tensor, image_pe: Tensor, point_embedding: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w), unused, tokens (N, T, C) -> tokens (N, T, C), image (N, h * w, C)."""
        keys = image_embedding.flatten(2).transpose(1, 2)
        queries = point_embedding
        nowhere = torch.zeros_like(queries), torch.zeros_like(keys)
        for layer in self.layers:
            queries, keys = layer(queries, keys, *nowhere)
        attended = self.final_attn_token_to_image(queries + point_embedding, keys, keys)
        return self.norm_final_attn(queries + attended), keys


class PublishedTextDecoder(nn.Module):
    """S-SAM's prompting by text: the features of a label's name become one token for SAM's mask decoder.

    Args:
        embed_dim: channels of the image embedding.
        image_embedding_size, input_image_size: a side of the embedding and of the image.
        mask_in_chans: see PromptEncoder.
        text_dim: channels of the text features, 512 for CLIP ViT-B/32.
        decoder_depth, decoder_mlp_dim, decoder_num_heads: see TwoWayTransformer.
        num_multimask_outputs, iou_head_depth, iou_head_hidden_dim: see MaskDecoder.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        image_embedding_size: int = 16,
        input_image_size: int = 256,
        mask_in_chans: int = 16,
        text_dim: int = 512,
        decoder_depth: int = 2,
        decoder_mlp_dim: int = 2048,
        decoder_num_heads: int = 8,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
    ) -> None:
        super().__init__()
        grid, self.image_size = (image_embedding_size,) * 2, (input_image_size,) * 2
        self.prompt_encoder = PromptEncoder(embed_dim, grid, self.image_size, mask_in_chans)
        self.mask_decoder = MaskDecoder(
            transformer_dim=embed_dim,
            transformer=PositionFreeTransformer(decoder_depth, embed_dim, decoder_num_heads, decoder_mlp_dim),
            num_multimask_outputs=num_multimask_outputs,
            iou_head_depth=iou_head_depth,
            iou_head_hidden_dim=iou_head_hidden_dim,
        )
        self.Text_Embedding_Affine = nn.Sequential(nn.Linear(text_dim, embed_dim), nn.ReLU(), nn.BatchNorm1d(embed_dim))

    def text_token(self, text_features: Tensor) -> Tensor:
        """(N, text_dim) -> (N, 1, embed_dim)."""
        return self.Text_Embedding_Affine(text_features)[:, None]

    def forward(self, image_embedding: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding i (N, C, h, w) with text i (N, text_dim) -> logits (N, 1, 4h, 4w) and IoU estimates (N, 1)."""
        image_pe = self.prompt_encoder.get_dense_pe()
        masks, iou = [], []
        # SAM's decoder pairs every image with every prompt, so that here each row is a call of its own.
        for embedding, token in zip(image_embedding.split(1), self.text_token(text_features).split(1), strict=True):
            # The published code leaves out the embedding that stands for no mask.
            nothing = torch.zeros_like(embedding)
            mask, quality = self.mask_decoder(embedding, image_pe, token, nothing, multimask_output=False)
            masks.append(mask)
            iou.append(quality)
        return torch.cat(masks), torch.cat(iou)

    def probability(self, masks: Tensor) -> Tensor:
        """Logits (N, 1, 4h, 4w) -> probabilities (N, 1, H, W) at the image's size."""
        return F.interpolate(masks, self.image_size, mode="bilinear", align_corners=False).sigmoid()
