# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A wrong call says what is wrong in a sentence, and leaves the session as it was."""

import numpy as np
import pytest
from two_balls import BESIDE, BOXES, GRID, LEFT, PAIR, TRUTH

from bundles.fastsam3d.scripts.inference.segment import Segmenter
from bundles.fastsam3d.scripts.session import Engine, Session

NAN = float("nan")
WRONG = {
    "point outside": (lambda s: s.add_point_interaction([60, 0, 0]), "outside the volume"),
    "point below": (lambda s: s.add_point_interaction([-1, 0, 0]), "outside the volume"),
    "point of two numbers": (lambda s: s.add_point_interaction([1, 2]), "three voxel indices"),
    "point in a list": (lambda s: s.add_point_interaction([[1, 2, 3]]), "three voxel indices"),
    "point NaN": (lambda s: s.add_point_interaction([1, NAN, 3]), "three voxel indices"),
    "point infinite": (lambda s: s.add_point_interaction([1, float("inf"), 3]), "three voxel indices"),
    "point of words": (lambda s: s.add_point_interaction("abc"), "three voxel indices"),
    "point of bools": (lambda s: s.add_point_interaction([True, False, True]), "three voxel indices"),
    "point of None": (lambda s: s.add_point_interaction(None), "three voxel indices"),
    "point ragged": (lambda s: s.add_point_interaction([1, [2], 3]), "three voxel indices"),
    "include of a word": (lambda s: s.add_point_interaction(LEFT, "no"), "true or false"),
    "box outside": (lambda s: s.add_bbox_interaction([[0, 61], [0, 5], [0, 5]]), "outside the volume"),
    "box empty": (lambda s: s.add_bbox_interaction([[5, 5], [0, 5], [0, 5]]), "no voxel inside"),
    "box turned": (lambda s: s.add_bbox_interaction([[9, 5], [0, 5], [0, 5]]), "no voxel inside"),
    "box of corners": (lambda s: s.add_bbox_interaction([[0, 0, 0], [5, 5, 5]]), "first voxel inside"),
    "box broken": (lambda s: s.add_bbox_interaction([[0.5, 5], [0, 5], [0, 5]]), "whole numbers"),
    "box NaN": (lambda s: s.add_bbox_interaction([[NAN, 5], [0, 5], [0, 5]]), "first voxel inside"),
    "scribble of another shape": (lambda s: s.add_scribble_interaction(np.ones((30, 60, 60))), "shape of the image"),
    "scribble of channels": (lambda s: s.add_scribble_interaction(np.ones((1, *GRID.shape))), "shape of the image"),
    "scribble empty": (lambda s: s.add_scribble_interaction(np.zeros(GRID.shape, bool)), "every voxel is 0"),
    "scribble NaN": (lambda s: s.add_scribble_interaction(np.full(GRID.shape, NAN)), "whole ones"),
    "scribble of halves": (lambda s: s.add_scribble_interaction(np.full(GRID.shape, 0.5)), "whole ones"),
    "scribble negative": (lambda s: s.add_scribble_interaction(np.full(GRID.shape, -1)), "0 outside"),
    "scribble complex": (lambda s: s.add_scribble_interaction(np.ones(GRID.shape, complex)), "true and false"),
    "scribble of words": (lambda s: s.add_scribble_interaction(np.full(GRID.shape, "x")), "true and false"),
    "scribble is None": (lambda s: s.add_scribble_interaction(None), "shape of the image"),
    "scribble beside its box": (
        lambda s: s.add_scribble_interaction(np.ones(GRID.shape), interaction_bbox=[[0, 5]] * 3),
        "interaction_bbox",
    ),
    "lasso outside": (
        lambda s: s.add_lasso_interaction(np.ones((9, 9, 9)), interaction_bbox=[[55, 64], [0, 9], [0, 9]]),
        "outside the volume",
    ),
    "mask of another shape": (lambda s: s.add_initial_seg_interaction(TRUTH[0][1:]), "initial_seg of shape"),
    "unknown object": (lambda s: s.select_object("liver"), "no object 'liver': expected one of 'object 1', 'more'"),
    "unknown to remove": (lambda s: s.remove_object("liver"), "no object 'liver'"),
    "unknown to rename": (lambda s: s.rename_object("liver", "x"), "no object 'liver'"),
    "unknown mask": (lambda s: s.mask("liver"), "no object 'liver'"),
    "unknown probabilities": (lambda s: s.probabilities("liver"), "no object 'liver'"),
    "name taken": (lambda s: s.add_object("object 1"), "is taken"),
    "name of nothing": (lambda s: s.add_object(" "), "expected some text"),
    "name of a number": (lambda s: s.add_object(7), "expected some text"),
    "renamed to a taken one": (lambda s: s.rename_object("object 1", "more"), "is taken"),
    "unknown prompt": (lambda s: s.remove_prompt(99), "has no prompt 99: expected one of"),
    "buffer of another shape": (lambda s: s.set_target_buffer(np.zeros((3, 3, 3), bool)), "shape"),
    "buffer of floats": (lambda s: s.set_target_buffer(np.zeros(GRID.shape)), "bool or whole numbers"),
    "buffer of a list": (lambda s: s.set_target_buffer([0]), "expected an array"),
    "image of two dimensions": (lambda s: s.set_image(np.zeros((5, 5))), "expected (1, X, Y, Z)"),
    "image of channels": (lambda s: s.set_image(np.zeros((3, 5, 5, 5))), "expected (1, X, Y, Z)"),
    "image without contrast": (lambda s: s.set_image(np.ones((5, 5, 5))), "expected contrast"),
    "image of NaN": (lambda s: s.set_image(np.full((5, 5, 5), NAN)), "no voxel is a finite number"),
    "image of bools": (lambda s: s.set_image(np.ones((5, 5, 5), bool)), "expected"),
    "image of words": (lambda s: s.set_image(np.full((5, 5, 5), "x")), "an array of numbers"),
    "image of nothing": (lambda s: s.set_image(np.zeros((0, 5, 5))), "expected (1, X, Y, Z)"),
    "image None": (lambda s: s.set_image(None), "an array of numbers"),
    "image missing": (lambda s: s.set_image("no/such/file.nii.gz"), "no such file"),
    "spacing of two": (lambda s: s.set_image(PAIR.image(GRID), {"spacing": (1, 1)}), "expected finite numbers"),
    "spacing of 0": (lambda s: s.set_image(PAIR.image(GRID), {"spacing": (1, 0, 1)}), "three positive numbers"),
    "affine singular": (lambda s: s.set_image(PAIR.image(GRID), {"affine": np.zeros((4, 4))}), "gives voxels a size"),
    "orientation": (lambda s: s.set_image(PAIR.image(GRID), {"orientation": "LLS"}), "a letter an axis"),
    "unknown property": (lambda s: s.set_image(PAIR.image(GRID), {"spacings": (1, 1, 1)}), "image_properties has"),
    "affine and spacing": (
        lambda s: s.set_image(PAIR.image(GRID), {"spacing": (1, 1, 1), "affine": GRID.affine}),
        "the affine alone",
    ),
}


