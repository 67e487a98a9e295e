# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What is wrong with a job is named in its row, and ends nothing; what cannot be read at all ends the command."""

import csv
import json

import numpy as np
import pytest
from two_balls import GRID, TRUTH
from volumes import write_nifti

CLICK = [int(v) for v in np.argwhere(TRUTH[0]).mean(0).round()]
GOOD = {"name": "good", "image": "ball.nii.gz", "foreground": [CLICK]}


def written(tmp_path, *rows):
    (tmp_path / "jobs.jsonl").write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return tmp_path / "jobs.jsonl"


# A row, and its status and reason.
REFUSED = {
    "missing image": ({"image": "no.nii.gz"}, "no.nii.gz: no such file or folder"),
    "no image": ({"foreground": [CLICK]}, "no image; expected its path"),
    "unknown column": ({"image": "ball.nii.gz", "foregruond": [CLICK]}, "did you mean foreground?"),
    "an option out of its range": ({"image": "ball.nii.gz", "rounds": 0}, "rounds is 0: expected a whole"),
    "a prompt that is none": ({"image": "ball.nii.gz", "foreground": "here"}, "foreground is 'here'"),
    "another folder": ({"image": "ball.nii.gz", "output_dir": "y"}, "--output says where results go"),
    "missing mask": ({"image": "ball.nii.gz", "mask": "no.nii.gz"}, "expected the file of mask"),
    "a name that leads away": ({"image": "ball.nii.gz", "name": "../x"}, "expected the path of a folder below OUTPUT"),
    "the name of another job": ({**GOOD, "image": "ball.nii.gz"}, "has the name 'good' too"),
    "an unknown bundle": (
        {"image": "ball.nii.gz", "bundle": "fastsam"},
        "no such bundle; expected fastsam3d",
    ),
    "no JSON": ('{"image": ', "not valid JSON"),
    "no row": ("[1, 2]", "list; expected an object {column: value}"),
}
FAILED = {
    "no prompt": ({"image": "ball.nii.gz"}, "no prompt was given"),
    "a click outside": ({"image": "ball.nii.gz", "foreground": [[99, 0, 0]]}, "lies outside the volume"),
    "another grid": ({"image": "ball.nii.gz", "mask": "crop.nii.gz"}, "expected its grid"),
    "a shifted grid": (
        {"image": "ball.nii.gz", "mask": "moved.nii.gz"},
        "its affine is not that of the image",
    ),
    "an empty mask": ({"image": "ball.nii.gz", "mask": "empty.nii.gz"}, "every voxel is 0"),
    "boxes and objects": (
        {"image": "ball.nii.gz", "boxes": "b.json", "objects": {"a": [CLICK]}},
        "both name a",
    ),
    "no boxes": ({"image": "ball.nii.gz", "boxes": "b.csv"}, "the columns name,i,j,k"),
    "no volume": ({"image": "text.nii.gz", "foreground": [CLICK]}, "text.nii.gz: "),
}


@pytest.fixture
def files(ball, tmp_path):
    labels = TRUTH[0].astype(np.uint8)
    write_nifti(tmp_path / "crop.nii.gz", labels[1:], GRID)
    write_nifti(tmp_path / "moved.nii.gz", labels, GRID._replace(affine=GRID.affine + np.eye(4, k=3) * 5))
    write_nifti(tmp_path / "empty.nii.gz", labels * 0, GRID)
    (tmp_path / "b.json").write_text('{"a": [[1, 1, 1], [5, 5, 5]]}')
    (tmp_path / "b.csv").write_text("name,i,j,k\na,1,2,3\n")
    (tmp_path / "text.nii.gz").write_text("no volume")


