# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM's image encoder for images of any size that is a multiple of the patch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from .positions import resize_absolute
from .sam import ImageEncoderViT, LayerNorm2d
from .windows import Block


class ImageEncoder(ImageEncoderViT):
    """segment-anything's ViT, windows and relative positions included; the defaults are ViT-B's at 256 px.

    Args:
        img_size: pixels a side of the images it is trained on; others are taken too, with its positions resized.
        patch_size: pixels a side of a token.
        embed_dim, depth, num_heads: width, blocks, and attention heads of each.
        out_chans: channels of the embedding.
        window_size: tokens a side of the attention's windows, 0 for none.
        global_attn_indexes: the blocks that have no windows.
        use_rel_pos: relative positions in the attention, as SAM has them.
        mlp_ratio: hidden width of an MLP over ``embed_dim``.
        norm_eps: epsilon of the blocks' norms.
        stem: replaces the single-convolution patch embedding, see :class:`ConvStem`.

    Raises:
        ValueError: sizes that do not divide each other.
    """

    def __init__(
        self,
        img_size: int = 256,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        out_chans: int = 256,
        window_size: int = 14,
        global_attn_indexes: Sequence[int] = (2, 5, 8, 11),
        use_rel_pos: bool = True,
        mlp_ratio: float = 4,
        norm_eps: float = 1e-6,
        stem: nn.Module | None = None,
    ) -> None:
        if img_size < patch_size or img_size % patch_size:
            raise ValueError(f"img_size {img_size}: expected a multiple of patch_size {patch_size}")
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim}: expected a multiple of num_heads {num_heads}")
        super().__init__(img_size=img_size, patch_size=patch_size, embed_dim=embed_dim, depth=0, out_chans=out_chans)
        self.patch_size = patch_size
        settings = {
            "mlp_ratio": mlp_ratio,
            "norm_layer": partial(nn.LayerNorm, eps=norm_eps),
            "use_rel_pos": use_rel_pos,
            "input_size": (img_size // patch_size,) * 2,
        }
        windows = [0 if i in global_attn_indexes else window_size for i in range(depth)]
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, window_size=w, **settings) for w in windows)
        if stem is not None:
            self.patch_embed = stem

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, out_chans, H / patch, W / patch).

        Raises:
            ValueError: an image whose sides are no multiples of the patch.
        """
        if any(side < self.patch_size or side % self.patch_size for side in image.shape[2:]):
            raise ValueError(
                f"an image of {tuple(image.shape[2:])} pixels; expected multiples of the patch, {self.patch_size}"
            )
        x = self.patch_embed(image)
        grid = x.shape[1:3]
        x = x + (self.pos_embed if self.pos_embed.shape[1:3] == grid else resize_absolute(self.pos_embed, grid))
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))


class ConvStem(nn.Sequential):
    """Patch embedding by convolutions of stride 2, which lets a ViT learn from few images (arXiv 2106.14881).

    Args:
        channels: of each convolution but the last; their number + 1 is log2 of the patch.
        embed_dim: channels of a token.
    """

    def __init__(self, channels: Sequence[int] = (32, 64), embed_dim: int = 160) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in zip([3, *channels], channels, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), LayerNorm2d(outputs), nn.GELU()]
        super().__init__(*layers, nn.Conv2d(channels[-1], embed_dim, 3, stride=2, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> tokens (B, h, w, embed_dim)."""
        return super().forward(image).permute(0, 2, 3, 1)