def state(session: Session) -> tuple:
    return (
        session.objects,
        session.current,
        session.prompts,
        session.label_map().tobytes(),
        session.can_undo,
        session.can_redo,
        session.shape,
        session._buffer is None,
    )


@pytest.fixture
def used(session):
    session.add_point_interaction(LEFT)
    session.add_object("more")
    session.add_bbox_interaction(BOXES[1])
    session.add_point_interaction(BESIDE, False, run_prediction=False)
    session.undo()
    return session


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_changes_nothing(used, name):
    call, sentence = WRONG[name]
    before = state(used)
    with pytest.raises(ValueError) as problem:
        call(used)
    assert sentence in str(problem.value) and state(used) == before
    used.redo()
    used.add_point_interaction(BESIDE, False)
    assert len(used.prompts) == 3


@pytest.mark.parametrize("name", [n for n in WRONG if not n.startswith("image")][:1] + ["unknown mask"])
def test_without_an_image_every_call_says_so(engine, name):
    with pytest.raises(ValueError, match="expected set_image first"):
        WRONG[name][0](Session(engine))


def test_an_engine_that_fails_changes_nothing(used, monkeypatch):
    before = state(used)
    monkeypatch.setattr(Segmenter, "segment_scene", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError):
        used.add_point_interaction(LEFT)
    assert state(used) == before


def test_there_are_not_more_clicks_or_objects_than_allowed(engine):
    session = Session(Engine(engine.network, engine.segmenter, max_objects=2, max_clicks=2))
    session.set_image(PAIR.image(GRID), {"affine": GRID.affine})
    for place in (LEFT, BESIDE):
        session.add_point_interaction(place)
    with pytest.raises(ValueError, match="2 clicks already"):
        session.add_point_interaction(LEFT)
    session.add_object()
    with pytest.raises(ValueError, match="2 objects already"):
        session.add_object()
    assert len(session.objects) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cube_sice": 64}, "did you mean cube_size"),
        ({"cube_size": 63}, "cube_size is 63"),
        ({"ckpt_path": "none.pt"}, "no such file"),
        ({"bundle_root": "no/such/folder"}, "no such file"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_an_engine_of_wrong_options_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Engine.load(**options)
