# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The comparison of ways to fine-tune: one real run of two methods at the smallest size, and its table."""

import csv
import json

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from tools.research import compare_tuning
from tools.research.compare_tuning import BUNDLE, METHODS, as_markdown, main, summarise


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    (folder / "labels.json").write_text('{"1": "spot"}')
    for i in range(6):
        mask = np.zeros((32, 32), np.uint8)
        mask[8 + i : 20, 8:20] = 1
        picture = (60 * rng.random((32, 32)) + 150 * mask).astype(np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    return folder


@pytest.fixture
def base(tmp_path):
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in ("train.json", "train_base.json")])
    definition = json.loads(json.dumps(parser["network_def"]).replace('"scripts.', '"bundles.ssam_2d.scripts.'))
    torch.manual_seed(0)
    network = ConfigParser({"network_def": definition, "text_dim": 512}).get_parsed_content("network_def")
    path = tmp_path / "base.pt"
    kept = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
    torch.save({k: v for k, v in network.state_dict().items() if k.startswith(kept)}, path)
    return path


def test_two_methods_are_measured_and_not_again(tmp_path, data, base, capfd):
    run = tmp_path / "run"
    command = [
        "--run",
        str(run),
        "--data",
        f"spots={data}",
        "--base",
        str(base),
        "--methods",
        "svd_affine",
        "norms_only",
    ]
    command += [
        "--images",
        "3",
        "--seeds",
        "3",
        "--steps",
        "3",
        "--batch-size",
        "2",
        "--image-size",
        "32",
        "--no-progress",
    ]
    assert main(command) == 0
    with open(run / "comparison.csv") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["svd_affine", "norms_only"]
    assert all(0 <= float(row["dice"]) <= 1 and float(row["step_s"]) > 0 for row in rows.values())
    assert int(float(rows["svd_affine"]["trained"])) > int(float(rows["norms_only"]["trained"])) > 1000
    assert rows["svd_affine"]["steps"] == rows["norms_only"]["steps"] == "4"
    assert (run / "comparison.png").stat().st_size > 1000 and "| spots | norms_only |" in capfd.readouterr().out
    made = (run / "spots" / "svd_affine_3" / "model.pt").stat().st_mtime_ns
    assert main(command) == 0
    assert (run / "spots" / "svd_affine_3" / "model.pt").stat().st_mtime_ns == made
    with pytest.raises(SystemExit, match="another comparison is in this folder"):
        main([*command, "--flip", "0.5"])


def test_a_method_learns_at_the_rate_that_was_given(tmp_path, data, base):
    command = ["--run", str(tmp_path / "run"), "--data", f"spots={data}", "--base", str(base), "--no-progress"]
    command += ["--methods", "norms_only", "full", "--rate", "norms_only=1e-12", "--seeds", "0", "--steps", "1"]
    assert main([*command, "--batch-size", "2", "--image-size", "32"]) == 0
    name, start = "image_encoder.neck.1.weight", torch.load(base, weights_only=True)
    moved = {}
    for method in ("norms_only", "full"):
        trained = torch.load(tmp_path / "run" / "spots" / f"{method}_0" / "model.pt", weights_only=True)
        moved[method] = float((trained[name] - start[name]).abs().max())
    assert moved["norms_only"] < 1e-9 and moved["full"] > 1e-5


@pytest.mark.parametrize("text", ["lora", "lora=fast", "lora=0", "lora=-1", "lora=inf", "lora=nan", "other=0.1"])
def test_a_rate_that_is_none(tmp_path, data, base, text):
    with pytest.raises(SystemExit, match=f"--rate {text}: expected METHOD=RATE"):
        main(["--run", str(tmp_path / "run"), "--data", f"a={data}", "--base", str(base), "--rate", text])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("images", ["0", "5"])
def test_more_images_than_there_are(tmp_path, data, base, images):
    command = ["--run", str(tmp_path / "run"), "--data", f"spots={data}", "--base", str(base), "--images", images]
    with pytest.raises(SystemExit, match="spots has 4 beside those held out; expected 1 to 4"):
        main(command)


@pytest.mark.parametrize("text", ["spots", "spots=nowhere.json"])
def test_data_that_is_not_there(tmp_path, text):
    with pytest.raises(SystemExit, match="expected NAME=PATH"):
        main(["--run", str(tmp_path), "--data", text])


def test_a_base_that_is_not_there(tmp_path, data):
    with pytest.raises(SystemExit, match="nothing.pt: no such file"):
        main(["--run", str(tmp_path), "--data", f"a={data}", "--base", str(tmp_path / "nothing.pt")])


def test_the_table():
    numbers = {"dice": 0.5, "iou": 0.4, "nsd": 0.3, "hd95": 10.0, "trained": 1200, "adapter_mb": 0.5, "step_s": 0.2}
    numbers |= {"peak_mb": None, "steps": 7}
    results = {("a", "lora", 0): numbers, ("a", "lora", 1): numbers | {"dice": 0.7}, ("b", "full", 0): numbers}
    rows = summarise(results)
    assert [(row["data"], row["method"], row["seeds"]) for row in rows] == [("a", "lora", 2), ("b", "full", 1)]
    assert rows[0]["dice"] == pytest.approx(0.6) and rows[0]["dice_sd"] == pytest.approx(0.2 / np.sqrt(2))
    table = as_markdown(rows).splitlines()
    assert table[2] == "| a | lora | 0.600 ± 0.141 | 10.0 ± 0.0 | 1,200 | 0.50 | 0.200 |  |"
    assert table[3].startswith("| b | full | 0.500 | 10.0 |")


def test_every_overlay_is_there():
    overlays = [overlay for overlays in METHODS.values() for overlay in overlays]
    assert all((compare_tuning.BUNDLE / "configs" / overlay).is_file() for overlay in overlays)
