# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Requests of clicks on a large CT as a MONAI Label server runs them: what a person waits for, transfer aside."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import SaveImaged

from common.weights import load_weights
from tools.benchmark.timing import Contestant
from tools.bundle_network import BUNDLE, build_network, from_root

AGAINST = "further_click"
IMAGE = "ct.nii.gz"
SHAPE, SPACING = (512, 512, 200), (0.8, 0.8, 1.5)
# Seconds of server time that were set as the aim on two cores.
AIMS = {"first_click": 1.0, "further_click": 0.15}


def about(quick: bool) -> str:
    """What is measured, in a line."""
    return f"clicks on a CT of {' x '.join(map(str, _shape(quick)))} voxels in a .nii.gz, as MONAI Label runs them"


def contestants(device: torch.device, quick: bool) -> list[Contestant]:
    """The first click on a volume, each further one, and one that was answered before; of an organ and of a lesion."""
    folder = tempfile.TemporaryDirectory()
    _, organ, lesion = write_ct(Path(folder.name) / IMAGE, _shape(quick))
    size = 32 if quick else 128
    forgetful = Server(Path(folder.name), device, size)
    places = np.random.default_rng(0)

    def first(click: list[int]) -> None:
        # The folder lives as long as this function does.
        forgetful.forget()
        forgetful(Path(folder.name) / IMAGE, foreground=[click])

    rows, notes = {}, {}
    # A large object and a small one, which gets a finer cube.
    for kind, click, reach in (("", organ, 5), ("small_", lesion, 2)):
        rows[f"{kind}first_click"] = partial(first, click)
        known = Known(Server(Path(folder.name), device, size), folder, click, reach, places, quick)
        rows[f"{kind}further_click"] = known.further
        rows[f"{kind}known_click"] = known.again
        notes[f"{kind}known_click"] = "all clicks were answered before"
        notes[f"{kind}first_click"] = f"cubes looked at: {known.cubes}"
    for name, seconds in AIMS.items() if not quick else ():
        notes[name] = ", ".join(filter(None, [notes.get(name), f"aim on two cores: {seconds:g} s"]))
    return [Contestant(name, run, note=notes.get(name, "")) for name, run in rows.items()]


class Known:
    """An object in a volume that its server has seen, and one click more on it at each turn.

    Attributes:
        cubes: in which the object was looked for at its first click.
    """

    def __init__(
        self,
        server: Server,
        folder: tempfile.TemporaryDirectory,
        click: list[int],
        reach: int,
        places: np.random.Generator,
        quick: bool,
    ) -> None:
        # The folder lives as long as somebody holds it.
        self.server, self.folder, self.places, self.reach, self.quick = server, folder, places, reach, quick
        self.image = Path(folder.name) / IMAGE
        self.clicks, self.labels = [click], [1]
        self.mask, result = server.segment(self.image, foreground=self.clicks)
        self.cubes = len(result["objects"][0]["cubes"])

    def further(self) -> None:
        """A click near the first one that says what the mask does not: for others the network is not asked."""
        while True:
            place = [int(x) for x in np.array(self.clicks[0]) + self.places.integers(-self.reach, self.reach + 1, 3)]
            # Said otherwise on the same voxel, it would take an earlier click back.
            if place in self.clicks:
                continue
            self.clicks.append(place)
            self.labels.append(int(self.mask[tuple(place)] == 0))
            if self.again()["decoder_calls"]:
                return

    def again(self) -> dict[str, Any]:
        """The same clicks once more: the JSON part of the answer."""
        self.mask, result = self.server.segment(self.image, points=self.clicks, point_labels=self.labels)
        check_remembered(result, self.quick)
        return result


def check_remembered(result: dict[str, Any], quick: bool) -> None:
    """A volume is read once and its cube encoded once.

    Raises:
        RuntimeError: something was done again.
    """
    read, encoded = result["volume"]["read"], result["embeddings"]["computed"]
    # In a tiny volume a mask may reach its cube's border: a further cube is new, and rightly encoded.
    if read or (encoded and not quick):
        raise RuntimeError(f"a known volume was read {read} times and {encoded} of its cubes encoded")


class Server:
    """The bundle's transforms and inferer called as MONAI Label's ``BundleInferTask`` calls them.

    Args:
        folder: for what the configuration would write.
        device: of the network.
        cube_size: voxels a side of the network's cube.
    """

    def __init__(self, folder: Path, device: torch.device, cube_size: int) -> None:
        config = from_root(ConfigParser.load_config_file(str(BUNDLE / "configs" / "inference.json")))
        config |= {"bundle_root": str(BUNDLE), "output_dir": str(folder / "out"), "cube_size": cube_size}
        self.config = config
        self.device = device
        self.network = build_network().to(device).eval()
        weights = BUNDLE / "models" / "model.pt"
        if weights.exists():
            load_weights(self.network, weights)
        self.forget()

    def forget(self) -> None:
        """Start with empty caches."""
        parser = ConfigParser(self.config)
        self.before = parser.get_parsed_content("preprocessing").transforms
        self.inferer = parser.get_parsed_content("inferer")
        self.inferer.progress = False
        after = parser.get_parsed_content("postprocessing").transforms
        self.after = [t for t in after if not isinstance(t, SaveImaged)]

    def __call__(self, image: str | Path, **request: Any) -> dict[str, Any]:
        """The JSON part of the answer."""
        return self.segment(image, **request)[1]

    def segment(self, image: str | Path, **request: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        """The label map (X, Y, Z), and the JSON part of the answer."""
        data = {"image": str(image), "device": str(self.device), **request}
        for transform in self.before:
            data = transform(data)
        with torch.no_grad():
            data["pred"] = self.inferer(data["image"][None].to(self.device), self.network)[0]
        for transform in self.after:
            data = transform(data)
        return data["pred"].as_tensor()[0], data["result"]


def write_ct(path: Path, shape: tuple[int, int, int]) -> tuple[Path, list[int], list[int]]:
    """A body with an organ, a lesion of 12 mm and noise, in Hounsfield units; a voxel of each."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    body = np.broadcast_to((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, shape)
    organ = ((x - 0.2) / 0.25) ** 2 + (y / 0.25) ** 2 + (z / 0.5) ** 2 < 1
    places = [[round(0.6 * (shape[0] - 1)), shape[1] // 2, shape[2] // 2]]
    places.append([round(0.3 * (shape[0] - 1)), *places[0][1:]])
    i, j, k = (
        (np.arange(n, dtype=np.float32) - place) * mm for n, place, mm in zip(shape, places[1], SPACING, strict=True)
    )
    lesion = i[:, None, None] ** 2 + j[:, None] ** 2 + k**2 < 6**2
    voxels = np.where(organ | lesion, 140, np.where(body, 40, -1000)).astype(np.int16)
    voxels += np.random.default_rng(0).integers(-15, 16, shape, dtype=np.int16)
    # Stored as scanners' volumes are: the first two axes run to the left and to the back.
    nib.save(nib.Nifti1Image(voxels, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])), path)
    return path, *places


def _shape(quick: bool) -> tuple[int, int, int]:
    return (48, 40, 32) if quick else SHAPE
