# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What is chosen by stays apart from what trains, and is summed up as it says."""

from pathlib import Path

import pytest

from tools.labelled_volumes import MORE_SETS, SETS, labelled_pairs
from tools.research import development
from tools.research.training_sets import data_list

DATA = Path(__file__).parents[4] / "shared" / "data"


def test_the_table_has_a_mean_of_each_kind_and_of_all_but_what_trained():
    kinds = {"a": "deep brain", "b": "deep brain", "c": "lesions", "d": development.SEEN}
    dice = {"a": (0.2, 0.6, 0.5, 0.5), "b": (0.4, 0.6, 0.7, 0.58), "c": (0.6, 0.9, 0.9, 0.9), "d": (0.9, 0.9, 0.9, 0.9)}
    cases = [{"class": n, **{f"dice@{k}": v for k, v in zip((1, 3, 5, 10), d, strict=True)}} for n, d in dice.items()]
    lines = development.table({"new": {"cases": cases}}, kinds).splitlines()
    assert lines[2] == "| deep brain | 2 | new | 0.300 | 0.600 | 0.600 | 0.540 | 50 % |"
    assert lines[-2].startswith(f"| {development.SEEN} | 1 | new | 0.900 |")
    assert lines[-1] == "| all but seen | 3 | new | 0.400 | 0.700 | 0.700 | 0.660 | 33 % |"


def test_no_data_is_refused(tmp_path, capsys):
    assert development.main([str(tmp_path), str(tmp_path / "out")]) == 1
    assert "no colin27" in capsys.readouterr().err


@pytest.mark.skipif(not (DATA / "openkbp").is_dir(), reason="needs ../shared/data")
def test_no_patient_of_development_trains():
    content = data_list(DATA, more=True)
    training = {item["image"] for item in content["training"]}
    kept = {Path(item["image"]).name for item in content["development"]}
    assert len([k for k in kept if k.startswith("pt_")]) == 15 and "pt_200_ct.nii.gz" in kept
    assert len({k.rpartition("_e")[0] for k in kept if k.startswith("SC-")}) == 8
    assert "colin27_t1_image.nii.gz" in kept and not kept & {Path(t).name for t in training}
    pairs = list(labelled_pairs(DATA, {**SETS, **MORE_SETS}))
    for objects in development.OBJECTS:
        (pair,) = (p for p in pairs if objects.case in (p.name.split("/")[-1], p.image.name.split(".")[0]))
        assert (str(pair.image.absolute()) in training) == (objects.kind == development.SEEN)
