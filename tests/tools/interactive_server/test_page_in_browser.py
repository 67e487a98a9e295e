# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The page in a real Chromium: what is seen, clicked, taken back and saved."""

import io
import json
import shutil
import time

import nibabel as nib
import numpy as np
import pytest
from page_help import serving, two_series
from PIL import Image
from volumes import Phantom, grid_around, rotation, write_nifti
from workflows import run_configs

from sam_bundles import Engine
from tools.interactive_server.shown_grid import ShownGrid
from tools.page.build import build, is_built

pytestmark = pytest.mark.browser
# Software rendering: the tests need no graphics card.
FLAGS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
NAMES = ("chromium", "chromium-browser", "google-chrome")
SETTINGS = {"device": "cpu", "cube_size": 64, "small_cube_size": 64}
TURNED = rotation(-31, 12, 40) @ np.diag([-1.5, 1.0, -2.2])
# Two things to click on.
PHANTOM = Phantom(((2.0, -30.0, 45.0), 9.0), ((24.0, -30.0, 45.0), 8.0))
PLANES = {"axial": (0, 1, 2), "sagittal": (1, 2, 0), "coronal": (0, 2, 1)}


@pytest.fixture(scope="module")
def built():
    if not is_built():
        if not shutil.which("npm"):
            pytest.skip("the page is not built, and there is no npm: python -m tools.page --build")
        try:
            build()
        except ValueError as error:
            pytest.skip(f"the page cannot be built: {error}")


@pytest.fixture(scope="module")
def address(built):
    with serving(Engine.load(**SETTINGS)) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium: on Debian, apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


class Seen:
    """A tab with the page, and the hand of the person in front of it."""

    def __init__(self, chromium, address):
        self.tab = chromium.new_page(viewport={"width": 840, "height": 600}, accept_downloads=True)
        self.tab.set_default_timeout(90_000)
        self.asked, self.failed = [], []
        self.tab.on("request", lambda r: self.asked.append(r.url))
        self.tab.on("pageerror", lambda e: self.failed.append(str(e)))
        self.tab.on("console", lambda m: self.failed.append(m.text) if m.type == "error" else None)
        self.tab.goto(address)

    def open(self, file):
        self.tab.set_input_files("#file", str(file))
        self.wait("page.state().scan && page.hands.enabled")

    def wait(self, what="true"):
        until = time.monotonic() + 90
        while not self.tab.evaluate(f"Boolean(window.page && !page.state().waiting && ({what}))"):
            assert time.monotonic() < until, self.tab.inner_text("#errors") or self.tab.inner_text("#status")
            time.sleep(0.05)
        # Drawn, too.
        self.tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def go_to(self, voxel):
        self.tab.evaluate("(v) => page.view.goTo(v)", voxel)
        self.wait()

    def pixel(self, plane, voxel):
        """Where on the screen a voxel's middle lies in a plane, in pixels of the tab."""
        return self.tab.evaluate(
            """([plane, voxel]) => {
                const tile = page.view.tiles().find((t) => t.name === plane);
                const [x, y] = tile.toPixels(voxel[tile.u] + 0.5, voxel[tile.v] + 0.5);
                const { left, top } = document.getElementById('marks').getBoundingClientRect();
                return [x + left, y + top];
            }""",
            [plane, voxel],
        )

    def click(self, plane, voxel, button="left"):
        self.go_to(voxel)
        self.tab.mouse.click(*self.pixel(plane, voxel), button=button)
        self.wait()

    def prompts(self):
        return self.tab.evaluate("page.marks.prompts")

    def objects(self):
        return self.tab.evaluate("page.state().objects")

    def labels(self):
        """(X, Y, Z) as the browser has them."""
        shape = self.tab.evaluate("page.view.shape")
        found = self.tab.evaluate("[...page.view.labels.entries()].filter(([, v]) => v)")
        labels = np.zeros(shape, np.uint8)
        for place, value in found:
            labels[np.unravel_index(place, shape, order="F")] = value
        return labels

    def picture(self):
        """(rows, columns, 3) of the scan and masks alone, without marks."""
        self.tab.evaluate("document.getElementById('marks').style.opacity = 0")
        taken = np.array(Image.open(io.BytesIO(self.tab.screenshot())).convert("RGB")).astype(int)
        self.tab.evaluate("document.getElementById('marks').style.opacity = 1")
        return taken

    def saved(self, button):
        self.tab.click("#save")
        with self.tab.expect_download() as download:
            self.tab.click(button)
        return download.value


