# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A batch writes what ``monai.bundle run`` writes, byte for byte."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from two_balls import GRID, TRUTH
from volumes import write_nifti
from workflows import run_configs, scripts_of

BUNDLES = Path(__file__).parents[3] / "bundles"
FASTSAM3D, SSAM = BUNDLES / "fastsam3d", BUNDLES / "ssam_2d"
LEFT, RIGHT = [9, 23, 15], [17, 23, 15]


def without_times(file: Path) -> dict:
    """A description without times, and what was computed or known: the cube of an image that was just looked at."""
    found = json.loads(file.read_text())
    return {k: v for k, v in found.items() if k not in ("seconds", "volume", "embeddings", "decoder_calls")}


def as_run(bundle: Path, folder: Path, **options) -> Path:
    with scripts_of(bundle):
        run_configs(bundle, ["inference.json"], output_dir=str(folder), device="cpu", **options)
    return folder


def test_prompts_of_every_kind(ball, batch, tmp_path):
    left, right = ([int(v) for v in np.argwhere(t).mean(0).round()] for t in TRUTH)
    box = [np.argwhere(TRUTH[0]).min(0).tolist(), np.argwhere(TRUTH[0]).max(0).tolist()]
    write_nifti(tmp_path / "last.nii.gz", TRUTH[0].astype(np.uint8), GRID)
    asked = {
        "click": {"foreground": [left], "background": [right]},
        "box": {"box": box},
        "two": {"objects": {"left": [left], "right": {"box": box, "foreground": [right]}}},
        "mask": {"previous_mask": str(tmp_path / "last.nii.gz"), "foreground": [right]},
    }
    with open(tmp_path / "jobs.csv", "w", newline="") as file:
        table = csv.DictWriter(file, ["name", "image", "foreground", "background", "box", "objects", "previous_mask"])
        table.writeheader()
        for name, prompts in asked.items():
            cells = {k: v if isinstance(v, str) else json.dumps(v) for k, v in prompts.items()}
            table.writerow({"name": name, "image": "ball.nii.gz", **cells})
    code, rows = batch(tmp_path / "jobs.csv", tmp_path / "out")
    assert code == 0 and {row["status"] for row in rows.values()} == {"done"}
    for name, prompts in asked.items():
        run = as_run(FASTSAM3D, tmp_path / "run" / name, image=str(ball), preview=False, **prompts)
        own = tmp_path / "out" / "masks" / name
        assert (own / "ball_seg.nii.gz").read_bytes() == (run / "ball_seg.nii.gz").read_bytes()
        assert without_times(own / "ball_seg.json") == without_times(run / "ball_seg.json")
        (first, *_), objects = rows[name]["objects"], rows[name]["objects"]
        described = json.loads((run / "ball_seg.json").read_text())["objects"]
        assert first["volume_ml"] == described[0]["volume_ml"] and len(objects) == len(described)


def test_centres_of_another_tool_s_mask(ball, batch, tmp_path):
    labels = np.where(TRUTH[0], 3, np.where(TRUTH[1], 7, 0)).astype(np.int16)
    write_nifti(tmp_path / "other.nii.gz", labels, GRID)
    (tmp_path / "jobs.jsonl").write_text(
        json.dumps({"image": str(ball), "mask": "other.nii.gz", "mask_names": {"3": "left", "7": "right"}}) + "\n"
    )
    code, rows = batch(tmp_path / "jobs.jsonl", tmp_path / "out")
    assert code == 0 and [o["name"] for o in rows["ball"]["objects"]] == ["left", "right"]
    result = tmp_path / "out" / "masks" / "ball" / "ball_seg"
    prompts = {
        o["name"]: o["prompts"]["points"] for o in json.loads(result.with_suffix(".json").read_text())["objects"]
    }
    for name, truth in (("left", TRUTH[0]), ("right", TRUTH[1])):
        (point,) = prompts[name]
        depth = ndimage.distance_transform_edt(truth, GRID.spacing)
        assert depth[tuple(map(int, point))] == depth.max()
    objects = {name: [list(map(int, p)) for p in points] for name, points in prompts.items()}
    run = as_run(FASTSAM3D, tmp_path / "run", image=str(ball), preview=False, objects=objects)
    assert Path(f"{result}.nii.gz").read_bytes() == (run / "ball_seg.nii.gz").read_bytes()


