# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Label names as vectors: by CLIP, by any sentence encoder, or by a fixed table without either."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

TABLE = "table"
# S-SAM's: ViT-B/32, whose text features have 512 channels.
CLIP = "openai/clip-vit-base-patch32"
SOURCES = f"{TABLE}, clip (which is {CLIP}), the folder of a text encoder, or its name on the Hugging Face hub"


def encode_names(names: Sequence[str], source: str = TABLE, text_dim: int = 512) -> Tensor:
    """(K, channels) features of label names.

    Args:
        names: of the labels.
        source: ``table`` draws a vector of ``text_dim`` channels for each name, the same one on every machine: there is
            no meaning in it, so that training has to learn what the name stands for. ``clip`` is the encoder of the
            paper. A folder, or a name on the hub, is read with transformers: CLIP's text features, or a sentence
            encoder's pooled tokens.
        text_dim: channels that the network takes; an encoder has to give as many.

    Raises:
        ValueError: no such encoder, one of other channels, or transformers is not installed.
    """
    if source == TABLE:
        return torch.stack([drawn(name, text_dim) for name in names]) if names else torch.empty(0, text_dim)
    features = text_encoder(CLIP if source == "clip" else str(source))(list(names))
    if features.shape[1] != text_dim:
        raise ValueError(
            f"{source} gives {features.shape[1]} channels, the network's text layer takes {text_dim}: give text_dim "
            f"{features.shape[1]} where the network is trained, or another encoder"
        )
    return features


def drawn(name: str, text_dim: int) -> Tensor:
    """(text_dim,) normal numbers that depend on the name alone, whatever its case and the blanks around it."""
    seed = int.from_bytes(hashlib.sha256(name.strip().casefold().encode()).digest(), "big")
    # numpy's, because torch's own differ in the last digits from one processor to another.
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(text_dim, dtype=np.float32))


@lru_cache(maxsize=1)
def text_encoder(source: str) -> TextEncoder:
    """The encoder, kept for the next names."""
    return TextEncoder(source)


class TextEncoder:
    """A text encoder of transformers, on the CPU.

    Args:
        source: a local folder (as ``save_pretrained`` writes it), or a name on the hub.

    Raises:
        ValueError: transformers is not installed, or nothing usable at ``source``.
    """

    def __init__(self, source: str) -> None:
        try:
            from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModelWithProjection
        except ImportError as problem:
            raise ValueError(
                f"text features of {source!r} need transformers, which is not installed: run "
                "pip install 'transformers>=4.45'"
            ) from problem
        try:
            self.clip = AutoConfig.from_pretrained(source).model_type in ("clip", "clip_text_model")
            loader = CLIPTextModelWithProjection if self.clip else AutoModel
            self.model = loader.from_pretrained(source).float().eval()
            self.tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, KeyError, RuntimeError) as problem:
            reason = (str(problem).splitlines() or [type(problem).__name__])[0]
            raise ValueError(
                f"{source}: cannot be read as a text encoder ({reason[:200]}); expected {SOURCES}"
            ) from problem
        self.first_token = _pools_first_token(source)

    @torch.inference_mode()
    def __call__(self, names: list[str]) -> Tensor:
        """(K, channels), as the encoder gives them: not normalised."""
        tokens = self.tokenizer(names, padding=True, truncation=True, return_tensors="pt")
        if self.clip:
            return self.model(**tokens).text_embeds.clone()
        states = self.model(**tokens).last_hidden_state
        if self.first_token:
            return states[:, 0].clone()
        weights = tokens["attention_mask"][..., None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)


def _pools_first_token(source: str) -> bool:
    """Whether a sentence encoder's own settings say so; most take the mean of all tokens."""
    settings = Path(source) / "1_Pooling" / "config.json"
    return settings.is_file() and bool(json.loads(settings.read_text()).get("pooling_mode_cls_token"))
