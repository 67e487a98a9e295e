# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""napari with its extension, driven without a person: opens a scan, presses Initialize, clicks in the picture.

Run by the Python of an environment with ``napari`` and ``napari-nninteractive``, without a screen too::

    QT_QPA_PLATFORM=offscreen python tests/tools/interactive_server/napari_clicks.py http://127.0.0.1:1527

``--scan`` takes a NIfTI file instead of a made-up ball, ``--voxel`` where to click in it, ``--screenshot`` writes a
picture of the window. With a screen, a virtual one too, the mouse makes the first click; further ones, and all where
there is no screen and nothing is drawn that a mouse could hit, are put into the layer of points, as a click does.
"""

import argparse
import os
import sys
import time

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import napari
import numpy as np
from qtpy.QtCore import QPoint, QSettings, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

POINTS = "nnInteractive - Point Layer"


def made_up() -> tuple[np.ndarray, tuple[int, ...]]:
    """A noisy volume with a ball in its middle."""
    shape = (41, 61, 81)
    distances = np.indices(shape) - np.reshape([n // 2 for n in shape], (3, 1, 1, 1))
    image = np.random.default_rng(0).normal(0, 20, shape) + 300 * ((distances**2).sum(axis=0) < 12**2)
    return image.astype(np.float32), tuple(n // 2 for n in shape)


def wait(true, what: str, seconds: float = 60) -> None:
    """Let napari work until something is ``true``."""
    start = time.monotonic()
    while not true():
        if time.monotonic() - start > seconds:
            sys.exit(f"napari: {what} did not happen within {seconds:g} s")
        QApplication.processEvents()
        time.sleep(0.02)


def click(viewer: napari.Viewer, voxel: tuple[int, ...]) -> None:
    """Press and release the left button where the picture shows ``voxel``, which is in its middle then."""
    if QApplication.platformName() == "offscreen" or len(viewer.layers[POINTS].data):
        viewer.layers[POINTS].add(np.array(voxel))
        return
    place = tuple(float(c) for c in viewer.layers[0].data_to_world(voxel))
    viewer.dims.set_point(range(3), place)
    viewer.camera.center = place
    QApplication.processEvents()
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.mouseMove(canvas, QPoint(canvas.width() // 2, canvas.height() // 2))
    QTest.mouseClick(canvas, Qt.LeftButton, pos=QPoint(canvas.width() // 2, canvas.height() // 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("address")
    parser.add_argument("--scan")
    parser.add_argument("--voxel", type=int, nargs=3, action="append")
    parser.add_argument("--screenshot")
    options = parser.parse_args()
    # What the extension remembers of its user stays as it is.
    QSettings.setPath(QSettings.Format.NativeFormat, QSettings.Scope.UserScope, os.devnull)
    viewer = napari.Viewer(show=options.screenshot is not None)
    if options.scan:
        viewer.open(options.scan, plugin="napari-nifti")
        voxels = options.voxel
    else:
        image, middle = made_up()
        viewer.add_image(image, name="scan")
        voxels = options.voxel or [middle]
    _, widget = viewer.window.add_plugin_dock_widget("napari-nninteractive")
    if options.screenshot:
        viewer.window._qt_window.resize(1400, 900)
    widget.server_url_edit.setText(options.address)
    widget.init_button.click()
    wait(lambda: POINTS in viewer.layers, "the upload of the scan")
    labels = viewer.layers[widget.label_layer_name]
    assert not labels.data.any()
    sizes = []
    for voxel in voxels:
        before = labels.data.copy()
        click(viewer, voxel)
        wait(lambda: not np.array_equal(labels.data, before), "a change of the mask")  # noqa: B023
        sizes.append(int(labels.data.astype(bool).sum()))
    assert labels.data[tuple(voxels[-1])] > 0
    print("voxels in the mask after each click:", *sizes)
    if options.screenshot:
        viewer.reset_view()
        viewer.dims.set_point(0, float(viewer.layers[0].data_to_world(voxels[0])[0]))
        viewer.layers[POINTS].size = 5
        for _ in range(20):
            QApplication.processEvents()
            time.sleep(0.05)
        viewer.window.screenshot(options.screenshot, canvas_only=False, flash=False)
    widget.on_undo()
    assert not np.array_equal(labels.data.astype(bool).sum(), sizes[-1])
    print("voxels after undo:", int(labels.data.astype(bool).sum()))
    # Gives the place back.
    widget._disconnect_remote()
    os._exit(0)


if __name__ == "__main__":
    main()
