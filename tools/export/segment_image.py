# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Segment a 2D image with exported networks: onnxruntime, numpy and Pillow, no torch.

Lies beside the networks as segment.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def read_picture(path: Path) -> Image.Image:
    """An 8-bit image in three channels. Raises ValueError for any other file."""
    try:
        picture = Image.open(path)
        picture.load()
    except (OSError, ValueError) as problem:
        raise ValueError(f"{path}: cannot be read ({problem}); expected an image such as PNG or JPEG") from problem
    if picture.mode not in ("L", "P", "RGB", "RGBA", "1"):
        raise ValueError(f"{path}: pixels of the type {picture.mode}; expected 8 bits, grey or RGB")
    return picture.convert("RGB")


class Networks:
    """The exported files of a folder.

    Args:
        folder: with export.json, encoder.onnx, decoder.onnx and click_decoder.onnx.
    """

    def __init__(self, folder: Path) -> None:
        self.settings = json.loads((folder / "export.json").read_text())
        start = lambda name: onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])  # noqa: E731
        self.encoder, self.names = start("encoder.onnx"), start("decoder.onnx")
        self.clicks = start("click_decoder.onnx")

    def shown(self, picture: Image.Image) -> np.ndarray:
        """(1, 3, size, size): the whole picture, stretched to the network's square and normalised."""
        size, pixels = self.settings["image_size"], np.asarray(picture, dtype=np.float32)
        # Channel by channel in float, as rounding to 8 bits would be seen in the masks.
        channels = [Image.fromarray(pixels[..., c]).resize((size, size), Image.Resampling.BILINEAR) for c in range(3)]
        image = (np.stack([np.asarray(c) for c in channels], axis=-1) - MEAN) / STD
        return image.transpose(2, 0, 1)[None].astype(np.float32)

    def encode(self, picture: Image.Image) -> np.ndarray:
        """The embedding of a picture."""
        return self.encoder.run(None, {"image": self.shown(picture)})[0]

    def named(self, embedding: np.ndarray, names: list[str]) -> np.ndarray:
        """Logits (K, h, w) of labels. Raises ValueError for an unknown one."""
        known = self.settings["labels"]
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise ValueError(f"labels {', '.join(unknown) or 'none'}: expected some of {', '.join(known) or 'none'}")
        logits = []
        for name in names:
            features = np.array([self.settings["label_features"][known.index(name)]], dtype=np.float32)
            logits.append(self.names.run(["logits"], {"embedding": embedding, "features": features})[0][0, 0])
        return np.stack(logits)

    def clicked(self, embedding: np.ndarray, points: list, labels: list[int], shape: tuple[int, int]) -> np.ndarray:
        """Logits (1, h, w) of one object.

        Args:
            embedding: of a picture of ``shape``, (columns, rows).
            points: (column, row) each.
            labels: 1 on the object, 0 beside it, 2 and 3 the corners of a box.
        """
        if 2 not in labels:
            points, labels = [*points, (0, 0)], [*labels, -1]
        size = self.settings["image_size"]
        places = (np.array(points, dtype=np.float32) + 0.5) * size / np.array(shape, dtype=np.float32) - 0.5
        inputs = {"embedding": embedding, "points": places[None].astype(np.float32), "labels": np.array([labels])}
        return self.clicks.run(["logits"], inputs)[0][0]


def index_map(logits: np.ndarray, shape: tuple[int, int], threshold: float) -> np.ndarray:
    """(rows, columns) uint8: 0, or 1 + the label of the largest probability above the threshold."""
    enlarged = np.stack(
        [np.asarray(Image.fromarray(x.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)) for x in logits]
    )
    best = enlarged.argmax(axis=0)
    inside = enlarged.max(axis=0) > np.log(threshold / (1 - threshold))
    return np.where(inside, best + 1, 0).astype(np.uint8)


def segment(folder: Path, path: Path, output: Path, labels: list[str] | None, prompts: list[tuple]) -> str:
    """Write the index map; returns what was found.

    Args:
        folder: of the export.
        path, output: of the image and of the index map.
        labels: names to look for, all that the network knows if None.
        prompts: ((column, row), kind) in place of names, see Networks.clicked.

    Raises:
        ValueError: an unreadable image, an unknown label, a click outside, an output that is the image.
    """
    picture = read_picture(path)
    if output.exists() and output.samefile(path):
        raise ValueError(f"{output} is the image itself; give another name")
    columns, rows = picture.size
    outside = [point for point, _ in prompts if not (0 <= point[0] < columns and 0 <= point[1] < rows)]
    if outside:
        raise ValueError(f"points {outside} outside the image of {columns} x {rows} pixels; expected [x, y] within")
    networks = Networks(folder)
    names = ["object"] if prompts else (labels or networks.settings["labels"])
    embedding = networks.encode(picture)
    if prompts:
        points, kinds = (list(values) for values in zip(*prompts, strict=True))
        logits = networks.clicked(embedding, points, kinds, picture.size)
    else:
        logits = networks.named(embedding, names)
    found = index_map(logits, picture.size, networks.settings["threshold"])
    Image.fromarray(found).save(output)
    areas = ", ".join(f"{value} {name}: {(found == value).sum()} pixels" for value, name in enumerate(names, 1))
    return f"{output}: {areas}"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, help="8-bit image: PNG, JPEG, TIFF, ...")
    parser.add_argument("--output", type=Path, default=Path("segmentation.png"), help="index map (segmentation.png)")
    parser.add_argument("--labels", nargs="+", help="names; all that the network knows if left out")
    click = {"nargs": 2, "type": float, "action": "append", "default": [], "metavar": ("COLUMN", "ROW")}
    parser.add_argument("--foreground", **click, help="a click on an object, in place of names; may be repeated")
    parser.add_argument("--background", **click, help="a click beside it")
    parser.add_argument("--box", nargs=4, type=float, metavar=("C0", "R0", "C1", "R1"), help="its first and last pixel")
    parser.add_argument("--networks", type=Path, default=Path(__file__).resolve().parent, help="folder of the export")
    given = parser.parse_args(arguments)
    if given.background and not (given.foreground or given.box):
        parser.error("--background alone: expected a click on the object or a box too")
    prompts = [(point, 1) for point in given.foreground] + [(point, 0) for point in given.background]
    prompts += [(given.box[:2], 2), (given.box[2:], 3)] if given.box else []
    try:
        print(segment(given.networks, given.image, given.output, given.labels, prompts))
    except ValueError as problem:
        print(f"not segmented: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
