# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Any name can be drawn, letter by letter: in a preview's text and in an overlay's legend and title."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from volumes import grid_around

from common.drawn_names import drawn_name
from common.overlay import Picture, save_overlay
from common.preview import save_preview

NAMES = ["$$", "$\\frac{$", "US$ cyst $a_{", "\ud800", "a\nb", "_hidden", "x" * 300]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_pictures_with_any_name_are_written(tmp_path, name):
    save_overlay(tmp_path / "a.png", [Picture(np.zeros((8, 8)), np.ones((8, 8), int), title=name)], {1: name})
    save_preview(
        tmp_path / "b.png", *np.zeros((2, 8, 8, 8)), grid_around(np.eye(3), (8, 8, 8)), (0, 1), [name], [], (4, 4, 4)
    )
    assert imread(tmp_path / "a.png").any() and imread(tmp_path / "b.png").any()


def drawn(text):
    figure = Figure(figsize=(2, 1))
    canvas = FigureCanvasAgg(figure)
    figure.text(0.1, 0.5, text)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def test_dollars_are_drawn_as_dollars():
    assert np.array_equal(drawn(drawn_name("a$b$")), drawn(r"a\$b\$"))
    assert not np.array_equal(drawn(drawn_name("a$b$")), drawn("a$b$"))
    assert drawn_name("liver") == "liver" and len(drawn_name("x" * 300)) == 103
