# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Segment a volume from clicks with exported networks: onnxruntime, numpy, scipy and nibabel, no torch.

Lies beside the networks as segment.py. It looks at one cube around the first click; the bundle itself follows with
finer or coarser cubes where that helps.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import onnxruntime
from scipy import ndimage

# Hounsfield units, where a volume is CT by its lowest value; see common/intensity.py of the project.
CT_WINDOW, CT_MINIMUM = (-250.0, 350.0), -250.0
LARGEST_LOGIT = 10.0


def read_volume(path: Path) -> nib.Nifti1Image:
    """A 3D volume with finite voxels. Raises ValueError for anything else."""
    try:
        image = nib.load(path)
        values = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, ValueError, nib.filebasedimages.ImageFileError, EOFError) as problem:
        raise ValueError(f"{path}: cannot be read ({problem}); expected a NIfTI file") from problem
    if values.ndim != 3 or not np.isfinite(values).all():
        raise ValueError(f"{path}: shape {values.shape}, or voxels that are no number; expected one finite 3D volume")
    return nib.Nifti1Image(values, image.affine, image.header)


def intensity_bounds(values: np.ndarray, window: str | list[float]) -> tuple[float, float]:
    """Lowest and highest intensity that count."""
    if not isinstance(window, str):
        return float(window[0]), float(window[1])
    if window == "ct" or (window == "auto" and values.min() < CT_MINIMUM):
        return CT_WINDOW
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(high)


def normalise(cube: np.ndarray, inside: np.ndarray, bounds: tuple[float, float], how: str) -> np.ndarray:
    """Mean 0 and deviation 1 over the voxels inside, or over those above zero; zero outside the volume."""
    if how == "above_zero":
        counted = cube[(cube > 0) & inside]
        return (cube - counted.mean()) / max(counted.std(ddof=1), 1e-6) * inside
    cube = np.clip(cube, *bounds)
    counted = cube[inside]
    return (cube - counted.mean()) * inside / max(counted.std(), 1e-6 * (bounds[1] - bounds[0]))


