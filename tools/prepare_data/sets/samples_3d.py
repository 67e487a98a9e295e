# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The small open sets of volumes that this project trains and measures on, in the form in which it keeps them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tools.prepare_data.case import Case, Choices, Found, files_in, read_object, stem
from tools.prepare_data.labels import Values
from tools.prepare_data.sets.pairs import matches, pair

# Kept for validation: the shipped weights are never trained on them.
KEPT_SARCOMA = "STS_006"
KEPT_HIPPOCAMPI = 20
BRATS_2013 = {1: "necrosis", 2: "oedema", 3: "non-enhancing tumour", 4: "enhancing tumour"}


def _hippocampus(source: Path, choices: Choices) -> Found:
    images, masks = ({stem(p): p for p in files_in(source / f, "hippocampus_*.nii.gz")} for f in ("images", "labels"))
    found = pair(images, masks, {"1": "anterior hippocampus", "2": "posterior hippocampus"}, "MR")
    kept = set(sorted(images)[-KEPT_HIPPOCAMPI:])
    found.cases = [_in_section(case, case.name in kept) for case in found.cases]
    return found


def _sts_sarcoma(source: Path, choices: Choices) -> Found:
    found = Found({1: "soft-tissue sarcoma"}, unit="volumes")
    for kind, modality in (("CT", "CT"), ("MR_T1", "MR")):
        if (choices.modality or modality).upper() != modality:
            continue
        for patient, image in matches(source, f"STS_*/{kind}_image.nii.gz").items():
            label = Values(image.with_name(f"{kind}_mask.nii.gz"), {1: 1})
            case = Case(f"STS_{patient}_{kind}", f"STS_{patient}", image, label, modality)
            found.add(_in_section(case, case.patient == KEPT_SARCOMA))
    found.cases.sort(key=lambda case: case.name)
    return found


def _totalseg_example(source: Path, choices: Choices) -> Found:
    tables = read_object(source / "labels.json")
    found = Found({}, unit="volumes")
    if not {"total", "total_mr"} <= tables.keys():
        return found
    trios = (
        ("example_ct", "example_seg_fast_force_split", "total", "CT"),
        ("example_ct_sm", "example_seg", "total", "CT"),
        ("example_mr_sm", "example_seg_mr", "total_mr", "MR"),
    )
    for image, segmentation, table, modality in trios:
        names = {int(k): v for k, v in tables[table].items()}
        label = Values(source / f"{segmentation}.nii.gz", {v: v for v in names})
        case = Case(image, image, source / f"{image}.nii.gz", label, modality, label_names=names)
        found.add(_in_section(case, modality == "MR"))
    return found


def _sct_spinalcord(source: Path, choices: Choices) -> Found:
    found = Found({}, unit="volumes")
    for image, mask, name in (
        ("t2/t2", "t2/t2_seg-manual", "spinal cord"),
        ("t2s/t2s", "t2s/t2s_gmseg_manual", "spinal cord grey matter"),
    ):
        label = Values(source / f"{mask}.nii.gz", {1: 1})
        path = source / f"{image}.nii.gz"
        if path.is_file() or label.path.is_file():
            found.add(Case(path.parent.name, path.parent.name, path, label, "MR", "training", {1: name}))
    return found


def _pyradiomics(source: Path, choices: Choices) -> Found:
    found = Found({}, unit="volumes")
    for name, image in matches(source, "*_image.nrrd").items():
        label = Values(source / f"{name}_label.nrrd", {1: 1})
        tumour = "breast tumour" if name.startswith("breast") else "brain tumour"
        found.add(_in_section(Case(name, name, image, label, "MR", label_names={1: tumour}), name.startswith("breast")))
    return found


def _brats_2013(source: Path, choices: Choices) -> Found:
    found = Found(BRATS_2013, unit="patients")
    for patient, image in matches(source, "brats_2013_*/Flair_subtrMeanDivStd.nii.gz").items():
        label = Values(image.with_name("OTMultiClass.nii.gz"), {v: v for v in BRATS_2013})
        found.add(Case(f"brats_2013_{patient}", patient, image, label, "MR flair"))
    return found


def _in_section(case: Case, kept: bool) -> Case:
    """The case in the official split: kept for validation, or to train on."""
    return replace(case, section="validation" if kept else "training")


FINDERS = {
    "hippocampus": _hippocampus,
    "sts_sarcoma": _sts_sarcoma,
    "totalseg_example": _totalseg_example,
    "sct_spinalcord": _sct_spinalcord,
    "pyradiomics": _pyradiomics,
    "brats_2013": _brats_2013,
}
