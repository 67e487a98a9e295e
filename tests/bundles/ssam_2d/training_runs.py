# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Small labelled folders, a tiny SAM as a base, and the training configurations run on them in this process."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image
from workflows import run_configs

SSAM = Path(__file__).resolve().parents[3] / "bundles" / "ssam_2d"
SIZE = 32
COLOURS = {"disc": (200, 40, 40), "bar": (40, 60, 220)}
# The configuration's network with few channels; its images have 32 pixels a side, its tokens 8.
TINY = {
    "network_def#image_encoder": {
        "_target_": "scripts.networks.image_encoder.ImageEncoder",
        "img_size": SIZE,
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "out_chans": 16,
        "window_size": 2,
        "global_attn_indexes": [1],
    },
    "network_def#prompt_encoder#embed_dim": 16,
    "network_def#prompt_encoder#image_embedding_size": [4, 4],
    "network_def#prompt_encoder#input_image_size": [SIZE, SIZE],
    "network_def#prompt_encoder#mask_in_chans": 4,
    "network_def#mask_decoder#transformer_dim": 16,
    "network_def#mask_decoder#iou_head_hidden_dim": 16,
    "network_def#mask_decoder#transformer#embedding_dim": 16,
    "network_def#mask_decoder#transformer#num_heads": 2,
    "network_def#mask_decoder#transformer#mlp_dim": 32,
    "network_def#text_affine#embed_dim": 16,
    "image_size": SIZE,
}
SETTINGS = {"device": "cpu", "progress": False, "previews": 2}


def draw(rng: np.random.Generator, bar: bool = True, size: tuple[int, int] = (40, 48)) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 3) with a red disc and maybe a blue bar, and its index mask: 1 and 2."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, np.uint8)
    centre = rng.uniform(0.3, 0.7, 2) * size
    mask[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (0.2 * size[0]) ** 2] = 1
    if bar:
        mask[:6, 4:-4] = 2
    picture = rng.normal(90, 10, (*size, 3))
    for value, colour in enumerate(COLOURS.values(), start=1):
        picture[mask == value] = colour
    return picture.clip(0, 255).astype(np.uint8), mask


def make_folder(folder: Path, kind: str = "index", count: int = 6, seed: int = 0) -> Path:
    """``images/``, ``masks/`` and ``labels.json``; every second image shows a disc alone.

    Args:
        folder: new.
        kind: of the masks: ``index``, ``colour``, ``binary`` (the disc alone), ``files`` or ``folders`` (one a label).
        count: of images.
        seed: of what they show.
    """
    rng = np.random.default_rng(seed)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        picture, mask = draw(rng, bar=i % 2 == 0)
        Image.fromarray(picture).save(folder / "images" / f"case_{i}.png")
        if kind == "index":
            Image.fromarray(mask).save(folder / "masks" / f"case_{i}.png")
        elif kind == "binary":
            Image.fromarray(255 * (mask == 1).astype(np.uint8)).save(folder / "masks" / f"case_{i}.png")
        elif kind == "colour":
            coloured = np.array([(0, 0, 0), *COLOURS.values()], np.uint8)[mask]
            Image.fromarray(coloured).save(folder / "masks" / f"case_{i}.png")
        else:
            for value, name in enumerate(COLOURS, start=1):
                if (mask == value).any():
                    file = Path(f"case_{i}_{name}.png") if kind == "files" else Path(name) / f"case_{i}.png"
                    (folder / "masks" / file).parent.mkdir(exist_ok=True)
                    Image.fromarray(255 * (mask == value).astype(np.uint8)).save(folder / "masks" / file)
    labels: dict[str, Any] = {str(value): name for value, name in enumerate(COLOURS, start=1)}
    if kind == "colour":
        labels = COLOURS
    elif kind == "binary":
        labels = {"1": "disc"}
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def make_list(folder: Path, training: int = 4) -> Path:
    """A data list of the images of an index folder: the first ones train, the others validate."""
    items = [{"image": f"images/{f.name}", "label": f"masks/{f.name}"} for f in sorted((folder / "images").iterdir())]
    content = {"labels": json.loads((folder / "labels.json").read_text())}
    content |= {"training": items[:training], "validation": items[training:]}
    path = folder / "list.json"
    path.write_text(json.dumps(content))
    return path


def tiny_base(path: Path) -> Path:
    """A base with seeded random weights, as ``train_base.json`` writes it."""
    parser = ConfigParser()
    parser.read_config([str(SSAM / "configs" / name) for name in ("train.json", "train_base.json")])
    parser.update(TINY)
    torch.manual_seed(5)
    state = parser.get_parsed_content("network_def").state_dict()
    torch.save({k: v for k, v in state.items() if not k.startswith(("text_affine.", "label_"))}, path)
    return path


def run(*configs: str, **overrides: Any) -> ConfigWorkflow:
    """The bundle's configurations, one on top of the other, from start to end; paths may be Path."""
    return run_configs(SSAM, configs, **{**TINY, **SETTINGS, **overrides})


def weights(path: Path) -> dict[str, torch.Tensor]:
    """A state dict."""
    return torch.load(path, weights_only=True)
