# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Proof that public weights mean the same here: runs reference files of the published networks through ours.

A reference file is an .npz of `config` (JSON as bytes), `state/<key>`, `in/<name>` and `out/<name>`. Each network is
built from its config, takes the state dict strictly, and must give every output within 1e-4 of that output's largest
value; within 2e-3 where the file's name says "flash", because those were computed from half-precision queries.

LiteMedSAM's file holds neither config nor state: its weights are the published ones, brought from the package index.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bundles.fastsam3d.scripts.networks.image_encoder import ImageEncoder3D
from bundles.fastsam3d.scripts.networks.mask_decoder import Attention, MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.published import (
    FlashAttention,
    PublishedStudent3D,
    RelativeAttention,
    StridedGroupAttention,
    SwappedFourierCode,
)
from bundles.ssam_2d.scripts.checkpoints import load_start
from bundles.ssam_2d.scripts.lite_medsam import bring
from bundles.ssam_2d.scripts.networks.lite_medsam import lite_medsam
from bundles.ssam_2d.scripts.networks.published import (
    PublishedImageEncoder,
    PublishedTextDecoder,
    ReformedConv2d,
    ReformedLinear,
)
from common.weights import read_state

TOLERANCE, FLASH_TOLERANCE = 1e-4, 2e-3
# What tells LiteMedSAM's file: every 8th row and column of its embedding.
LITE_MEDSAM_KEY, EVERY = "embedding_every_8th", 8

Outputs = Iterator[tuple[str, Tensor]]


@dataclass
class Reference:
    """The content of a reference file, arrays as tensors, names without their group."""

    name: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    @property
    def tolerance(self) -> float:
        """Largest difference allowed, relative to an output's largest value."""
        return FLASH_TOLERANCE if "flash" in self.name else TOLERANCE


def read_reference(path: Path) -> Reference:
    """A reference file's content. Raises ValueError where a part is missing; numpy's errors where it is no .npz."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    if LITE_MEDSAM_KEY in arrays:
        tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
        inputs = {key: tensors.pop(key) for key in ("image", "box")}
        return Reference(path.stem, {}, read_state(bring()), inputs, tensors)
    if "config" not in arrays:
        raise ValueError("no `config` in it: expected config, state/..., in/... and out/...")
    groups: dict[str, dict[str, Tensor]] = {"state": {}, "in": {}, "out": {}}
    config = json.loads(arrays.pop("config").tobytes())
    for key, array in arrays.items():
        group, _, name = key.partition("/")
        if group not in groups:
            raise ValueError(f"array {key!r} in it: expected config, state/..., in/... and out/...")
        groups[group][name] = torch.from_numpy(array)
    if not groups["out"]:
        raise ValueError("no `out/...` in it: there is nothing to compare with")
    return Reference(path.stem, config, groups["state"], groups["in"], groups["out"])


def image_encoder(reference: Reference) -> Outputs:
    """SAM-Med3D's image encoder."""
    return encoder_outputs(ImageEncoder3D(**reference.config), reference)


def dense_student(reference: Reference) -> Outputs:
    """FastSAM3D's student with attention over the whole grid."""
    return student(reference, RelativeAttention)


def sparse_student(reference: Reference) -> Outputs:
    """FastSAM3D's student with attention in strided groups."""
    return student(reference, StridedGroupAttention)


def prompt_decoder(reference: Reference) -> Outputs:
    """SAM-Med3D's prompt encoder and mask decoder."""
    return decoder_outputs(reference, Attention)


def flash_prompt_decoder(reference: Reference) -> Outputs:
    """SAM-Med3D's prompt encoder and FastSAM3D's flash mask decoder."""
    return decoder_outputs(reference, FlashAttention)


def svd_layer(reference: Reference) -> Outputs:
    """One layer of S-SAM's image encoder."""
    outputs, inputs, *kernel = reference.state["weight"].shape
    bias = "bias" in reference.state
    if kernel:
        settings = reference.config["stride"], reference.config["padding"]
        layer = ReformedConv2d(inputs, outputs, kernel[0], *settings, bias=bias)
    else:
        layer = ReformedLinear(inputs, outputs, bias)
    layer.load_state_dict(reference.state)
    yield "y", layer(reference.inputs["x"])
    yield "reg", layer.regularisation()


