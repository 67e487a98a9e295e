# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Data lists of the volumes that no shipped weight was trained on, to measure the weights of ``fastsam3d`` with.

::

    python -m tools.evaluation_sets ../shared/data runs/sets

writes ``runs/sets/NAME/data_list.json`` for each set whose files are there, with the section ``validation`` that
evaluate.json reads. What is kept out of training is said in one place: the official split of ``tools.prepare_data``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from common.data_list import read_data_list
from common.files import whole_files
from tools.labelled_volumes import Volume, read_volume
from tools.prepare_data.run import prepare

# Prepared by tools.prepare_data: its name of the set, and the folder in the data that holds it.
PREPARED = {
    "hippocampus": "msd_hippocampus",
    "sts_sarcoma": "sts_sarcoma",
    "totalseg_example": "totalseg_example",
    "pyradiomics": "pyradiomics",
}


def write_sets(data: Path, output: Path, names: list[str] | None = None) -> dict[str, Path]:
    """Write the list of each set.

    Args:
        data: folder of the data sets.
        output: made where it does not exist.
        names: of the sets wanted, by default all; those whose files are not there are left out.

    Returns:
        the list of each set, by its name.

    Raises:
        ValueError: none of the sets is there.
    """
    lists = {}
    for name in names or SETS:
        path = SETS[name](data, output / name)
        if path is not None:
            lists[name] = path
    if not lists:
        raise ValueError(
            f"{data}: none of the sets {', '.join(names or SETS)} is there; expected the data sets' folder"
        )
    return lists


def never_trained_on(data: Path) -> Iterator[Volume]:
    """Volumes, in memory, of the sets that must not train a shipped weight at all: the MNI152 template and BraTS."""
    for name in ("mni152_brain", "brats_tumour"):
        with tempfile.TemporaryDirectory() as folder:
            path = SETS[name](data, Path(folder))
            for item in read_data_list(path, section="validation") if path else ():
                yield read_volume(Path(item["image"]), Path(item["label"]), name, item["label_names"])


def _prepared(name: str) -> Callable[[Path, Path], Path | None]:
    def write(data: Path, output: Path) -> Path | None:
        if not (data / PREPARED[name]).is_dir():
            return None
        prepare(name, data / PREPARED[name], output, split_by="official", progress=False)
        return output / "data_list.json"

    return write


def _brats(data: Path, output: Path) -> Path | None:
    """The whole tumour: all of the label map's classes together, which is what a person would click on."""
    items = []
    for patient in sorted((data / "brats").glob("brats_2013_*")):
        label = nib.load(patient / "OTMultiClass.nii.gz")
        whole = (np.asarray(label.dataobj) > 0).astype(np.uint8)
        with whole_files(output) as side:
            nib.save(nib.Nifti1Image(whole, label.affine), side / f"{patient.name}_tumour.nii.gz")
        image = patient / "Flair_subtrMeanDivStd.nii.gz"
        items.append({"image": str(image.absolute()), "label": f"{patient.name}_tumour.nii.gz"})
    return _write_list(output, items, "whole tumour") if items else None


def _mni152(data: Path, output: Path) -> Path | None:
    """The brain of the MNI152 template, grey and white matter together; the template comes with nilearn."""
    try:
        from nilearn import datasets
    except ImportError:
        return None
    kinds = ("template", "gm_template", "wm_template")
    template, grey, white = (getattr(datasets, f"load_mni152_{kind}")(resolution=1) for kind in kinds)
    brain = (grey.get_fdata() + white.get_fdata() > 0.5).astype(np.uint8)
    with whole_files(output) as side:
        nib.save(nib.Nifti1Image(template.get_fdata(dtype=np.float32), template.affine), side / "mni152_t1.nii.gz")
        nib.save(nib.Nifti1Image(brain, template.affine), side / "mni152_brain.nii.gz")
    return _write_list(output, [{"image": "mni152_t1.nii.gz", "label": "mni152_brain.nii.gz"}], "brain")


def _write_list(output: Path, items: list[dict[str, str]], name: str) -> Path:
    with whole_files(output) as side:
        content = {"labels": {"1": name}, "validation": items}
        (side / "data_list.json").write_text(json.dumps(content, indent=2) + "\n")
    return output / "data_list.json"


SETS: dict[str, Callable[[Path, Path], Path | None]] = {
    **{name: _prepared(name) for name in PREPARED},
    "mni152_brain": _mni152,
    "brats_tumour": _brats,
}


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.evaluation_sets", description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("output", type=Path, help="where the lists go")
    parser.add_argument("--sets", nargs="+", choices=SETS, help="these alone")
    options = parser.parse_args(arguments)
    try:
        lists = write_sets(options.data, options.output, options.sets)
    except ValueError as error:
        print(f"python -m tools.evaluation_sets: {error}", file=sys.stderr)
        return 1
    for name, path in lists.items():
        print(f"{name}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