@pytest.fixture
def seen(chromium, address):
    seen = Seen(chromium, address)
    yield seen
    seen.tab.close()
    assert all(url.startswith((address, "data:", "blob:")) for url in seen.asked), "something came from elsewhere"
    assert not seen.failed


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    grid = grid_around(TURNED, (44, 50, 30), (12.0, -30.0, 45.0))
    file = write_nifti(tmp_path_factory.mktemp("scan") / "two balls.nii.gz", PHANTOM.image(grid), grid)
    shown = ShownGrid.of(grid.affine, grid.shape)
    clicks = [[round(x) for x in shown.shown_voxel(PHANTOM.click(grid, ball))] for ball in (0, 1)]
    return file, shown, clicks


def test_open_click_undo_redo_second_object_save(seen, scan, tmp_path, fastsam3d_path):
    file, shown, (first, second) = scan
    seen.open(file)
    assert seen.tab.is_hidden("#welcome") and "two balls" in seen.tab.inner_text("#scan-name")
    seen.click("axial", first)
    alone = seen.labels()
    off = [first[0], first[1], first[2] + 7]
    seen.click("coronal", off, button="right")
    assert [(p["kind"], p["include"], p["at"]) for p in seen.prompts()] == [
        ("point", True, first), ("point", False, off)
    ]  # fmt: skip
    both = seen.labels()
    seen.tab.keyboard.press("Control+z")
    seen.wait()
    np.testing.assert_array_equal(seen.labels(), alone)
    seen.tab.keyboard.press("Control+Shift+Z")
    seen.wait()
    np.testing.assert_array_equal(seen.labels(), both)
    seen.tab.keyboard.press("n")
    seen.wait("page.state().current === 'object 2'")
    seen.tab.fill("#objects [aria-current=true] input", "right ball")
    seen.tab.keyboard.press("Enter")
    seen.wait("page.state().current === 'right ball'")
    seen.click("sagittal", second)
    assert [o["name"] for o in seen.objects()] == ["object 1", "right ball"]
    assert all(o["ml"] > 0.5 for o in seen.objects())
    download = seen.saved("#save-nifti")
    assert download.suggested_filename == "two balls_seg.nii.gz"
    download.save_as(tmp_path / "saved.nii.gz")
    saved = np.asarray(nib.load(tmp_path / "saved.nii.gz").dataobj)
    np.testing.assert_array_equal(shown.show(saved), seen.labels())
    clicks = {
        "object 1": {"foreground": [shown.stored_voxel(first)], "background": [shown.stored_voxel(off)]},
        "right ball": [shown.stored_voxel(second)],
    }
    run_configs(
        fastsam3d_path,
        ["inference.json"],
        image=str(file),
        objects=clicks,
        preview=False,
        output_dir=tmp_path,
        **SETTINGS,
    )
    (ran,) = tmp_path.glob("*balls_seg.nii.gz")
    np.testing.assert_array_equal(saved, np.asarray(nib.load(ran).dataobj))
    assert set(np.unique(saved)) == {0, 1, 2}
    session = json.loads(seen.saved("#save-session").path().read_text())
    (tmp_path / "session.json").write_text(json.dumps(session))
    # A new tab goes on with it.
    seen.tab.reload()
    seen.wait("page.state().scan && page.hands.enabled")
    seen.tab.click("#reset")
    seen.wait("page.marks.prompts.length === 0")
    seen.tab.set_input_files("#session-file", str(tmp_path / "session.json"))
    seen.wait("page.marks.prompts.length === 1")
    np.testing.assert_array_equal(seen.labels(), shown.show(saved))


