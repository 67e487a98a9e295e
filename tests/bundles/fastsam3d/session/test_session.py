# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A session: prompts of each kind, several objects, steps back and forth."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from two_balls import BESIDE, BOXES, GRID, LEFT, PAIR, RIGHT, TRUTH
from volumes import dice

from bundles.fastsam3d.scripts.session import Session


def box_of(changed: np.ndarray) -> list[list[int]] | None:
    found = np.nonzero(changed)
    return [[int(v.min()), int(v.max()) + 1] for v in found] if len(found[0]) else None


def owners(session: Session) -> np.ndarray:
    """Whose each voxel is, by a number that an object keeps when others are removed."""
    return session._labels.copy()


def stroke(ball: int) -> np.ndarray:
    drawn = np.zeros(GRID.shape, np.uint8)
    voxels = np.argwhere(TRUTH[ball])
    middle = voxels[len(voxels) // 2]
    drawn[middle[0], middle[1] - 1 : middle[1] + 2, middle[2]] = 1
    return drawn


def test_a_click_finds_the_object_and_says_where_the_mask_changed(session):
    assert session.shape == GRID.shape and np.allclose(session.affine, GRID.affine)
    assert not session.mask().any()
    box = session.add_point_interaction(LEFT)
    assert dice(session.mask(), TRUTH[0]) >= 0.9 and box == box_of(session.mask())
    assert session.volume_ml() == pytest.approx(session.mask().sum() * 12e-3)
    (prompt,) = session.prompts
    assert (prompt.kind, prompt.include, prompt.given) == ("point", True, tuple(LEFT))


@pytest.mark.parametrize("kind", ["box", "scribble", "lasso", "mask", "cropped"])
def test_every_kind_of_prompt_finds_the_object(session, kind):
    if kind == "box":
        box = session.add_bbox_interaction(BOXES[1])
    elif kind == "scribble":
        box = session.add_scribble_interaction(stroke(1))
    elif kind == "cropped":
        part = tuple(slice(low, high) for low, high in BOXES[1])
        box = session.add_scribble_interaction(stroke(1)[part] > 0, interaction_bbox=BOXES[1])
    elif kind == "lasso":
        lasso = np.zeros(GRID.shape, bool)
        lasso[:, :, round(RIGHT[2])] = TRUTH[1][:, :, round(RIGHT[2])]
        box = session.add_lasso_interaction(torch.from_numpy(lasso))
    else:
        box = session.add_initial_seg_interaction(TRUTH[1].astype(np.int16))
        assert np.array_equal(session.mask(), TRUTH[1])
    assert box == box_of(session.mask()) and dice(session.mask(), TRUTH[1]) >= 0.9


def test_steps_are_taken_back_and_again_whatever_they_were(session):
    seen = [(session.label_map(), session.objects, session.prompts)]

    def step(call, *arguments, **more):
        before = owners(session)
        box = call(*arguments, **more)
        if call != session.add_object:
            assert box == box_of(owners(session) != before), call
        seen.append((session.label_map(), session.objects, session.prompts))

    step(session.add_point_interaction, LEFT)
    step(session.add_point_interaction, BESIDE, False)
    step(session.add_object, "right")
    step(session.add_bbox_interaction, BOXES[1])
    step(session.add_scribble_interaction, stroke(1))
    step(session.rename_object, "right", "kidney")
    step(session.remove_prompt, session.prompts[0].id)
    step(session.reset_interactions)
    step(session.add_lasso_interaction, stroke(1), run_prediction=False)
    step(session.predict)
    step(session.add_initial_seg_interaction, TRUTH[1])
    step(session.remove_object, "object 1")
    for back, call in ((seen[-2::-1], session.undo), (seen[1:], session.redo)):
        for labels, objects, prompts in back:
            before = owners(session)
            box = call()
            assert box == box_of(owners(session) != before)
            assert np.array_equal(session.label_map(), labels)
            assert session.objects == objects
            assert session.prompts == prompts
        assert call() is None
    assert session.can_undo and not session.can_redo


def test_a_step_after_undo_ends_what_could_be_redone(session):
    session.add_point_interaction(LEFT)
    session.undo()
    assert session.can_redo and not session.can_undo
    session.add_point_interaction(RIGHT)
    assert not session.can_redo and dice(session.mask(), TRUTH[1]) >= 0.9


def test_undo_goes_back_to_the_object_that_it_changes(session):
    session.add_point_interaction(LEFT)
    session.add_object("other")
    session.add_point_interaction(RIGHT)
    session.select_object("object 1")
    session.undo()
    assert session.current == "other" and not session.mask().any() and session.mask("object 1").any()


def test_any_one_prompt_is_removed(session):
    session.add_point_interaction(LEFT)
    wrong = session.add_point_interaction(RIGHT) and session.prompts[-1].id
    session.add_point_interaction(BESIDE, False)
    session.remove_prompt(wrong)
    other = Session(session.engine)
    other.set_image(PAIR.image(GRID), {"affine": GRID.affine})
    other.add_point_interaction(LEFT)
    other.add_point_interaction(BESIDE, False)
    assert np.array_equal(session.mask(), other.mask()) and session.mask().any()
    assert [p.given for p in session.prompts] == [p.given for p in other.prompts]


def test_several_objects_and_going_back_to_an_earlier_one(session):
    session.add_point_interaction(LEFT)
    assert session.add_object() == "object 2" and session.current == "object 2"
    session.add_point_interaction(RIGHT)
    session.rename_object("object 1", "left")
    session.select_object("left")
    session.add_point_interaction(BESIDE, False)
    assert session.objects == ["left", "object 2"] and len(session.prompts) == 2
    assert dice(session.mask("left"), TRUTH[0]) >= 0.9 and dice(session.mask("object 2"), TRUTH[1]) >= 0.9
    labels = session.label_map()
    assert np.array_equal(labels == 1, session.mask("left")) and np.array_equal(labels == 2, session.mask("object 2"))
    session.remove_object("left")
    assert session.objects == ["object 2"] and np.array_equal(session.label_map() == 1, session.mask("object 2"))
    session.remove_object("object 2")
    assert session.objects == ["object 1"] and not session.label_map().any()


@pytest.mark.parametrize("buffer", [np.zeros(GRID.shape, np.uint8), torch.zeros(GRID.shape, dtype=torch.bool)])
def test_a_target_buffer_always_holds_the_current_objects_mask(session, buffer):
    def same() -> bool:
        return np.array_equal(np.asarray(buffer) != 0, session.mask())

    session.set_target_buffer(buffer)
    session.add_point_interaction(LEFT)
    assert same() and session.mask().any()
    session.add_object("other")
    assert same()
    session.add_point_interaction(RIGHT)
    assert same()
    for call in (session.undo, session.undo, session.redo, session.undo, session.undo):
        call()
        assert same()
    assert not np.asarray(buffer).any()


def test_what_was_not_predicted_waits(session):
    assert session.add_point_interaction(LEFT, run_prediction=False) is None
    assert session.add_point_interaction(BESIDE, False, run_prediction=False) is None
    assert not session.mask().any() and len(session.prompts) == 2
    assert session.predict() == box_of(session.mask()) and session.predict() is None
    assert dice(session.mask(), TRUTH[0]) >= 0.9
    session.undo()
    assert not session.mask().any() and len(session.prompts) == 2


def test_a_background_prompt_alone_finds_nothing_and_is_kept(session):
    assert session.add_point_interaction(BESIDE, False) is None
    assert session.add_bbox_interaction(BOXES[1], False) is None
    session.add_point_interaction(LEFT)
    assert [p.include for p in session.prompts] == [False, False, True] and dice(session.mask(), TRUTH[0]) >= 0.9


def test_several_boxes_are_the_one_around_them(session):
    session.add_bbox_interaction([[a, a + 1] if i == 2 else [a, b] for i, (a, b) in enumerate(BOXES[1])])
    session.add_bbox_interaction([[b - 1, b] if i == 2 else [a, b] for i, (a, b) in enumerate(BOXES[1])])
    both = session.mask()
    session.reset_interactions()
    session.add_bbox_interaction(BOXES[1])
    assert np.array_equal(both, session.mask()) and both.any()


def test_probabilities_are_those_of_the_mask(session):
    assert session.probabilities().dtype == np.float32 and not session.probabilities().any()
    session.add_point_interaction(LEFT)
    found = session.probabilities()
    assert found.shape == GRID.shape and found.min() >= 0 and found.max() <= 1
    assert np.array_equal(found > 0.5, session.mask())
    session.add_point_interaction(RIGHT)
    session.undo()
    assert np.array_equal(session.probabilities(), found), "asked for again after a step back"


def test_preparing_changes_no_mask(session, engine):
    session.prepare()
    encoded = engine.network.encoded
    assert encoded == 1 and not session.can_undo
    session.add_point_interaction(LEFT)
    prepared = session.mask()
    session.set_image(PAIR.image(GRID), {"affine": GRID.affine})
    session.add_point_interaction(LEFT)
    assert np.array_equal(session.mask(), prepared)


def test_threads_that_click_in_one_session_lose_nothing(session):
    rng = np.random.default_rng(0)
    places = [np.argwhere(TRUTH[0])[i] for i in rng.integers(0, TRUTH[0].sum(), 24)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda place: session.add_point_interaction(place.tolist()), places))
    assert sorted(p.given for p in session.prompts) == sorted(tuple(map(float, p)) for p in places)
    assert len({p.id for p in session.prompts}) == 24
    while session.can_undo:
        session.undo()
    assert not session.label_map().any()


def test_sessions_share_an_engine_and_nothing_else(engine):
    sessions = [Session(engine) for _ in range(3)]

    def click(number: int) -> np.ndarray:
        sessions[number].set_image(PAIR.image(GRID) + number, {"affine": GRID.affine})
        sessions[number].add_point_interaction(RIGHT if number % 2 else LEFT)
        return sessions[number].mask()

    with ThreadPoolExecutor(3) as threads:
        masks = list(threads.map(click, range(3)))
    assert all(dice(mask, TRUTH[i % 2]) >= 0.9 for i, mask in enumerate(masks))


def test_a_new_image_begins_anew(session):
    session.add_point_interaction(LEFT)
    session.add_object("more")
    session.set_image(PAIR.image(GRID)[:40], {"affine": GRID.affine})
    assert session.objects == ["object 1"] and not session.can_undo and session.shape == (40, 60, 30)
    assert not session.label_map().any()
