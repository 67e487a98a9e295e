# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The same command again: what is missing, has failed or has changed is done, and nothing else."""

import json
import os
import shutil

import numpy as np
import pytest
from two_balls import GRID, PAIR, TRUTH
from volumes import write_nifti

CLICK = [int(v) for v in np.argwhere(TRUTH[0]).mean(0).round()]


@pytest.fixture
def jobs(ball, tmp_path):
    """Three of them on images of their own."""
    lines = []
    for name in "abc":
        shutil.copyfile(ball, tmp_path / f"{name}.nii.gz")
        lines.append(json.dumps({"image": f"{name}.nii.gz", "foreground": [CLICK]}))
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    return tmp_path / "jobs.jsonl"


def test_what_is_done_again(jobs, fast_batch, tmp_path, capsys):
    output = tmp_path / "out"

    def done_in(run, *options):
        code, rows = fast_batch(jobs, output, "--worst", 0, *options)
        assert code == 0
        return "".join(sorted(name for name, row in rows.items() if row["run"] == run))

    assert done_in(1) == "abc"
    mask = output / "masks" / "b" / "b_seg.nii.gz"
    first = mask.read_bytes()
    assert done_in(2) == "" and "3 jobs, 0 of them now: 3 done" in capsys.readouterr().out
    mask.unlink()
    # A run in which nothing is done leaves no row, and so no number.
    assert done_in(2) == "b" and mask.read_bytes() == first
    os.utime(tmp_path / "c.nii.gz", ns=(0, 0))
    assert done_in(3) == "c"
    text = jobs.read_text().split("\n")
    jobs.write_text("\n".join([text[0].replace(json.dumps(CLICK), json.dumps([CLICK[0] + 1, *CLICK[1:]])), *text[1:]]))
    assert done_in(4) == "a"
    # An option changes all; what an earlier run wrote, and this one does not, is taken away.
    assert done_in(5, "--probabilities", "true") == "abc"
    assert mask.with_name("b_seg_probabilities.nii.gz").is_file()
    (mask.parent / "notes.txt").write_text("the user's")
    assert done_in(6, "--output_ext", ".nii") == "abc"
    names = {f.name for f in mask.parent.iterdir()}
    assert names == {"b_seg.nii", "b_seg.json", "notes.txt"}
    # A worker's threads and device change no mask that anybody could tell.
    assert done_in(7, "--output_ext", ".nii", "--device", "cpu") == ""


def test_a_torn_line_is_no_row(jobs, fast_batch, tmp_path):
    output = tmp_path / "out"
    fast_batch(jobs, output, "--worst", 0)
    (journal,) = output.glob("journal/run1-*.jsonl")
    whole = journal.read_bytes()
    # As after a kill in the middle of the last row.
    journal.write_bytes(whole[:-40])
    code, rows = fast_batch(jobs, output, "--worst", 0)
    assert code == 0 and {row["status"] for row in rows.values()} == {"done"} and len(rows) == 3
    assert sorted(row["run"] for row in rows.values()) == [1, 1, 2]


def test_one_image_that_fails_is_tried_again(jobs, fast_batch, tmp_path):
    output = tmp_path / "out"
    (tmp_path / "b.nii.gz").write_bytes(b"damaged")
    code, rows = fast_batch(jobs, output)
    assert code == 3 and rows["b"]["status"] == "failed" and "b.nii.gz" in rows["b"]["reason"]
    page = (output / "report.html").read_text()
    assert "Not done: 1" in page and page.count("jpeg;base64") == 2
    write_nifti(tmp_path / "b.nii.gz", PAIR.image(GRID), GRID)
    code, rows = fast_batch(jobs, output)
    assert code == 0 and [rows[n]["run"] for n in "abc"] == [1, 2, 1]
    page = (output / "report.html").read_text()
    assert "Not done" not in page and page.count("jpeg;base64") == 3 and 'src="http' not in page


def test_results_of_other_jobs_in_the_same_folder_are_kept(jobs, ball, fast_batch, tmp_path):
    fast_batch(jobs, tmp_path / "out", "--worst", 0)
    (tmp_path / "more.jsonl").write_text(json.dumps({"image": "ball.nii.gz", "foreground": [CLICK]}))
    (tmp_path / "same").mkdir()
    shutil.copyfile(ball, tmp_path / "same" / "a.nii.gz")
    code, rows = fast_batch(tmp_path / "more.jsonl", tmp_path / "out", "--worst", 0)
    assert code == 0 and sorted(rows) == ["a", "b", "ball", "c"]
    table = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["name", "a", "b", "c", "ball"]
    # Another image of the same name does not take the place of a result.
    before = (tmp_path / "out" / "masks" / "a" / "a_seg.nii.gz").read_bytes()
    (tmp_path / "same" / "jobs.jsonl").write_text(json.dumps({"image": "a.nii.gz", "foreground": [CLICK]}))
    code, rows = fast_batch(tmp_path / "same" / "jobs.jsonl", tmp_path / "out", "--worst", 0)
    assert code == 3 and "describes the result of" in rows["a"]["reason"]
    assert (tmp_path / "out" / "masks" / "a" / "a_seg.nii.gz").read_bytes() == before