@pytest.mark.parametrize("turn", ["straight", "flipped", "turned"])
def test_the_voxel_that_is_seen_is_the_voxel_that_is_told(turn, seen, tmp_path):
    """Bright blocks at random: the pixel that is clicked is as bright as the voxel that the server is told of."""
    axes = {"straight": np.diag([1.0, 1.0, 1.0]), "flipped": np.array([[0, 0, 2.4], [-1.1, 0, 0], [0, -1.7, 0]])}
    grid = grid_around(axes.get(turn, TURNED), (44, 36, 28))
    rng = np.random.default_rng(5)
    blocks = rng.random((11, 9, 7)) < 0.5
    stored = np.kron(blocks, np.ones((4, 4, 4))).astype(np.int16) * 1000
    file = write_nifti(tmp_path / "blocks.nii", stored, grid)
    shown = ShownGrid.of(grid.affine, grid.shape)
    seen.open(file)
    for told, (plane, (u, v, _)) in enumerate(PLANES.items()):
        middle = [4 * int(rng.integers(1, n // 4 - 1)) + 2 for n in shown.shape]
        seen.go_to(middle)
        picture = seen.picture()
        for _ in range(5):
            voxel = list(middle)
            voxel[u], voxel[v] = (4 * int(rng.integers(2, shown.shape[axis] // 4 - 2)) + 2 for axis in (u, v))
            x, y = seen.pixel(plane, voxel)
            seen.tab.mouse.move(x, y)
            there = seen.tab.inner_text("#position").split("voxel ")[1].split("   ")[0]
            place = tuple(int(n) for n in there.split(", "))
            assert place == tuple(shown.stored_voxel(voxel))
            assert (stored[place] > 500) == (picture[round(y), round(x)].mean() > 127), (plane, voxel)
        seen.tab.mouse.click(x, y)
        seen.wait()
        assert seen.prompts()[told]["at"] == voxel
    # Masks are drawn where they are: a pixel is coloured where its voxel has a label.
    labels = seen.labels()
    seen.tab.evaluate("document.getElementById('opacity').value = 100")
    seen.tab.dispatch_event("#opacity", "input")
    seen.wait()
    middle = seen.tab.evaluate("page.view.at")
    picture, wrong, count = seen.picture(), 0, 0
    for plane, (u, v, normal) in PLANES.items():
        for _ in range(30):
            voxel = [0, 0, 0]
            voxel[normal] = middle[normal]
            voxel[u], voxel[v] = (int(rng.integers(2, shown.shape[axis] - 2)) for axis in (u, v))
            x, y = seen.pixel(plane, voxel)
            red, _, blue = picture[round(y), round(x)]
            count += 1
            wrong += (abs(red - blue) > 60) != (labels[tuple(voxel)] > 0)
    assert 0.03 < (labels > 0).mean() < 0.97 and wrong <= 0.03 * count


def test_box_brush_and_lasso_are_drawn_where_the_hand_was(seen, scan):
    file, _, (first, _) = scan
    seen.open(file)
    seen.go_to(first)
    u, v, w = first
    for tool, key in (("box", "b"), ("brush", "d"), ("lasso", "l")):
        seen.tab.keyboard.press(key)
        corners = [[u - 5, v - 4, w], [u + 5, v - 4, w], [u + 5, v + 6, w], [u - 5, v + 6, w]]
        path = [seen.pixel("axial", c) for c in ([corners[0], corners[2]] if tool == "box" else corners)]
        seen.tab.mouse.move(*path[0])
        seen.tab.mouse.down()
        for place in path[1:]:
            seen.tab.mouse.move(*place, steps=3)
        seen.tab.mouse.up()
        seen.wait()
    box, brush, lasso = seen.prompts()
    assert [p["kind"] for p in (box, brush, lasso)] == ["box", "brush", "lasso"]
    assert box["box"] == [[u - 5, u + 6], [v - 4, v + 7], [w, w + 1]]
    assert lasso["box"][2] == brush["box"][2] == [w, w + 1]
    for axis, (low, high) in enumerate([(u - 5, u + 5), (v - 4, v + 6)]):
        assert abs(lasso["box"][axis][0] - low) <= 1 and abs(lasso["box"][axis][1] - high) <= 1
        assert brush["box"][axis][0] <= low and brush["box"][axis][1] >= high
    seen.tab.keyboard.press("Escape")


def test_a_file_that_is_no_scan_is_refused_in_a_sentence(seen, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    seen.tab.set_input_files("#file", str(tmp_path / "notes.txt"))
    seen.tab.wait_for_selector(".error")
    assert "notes.txt: cannot be read" in seen.tab.inner_text("#errors").replace("N", "n", 1)
    assert seen.tab.is_visible("#welcome")


def test_of_several_series_the_person_takes_one(seen, tmp_path):
    two_series(tmp_path / "study", PHANTOM)
    seen.tab.set_input_files("#folder", str(tmp_path / "study"))
    seen.tab.wait_for_selector("#series button")
    assert len(seen.tab.query_selector_all("#series button")) == 2
    seen.tab.keyboard.press("Escape")
    seen.wait("!document.getElementById('series').open")
    assert seen.tab.is_visible("#welcome") and not seen.tab.evaluate("page.state().scan")
    seen.tab.set_input_files("#folder", str(tmp_path / "study"))
    seen.tab.click("#series button >> text=14 images")
    seen.wait("page.state().scan && page.hands.enabled")
    assert "32 × 30 × 14 voxels" in seen.tab.inner_text("#scan-name")


def test_keys_and_their_page(seen, scan):
    seen.open(scan[0])
    seen.tab.keyboard.press("?")
    assert "new object" in seen.tab.inner_text("#help")
    seen.tab.keyboard.press("Escape")
    before = seen.tab.evaluate("[page.view.window, page.view.at]")
    for key in ("w", "h", "ArrowUp", "1"):
        seen.tab.keyboard.press(key)
    seen.wait()
    window, at = seen.tab.evaluate("[page.view.window, page.view.at]")
    assert window != before[0] and at[2] == before[1][2] + 1
    assert seen.tab.evaluate("[page.view.hidden, page.view.tiles().map((t) => t.name).join()]") == [True, "axial"]
