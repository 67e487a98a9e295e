# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import json
from pathlib import Path

import numpy as np
import pytest

from tools.research import compare_distillation as compare

DATA = Path(__file__).parents[4] / "shared" / "data"


def scores(*values):
    return [{f"dice@{k}": v for k in compare.CLICKS} for v in values]


def test_the_table_gives_mean_and_spread():
    lines = compare.table({"progressive": scores(0.5, 0.7), "fitnets": scores(0.4)}).splitlines()
    assert lines[0].startswith("| variant | seeds | Dice@1 |")
    assert lines[2].startswith("| progressive | 2 | 0.600 (0.500 to 0.700) |")
    assert lines[3].startswith("| fitnets | 1 | 0.400 (0.400 to 0.400) |")


def test_curves_are_drawn(tmp_path, monkeypatch):
    points = [np.array([[1, 0.1], [2, 0.4], [3, 0.5]]), np.array([[1, 0.2], [2, 0.3]])]
    monkeypatch.setattr(compare, "curves", lambda run: {"progressive": points})
    compare.draw(tmp_path, {"progressive": scores(0.5, 0.7)}, tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_too_few_volumes_are_named(tmp_path):
    with pytest.raises(ValueError, match="0 hippocampi; expected 3 or more"):
        compare.write_list(tmp_path, tmp_path / "list.json", 2, 1)


def test_training_and_kept_out_volumes_do_not_meet(tmp_path):
    images = tmp_path / "msd_hippocampus" / "images"
    images.mkdir(parents=True)
    for i in range(5):
        (images / f"h{i}.nii.gz").touch()
    compare.write_list(tmp_path, tmp_path / "list.json", 3, 2)
    content = json.loads((tmp_path / "list.json").read_text())
    names = [[Path(item["image"]).name for item in content[s]] for s in ("training", "validation")]
    assert names == [["h0.nii.gz", "h1.nii.gz", "h2.nii.gz"], ["h3.nii.gz", "h4.nii.gz"]]
    assert Path(content["training"][0]["label"]) == tmp_path / "msd_hippocampus" / "labels" / "h0.nii.gz"


def test_the_scores_of_finished_runs_are_read(tmp_path):
    for folder, value in (("teacher", 0.9), ("fitnets_0/tuned", 0.5), ("fitnets_1/tuned", 0.7)):
        (tmp_path / folder / "evaluation").mkdir(parents=True)
        (tmp_path / folder / "evaluation" / "metrics.json").write_text(json.dumps({"mean": scores(value)[0]}))
    (tmp_path / "logits_0" / "tuned").mkdir(parents=True)
    assert compare.read_scores(tmp_path) == {"teacher": scores(0.9), "fitnets": scores(0.5, 0.7)}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
def test_the_comparison_runs_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "VARIANTS", {"progressive": [], "final_only": ["variants/final_only.json"]})
    comparison = compare.Comparison(tmp_path, DATA, 1, (1, 1, 1), 4, (2, 1))
    comparison()
    assert set(compare.read_scores(tmp_path)) == {"teacher", "progressive", "final_only"}
    before = (tmp_path / "progressive_0" / "tuned" / "last.pt").stat().st_mtime_ns
    (tmp_path / "final_only_0" / "tuned" / "last.pt").unlink()
    comparison()
    assert (tmp_path / "final_only_0" / "tuned" / "last.pt").exists()
    assert (tmp_path / "progressive_0" / "tuned" / "last.pt").stat().st_mtime_ns == before
