# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import numpy as np
import pytest

from common.prompts import ObjectPrompt, check_counts, read_prompts

SHAPE = (20, 30, 40)


def read(**data) -> list[ObjectPrompt]:
    return read_prompts(data, SHAPE)


def test_the_three_spellings_mean_the_same():
    (first,) = read(foreground=[[1, 2, 3]], background=[[4, 5, 6]])
    (second,) = read(points=[[1, 2, 3], [4, 5, 6]], point_labels=[1, 0])
    (third,) = read(object=[[1, 2, 3]], background=[[4, 5, 6]])
    assert first == second == third
    assert first == ObjectPrompt("object", ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), (1, 0))
    assert first.foreground == ((1.0, 2.0, 3.0),)


def test_names_and_their_order():
    found = read(spleen=[[1, 1, 1]], liver=[[2, 2, 2], [3, 3, 3]], image="a.nii", device="cpu", result_dtype="uint8")
    assert [(p.name, len(p.points)) for p in found] == [("spleen", 1), ("liver", 2)]
    found = read(objects={"z": [[1, 1, 1]], "a": {"box": [[1, 2, 3], [4, 5, 6]]}, "m": {"scribble": "s.nii"}})
    assert [p.name for p in found] == ["z", "a", "m"]
    assert found[1].box == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)) and found[2].scribble == "s.nii"


def test_label_names_a_single_object():
    assert read(foreground=[[1, 1, 1]], label="kidney")[0].name == "kidney"


@pytest.mark.parametrize("points", [[1, 2, 3], [[1, 2, 3]], ((1, 2, 3),), np.array([[1, 2, 3]]), np.float32([1, 2, 3])])
def test_kinds_of_lists(points):
    assert read(foreground=points)[0].points == ((1.0, 2.0, 3.0),)


def test_a_box_as_six_numbers():
    assert read(box=[1, 2, 3, 4, 5, 6]) == read(box=[[1, 2, 3], [4, 5, 6]])


def test_padding_is_left_out():
    (prompt,) = read(points=[[0, 0, 0], [1, 2, 3], [0, 0, 0]], point_labels=[-1, 1, -1])
    assert (prompt.points, prompt.labels) == (((1.0, 2.0, 3.0),), (1,))


@pytest.mark.parametrize("empty", [None, [], "", {}, np.zeros((0, 3))])
def test_empty_counts_as_absent(empty):
    (prompt,) = read(foreground=[[1, 2, 3]], background=empty, box=empty, scribble=empty, objects=empty)
    assert len(prompt.points) == 1 and prompt.box is None and prompt.scribble is None


def test_half_a_voxel_beyond_the_last_one_is_still_inside():
    assert read(foreground=[[-0.5, 29.5, 39.4]])
    for outside in ([-0.6, 0, 0], [0, 29.6, 0], [0, 0, 40]):
        with pytest.raises(ValueError, match=r"outside the volume.*\[19, 29, 39\]"):
            read(foreground=[outside])


def test_further_points_come_first():
    (prompt,) = read(foreground=[[1, 2, 3]])
    more = prompt.with_points([[7, 7, 7], [8, 8, 8]], [1, 0])
    assert more.points == ((7.0, 7.0, 7.0), (8.0, 8.0, 8.0), (1.0, 2.0, 3.0)) and more.labels == (1, 0, 1)
    assert len(prompt.points) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "no prompt was given: expected foreground"),
        ({"background": [[1, 1, 1]]}, "nothing says where the object is"),
        ({"points": [[1, 1, 1]], "point_labels": [0]}, "none of them foreground"),
        ({"foreground": [[True, False, True]]}, "foreground is"),
        ({"foreground": "[[1, 2, 3]"}, "foreground is"),
        ({"objects": "liver"}, "objects is 'liver'"),
        ({"objects": {"a": {"clicks": [[1, 1, 1]]}}}, "'clicks': expected foreground"),
        ({"objects": {"a": [[1, 1, 1]]}, "foreground": [[1, 1, 1]]}, "move the latter into objects"),
        ({"box": [[2, 2, 2], [1, 3, 3]]}, "minimum above its maximum"),
    ],
)
def test_what_is_wrong_is_said(data, message):
    with pytest.raises(ValueError, match=message):
        read(**data)


def test_a_box_that_ends_at_the_shape_is_cut_off_and_told():
    (prompt,) = read(box=[[0, 3, 4], [20, 30, 7]])
    assert prompt.box == ((0.0, 3.0, 4.0), (19.0, 29.0, 7.0)) and "[19, 29, 39]" in prompt.notes[0]
    assert read(box=[[0, 3, 4], [19.4, 29, 7]])[0].notes == ()
    for beyond in ([21, 30, 7], [20.5, 29, 7]):
        with pytest.raises(ValueError, match="outside the volume"):
            read(box=[[0, 3, 4], beyond])


def test_more_than_can_be_answered_is_refused():
    prompts = read(objects={str(k): [[1, 2, 3]] * 5 for k in range(4)})
    check_counts(prompts, 4, 5)
    with pytest.raises(ValueError, match="4 objects: expected at most 3; max_objects raises it"):
        check_counts(prompts, 3, 5)
    with pytest.raises(ValueError, match="0: 5 clicks: expected at most 4; max_clicks raises it"):
        check_counts(prompts, 4, 4)
