# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What 3D Slicer's MONAI Label module sends, in our words."""

import pytest

from common.prompts import read_prompts
from common.viewer_prompts import from_viewer, stroke_values

SHAPE = (20, 30, 40)


def test_a_region_of_interest_is_a_box_whatever_way_the_viewer_s_axes_run():
    (prompt,) = read_prompts(from_viewer({"roi": [12, 3, 5, 9, 30, 60], "foreground": []}, SHAPE), SHAPE)
    assert prompt.box == ((3.0, 5.0, 30.0), (12.0, 9.0, 39.0))


def test_our_own_words_come_first():
    given = from_viewer({"roi": [1, 2, 1, 2, 1, 2], "box": [[3, 3, 3], [4, 4, 4]]}, SHAPE)
    assert given["box"] == [[3, 3, 3], [4, 4, 4]]


def test_an_empty_region_of_interest_says_nothing():
    assert "box" not in from_viewer({"roi": [], "foreground": [[1, 1, 1]]}, SHAPE)


@pytest.mark.parametrize("roi", [[1, 2, 3], "here", [1, 2, 3, 4, 5, None]])
def test_another_form_is_refused(roi):
    with pytest.raises(ValueError, match=r"roi is .*expected \[i, i, j, j, k, k\]"):
        from_viewer({"roi": roi}, SHAPE)


def test_a_region_beside_the_volume_is_refused():
    with pytest.raises(ValueError, match=r"lies outside the volume.*\[19, 29, 39\]"):
        from_viewer({"roi": [30, 40, 1, 2, 1, 2]}, SHAPE)


def test_an_uploaded_label_map_is_a_scribble_of_the_chosen_segment(tmp_path):
    upload = tmp_path / "upload.nrrd"
    upload.write_bytes(b"")
    (prompt,) = read_prompts(from_viewer({"label": str(upload), "selected_label_name": "liver"}, SHAPE), SHAPE)
    assert (prompt.name, prompt.scribble) == ("liver", str(upload))
    (prompt,) = read_prompts(from_viewer({"label": "liver", "foreground": [[1, 1, 1]]}, SHAPE), SHAPE)
    assert (prompt.name, prompt.scribble) == ("liver", None)


def test_strokes_are_told_by_the_names_of_their_segments():
    segments = [{"name": "liver", "id": 1}, {"name": "background_scribbles", "id": 2}]
    foreground = {"name": "foreground_scribbles", "id": 3}
    assert stroke_values({"label_info": [*segments, foreground]}) == {2: 2, 3: 1}
    assert stroke_values({}) == {}
    with pytest.raises(ValueError, match="expected foreground_scribbles"):
        stroke_values({"label_info": segments})
