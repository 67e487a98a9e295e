# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The command line: kinds told apart, nothing overwritten, nothing half written."""

import pytest
import torch

from tools.convert_weights.kinds import KINDS


@pytest.mark.parametrize(
    ("fixture", "kind"), [("student", "fastsam3d"), ("teacher", "sammed3d"), ("sam", "sam"), ("ssam", "ssam")]
)
def test_kinds_are_told_by_the_tensors(fixture, kind, request, publish, convert):
    path = publish(request.getfixturevalue(fixture))
    status, detected, text = convert(path, name="detected.pt")
    assert status == 0, text
    assert f"kind        {kind}: " in text
    status, asked, text = convert(path, "--kind", kind, name="asked.pt")
    assert status == 0, text
    assert all(torch.equal(detected[key], asked[key]) for key in detected)


@pytest.mark.parametrize("fixture", ["student", "teacher", "sam", "ssam"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_the_wrong_kind(fixture, kind, request, publish, convert):
    family = {"student": "fastsam3d", "teacher": "sammed3d"}.get(fixture, fixture)
    # An adapter is refused for another reason, which is tested with it.
    if kind == "ssam_adapter" and fixture == "ssam":
        return
    status, _, text = convert(publish(request.getfixturevalue(fixture)), "--kind", kind)
    if family in (KINDS[kind].family, "sam" if kind == "to_sam" else None):
        assert status == 0, text
    else:
        assert status == 1
        assert f"--kind {kind} takes" in text
        assert f"of the kind {family}" in text


def test_something_else(convert, tmp_path):
    torch.save({"layer1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    status, _, text = convert(tmp_path / "resnet.pth")
    assert status == 1
    assert "resnet.pth: a network of an unknown kind: its 1 tensors are layer1.weight" in text


def test_nothing_is_overwritten(sam, publish, convert, tmp_path):
    path = publish(sam)
    (tmp_path / "out").mkdir()
    there = tmp_path / "out" / "converted.pt"
    there.write_text("precious")
    status, _, text = convert(path)
    assert status == 1
    assert "is there already; give another name, or --force" in text
    assert there.read_text() == "precious"
    status, tensors, text = convert(path, "--force")
    assert status == 0, text
    assert list(tensors) == list(sam)
    assert [f.name for f in there.parent.iterdir()] == ["converted.pt"]


def test_the_checkpoint_is_never_its_own_result(sam, publish, convert, tmp_path):
    path = publish(sam, name="converted.pt")
    (tmp_path / "out").symlink_to(tmp_path)
    before = path.read_bytes()
    status, _, text = convert(path, "--force")
    assert status == 1
    assert "is the checkpoint itself" in text
    assert path.read_bytes() == before


def test_a_failure_leaves_no_file(sam, publish, convert, tmp_path):
    sam["image_encoder.surprise"] = torch.zeros(1)
    status, _, text = convert(publish(sam))
    assert status == 1
    assert "1 unknown (image_encoder.surprise)" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--decoder", "x.pth"], "--decoder with --kind sam: it is for fastsam3d"),
        (["--labels", "x.json"], "--labels with --kind sam: it is for ssam and ssam_adapter"),
        (["--image_size", "512"], "--image_size with --kind sam: only to_sam takes it"),
    ],
)
def test_options_of_other_kinds(sam, publish, convert, options, message):
    status, _, text = convert(publish(sam), *options)
    assert status == 1
    assert message in text


def test_a_folder_as_output(sam, publish, convert, tmp_path):
    (tmp_path / "out" / "converted.pt").mkdir(parents=True)
    status, _, text = convert(publish(sam), "--force")
    assert status == 1
    assert "is a folder" in text


def test_a_missing_checkpoint(convert, tmp_path):
    status, _, text = convert(tmp_path / "missing.pth")
    assert status == 1
    assert "no such file" in text
