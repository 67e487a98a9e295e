# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""``python -m tools.benchmark prompts_2d DATA ...``: how well the shipped weights of ssam_2d answer boxes and clicks.

Of each label of each image the largest piece is asked for, by its box and by a click where it is deepest, without a
name: of the weights that inference takes for each, of the small base, of LiteMedSAM, and of those tuned for names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import KeepLargestConnectedComponent
from monai.transforms.utils import generate_spatial_bounding_box
from tqdm import tqdm

from bundles.ssam_2d.scripts.data.items import label_list, labelled_items
from bundles.ssam_2d.scripts.data.masks import LoadMasksd
from bundles.ssam_2d.scripts.images import LoadImage2Dd
from bundles.ssam_2d.scripts.lite_medsam import bring
from common.clicks import deepest_point
from tools.bundle_network import from_root

BUNDLE = Path(__file__).parents[2] / "bundles" / "ssam_2d"
# Pieces of fewer pixels are not asked for: their box says next to all of them.
SMALLEST = 50
WEIGHTS: dict[str, dict[str, Any]] = {
    "default": {},
    "small base": {"box_path": None},
    "LiteMedSAM": {"prompt_network": "@box_network"},
    "tuned for names": {"box_path": None, "prompt_path": None},
}


class Answers:
    """The bundle's own transforms and inferer, by configuration.

    Args:
        overrides: of inference.json.
    """

    def __init__(self, **overrides: Any) -> None:
        content = ConfigParser.load_config_file(str(BUNDLE / "configs" / "inference.json"))
        parser = ConfigParser(from_root(content, BUNDLE.name))
        parser.update({"bundle_root": str(BUNDLE), "device": "cpu", **overrides})
        self.network = parser.get_parsed_content("network").eval()
        parser.get_parsed_content("weights").load(self.network)
        self.preprocessing, self.inferer = (parser.get_parsed_content(k) for k in ("preprocessing", "inferer"))

    def __call__(self, image: str, **prompts: Any) -> np.ndarray:
        """(H, W) bool, what is found for the prompts."""
        shown = self.preprocessing({"image": image, **prompts})["image"]
        return self.inferer(shown[None], self.network)[0, 0].numpy() > 0


def objects(dataset: Path, images: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """The image's file and the largest piece (H, W) of each label in it.

    Args:
        dataset: a folder with images, masks and labels.json, or a data list.
        images: how many of the set, evenly spread; all by default.
    """
    where = {"dataset_dir": dataset} if dataset.is_dir() else {"data_list_file_path": dataset}
    items = labelled_items("all", **where)
    if images is not None:
        items = [items[i] for i in np.unique(np.linspace(0, len(items) - 1, images).round().astype(int))]
    read = LoadMasksd("label", label_list(items))
    for item in tqdm(items, desc=dataset.name, leave=False):
        shown = read({**LoadImage2Dd("image")(item), "label": item["label"]})
        for mask in shown["label"]:
            piece = KeepLargestConnectedComponent()(torch.as_tensor(mask)[None].bool())[0].numpy()
            if piece.sum() >= SMALLEST:
                yield item["image"], piece


def measure(dataset: Path, answers: dict[str, Answers], images: int | None = None) -> dict[str, Any]:
    """Mean Dice by weights and prompt, and the number of objects."""
    dice: dict[str, dict[str, list[float]]] = {name: {"box": [], "click": []} for name in answers}
    for image, truth in objects(dataset, images):
        (top, left), (bottom, right) = generate_spatial_bounding_box(truth[None])
        row, column = deepest_point(truth)
        prompts = {
            "box": {"box": [int(v) for v in (left, top, right - 1, bottom - 1)]},
            "click": {"foreground": [[int(column), int(row)]]},
        }
        for name, ask in answers.items():
            for kind, given in prompts.items():
                found = ask(image, **given)
                dice[name][kind].append(2.0 * (found & truth).sum() / (found.sum() + truth.sum()))
    means = {name: {kind: float(np.mean(v)) for kind, v in kinds.items()} for name, kinds in dice.items()}
    return {"objects": len(next(iter(dice.values()))["box"]), **means}


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as a Markdown table."""
    asked = [name for name in next(iter(results.values())) if name != "objects"]
    heads = [f"{kind}, {name}" for kind in ("box", "click") for name in asked]
    lines = [f"| data | objects | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for data, found in results.items():
        cells = [f"{found[name][kind]:.2f}" for kind in ("box", "click") for name in asked]
        lines.append(f"| {data} | {found['objects']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark prompts_2d", description=__doc__.split("\n\n")[1])
    parser.add_argument("data", type=Path, nargs="+", help="folders with images/, masks/, labels.json, or data lists")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the means here too")
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=list(WEIGHTS), help="all by default")
    parser.add_argument("--images", type=int, help="of each set, evenly spread; all by default")
    options = parser.parse_args(arguments)
    try:
        bring()
        answers = {name: Answers(**WEIGHTS[name]) for name in options.weights}
        named = {data.name if data.is_dir() else data.parent.name: data for data in options.data}
        results = {name: measure(data, answers, options.images) for name, data in named.items()}
    except ValueError as problem:
        print(f"not measured: {problem}", file=sys.stderr)
        return 1
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0
