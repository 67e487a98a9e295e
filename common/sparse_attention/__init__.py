# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""Dilated segment attention over token sequences (FastSAM3D, arXiv 2403.09827; LongNet, arXiv 2307.02486)."""

from .dispatch import BACKENDS, sparse_attention
from .order import morton_order
from .patterns import PAPER_PATTERNS, Pattern

__all__ = ["BACKENDS", "PAPER_PATTERNS", "Pattern", "morton_order", "sparse_attention"]
