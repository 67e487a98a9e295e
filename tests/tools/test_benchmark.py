# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The benchmarks run at tiny sizes and tell their numbers; the published contestants compute what ours do."""

import json
import time
from importlib.util import find_spec

import pytest
import torch

from bundles.fastsam3d.scripts.networks.image_encoder import ImageEncoder3D, RelativeAttention
from bundles.fastsam3d.scripts.networks.published import PublishedStudent3D, StridedGroupAttention
from tools.benchmark import click, published_forms
from tools.benchmark.__main__ import CLOCKS, main
from tools.benchmark.timing import Contestant, measure, row, table

CPU = torch.device("cpu")
SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 6, "out_chans": 24}
ROWS = {
    "encoder3d": [
        "teacher_published",
        "student_published_dense",
        "student_published_sparse",
        "student_fp32",
        "default",
    ],
    "click": ["published_1", "ours_1", "published_10", "ours_10", "ours_8_objects"],
    "bundle": ["encode_fp32", "encode_default", "click_fp32", "click_default"],
    "requests": [f"{kind}{row}_click" for kind in ("", "small_") for row in ("first", "further", "known")],
    "precision": ["float32", "mixed", "bfloat16"],
    "tiny_vit": ["plain", "autocast", "folded_fp32", "folded"],
    "attention": ["naive_32", "sdpa_32", "dense_32", "naive_64", "sdpa_64", "dense_64"],
}


def shake(network: torch.nn.Module) -> torch.nn.Module:
    """Random values where the initial ones are zeros or ones: a missing term could not be seen otherwise."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("name", ROWS)
def test_quick_run_writes_rows(name, tmp_path, capsys, monkeypatch):
    # What the compiler needs (a C++ compiler, a minute) is no part of this test.
    monkeypatch.setattr(torch, "compile", lambda encoder, **_: encoder)
    path = tmp_path / "numbers.json"
    assert main([name, "--quick", "--json", str(path), "--no-progress"]) == 0
    result = json.loads(path.read_text())
    rows = {r["name"]: r for r in result["rows"]}
    assert set(ROWS[name]) <= set(rows) and not result["not_measured"]
    assert all(0 < r["p10_s"] <= r["median_s"] <= r["p90_s"] for r in rows.values())
    assert result["machine"]["threads"] == torch.get_num_threads()
    assert set(result["machine"]["gemm_gflop_per_s"]) == {"float32", "bfloat16"}
    printed = capsys.readouterr().out
    assert all(r in printed for r in rows) and "GEMM" in printed
    if name == "encoder3d":
        assert rows["default"]["share_of_gemm"] > 0 and rows["default"]["error"] < 0.05


@pytest.mark.parametrize("window", [0, 3])
def test_spelled_teacher_equals_the_reproduction(window):
    sizes = {**SIZES, "window_size": window, "global_attn_indexes": (1,)}
    ours, spelled = shake(ImageEncoder3D(**sizes)), published_forms.teacher(**sizes).eval()
    spelled.load_state_dict(ours.state_dict())
    volume = torch.randn(1, 1, 32, 32, 32)
    assert_close(spelled(volume), ours(volume))


@pytest.mark.parametrize(
    "attention, spelled",
    [(RelativeAttention, published_forms.dense_student), (StridedGroupAttention, published_forms.sparse_student)],
)
def test_spelled_students_equal_the_reproductions(attention, spelled):
    ours, spelled = shake(PublishedStudent3D(**SIZES, attention=attention)), spelled(**SIZES).eval()
    spelled.load_state_dict(ours.state_dict())
    volume = torch.randn(1, 1, 32, 32, 32)
    assert_close(spelled(volume), ours(volume))


def test_published_click_is_ours_in_float32():
    board = click.Table(24, 4, CPU)
    points, labels = board.clicks(3, 1)
    with torch.inference_mode():
        logits, mask = board.published(points, labels, None)
        assert_close(board.decode(board.network, points, labels)[0][0][None], logits)
        labels_map = board.ours(board.network, points, labels)
        again, mask_again = board.published(points, labels, logits.clamp(-10, 10))
        answer = board.decode(board.network, points, labels, logits)[0][0][None]
    assert (labels_map.bool() == mask[0, 0]).float().mean() > 0.9999
    assert 0 < mask.float().mean() < 1
    assert_close(answer, again)


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_slow_contestants_take_fewer_turns_and_failures_are_told():
    calls = []

    def broken() -> None:
        raise RuntimeError("no such kernel")

    contestants = [Contestant("fast", lambda: calls.append(1)), Contestant("broken", broken)]
    seconds, failures = measure(contestants, 5, CPU, progress=False)
    assert len(seconds["fast"]) == 5 and len(calls) > 5
    assert failures == {"broken": "no such kernel"} and "broken" not in seconds


def test_the_processor_s_clock_does_not_count_waiting():
    asleep = [Contestant("asleep", lambda: time.sleep(0.05))]
    by_wall, by_cpu = (measure(asleep, 3, CPU, False, clock)[0]["asleep"] for clock in CLOCKS.values())
    assert min(by_wall) >= 0.05 > 10 * max(by_cpu)


def test_row_and_table():
    numbers = row(Contestant("a", lambda: None, 2e9, torch.float32), [1.0, 2.0, 3.0], {"float32": 4e9})
    assert numbers["median_s"] == 2 and numbers["gflop_per_s"] == 1 and numbers["share_of_gemm"] == 0.25
    slow = row(Contestant("b", lambda: None, note="slow"), [8.0], {})
    assert "share_of_gemm" not in slow
    last = table([numbers, slow], "a").splitlines()[-1]
    assert "4.00" in last and last.endswith("slow")


def test_help_lists_the_benchmarks(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ROWS)


@pytest.mark.slow
def test_batches_of_each_engine(tmp_path, capsys):
    path = tmp_path / "batch.json"
    assert main(["batch", "--quick", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [(row["engine"], row["workers"]) for row in rows] == [("no engine", 1), ("processes", 1), ("processes", 2)]
    assert all(row["images_a_second"] > 0 and row["image_s"] > 0 for row in rows)
    assert "images a second" in capsys.readouterr().out


def test_session_asks_python_and_the_wire(tmp_path, capsys):
    pytest.importorskip("nnInteractive.inference.remote")
    path = tmp_path / "session.json"
    assert main(["session", "--quick", "--rounds", "1", "--json", str(path)]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert all(row[f"{step}, {way}"][0] > 0 for step in ("image", "first click") for way in ("Python", "wire"))
    assert "| tiny | further click |" in capsys.readouterr().out


def test_peers_without_their_package_are_named(tmp_path):
    path = tmp_path / "peers.json"
    assert main(["peers", "--quick", "--json", str(path), "--no-progress"]) == 0
    result = json.loads(path.read_text())
    assert {"fastsam3d, first click", "SAM-Med3D, first click"} <= {r["name"] for r in result["rows"]}
    if find_spec("dynamic_network_architectures") is None:
        assert "dynamic-network-architectures" in result["not_measured"]["nnInteractive, every prompt"]