def test_bad_rows_among_good_ones(files, fast_batch, tmp_path):
    asked = {**REFUSED, **FAILED}
    given = [{"name": what, **row} if isinstance(row, dict) else row for what, (row, _) in asked.items()]
    code, rows = fast_batch(written(tmp_path, GOOD, *given), tmp_path / "out", "--worst", 0)
    assert code == 3 and rows["good"]["status"] == "done" and len(rows) == 1 + len(asked)
    table = {row["name"]: row for row in csv.DictReader(open(tmp_path / "out" / "results.csv", encoding="utf-8"))}
    for line, (what, (row, reason)) in enumerate(asked.items(), start=2):
        # Rows without a name have their place in the table; that of another job is kept apart from it.
        name = row.get("name", what) if isinstance(row, dict) else f"line {line}"
        found = rows[f"good (line {line})" if name == "good" else name]
        assert found["status"] == ("refused" if what in REFUSED else "failed"), found
        assert reason in found["reason"], found
        assert found["status"] == "failed" or found["reason"].startswith(f"line {line}: ")
        assert table[found["name"]]["reason"] == found["reason"] and table[found["name"]]["mask"] == ""
    # Mended, a row is done with the next run; what was done is left, and what nobody asks for any more is kept.
    code, again = fast_batch(written(tmp_path, GOOD, {**GOOD, "name": "no prompt"}), tmp_path / "out", "--worst", 0)
    assert code == 0 and again["no prompt"]["status"] == "done" and again["good"] == rows["good"]
    assert again["no boxes"] == rows["no boxes"]


TABLES = {
    "missing": ("jobs.csv", None, "no such file"),
    "of another kind": ("jobs.xlsx", b"PK", "ends with '.xlsx'; expected a table of jobs"),
    "empty": ("jobs.csv", b"image,name\n", "no rows"),
    "without images": ("jobs.csv", b"path,name\na,b\n", "columns 'path', 'name'"),
    "of semicolons": ("jobs.csv", b"image;name\na;b\n", "separated by ','"),
    "with a column twice": ("jobs.csv", b"image,image\na,b\n", "different names"),
    "of another code": ("jobs.csv", "image\nä.png\n".encode("utf-16"), "not UTF-8"),
    "an open quote": ("jobs.csv", b'image,name\n"a,b\n', "jobs.csv: line"),
    "no Parquet": ("jobs.parquet", b"PAR1", "jobs.parquet"),
}


@pytest.mark.parametrize("what", TABLES)
def test_tables_that_are_none(fast_batch, tmp_path, what, capsys):
    name, content, reason = TABLES[what]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert fast_batch(tmp_path / name, tmp_path / "out")[0] == 1
    told = capsys.readouterr().err
    assert told.startswith("Error: ") and reason in told and not (tmp_path / "out" / "results.csv").exists()


def test_a_line_of_another_length_is_named(ball, fast_batch, tmp_path):
    (tmp_path / "jobs.csv").write_text('name,image,foreground\na,ball.nii.gz\nb,ball.nii.gz,"[[1,2,3]]",more\n')
    code, rows = fast_batch(tmp_path / "jobs.csv", tmp_path / "out", "--worst", 0)
    assert code == 3
    assert rows["a"]["reason"] == "line 2: 2 cells; expected 3, as in the header"
    assert rows["b"]["reason"] == "line 3: 4 cells; expected 3, as in the header"


OPTIONS = {
    "an unknown option": (["--probabilites", "true"], "did you mean probabilities?"),
    "no value": (["--probabilities"], "expected a value"),
    "a word": (["--labels", '["a"]', "b"], "b: expected --NAME VALUE"),
    "no bundle": (["--bundle", "sam3"], "expected fastsam3d, ssam_2d"),
    "no weights": (["--ckpt_path", "no.pt"], "no.pt: no such file"),
    "no workers": (["--workers", "0"], "expected a positive number"),
    "an option of the command": (["--output_dir", "x"], "--output says where results go"),
    "no folder": (["--pattern", "*"], "expected a folder"),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_options_that_are_none(ball, fast_batch, tmp_path, what, capsys):
    given, reason = OPTIONS[what]
    assert fast_batch(written(tmp_path, GOOD), tmp_path / "out", *given)[0] == 1
    assert reason in capsys.readouterr().err


def test_a_folder_that_another_run_is_at_work_in(ball, fast_batch, tmp_path, capsys):
    from tools.batch.run import locked

    with locked(tmp_path / "out"):
        assert fast_batch(written(tmp_path, GOOD), tmp_path / "out")[0] == 1
    assert "another run is at work there" in capsys.readouterr().err