def svd_image_encoder(reference: Reference) -> Outputs:
    """S-SAM's image encoder, whose published form has neither windows nor relative positions."""
    config = dict(reference.config)
    if config.pop("window_size", 0) != 0 or config.pop("use_rel_pos", False):
        raise ValueError("an S-SAM encoder with windows or relative positions: no published one is such")
    encoder = PublishedImageEncoder(**config)
    encoder.load_state_dict(reference.state)
    yield "embedding", encoder(reference.inputs["image"])
    yield "reg", encoder.regularisation()


def svd_text_decoder(reference: Reference) -> Outputs:
    """S-SAM's text affine layer with SAM's prompt encoder and mask decoder."""
    decoder = PublishedTextDecoder(**reference.config).eval()
    decoder.load_state_dict(reference.state)
    features = reference.inputs["text_features"]
    masks, iou = decoder(reference.inputs["image_embedding"], features)
    yield "text_token", decoder.text_token(features)
    yield "low_res_masks", masks
    yield "iou", iou
    yield "probability", decoder.probability(masks)
    yield "image_pe", decoder.prompt_encoder.get_dense_pe()


def lite_medsam_box(reference: Reference) -> Outputs:
    """LiteMedSAM: its embedding of an image, and the mask and predicted IoU of a box in it."""
    network = lite_medsam().eval()
    load_start(network, reference.name, reference.state)
    prompts, decoder = network.prompt_encoder, network.mask_decoder
    embedding = network.encode(reference.inputs["image"])
    yield LITE_MEDSAM_KEY, embedding[:, :, ::EVERY, ::EVERY]
    yield "embedding_mean", embedding.mean()
    yield "embedding_std", embedding.std()
    sparse, dense = prompts(None, reference.inputs["box"], None)
    logits, iou = decoder(embedding, prompts.get_dense_pe(), sparse, dense, multimask_output=False)
    yield "logits", logits
    yield "iou", iou


# What computes the outputs of a kind of file; the kinds that kind_of names and that are absent here are not built yet.
KINDS: dict[str, Callable[[Reference], Outputs]] = {
    "sammed3d_image_encoder": image_encoder,
    "fastsam3d_student_dense": dense_student,
    "fastsam3d_student_sparse_flash": sparse_student,
    "sammed3d_prompt_decoder": prompt_decoder,
    "sammed3d_prompt_decoder_flash": flash_prompt_decoder,
    "svdsam_layer": svd_layer,
    "svdsam_image_encoder": svd_image_encoder,
    "svdsam_text_decoder": svd_text_decoder,
    "lite_medsam": lite_medsam_box,
}


def kind_of(reference: Reference) -> str:
    """The kind of a file, by its content; by its name only where two kinds have the same content.

    Raises:
        ValueError: a network that is none of the known ones.
    """
    keys, config, flash = reference.state.keys(), reference.config, "flash" in reference.name
    parts = {key.split(".")[0] for key in keys}
    if LITE_MEDSAM_KEY in reference.outputs:
        return "lite_medsam"
    if "Text_Embedding_Affine" in parts:
        return "svdsam_text_decoder"
    if any(key.endswith("trainable_scale") for key in keys):
        return "svdsam_image_encoder" if "blocks" in parts else "svdsam_layer"
    if "skip_layer" in config:
        return "fastsam3d_student_sparse_flash" if flash else "fastsam3d_student_dense"
    if {"prompt_encoder", "mask_decoder"} <= parts:
        return "sammed3d_prompt_decoder_flash" if flash else "sammed3d_prompt_decoder"
    if "global_attn_indexes" in config:
        return "sammed3d_image_encoder"
    raise ValueError(f"a network of an unknown kind, with config {sorted(config)} and state {sorted(parts)}")


def student(reference: Reference, attention: type[RelativeAttention]) -> Outputs:
    """FastSAM3D's student, whose published form always has position tables and never windows."""
    config = dict(reference.config)
    if config.pop("window_size", 0) != 0 or not config.pop("use_rel_pos", True):
        raise ValueError("a student with windows or without relative positions: no published one is such")
    return encoder_outputs(PublishedStudent3D(**config, attention=attention), reference)


def encoder_outputs(encoder: nn.Module, reference: Reference) -> Outputs:
    """Patch embedding, every block's output and the embedding."""
    encoder.load_state_dict(reference.state)
    embedded, blocks = encoder.forward_features(reference.inputs["image"])
    yield "patch_embed", embedded
    for i, block in enumerate(blocks):
        yield f"block{i}", block
    yield "embedding", encoder(reference.inputs["image"])


