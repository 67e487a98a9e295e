# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from common.score_report import write_report
from common.svd_affine import Adapter
from tools.report.__main__ import main
from tools.report.plots import main_dice
from tools.report.runs import read_runs

CLASSES = ("liver", "fat")


def evaluation(folder, shift=0.0, metrics=("dice", "hd95"), about=None):
    """Two images of two classes, with numbers that are easy to check."""
    cases = [
        {"image": f"{i}.png", "class": name, **{m: 0.1 * i + 0.2 * k + shift + 0.01 * j for j, m in enumerate(metrics)}}
        for i in (1, 2)
        for k, name in enumerate(CLASSES)
    ]
    absent = [{"image": "3.png", "class": "liver", "predicted_voxels": 30, "predicted_size": 7.5}]
    write_report(folder, cases, metrics, absent, about)
    return folder


def table(folder):
    with open(folder / "report.csv", newline="") as file:
        return list(csv.DictReader(file))


def cell(rows, column, **where):
    (row,) = (r for r in rows if all(r[k] == v for k, v in where.items()))
    return float(row[column])


def test_one_table_of_several_runs(tmp_path, capsys):
    a, b = evaluation(tmp_path / "a"), evaluation(tmp_path / "b", 0.3)
    assert main([str(a), f"ours={b / 'metrics.json'}", "--output", str(tmp_path / "out")]) == 0
    rows = table(tmp_path / "out")
    assert list(rows[0]) == ["class", "metric", "statistic", "a", "ours"]
    assert cell(rows, "a", **{"class": "all", "metric": "dice"}) == pytest.approx(0.25)
    assert cell(rows, "ours", **{"class": "all", "metric": "hd95"}) == pytest.approx(0.56)
    for statistic, value in (("mean", 0.35), ("median", 0.35), ("min", 0.3), ("max", 0.4)):
        assert cell(rows, "a", **{"class": "fat", "metric": "dice", "statistic": statistic}) == pytest.approx(value)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| dice | 0.25 | 0.55 |" in text and "| fat | 0.35 (0.3 to 0.4) | 0.65 (0.6 to 0.7) |" in text
    assert "| a | liver | 1 | 7.5 | 7.5 |" in text.split("Predicted where the class is absent")[1]
    assert "| dice | 0.25 | 0.55 |" in capsys.readouterr().out


