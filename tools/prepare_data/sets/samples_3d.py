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
# Kept for development: what is chosen on the way to weights is chosen on these. The last by name, and Colin27 whole.
KEPT_HEADS_AND_NECKS, KEPT_HEARTS = 15, 8
KEPT_SCLEROSIS, KEPT_BRAIN = "patient26", "colin27"
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


def _openkbp(source: Path, choices: Choices) -> Found:
    """Contours by side, as TotalSegmentator names them: what shares its first word can be one object."""
    names = ("brainstem", "spinal_cord", "parotid_right", "parotid_left", "oesophagus", "larynx", "mandible")
    found = Found(dict(enumerate(names, 1)), unit="patients")
    images = matches(source, "pt_*_ct.nii.gz")
    order = sorted(images, key=lambda number: (len(number), number))
    for patient in order:
        label = Values(source / f"pt_{patient}_label.nii.gz", {v: v for v in found.labels})
        case = Case(f"pt_{patient}", patient, images[patient], label, "CT")
        found.add(_in_section(case, patient in order[-KEPT_HEADS_AND_NECKS:]))
    return found


def _sunnybrook_lv(source: Path, choices: Choices) -> Found:
    found = Found({1: "left ventricle"}, unit="volumes")
    images = matches(source, "SC-*_image.nii.gz")
    patients = sorted({name.rpartition("_")[0] for name in images})
    for name, image in images.items():
        patient = name.rpartition("_")[0]
        label = Values(source / f"SC-{name}_label.nii.gz", {1: 1})
        found.add(_in_section(Case(name, patient, image, label, "MR"), patient in patients[-KEPT_HEARTS:]))
    return found


def _mricron_brains(source: Path, choices: Choices) -> Found:
    found = Found({}, unit="volumes")
    for name, label, table in (
        ("colin27", "colin27_aal", "labels.json"),
        ("macaque", "macaque_inia19", "labels_macaque.json"),
    ):
        names = {int(k): v for k, v in read_object(source / table).items()}
        image = source / f"{label.removesuffix('_aal')}_t1_image.nii.gz"
        label = Values(source / f"{label}_label.nii.gz", {v: v for v in names})
        if image.is_file() or label.path.is_file():
            found.add(_in_section(Case(name, name, image, label, "MR T1", label_names=names), name == KEPT_BRAIN))
    return found


def _open_ms(source: Path, choices: Choices) -> Found:
    found = Found({1: "multiple sclerosis lesions"}, unit="volumes")
    for name, image in matches(source, "*_image.nii.gz").items():
        patient, _, contrast = name.partition("_")
        label = Values(source / f"{patient}_label.nii.gz", {1: 1})
        found.add(_in_section(Case(name, patient, image, label, f"MR {contrast}"), patient == KEPT_SCLEROSIS))
    return found


FINDERS = {
    "hippocampus": _hippocampus,
    "sts_sarcoma": _sts_sarcoma,
    "totalseg_example": _totalseg_example,
    "sct_spinalcord": _sct_spinalcord,
    "pyradiomics": _pyradiomics,
    "brats_2013": _brats_2013,
    "openkbp": _openkbp,
    "sunnybrook_lv": _sunnybrook_lv,
    "mricron_brains": _mricron_brains,
    "open_ms": _open_ms,
}
