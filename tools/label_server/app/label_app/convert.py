# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DICOM series as NIfTI files, read by the rule of the command line.

The server starts ``python -m label_app.convert SERIES FILE ...``, a process of its own that may die of what it reads.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .rules import Rules

logger = logging.getLogger(__name__)
# Long enough for a thousand slices on a slow disk.
SECONDS = 600


def as_nifti(series: Path, target: Path) -> None:
    """Write the volume of a DICOM folder as a NIfTI file, voxel by voxel where the command line reads it.

    Raises:
        ValueError: see :func:`.common.reading.volume.read_volume`.
    """
    import numpy as np

    from .common.files import whole_file
    from .common.label_volume import save_label_volume
    from .common.reading.volume import read_volume

    volume = read_volume(series, Rules.from_environment().reading(series))
    for note in volume.meta["notes"]:
        logger.warning("%s: %s", series, note)
    values = volume.numpy()[0]
    # Most are stored with 16 bits: half the file, and nothing lost.
    short = values.astype(np.int16)
    with whole_file(target) as file:
        save_label_volume(file, short if (short == values).all() else values, volume.affine.numpy(), series)


def convert_apart(targets: Mapping[Path, Path]) -> dict[Path, str]:
    """:func:`as_nifti` for each series, in a process of its own; by series, why it was not done.

    Where the process dies, another one goes on behind the series that it died of.
    """
    left, reasons = list(targets), {}
    while left:
        pairs = [str(path) for series in left for path in (series, targets[series])]
        command = [sys.executable, "-m", "label_app.convert", *pairs]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=SECONDS * len(left))
            lines, end = done.stdout.splitlines(), f"the process that read it died (signal {-done.returncode})"
        except subprocess.TimeoutExpired as error:
            lines, end = (error.stdout or b"").decode().splitlines(), f"it took longer than {SECONDS} s"
        found = [json.loads(line) for line in lines]
        reasons |= {series: reason for series, reason in zip(left, found, strict=False) if reason}
        left = left[len(found) :]
        if left:
            reasons[left.pop(0)] = end
    return reasons


def dicom_to_nifti(series_dir: str, is_seg: bool = False) -> str:
    """MONAI Label's function for series from DICOMweb, with ours for images.

    Raises:
        ValueError: the series cannot be read.
    """
    from monailabel.datastore.utils import convert

    if is_seg:
        return convert.dicom_to_nifti(series_dir, is_seg=True)
    descriptor, target = tempfile.mkstemp(suffix=".nii.gz")
    os.close(descriptor)
    for reason in convert_apart({Path(series_dir): Path(target)}).values():
        os.unlink(target)
        raise ValueError(reason)
    return target


def main(paths: Sequence[str]) -> None:
    """Convert each series, and print for each why it was not done, as JSON; an empty text where it was."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for series, target in zip(paths[::2], paths[1::2], strict=True):
        reason = ""
        try:
            as_nifti(Path(series), Path(target))
        except (ValueError, OSError) as error:
            reason = str(error)
        print(json.dumps(reason), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