def test_objects_by_their_size_and_what_a_challenge_cannot_be_compared_with(tmp_path):
    numbers = {"dice@1": 0.4, "dice@10": 0.8, "dice_auc": 3.0, "noc@85": 4.0}
    cases = [
        {"image": f"{i}.nii", "class": "organ", **numbers, "noc@85": clicks, "volume_ml": volume}
        for i, (volume, clicks) in enumerate(((0.5, 2), (1.0, 4), (9.9, 6), (100.0, 1)))
    ]
    write_report(tmp_path / "a", cases, list(numbers))
    assert main([str(tmp_path / "a"), "--output", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| a | below 1 ml | 1 | 1: 0.400, 10: 0.800 | 2.0 |" in text
    assert "| a | 1 to 10 ml | 2 | 1: 0.400, 10: 0.800 | 5.0 |" in text and "| a | from 100 ml | 1 |" in text
    assert "10 to 100 ml" not in text and "cannot be compared" in text and "| dice_auc | 3 |" in text


def test_repetitions_are_averaged_and_their_spread_is_shown(tmp_path):
    for i, shift in enumerate((0.0, 0.1, 0.5)):
        evaluation(tmp_path / str(i), shift)
    main([f"svd={tmp_path / str(i)}" for i in range(3)] + ["--output", str(tmp_path / "out")])
    rows = table(tmp_path / "out")
    found = [cell(rows, c, **{"class": "all", "metric": "dice"}) for c in ("svd", "svd lowest", "svd highest")]
    assert found == pytest.approx([0.45, 0.25, 0.75])
    assert "| dice | 0.45 (0.25 to 0.75, 3 runs) |" in (tmp_path / "out" / "report.md").read_text()


def test_quoted_figures_have_columns_of_their_own(tmp_path):
    run = evaluation(tmp_path / "svd")
    main([str(run), "--output", str(tmp_path / "out"), "--data-set", "glas"])
    rows = table(tmp_path / "out")
    assert cell(rows, "S-SAM (quoted)", **{"class": "all", "metric": "hd95"}) == 49.4
    assert cell(rows, "AdaptiveSAM (quoted)", **{"class": "all", "metric": "hd95"}) == 106.2
    (dice,) = (r for r in rows if (r["class"], r["metric"]) == ("all", "dice"))
    assert dice["S-SAM (quoted)"] == ""
    text = (tmp_path / "out" / "report.md").read_text()
    assert "S-SAM (quoted, not measured here)" in text and "Quoted from arXiv 2408.06447" in text


def test_what_fastsam3d_states_is_told_where_no_figure_is(tmp_path):
    run = evaluation(tmp_path / "student", metrics=("dice@1", "dice@3"))
    main([str(run), "--output", str(tmp_path / "out"), "--data-set", "amos22"])
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Quoted from FastSAM3D" in text and "527.38" in text
    assert "(quoted)" not in (tmp_path / "out" / "report.csv").read_text()


@pytest.mark.parametrize(
    ("metrics", "parameters", "expected"),
    [
        (("dice", "hd95"), [], {"per_class.png"}),
        (("dice", "hd95"), ["--parameters", "run=74752"], {"per_class.png", "parameters.png"}),
        (("dice@1", "dice@10", "nsd@10"), [], {"per_class.png", "dice_over_clicks.png"}),
        (("hd95",), [], set()),
    ],
)
def test_plots_as_far_as_there_are_numbers(metrics, parameters, expected, tmp_path):
    run = evaluation(tmp_path / "run", metrics=metrics)
    main([str(run), "--output", str(tmp_path / "out"), "--data-set", "salt", *parameters])
    pictures = {p.name for p in (tmp_path / "out").glob("*.png")}
    assert pictures == expected
    for name in pictures:
        assert np.asarray(Image.open(tmp_path / "out" / name).convert("L")).std() > 5
        assert f"({name})" in (tmp_path / "out" / "report.md").read_text()


def test_runs_are_compared_after_the_most_clicks_that_all_have(tmp_path):
    few = evaluation(tmp_path / "few", metrics=("dice@1", "dice@3"))
    many = evaluation(tmp_path / "many", metrics=("dice@1", "dice@3", "dice@10"))
    assert main_dice(read_runs([str(few), str(many)], {})) == "dice@3"
    assert main_dice(read_runs([str(many)], {})) == "dice@10"


def test_trained_parameters_from_the_report_or_from_the_adapter(tmp_path):
    told = evaluation(tmp_path / "told", about={"trainable_parameters": 12})
    beside = evaluation(tmp_path / "trained" / "evaluation")
    # Running statistics and the labels' features belong to an adapter, but nobody trains them.
    tensors = {"blocks.0.qkv.scale": torch.ones(5), "text_affine.norm.running_mean": torch.ones(9)}
    labels = {"liver": torch.ones(512)}
    Adapter("svd_affine (values=None)", "base", tensors, labels).save(tmp_path / "trained" / "adapter.safetensors")
    unknown = evaluation(tmp_path / "elsewhere" / "unknown")
    runs = read_runs([str(told), str(beside), str(unknown)], {})
    assert [run.parameters for run in runs] == [12, 5, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; expected the output_dir"),
        ("{", "no valid JSON"),
        ("[]", "expected mean, per_class and cases"),
        ('{"mean": {"dice": "good"}, "per_class": {}, "cases": []}', "expected mean, per_class and cases"),
    ],
)
def test_what_is_no_evaluation_is_refused(content, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    assert main([str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_parameters_of_a_run_that_is_not_there(tmp_path, capsys):
    run = evaluation(tmp_path / "run")
    assert main([str(run), "--output", str(tmp_path / "out"), "--parameters", "other=5"]) == 1
    assert "--parameters other: no such run; there are ['run']" in capsys.readouterr().err


def test_a_report_without_cases(tmp_path):
    write_report(tmp_path / "run", [], ("dice",), [{"image": "a.png", "class": "liver"}])
    assert main([str(tmp_path / "run"), "--output", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["mean"] == {}
