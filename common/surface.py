# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The surface of a mask as triangles, and files of it: STL, PLY and OBJ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse

from .geometry import Grid

# Taubin's two steps, in and out, so that steps of voxels go and sizes stay (SIGGRAPH 1995).
IN, OUT = 0.5, -0.53
ROUNDS = 20
# Voxels that a vertex may go from where it lay, along each axis.
FAR = 0.25
SPACE = "scanner space, mm, RAS: x to the right, y to the front, z to the head of the patient"
COORDINATES = "RAS, mm"


class Surface(NamedTuple):
    """Triangles, seen from outside counter-clockwise.

    Attributes:
        vertices: (n, 3) float64, mm in RAS.
        faces: (m, 3) int64, of vertices.
    """

    vertices: np.ndarray
    faces: np.ndarray

    @property
    def area_mm2(self) -> float:
        """Of all triangles."""
        return float(np.linalg.norm(self._crosses(), axis=1).sum() / 2)

    @property
    def volume_mm3(self) -> float:
        """Of what they enclose."""
        return float((self.vertices[self.faces[:, 0]] * self._crosses()).sum() / 6)

    def _crosses(self) -> np.ndarray:
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        return np.cross(b - a, c - a)


def surface_of(mask: np.ndarray, grid: Grid) -> Surface:
    """The smoothed surface of a mask.

    Args:
        mask: (X, Y, Z) bool with a voxel inside.
        grid: where they lie; oblique, flipped and sheared ones too.
    """
    voxels, faces = border_of(mask)
    return placed(smoothed(voxels, faces), faces, grid)


def border_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Marching cubes halfway between voxels inside and outside: vertices (n, 3) in voxels, and faces (m, 3)."""
    from skimage.measure import marching_cubes

    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    cut = np.pad(mask[box], 1).astype(np.float32)
    voxels, faces, _, _ = marching_cubes(cut, 0.5)
    return voxels + [s.start - 1.0 for s in box], faces.astype(np.int64)


def smoothed(voxels: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(n, 3) without the steps of voxels: no vertex goes further than a quarter of a voxel along an axis."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    count = len(voxels)
    near = sparse.csr_array((np.ones(len(edges)), tuple(edges.T)), shape=(count, count))
    # An edge of two triangles came twice.
    near.data[:] = 1
    near = sparse.diags_array(1 / near.sum(axis=1)) @ near
    moved = voxels
    for _ in range(ROUNDS):
        for step in (IN, OUT):
            moved = moved + step * (near @ moved - moved)
    return np.clip(moved, voxels - FAR, voxels + FAR)


def placed(voxels: np.ndarray, faces: np.ndarray, grid: Grid) -> Surface:
    """In space, its faces outwards."""
    surface = Surface(grid.to_mm(voxels), faces)
    return surface if surface.volume_mm3 >= 0 else Surface(surface.vertices, faces[:, ::-1])


def write_stl(path: Path, surface: Surface, name: str) -> None:
    """Binary STL; its header says the space."""
    corners = surface.vertices[surface.faces].astype("<f4")
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    kind = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    triangles = np.zeros(len(corners), kind)
    triangles["normal"], triangles["corners"] = normals / np.where(lengths > 0, lengths, 1), corners
    header = f"{COORDINATES}; {name}".encode("ascii", "replace")[:80].ljust(80)
    path.write_bytes(header + np.array(len(triangles), "<u4").tobytes() + triangles.tobytes())


def write_ply(path: Path, surface: Surface, name: str) -> None:
    """Binary PLY with comments."""
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment {_line(name)}\ncomment {SPACE}\n"
        f"element vertex {len(surface.vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(surface.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = np.zeros(len(surface.faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    faces["count"], faces["corners"] = 3, surface.faces
    path.write_bytes(header.encode() + surface.vertices.astype("<f4").tobytes() + faces.tobytes())


def write_obj(path: Path, surface: Surface, name: str) -> None:
    """OBJ, a text, with comments."""
    lines = [f"# {SPACE}", f"o {_line(name)}"]
    lines += [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in surface.vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (surface.faces + 1).tolist()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _line(name: str) -> str:
    return " ".join(name.split())


WRITERS: dict[str, Callable[[Path, Surface, str], None]] = {"stl": write_stl, "ply": write_ply, "obj": write_obj}
MESHES = tuple(WRITERS)
