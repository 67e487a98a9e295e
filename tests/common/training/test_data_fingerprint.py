# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A state belongs to the data that it was trained on."""

import json

import pytest
from ignite.engine import Engine
from torch import nn

from common.training import RunState, data_fingerprint


@pytest.fixture
def items(tmp_path):
    """Three items: a file, a folder of files, and a mask for each name."""
    for name in ("a.nii", "b.nii", "mask.png", "slices/1.dcm", "slices/2.dcm", "c.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    place = lambda name: str(tmp_path / "set" / name)  # noqa: E731
    return [
        {"image": place("a.nii"), "label": place("b.nii"), "label_names": {1: "liver"}},
        {"image": place("slices"), "label": place("b.nii"), "label_names": {1: "liver"}},
        {"image": place("c.png"), "label": {"gland": place("mask.png")}, "label_names": {}},
    ]


def saved(folder, **sections):
    state = RunState(folder, {"network": nn.Linear(1, 1)})
    state.check_data(**sections)
    engine = Engine(lambda engine, batch: None)
    engine.state.iteration, engine.state.epoch_length = 1, 1
    state.save(engine)


def resumed(folder, **sections):
    RunState(folder, {"network": nn.Linear(1, 1)}, resume=True).check_data(**sections)


def test_the_same_data_goes_on_wherever_it_lies(items, tmp_path):
    saved(tmp_path / "run", training=items)
    resumed(tmp_path / "run", training=items)
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = json.loads(json.dumps(items).replace("/set/", "/moved/"))
    resumed(tmp_path / "run", training=moved)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("image", "training: item 0, a.nii, has another content"),
        ("label", "training: item 0, a.nii, has another content, item 1, slices, has another content"),
        ("slice", "training: item 1, slices, has another content"),
        ("slice renamed", "training: item 1, slices, has another content"),
        ("mask", "training: item 2, c.png, has another content"),
        ("name", "training: item 0, a.nii, has another content"),
        ("order", "training: item 0 was a.nii, is c.png"),
        ("fewer", "training: had 3 items, has 2"),
        ("split", r"training: had 3 items, has 2.*; validation: had 0 items, has 1"),
    ],
)
def test_other_data_is_refused(items, tmp_path, how, message):
    saved(tmp_path / "run", training=items, validation=[])
    files = {"image": "a.nii", "label": "b.nii", "slice": "slices/2.dcm", "mask": "mask.png"}
    training, validation = [dict(item) for item in items], []
    if how in files:
        file = tmp_path / "set" / files[how]
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    elif how == "slice renamed":
        (tmp_path / "set" / "slices" / "2.dcm").rename(tmp_path / "set" / "slices" / "3.dcm")
    elif how == "name":
        training[0]["label_names"] = {1: "spleen"}
    elif how == "order":
        training.reverse()
    else:
        last = training.pop()
        validation = [last] if how == "split" else []
    with pytest.raises(ValueError, match=f"state.pt belongs to a run on other data: {message}.*another output_dir"):
        resumed(tmp_path / "run", training=training, validation=validation)


def test_many_differences_are_counted(tmp_path):
    before = [{"image": f"{i}", "label": "a"} for i in range(20)]
    saved(tmp_path, training=before)
    with pytest.raises(ValueError, match="item 4, 4, has another content, and 15 more"):
        resumed(tmp_path, training=[{**item, "label": "b"} for item in before])


def test_a_state_without_data_goes_on(items, tmp_path):
    saved(tmp_path)
    assert data_fingerprint(training=items)["training"][0].startswith("a.nii ")
    with pytest.raises(ValueError, match="training: had 0 items, has 3"):
        resumed(tmp_path, training=items)