def decoder_outputs(reference: Reference, attention: type[Attention]) -> Outputs:
    """Tokens and masks after each click; a pass gets all clicks so far and the recorded mask before it."""
    config, inputs = reference.config, reference.inputs
    width, size = config["embed_dim"], (config["input_image_size"],) * 3
    grid = (config["image_embedding_size"],) * 3
    networks = nn.ModuleDict(
        {
            "prompt_encoder": PromptEncoder3D(width, config["mask_in_chans"], code=SwappedFourierCode(width)),
            "mask_decoder": MaskDecoder3D(
                width,
                config["decoder_depth"],
                config["decoder_num_heads"],
                config["decoder_mlp_dim"],
                config["num_multimask_outputs"],
                config["iou_head_depth"],
                config["iou_head_hidden_dim"],
                attention=attention,
            ),
        }
    )
    networks.load_state_dict(reference.state)
    prompt_encoder, mask_decoder = networks["prompt_encoder"], networks["mask_decoder"]
    image_pe = prompt_encoder.pe_layer.grid(grid)
    yield "image_pe", image_pe
    # SAM-Med3D passes an empty mask with the first click, not the embedding that stands for none.
    last = torch.zeros(len(inputs["points"]), 1, *(4 * n for n in grid))
    for i in range(inputs["points"].shape[1]):
        clicks = inputs["points"][:, : i + 1], inputs["labels"][:, : i + 1]
        sparse, dense = prompt_encoder(size, grid, *clicks, masks=last)
        # Several masks were asked for where several were recorded.
        multimask = reference.outputs[f"click{i}/masks"].shape[1] > 1
        masks, iou = mask_decoder(inputs["image_embedding"], image_pe, sparse, dense, multimask)
        # The recorded mask, not ours, goes on: every pass is judged alone, rounding does not add up over the clicks.
        last = reference.outputs[f"click{i}/masks"][:, :1]
        for name, value in ("sparse", sparse), ("dense", dense), ("masks", masks), ("iou", iou):
            yield f"click{i}/{name}", value


def largest_error(reference: Reference, compute: Callable[[Reference], Outputs]) -> tuple[float, str]:
    """The largest error relative to an output's largest value, and that output's name.

    Raises:
        ValueError: an output that our network does not give, or gives in another shape.
    """
    with torch.inference_mode():
        ours = dict(compute(reference))
    errors = []
    for name, expected in reference.outputs.items():
        if name not in ours:
            raise ValueError(f"our network has no output {name!r}, only {sorted(ours)}")
        if ours[name].shape != expected.shape:
            raise ValueError(f"{name} has shape {tuple(ours[name].shape)}, expected {tuple(expected.shape)}")
        difference = (ours[name].double() - expected.double()).abs().max().item()
        scale = expected.double().abs().max().item()
        error = difference / scale if scale > 0 else difference
        # Not a number is the worst of all errors; max would pass over it.
        errors.append((math.inf if math.isnan(error) else error, name))
    return max(errors)


def check(path: Path) -> tuple[str, str]:
    """One file's verdict, "ok", "FAILED" or "not built", and what to say of it."""
    try:
        reference = read_reference(path)
        kind = kind_of(reference)
        if kind not in KINDS:
            return "not built", kind
        error, output = largest_error(reference, KINDS[kind])
    except Exception as problem:  # noqa: BLE001 (whatever is wrong with one file, the others are still checked)
        return "FAILED", f"{type(problem).__name__}: {' '.join(str(problem).split())}"
    verdict = "ok" if error <= reference.tolerance else "FAILED"
    return verdict, f"{kind}: largest relative error {error:.1e} in {output}, {reference.tolerance:.0e} allowed"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.check_reference", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder of reference files (.npz)")
    parser.add_argument("--all", action="store_true", help="count networks that are not built yet as failures")
    options = parser.parse_args(arguments)
    paths = sorted(options.directory.glob("*.npz"))
    if not paths:
        print(f"{options.directory}: no .npz file there; give a folder of reference files", file=sys.stderr)
        return 1
    verdicts = []
    for path in paths:
        verdict, text = check(path)
        verdicts.append(verdict)
        print(f"{verdict:<9}  {path.name}  {text}", flush=True)
    failures = verdicts.count("FAILED") + (verdicts.count("not built") if options.all else 0)
    print(
        f"{len(paths)} files, {verdicts.count('ok')} ok, {verdicts.count('not built')} not built, {failures} failures"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
