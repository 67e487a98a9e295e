# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Where the voxels of an array lie that comes with a spacing and no affine, as 3D Slicer and napari send it.

3D Slicer sends ``[1, k, j, i]``, the fastest axis of the scan last, with the spacing in the same order. What is not
said is assumed: an axial scan as CT scanners make it, whose i runs to the left, j to the back and k to the head (LPS).
A wrong guess costs accuracy, since the network saw patients the right way round, and never the place: masks come back
on the array's own axes.

napari draws an axis the other way round where its spacing is negative, which says nothing of the patient; but
napari-nifti, which reads files there, turns every scan so that its array runs to S, A and R, and gives all three
spacings as negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ASSUMED = "LPS"
# Of an array as napari-nifti has it, first axis first.
NAPARI_NIFTI = "SAR"


def checked_orientation(letters: str) -> str:
    """``letters`` in capitals.

    Raises:
        ValueError: not one letter of each of L/R, P/A and S/I.
    """
    capitals = letters.upper()
    if len(capitals) != 3 or any(len(set(pair) & set(capitals)) != 1 for pair in ("LR", "PA", "SI")):
        raise ValueError(
            f"orientation {letters!r}: expected three letters that say where the axes i, j, k run to, "
            f"one each of L or R, P or A, S or I, such as {ASSUMED}"
        )
    return capitals


def placed(properties: Mapping[str, Any], orientation: str = ASSUMED) -> dict[str, Any]:
    """What of a client's ``image_properties`` says where the voxels lie, as a session takes it.

    Args:
        properties: ``affine``, or ``spacing`` of the array's axes and ``orientation`` of them; all else is left out,
            such as what nnU-Net keeps there.
        orientation: where i, j, k run to, the array's last axis, the middle one and the first, unless the client says.
    """
    known = {k: v for k in ("affine", "spacing", "orientation") if (v := properties.get(k)) is not None}
    if "affine" in known:
        return {"affine": known["affine"]}
    assumed = orientation[::-1]
    spacing = known.get("spacing")
    if isinstance(spacing, list) and all(isinstance(s, (int, float)) for s in spacing):
        if all(s < 0 for s in spacing):
            assumed = NAPARI_NIFTI
        known["spacing"] = [abs(s) for s in spacing]
    return {"orientation": assumed, **known}
