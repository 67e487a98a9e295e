# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import csv
import json

import pytest

from common.score_report import write_report

CASES = [
    {"image": "a.nii.gz", "class": "liver", "dice@1": 0.5, "hd95@1": 10.0, "clicks": [[1, 2, 3]]},
    {"image": "b.nii.gz", "class": "liver", "dice@1": 1.0, "hd95@1": 0.0},
    {"image": "c.nii.gz", "class": "liver", "dice@1": 0.9, "hd95@1": 2.0},
    {"image": "a.nii.gz", "class": "spleen", "dice@1": 0.0, "hd95@1": 100.0},
]
ABSENT = [
    {"image": "b.nii.gz", "class": "spleen", "predicted_voxels": 30},
    {"image": "c.nii.gz", "class": "spleen", "predicted_voxels": 10},
]


def test_report_is_what_the_numbers_say(tmp_path):
    report = write_report(tmp_path / "out", CASES, ("dice@1", "hd95@1"), ABSENT)
    assert report == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert report["mean"] == pytest.approx({"dice@1": 0.6, "hd95@1": 28.0})
    liver = report["per_class"]["liver"]
    assert liver["cases"] == 3
    assert liver["dice@1"] == pytest.approx({"mean": 0.8, "median": 0.9, "min": 0.5, "max": 1.0})
    assert report["per_class"]["spleen"]["cases"] == 1
    spleen = report["absent"]["spleen"]
    assert spleen == {"cases": 2, "predicted_voxels": {"mean": 20.0, "median": 20.0, "min": 10.0, "max": 30.0}}
    assert report["cases"] == CASES
    assert report["absent_cases"] == ABSENT
    assert "about" not in report
    assert write_report(tmp_path, CASES, ("dice@1",), about={"rounds": 3})["about"] == {"rounds": 3}


def test_table(tmp_path):
    write_report(tmp_path, CASES, ("dice@1", "hd95@1"), ABSENT)
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["class"] for r in rows] == ["liver", "liver", "liver", "spleen"]
    assert list(rows[0]) == ["image", "class", "dice@1", "hd95@1"]
    assert float(rows[2]["dice@1"]) == 0.9
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.csv", "metrics.json"]


def test_everything_absent(tmp_path):
    report = write_report(tmp_path, [], ("dice",), [{"image": "a", "class": "liver"}])
    assert report["mean"] == {} and report["per_class"] == {}
    assert report["absent"] == {"liver": {"cases": 1}}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({"image": "a", "class": "liver"}, "a, liver: dice is None; expected a finite number"),
        ({"image": "a", "class": "liver", "dice": float("nan")}, "dice is nan"),
        ({"image": "a", "class": "liver", "dice": float("inf")}, "dice is inf"),
        ({"image": "a", "dice": 1.0}, "no class"),
    ],
)
def test_nothing_is_left_out_of_a_mean_silently(tmp_path, case, message):
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "out", [*[{**c, "dice": 1.0} for c in CASES], case], ("dice",))
    assert not (tmp_path / "out").exists()