def sample(values: np.ndarray, to_voxels: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Values at the voxels of another grid, trilinear, and which of these lie inside.

    Args:
        values: (X, Y, Z).
        to_voxels: (4, 4), from indices of the other grid to indices of ``values``.
        shape: of the other grid.
    """
    places = np.indices(shape, dtype=np.float64)
    places = np.tensordot(to_voxels[:3, :3], places, axes=1) + to_voxels[:3, 3, None, None, None]
    sizes = np.array(values.shape)[:, None, None, None]
    inside = ((places > -0.5 - 1e-3) & (places < sizes - 0.5 + 1e-3)).all(axis=0)
    return ndimage.map_coordinates(values, places, order=1, mode="nearest"), inside


def averaged(values: np.ndarray, affine: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Means of as many whole voxels as go into one of the cube's, so that thin structures fade and do not flicker."""
    reach = np.abs(np.linalg.inv(affine[:3, :3]) * spacing).max(axis=1)
    factors = np.minimum(np.maximum(1, np.floor(reach + 1e-6)), values.shape).astype(int)
    values = np.pad(values, [(0, int(-n % f)) for n, f in zip(values.shape, factors, strict=True)], mode="edge")
    for axis, factor in enumerate(factors):
        shape = (*values.shape[:axis], -1, factor, *values.shape[axis + 1 :])
        values = values.reshape(shape).mean(axis=axis + 1)
    coarse = affine.copy()
    coarse[:3, :3] *= factors
    coarse[:3, 3] = affine[:3, :3] @ ((factors - 1) / 2) + affine[:3, 3]
    return values, coarse


class Networks:
    """The exported files of a folder: export.json, encoder.onnx and decoder.onnx."""

    def __init__(self, folder: Path) -> None:
        self.settings = json.loads((folder / "export.json").read_text())
        start = lambda name: onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])  # noqa: E731
        self.encoder, self.decoder = start("encoder.onnx"), start("decoder.onnx")

    def logits(self, cube: np.ndarray, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(d, h, w): the clicks are shown one after the other, each with all before it and with the last logits."""
        parts = self.settings["parts"]
        outputs = self.encoder.run(None, {"image": cube[None, None]})
        embedding = dict(zip(parts["encoder"]["outputs"], outputs, strict=True))
        # A grid's cell has four of the decoder's along each axis.
        mask = np.zeros((1, 1, *(4 * n for n in embedding["features"].shape[2:])), dtype=np.float32)
        for shown in range(1, len(points) + 1):
            for _ in range(self.settings["rounds"]):
                inputs = {"points": points[None, :shown], "labels": labels[None, :shown], "mask": mask}
                answer = self.decoder.run(["logits"], {**embedding, **inputs})[0]
                mask = np.clip(answer, -LARGEST_LOGIT, LARGEST_LOGIT)
        return answer[0, 0]


def cube_around(center_mm: np.ndarray, spacing: float, size: int) -> np.ndarray:
    """The affine of a cube whose axes are those of RAS space."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = center_mm - spacing * (size - 1) / 2
    return affine


def to_mm(affine: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """(N, 3) indices -> (N, 3) mm."""
    return voxels @ affine[:3, :3].T + affine[:3, 3]


def look(values: np.ndarray, affine: np.ndarray, cube: np.ndarray, settings: dict) -> np.ndarray:
    """What the network is shown of a volume in a cube: (size, size, size) float32."""
    shape = (settings["cube_size"],) * 3
    coarse, coarse_affine = averaged(values, affine, settings["spacing"])
    seen, _ = sample(coarse, np.linalg.inv(coarse_affine) @ cube, shape)
    _, inside = sample(values, np.linalg.inv(affine) @ cube, shape)
    bounds = intensity_bounds(values, settings["window"])
    return normalise(seen, inside, bounds, settings["normalisation"]).astype(np.float32)


def bring_back(logits: np.ndarray, cube: np.ndarray, size: int, affine: np.ndarray, shape: tuple) -> np.ndarray:
    """The decoder's logits of a cube as a mask on a volume's grid."""
    # A cell of the logits is several voxels of the cube wide; its centre lies between them.
    cells, factor = cube.copy(), size / len(logits)
    cells[:3, :3] *= factor
    cells[:3, 3] += np.diag(cube)[:3] * (factor - 1) / 2
    found, known = sample(logits, np.linalg.inv(cells) @ affine, shape)
    return ((found > 0) & known).astype(np.uint8)


def segment(folder: Path, path: Path, output: Path, clicks: list[list[float]], background: list[list[float]]) -> str:
    """Write the mask, on the grid of the volume; returns what was found.

    Raises:
        ValueError: an unreadable volume, a click outside, an output that is the volume.
    """
    image = read_volume(path)
    if output.exists() and output.samefile(path):
        raise ValueError(f"{output} is the volume itself; give another name")
    values, affine = np.asarray(image.dataobj), image.affine
    places, labels = np.array(clicks + background), np.array([1] * len(clicks) + [0] * len(background))
    if ((places < -0.5) | (places > np.array(values.shape) - 0.5)).any():
        raise ValueError(
            f"clicks {places.tolist()}: one lies outside the volume of {values.shape} voxels; expected [i, j, k] within"
        )
    networks = Networks(folder)
    settings, size = networks.settings, networks.settings["cube_size"]
    mm = to_mm(affine, places)
    cube = cube_around(mm[0], settings["spacing"], size)
    points = to_mm(np.linalg.inv(cube), mm)
    within = ((points > -0.5) & (points < size - 0.5)).all(axis=1)
    shown = look(values, affine, cube, settings)
    logits = networks.logits(shown, points[within].astype(np.float32), labels[within])
    mask = bring_back(logits, cube, size, affine, values.shape)
    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    nib.save(nib.Nifti1Image(mask, affine, header), output)
    millilitres = mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
    return f"{output}: {mask.sum()} voxels, {millilitres:.1f} mL"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, help="NIfTI volume")
    parser.add_argument("--output", type=Path, default=Path("segmentation.nii.gz"), help="mask (segmentation.nii.gz)")
    click = {"nargs": 3, "type": float, "action": "append", "default": [], "metavar": ("I", "J", "K")}
    parser.add_argument("--foreground", **click, required=True, help="a voxel of the object; may be repeated")
    parser.add_argument("--background", **click, help="a voxel beside it; may be repeated")
    parser.add_argument("--networks", type=Path, default=Path(__file__).resolve().parent, help="folder of the export")
    given = parser.parse_args(arguments)
    try:
        print(segment(given.networks, given.image, given.output, given.foreground, given.background))
    except ValueError as problem:
        print(f"not segmented: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