def test_boxes_of_a_file_and_jobs_in_parquet(ball, batch, tmp_path):
    pa = pytest.importorskip("pyarrow", reason="needs the extra batch")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra batch")
    inside = {"a": np.argwhere(TRUTH[0]), "b": np.argwhere(TRUTH[1])}
    boxes = {name: [voxels.min(0).tolist(), voxels.max(0).tolist()] for name, voxels in inside.items()}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    rows = [",".join([name, *map(str, [*low, *high])]) for name, (low, high) in boxes.items()]
    (tmp_path / "boxes.csv").write_text("\n".join(["name,i,j,k,i2,j2,k2", *rows]))
    files = ["boxes.json", "boxes.csv"]
    table = pa.table({"name": ["json", "csv"], "image": ["ball.nii.gz"] * 2, "boxes": files})
    parquet.write_table(table, tmp_path / "jobs.parquet")
    code, _ = batch(tmp_path / "jobs.parquet", tmp_path / "out")
    assert code == 0
    objects = {name: {"box": box} for name, box in boxes.items()}
    run = as_run(FASTSAM3D, tmp_path / "run", image=str(ball), preview=False, objects=objects)
    for name in ("json", "csv"):
        own = tmp_path / "out" / "masks" / name / "ball_seg.nii.gz"
        assert own.read_bytes() == (run / "ball_seg.nii.gz").read_bytes()


def test_names_in_pictures(batch, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(rng.integers(0, 255, (40 + 8 * i, 60, 3), dtype=np.uint8)).save(pictures / f"p{i}.png")
    code, rows = batch(pictures, tmp_path / "out", "--bundle", "ssam_2d", "--labels", '["liver", "spleen"]')
    assert code == 0, rows
    run = as_run(SSAM, tmp_path / "run", image=str(pictures), labels=["liver", "spleen"], overlay=False)
    for i in range(2):
        own = tmp_path / "out" / "masks" / f"p{i}"
        assert (own / f"p{i}_seg.png").read_bytes() == (run / f"p{i}_seg.png").read_bytes()
        assert without_times(own / f"p{i}_seg.json") == without_times(run / f"p{i}_seg.json")
        assert rows[f"p{i}"]["uncertainty"] is not None


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_tables(ball, batch, tmp_path, kind):
    (tmp_path / "jobs.jsonl").write_text(
        "\n".join(
            json.dumps({"image": "ball.nii.gz", "name": n, "objects": {"a, b": [LEFT]}, "age": 7})
            for n in ("x/1", "x/2")
        )
    )
    code, _ = batch(tmp_path / "jobs.jsonl", tmp_path / "out", "--keep", "age", "--probabilities", "true")
    assert code == 0
    if kind == "csv":
        images, objects = (list(csv.DictReader(open(tmp_path / "out" / f"{n}.csv"))) for n in ("results", "objects"))
    else:
        parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
        images, objects = (
            parquet.read_table(tmp_path / "out" / f"{n}.parquet").to_pylist() for n in ("results", "objects")
        )
    assert [(row["name"], row["status"], int(row["jobs.age"])) for row in images] == [
        ("x/1", "done", 7),
        ("x/2", "done", 7),
    ]
    assert [row["object"] for row in objects] == ["a, b"] * 2
    mask = tmp_path / "out" / images[0]["mask"]
    voxels = int((np.asarray(nib.load(mask).dataobj) == 1).sum())
    assert int(objects[0]["voxels"]) == voxels
    volume = json.loads(images[0]["volumes_ml"])["a, b"]
    assert volume == float(objects[0]["volume_ml"]) == pytest.approx(voxels * 12 / 1000, abs=1e-3)
    assert mask.with_name("ball_seg_probabilities.nii.gz").is_file() and float(images[0]["seconds"]) > 0


def test_weights_are_loaded_once_for_rows_with_options_of_their_own(ball, batch, tmp_path, monkeypatch):
    from sam_bundles.common import weights

    loads = []
    monkeypatch.setattr(
        weights.torch, "load", lambda *a, _load=weights.torch.load, **k: (loads.append(a), _load(*a, **k))[1]
    )
    windows = [None, [-90, 90], "percentile", [-90, 90], [-50, 50]]
    lines = [
        json.dumps({"image": "ball.nii.gz", "name": f"w{i}", "foreground": [LEFT], **({"window": w} if w else {})})
        for i, w in enumerate(windows)
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    code, rows = batch(tmp_path / "jobs.jsonl", tmp_path / "out", "--worst", 0)
    assert code == 0 and len(loads) == 1
    masks = [(tmp_path / "out" / "masks" / f"w{i}" / "ball_seg.nii.gz").read_bytes() for i in range(len(windows))]
    assert masks[1] == masks[3]
    bounds = [
        json.loads((tmp_path / f"out/masks/w{i}/ball_seg.json").read_text())["intensity_bounds"] for i in range(5)
    ]
    assert bounds[1] == [-90, 90] == bounds[3] and bounds[4] == [-50, 50] != bounds[0]
