# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The image encoder on a GPU as one CUDA graph: its kernels are started at once instead of one by one."""

from __future__ import annotations

from threading import Lock

import torch
from torch import Tensor, nn

from ...networks.embedding import Embedding

# Runs before the recording: the compiler, the choice of algorithms and the constants must not be part of it.
WARM_UP = 3


class Replayed(nn.Module):
    """Records what an encoder does with the first image of each shape, and replays it with the others.

    Args:
        encoder: of inference, on a CUDA device, whose weights stay as they are; compiled or not.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self._recordings: dict[tuple[torch.Size, torch.dtype], _Recording] = {}
        self._lock = Lock()

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor | Embedding:
        """As the encoder; what is returned is not touched by later calls."""
        key = image.shape, image.dtype
        # Requests of several threads would write into the same image.
        with self._lock:
            if key not in self._recordings:
                self._recordings[key] = _Recording(self.encoder, image)
            return self._recordings[key](image)


class _Recording:
    def __init__(self, encoder: nn.Module, image: Tensor) -> None:
        # An image born in inference mode could not be overwritten outside of it.
        with torch.inference_mode(False):
            self.image = torch.zeros_like(image)
        self.image.copy_(image)
        self.graph = torch.cuda.CUDAGraph()
        side, current = torch.cuda.Stream(image.device), torch.cuda.current_stream(image.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                encoder(self.image)
        current.wait_stream(side)
        # Other threads may allocate meanwhile: a server goes on answering.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.out = encoder(self.image)

    def __call__(self, image: Tensor) -> Tensor | Embedding:
        self.image.copy_(image)
        self.graph.replay()
        if isinstance(self.out, Tensor):
            return self.out.clone()
        return self.out._replace(features=self.out.features.clone(), skips=tuple(s.clone() for s in self.out.skips))
