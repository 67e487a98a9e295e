# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The kinds of checkpoints, and how one is told from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Kind:
    """What a conversion makes, for the report and for --help.

    Attributes:
        source: whose checkpoint it takes.
        result: what it makes of it.
        family: kinds of one family take the same checkpoints.
        bundle: where the result belongs.
        configs: with which the result runs at once; empty where it is something to train from.
    """

    source: str
    result: str
    family: str
    bundle: str
    configs: tuple[str, ...] = ()


KINDS = {
    "sam": Kind("SAM ViT-B, L, H or MedSAM", "a base to fine-tune; for boxes as it is", "sam", "ssam_2d"),
    "tiny_sam": Kind("LiteMedSAM or MobileSAM", "a base to fine-tune; for boxes as it is", "tiny_sam", "ssam_2d"),
    "ssam": Kind(
        "the S-SAM code's checkpoint",
        "its network, singular values merged",
        "ssam",
        "ssam_2d",
        ("inference.json", "published.json"),
    ),
    "ssam_adapter": Kind("the S-SAM code's checkpoint", "what was tuned: an adapter (.safetensors)", "ssam", "ssam_2d"),
    "ssam_base": Kind("the S-SAM code's checkpoint", "the SAM under it: the base of that adapter", "ssam", "ssam_2d"),
    "sammed3d": Kind(
        "SAM-Med3D or its turbo",
        "the full model, which also is the teacher to distil from",
        "sammed3d",
        "fastsam3d",
        ("inference.json", "published.json", "published_sammed3d.json"),
    ),
    "sammed3d_teacher": Kind("SAM-Med3D or its turbo", "its image encoder alone", "sammed3d", "fastsam3d"),
    "fastsam3d": Kind(
        "FastSAM3D, or its student alone and --decoder",
        "its network in the published form",
        "fastsam3d",
        "fastsam3d",
        ("inference.json", "published.json"),
    ),
    "named": Kind("weights of ssam_2d without names", "the same with the names of --labels", "ours", "ssam_2d"),
    "to_sam": Kind("a merged network of ssam_2d (model.pt)", "a plain SAM for any SAM tool", "ours", "ssam_2d"),
}
# The kind that a family is converted to where none is asked for.
DEFAULTS = {family: family for family in ("sam", "tiny_sam", "ssam", "sammed3d", "fastsam3d")} | {"ours": "to_sam"}


def family_of(state: Mapping[str, Tensor]) -> str:
    """The family of a checkpoint, by the names and shapes of its tensors.

    Raises:
        ValueError: none of the known ones.
    """
    patches = next((value for key, value in state.items() if key.endswith("patch_embed.proj.weight")), None)
    if any(key.startswith("sam_encoder.") for key in state):
        return "ssam"
    if "label_features" in state or any(key.startswith("text_affine.") for key in state):
        return "ours"
    if any(key.startswith("image_encoder.patch_embed.seq.") for key in state):
        return "tiny_sam"
    if patches is not None and patches.ndim == 5:
        first = any(key.endswith("blocks.0.attn.qkv.weight") for key in state)
        return "sammed3d" if first else "fastsam3d"
    if patches is not None and any(key.startswith("image_encoder.") for key in state):
        return "sam"
    some = ", ".join(list(state)[:3])
    raise ValueError(
        f"a network of an unknown kind: its {len(state)} tensors are {some}, ...; known are {', '.join(KINDS)}"
    )


def chosen_kind(asked: str | None, state: Mapping[str, Tensor]) -> str:
    """The kind to convert to: the one asked for, which must take this checkpoint, or the family's own.

    Raises:
        ValueError: a checkpoint of another kind than asked for.
    """
    family = family_of(state)
    if asked is None:
        return DEFAULTS[family]
    takes = {"sam", "ours"} if asked == "to_sam" else {KINDS[asked].family}
    if family not in takes:
        raise ValueError(
            f"--kind {asked} takes {KINDS[asked].source}, and this is a checkpoint of the kind {DEFAULTS[family]} "
            f"({KINDS[DEFAULTS[family]].source}): give that kind, or leave it out"
        )
    return asked
