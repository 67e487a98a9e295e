# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Sessions that are saved and go on elsewhere."""

import base64
import json
import zlib

import numpy as np
import pydicom
import pytest
from dicom_files import write_series
from two_balls import BESIDE, BOXES, GRID, LEFT, PAIR, TRUTH
from volumes import Phantom, grid_around, write_nifti

from bundles.fastsam3d.scripts.session import Session

IMAGE = PAIR.image(GRID)


@pytest.fixture
def saved(session, tmp_path):
    """A session with a prompt of each kind, saved, and the path."""
    stroke = np.zeros(GRID.shape, bool)
    stroke[tuple(BESIDE)] = True
    session.add_point_interaction(LEFT)
    session.add_scribble_interaction(stroke, False)
    session.add_object("right Niere")
    session.add_initial_seg_interaction(TRUTH[1])
    session.add_point_interaction(BESIDE, False)
    session.add_object("box")
    session.add_bbox_interaction(BOXES[0], False)
    session.add_lasso_interaction(TRUTH[0], run_prediction=False)
    session.select_object("right Niere")
    path = tmp_path / "s.json"
    session.save(path)
    return session, path


def same(one: Session, other: Session) -> bool:
    return (
        np.array_equal(one.label_map(), other.label_map())
        and one._objects == other._objects
        and one.current == other.current
    )


def test_a_saved_session_has_the_same_masks_again(saved, engine, tmp_path):
    session, path = saved
    assert path.stat().st_size < 5000, "prompts, not volumes"
    again = Session.load(path, IMAGE, engine, image_properties={"affine": GRID.affine})
    assert same(session, again) and session.label_map().max() == 2 and not again.can_undo
    # It goes on as the first one does.
    for one in (session, again):
        one.select_object("box")
        one.predict()
        one.add_point_interaction(BESIDE, False)
    assert same(session, again)
    session.save(path)
    assert same(session, Session.load(path, IMAGE, engine, image_properties={"affine": GRID.affine}))


def test_a_session_of_a_file_finds_it_again(engine, tmp_path):
    session = Session(engine)
    session.set_image(write_nifti(tmp_path / "x.nii.gz", IMAGE, GRID))
    session.add_point_interaction(LEFT)
    session.save(tmp_path / "s.json")
    assert same(session, Session.load(tmp_path / "s.json", engine=engine))
    # The array of the same voxels is the same image.
    properties = {"affine": session.affine}
    assert same(session, Session.load(tmp_path / "s.json", IMAGE, engine, image_properties=properties))


@pytest.mark.parametrize(
    ("image", "affine", "sentence"),
    [
        (IMAGE[1:], GRID.affine, "another image, of"),
        (IMAGE + 1, GRID.affine, "its voxels differ"),
        (IMAGE, np.eye(4), "same image_properties"),
        (None, None, "came from no file"),
    ],
)
def test_another_image_is_refused(saved, engine, image, affine, sentence):
    properties = {} if affine is None else {"image_properties": {"affine": affine}}
    with pytest.raises(ValueError, match=sentence):
        Session.load(saved[1], image, engine, **properties)


def change(content: dict, *keys, to) -> None:
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = to


BITS = ("objects", 0, "prompts", 1, "given", "bits")
BOMB = base64.b64encode(zlib.compress(bytes(1 << 24))).decode()
BROKEN = {
    "version": (("version",), 7, "version 7"),
    "format": (("format",), "x", "is no session"),
    "image": (("image",), None, "says nothing of its image"),
    "objects": (("objects",), 3, "cannot be understood"),
    "no objects": (("objects",), [], "at least one"),
    "name": (("objects", 0, "name"), 3, "expected some text"),
    "name twice": (("objects", 0, "name"), "box", "no name twice"),
    "current": (("current",), "liver", "liver"),
    "kind": (("objects", 0, "prompts", 0, "kind"), "magic", "of kind 'magic'"),
    "include": (("objects", 0, "prompts", 0, "include"), "yes", "include 'yes'"),
    "id": (("objects", 2, "prompts", 1, "id"), 1, "same id"),
    "point": (("objects", 0, "prompts", 0, "given"), [900, 0, 0], "outside the volume"),
    "answered": (("objects", 0, "answered"), [99], "expected some of its own"),
    "box": (("objects", 0, "prompts", 1, "given", "box"), [[0, 999]] * 3, "outside the volume"),
    "bits": (BITS, "AAAA", "cannot be understood"),
    "too many bits": (BITS, BOMB, "bytes of a mask"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(saved, engine, name):
    keys, value, sentence = BROKEN[name]
    content = json.loads(saved[1].read_text())
    change(content, *keys, to=value)
    saved[1].write_text(json.dumps(content))
    with pytest.raises(ValueError, match=sentence) as problem:
        Session.load(saved[1], IMAGE, engine, image_properties={"affine": GRID.affine})
    assert str(saved[1]) in str(problem.value)


def test_nothing_else_is_overwritten(session, tmp_path):
    session.add_point_interaction(LEFT)
    other = tmp_path / "other.json"
    for text in ("{}", "no JSON"):
        other.write_text(text)
        with pytest.raises(ValueError, match="not overwritten"):
            session.save(other)
        assert other.read_text() == text
    with pytest.raises(ValueError, match="no such file"):
        Session.load(tmp_path / "none.json")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        other.write_text("no JSON")
        Session.load(other)


def test_a_session_of_one_series_among_several(engine, tmp_path):
    grid = grid_around(np.diag([-1.5, -1.5, 2.0]), (32, 30, 20))
    phantom = Phantom((tuple(grid.to_mm([16, 15, 8])), 9.0))
    values = np.round(phantom.image(grid))

    def edit(made, _):
        made.FrameOfReferenceUID = "1.2.826.0.1"

    for i in (0, 1):
        write_series(
            tmp_path / "study",
            values,
            grid,
            keep=range(20 - 6 * i),
            edit=edit,
            series=f"1.2.826.0.1.9.{i}",
            name=f"{i}_{{:04d}}.dcm",
        )
    session = Session(engine)
    with pytest.raises(ValueError, match="holds more than one DICOM series"):
        session.set_image(tmp_path / "study")
    with pytest.raises(ValueError, match="which says them itself"):
        session.set_image(tmp_path / "study", {"series": 1, "spacing": (1, 1, 1)})
    session.set_image(tmp_path / "study", {"series": "1.2.826.0.1.9.1"})
    assert session.shape == (32, 30, 14)
    session.add_point_interaction((16, 15, 8))
    session.save(tmp_path / "s.json")
    again = Session.load(tmp_path / "s.json", engine=engine)
    assert same(session, again) and again.label_map().any()
    again.export(tmp_path / "out.nii.gz", dicom="rtstruct")
    # The structure set refers to the slices of that series.
    written = pydicom.dcmread(tmp_path / "out_rtstruct.dcm")
    referred = written.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert [s.SeriesInstanceUID for s in referred] == ["1.2.826.0.1.9.1"]
