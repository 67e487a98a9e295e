# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""``sam-bundles segment``: clicks, or a box, in one scan; the mask as a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    given = _parser().parse_args(arguments)
    # Whoever asks for help need not wait for torch.
    from sam_bundles import Engine, Session

    options = {"ckpt_path": given.weights, "device": given.device}
    try:
        session = Session(Engine.load(**{k: v for k, v in options.items() if v is not None}))
        session.set_image(given.scan)
        session.rename_object(session.current, given.name)
        if given.box:
            session.add_bbox_interaction(
                [[low, high + 1] for low, high in zip(given.box[:3], given.box[3:], strict=True)], run_prediction=False
            )
        for place in given.click:
            session.add_point_interaction(place, run_prediction=False)
        for place in given.background:
            session.add_point_interaction(place, include_interaction=False, run_prediction=False)
        session.predict()
        written = session.export(given.output, dicom=given.dicom, mesh=given.mesh)
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"{given.name}: {session.volume_ml():.3g} mL, {written}")
    return 0


def _parser() -> argparse.ArgumentParser:
    voxel = {"type": int, "nargs": 3, "metavar": ("I", "J", "K"), "action": "append", "default": []}
    parser = argparse.ArgumentParser(
        prog="sam-bundles segment",
        description="Segment one object in a CT or MR scan. Places are voxel indices of the stored file.",
    )
    parser.add_argument("scan", help="NIfTI, NRRD, MetaImage or .mgz file, or the folder of one DICOM series")
    parser.add_argument("--click", **voxel, help="on the object; may be given several times")
    parser.add_argument("--background", **voxel, help="beside it, where the mask is too large")
    parser.add_argument(
        "--box", type=int, nargs=6, metavar=("I", "J", "K", "I2", "J2", "K2"), help="lowest and highest voxel inside"
    )
    parser.add_argument("--name", default="object", help="of the object, in the description (%(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("."), help="file of the mask, or the folder of NAME_seg.nii.gz (this one)"
    )
    parser.add_argument(
        "--dicom",
        action="append",
        choices=("seg", "rtstruct"),
        help="of a DICOM scan, also a DICOM segmentation or structure set; may be given twice",
    )
    parser.add_argument("--mesh", choices=("stl", "ply", "obj"), help="also the surface, in scanner space (RAS, mm)")
    parser.add_argument("--device", help="auto (a GPU where there is one), cpu, cuda, cuda:1")
    parser.add_argument("--weights", metavar="FILE", help="other weights than those that come with it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
