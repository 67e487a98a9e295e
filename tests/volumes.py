# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Volumes whose right answer is known: smooth ellipsoids given in mm, sampled on any grid and written in any format."""

from collections.abc import Sequence
from pathlib import Path

import itk
import nibabel as nib
import numpy as np

from common.geometry import Grid

CENTRE = (12.0, -30.0, 45.0)


class Phantom:
    """Ellipsoids in space. Intensities run from -100 far outside to 100 deep inside, and are 0 on the surface.

    Args:
        balls: (centre, radii) in mm of each ellipsoid.
        ramp: mm over which the intensity rises on either side of the surface.
        norm: 2 for ellipsoids; infinite for bricks, whose flat faces interpolation between thick slices keeps.
    """

    def __init__(self, *balls: tuple[Sequence[float], Sequence[float]], ramp: float = 4.0, norm: float = 2) -> None:
        self.balls = [(np.array(c, dtype=float), np.broadcast_to(np.array(r, dtype=float), 3)) for c, r in balls]
        self.ramp = ramp
        self.norm = norm

    def _depths(self, grid: Grid) -> np.ndarray:
        mm = grid.to_mm(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))
        return np.stack([(1 - np.linalg.norm((mm - c) / r, ord=self.norm, axis=-1)) * r.min() for c, r in self.balls])

    def image(self, grid: Grid) -> np.ndarray:
        """(X, Y, Z) float32."""
        return (100 * np.clip(self._depths(grid).max(axis=0) / self.ramp, -1, 1)).astype(np.float32)

    def truth(self, grid: Grid, ball: int = 0) -> np.ndarray:
        """(X, Y, Z) bool: the voxels whose centre lies inside."""
        return self._depths(grid)[ball] > 0

    def click(self, grid: Grid, ball: int = 0) -> list[float]:
        """The ellipsoid's centre as a voxel index of ``grid``."""
        return [float(x) for x in grid.to_voxels(self.balls[ball][0])]


def grid_around(axes: np.ndarray, shape: Sequence[int], centre: Sequence[float] = CENTRE) -> Grid:
    """The grid with these axis vectors (columns, mm a voxel) whose middle lies at ``centre``."""
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = np.array(centre) - np.asarray(axes) @ ((np.array(shape) - 1) / 2)
    return Grid(affine, tuple(int(n) for n in shape))


def rotation(*degrees: float) -> np.ndarray:
    """(3, 3): turned about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        a, b = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks, nonzero inside."""
    a, b = np.asarray(a) != 0, np.asarray(b) != 0
    return 2 * float((a & b).sum()) / max(1, int(a.sum() + b.sum()))


def write_nifti(path: Path, values: np.ndarray, grid: Grid, **header: int | str) -> Path:
    """A NIfTI file; ``header``: ``sform`` and ``qform`` codes and the ``space`` unit."""
    image = nib.Nifti1Image(values, grid.affine)
    image.set_sform(grid.affine, code=header.get("sform", 1))
    image.set_qform(grid.affine, code=header.get("qform", 1))
    image.header.set_xyzt_units(header.get("space", "mm"), "sec")
    nib.save(image, path)
    return path


def write_itk(path: Path, values: np.ndarray, grid: Grid) -> Path:
    """NRRD or MetaImage, by the extension of ``path``."""
    image = itk.image_from_array(np.ascontiguousarray(values.transpose(2, 1, 0)))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    image.SetSpacing(grid.spacing)
    image.SetOrigin(lps[:3, 3])
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3] / grid.spacing)))
    itk.imwrite(image, str(path))
    return path


def write_dicom(folder: Path, values: np.ndarray, grid: Grid, series: str = "1.2.826.0.1.3680043.9.1") -> Path:
    """One CT series, a file for each slice along the third axis (int16, explicit VR little endian).

    Written byte by byte, because ITK gives every file that it writes a series of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    column, row = lps[:3, 0] / grid.spacing[0], lps[:3, 1] / grid.spacing[1]
    for k in range(grid.shape[2]):
        uid = f"{series}.{k + 1}"
        pixels = np.ascontiguousarray(values[:, :, k].T.astype("<i2")).tobytes()
        data = b"".join(
            [
                _element(0x0008, 0x0016, "UI", "1.2.840.10008.5.1.4.1.1.2"),
                _element(0x0008, 0x0018, "UI", uid),
                _element(0x0008, 0x0060, "CS", "CT"),
                _element(0x0018, 0x0050, "DS", f"{grid.spacing[2]:.6g}"),
                _element(0x0020, 0x000D, "UI", "1.2.826.0.1.3680043.9"),
                _element(0x0020, 0x000E, "UI", series),
                _element(0x0020, 0x0013, "IS", str(k + 1)),
                _element(0x0020, 0x0032, "DS", _numbers(lps[:3] @ [0, 0, k, 1])),
                _element(0x0020, 0x0037, "DS", _numbers([*column, *row])),
                _element(0x0028, 0x0002, "US", 1),
                _element(0x0028, 0x0004, "CS", "MONOCHROME2"),
                _element(0x0028, 0x0010, "US", grid.shape[1]),
                _element(0x0028, 0x0011, "US", grid.shape[0]),
                _element(0x0028, 0x0030, "DS", _numbers([grid.spacing[1], grid.spacing[0]])),
                _element(0x0028, 0x0100, "US", 16),
                _element(0x0028, 0x0101, "US", 16),
                _element(0x0028, 0x0102, "US", 15),
                _element(0x0028, 0x0103, "US", 1),
                _element(0x0028, 0x1052, "DS", "0"),
                _element(0x0028, 0x1053, "DS", "1"),
                _element(0x7FE0, 0x0010, "OW", pixels),
            ]
        )
        syntax = _element(0x0002, 0x0002, "UI", "1.2.840.10008.5.1.4.1.1.2") + _element(0x0002, 0x0003, "UI", uid)
        syntax += _element(0x0002, 0x0010, "UI", "1.2.840.10008.1.2.1")
        group = _element(0x0002, 0x0000, "UL", len(syntax))
        # Names in another order than the slices: only the header says where a slice lies.
        (folder / f"{(7 * k) % 101:03d}_{series[-1]}.dcm").write_bytes(bytes(128) + b"DICM" + group + syntax + data)
    return folder


def _numbers(values: Sequence[float]) -> str:
    return "\\".join(f"{v:.8g}" for v in values)


def _element(group: int, element: int, kind: str, value: str | int | bytes) -> bytes:
    if isinstance(value, int):
        value = value.to_bytes(4 if kind == "UL" else 2, "little")
    elif isinstance(value, str):
        value = value.encode()
    value += (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    tag = group.to_bytes(2, "little") + element.to_bytes(2, "little") + kind.encode()
    length = bytes(2) + len(value).to_bytes(4, "little") if kind == "OW" else len(value).to_bytes(2, "little")
    return tag + length + value


# Two objects side by side, and grids of other orientations and spacings around them.
PAIR = Phantom((CENTRE, (14, 11, 10)), ((CENTRE[0] + 26, CENTRE[1], CENTRE[2]), 6), ramp=6)
GRIDS = {
    "LPS": grid_around(np.diag([-2.0, -2.0, 2.0]), (40, 30, 28)),
    "oblique": grid_around(rotation(-50, 70, 15) @ np.diag([1.8, 1.8, -1.8]), (44, 44, 44)),
    "anisotropic": grid_around(rotation(0, 20, 0) * [0.9, 1.2, 3.0], (80, 50, 26)),
}
