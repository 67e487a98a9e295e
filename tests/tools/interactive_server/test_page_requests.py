# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the page asks of the server: scans of every orientation, each kind of prompt, objects, saving, and bad input."""

import io
import zipfile

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_series
from page_help import Client, packed, serving, two_series
from volumes import Phantom, dice, grid_around, rotation, write_nifti
from workflows import run_configs

from sam_bundles import Engine, Session
from tools.interactive_server.shown_grid import ShownGrid

SPACING = np.diag([1.5, 1.0, 2.5])
# Axes of the stored grid, as columns of mm a voxel: turned, mirrored, exchanged, of different spacing.
GRIDS = {
    "straight": np.eye(3),
    "flipped": np.diag([-1.0, -1.2, 1.0]),
    "exchanged": np.array([[0, 0, -2.0], [1.0, 0, 0], [0, -1.3, 0]]),
    "oblique": rotation(24, -17, 31) @ SPACING,
    "oblique and flipped": rotation(-31, 12, 40) @ SPACING @ np.diag([-1, 1, -1]),
}
PHANTOM = Phantom(((12.0, -30.0, 45.0), 11.0))


@pytest.fixture(scope="module")
def engine():
    return Engine.load(device="cpu", cube_size=64, small_cube_size=64)


@pytest.fixture(scope="module")
def address(engine):
    with serving(engine) as address:
        yield address


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory):
    grid = grid_around(GRIDS["oblique and flipped"], (40, 48, 24))
    return write_nifti(tmp_path_factory.mktemp("scan") / "scan.nii.gz", PHANTOM.image(grid), grid)


@pytest.fixture
def opened(address, scan_file):
    client = Client(address)
    assert client.open_files({"my scan.nii.gz": scan_file.read_bytes()})["stage"] == "ready"
    return client


@pytest.mark.parametrize("name", GRIDS)
def test_a_voxel_of_the_page_is_a_voxel_of_the_file(name):
    shape = (5, 7, 4)
    values = np.arange(np.prod(shape)).reshape(shape)
    grid = grid_around(GRIDS[name], shape)
    shown = ShownGrid.of(grid.affine, shape)
    assert shown.show(values).shape == shown.shape
    np.testing.assert_array_equal(shown.store(shown.show(values)), values)
    for place in np.ndindex(*shown.shape):
        stored = shown.stored_voxel(place)
        assert values[tuple(stored)] == shown.show(values)[place]
        assert shown.shown_voxel(stored) == list(place)
    box = [[1, 3], [2, 7], [0, 2]]
    there = shown.shown_box(box)
    assert shown.stored_box(there) == box
    part = shown.show(values)[tuple(slice(*side) for side in there)]
    np.testing.assert_array_equal(part, shown.show(values[1:3, 2:7, 0:2]))
    # The page's axes lead to the right, the front and the top.
    corners = [grid.to_mm(np.array(shown.stored_voxel(v))) for v in ([0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1])]
    assert all((corners[i + 1] - corners[0])[i] > 0 for i in range(3))


@pytest.mark.parametrize("name", ["flipped", "exchanged", "oblique and flipped"])
def test_the_volume_is_the_files_and_a_click_lands_where_it_was_made(name, address, tmp_path, engine):
    grid = grid_around(GRIDS[name], (36, 44, 30))
    file = write_nifti(tmp_path / "scan.nii.gz", PHANTOM.image(grid), grid)
    client = Client(address)
    meta = client.open_files({file.name: file.read_bytes()})["meta"]
    volume = nib.Nifti1Image.from_bytes(client.get("/volume").content)
    shown = ShownGrid.of(grid.affine, grid.shape)
    np.testing.assert_array_equal(volume.get_fdata(), shown.show(PHANTOM.image(grid)))
    assert meta["shape"] == list(volume.shape) and meta["stored_shape"] == list(grid.shape)
    np.testing.assert_allclose(volume.header.get_zooms(), meta["spacing"], rtol=1e-5)
    click = [round(x) for x in shown.shown_voxel(PHANTOM.click(grid))]
    np.testing.assert_allclose(
        np.array(meta["affine"]) @ [*click, 1], [*grid.to_mm(np.array(shown.stored_voxel(click))), 1], atol=1e-6
    )
    told, labels = client.changed("prompts", kind="point", at=click, include=True)
    mask = np.zeros(volume.shape, bool)
    mask[tuple(slice(*side) for side in told["box"])] = labels == 1
    assert dice(shown.store(mask), PHANTOM.truth(grid)) > 0.8
    session = Session(engine)
    session.set_image(file)
    session.add_point_interaction(shown.stored_voxel(click))
    np.testing.assert_array_equal(shown.store(mask), session.mask())
    assert told["prompts"] == [{"id": told["prompt"], "kind": "point", "include": True, "at": click}]
    assert told["objects"][0]["ml"] == pytest.approx(session.volume_ml(), rel=1e-4)


def test_whole_numbers_travel_as_two_bytes_and_others_as_they_are(address):
    values = np.random.default_rng(0).integers(-1000, 3000, (9, 8, 7))
    for stored, kind in ((values.astype(np.int16), np.int16), ((values / 7).astype(np.float32), np.float32)):
        client = Client(address)
        file = nib.Nifti1Image(stored, np.eye(4)).to_bytes()
        assert client.open_files({"scan.nii": file})["stage"] == "ready"
        volume = nib.Nifti1Image.from_bytes(client.get("/volume").content)
        assert volume.get_data_dtype() == kind
        np.testing.assert_array_equal(np.asarray(volume.dataobj), stored)


def test_every_kind_of_prompt_is_the_sessions_own(opened, scan_file, engine):
    session = Session(engine)
    session.set_image(scan_file)
    shown = ShownGrid.of(session.affine, session.shape)
    z, y, x = 11, 26, 21
    box = [[12, 31], [14, 36], [z, z + 1]]
    inside = np.zeros((19, 22, 1), bool)
    inside[4:12, 5:17] = True
    said = [
        ({"kind": "box", "box": box}, lambda: session.add_bbox_interaction(shown.stored_box(box))),
        (
            {"kind": "brush", "box": box, "bits": packed(inside)},
            lambda: session.add_scribble_interaction(shown.store(inside), True, interaction_bbox=shown.stored_box(box)),
        ),
        (
            {"kind": "lasso", "box": box, "bits": packed(inside)},
            lambda: session.add_lasso_interaction(shown.store(inside), True, interaction_bbox=shown.stored_box(box)),
        ),
        (
            {"kind": "point", "at": [x, y, z], "include": False},
            lambda: session.add_point_interaction(shown.stored_voxel([x, y, z]), False),
        ),
    ]
    for prompt, own in said:
        opened.changed("prompts", **prompt)
        own()
        np.testing.assert_array_equal(whole(opened), shown.show(session.labels()))
    told, _ = opened.changed("masks")
    assert [(p["kind"], p["include"]) for p in told["prompts"]] == [
        ("box", True), ("brush", True), ("lasso", True), ("point", False)
    ]  # fmt: skip
    assert told["prompts"][0]["box"] == box


def whole(client):
    told, labels = client.changed("masks")
    assert told["box"] == [[0, n] for n in labels.shape]
    return labels


def test_an_answer_carries_the_changed_box_alone(opened):
    told, labels = opened.changed("prompts", kind="point", at=[20, 24, 12])
    assert 0 < labels.size < whole(opened).size
    assert (labels[0].any(), labels[-1].any(), labels[:, 0].any(), labels[..., -1].any()) == (True,) * 4
    told, labels = opened.changed("objects", does="rename", name="object 1", to="ball")
    assert told["box"] is None and labels.size == 0 and told["objects"][0]["name"] == "ball"


def test_steps_back_and_forward_and_single_prompts(opened):
    first = opened.changed("prompts", kind="point", at=[20, 24, 12])[0]
    mask = whole(opened)
    second = opened.changed("prompts", kind="point", at=[5, 5, 3], include=False)[0]
    after = whole(opened)
    told, _ = opened.changed("steps", does="undo")
    assert (told["can_undo"], told["can_redo"]) == (True, True)
    np.testing.assert_array_equal(whole(opened), mask)
    opened.changed("steps", does="redo")
    np.testing.assert_array_equal(whole(opened), after)
    told, _ = opened.changed("steps", does="remove", prompt=second["prompt"])
    assert [p["id"] for p in told["prompts"]] == [first["prompt"]]
    np.testing.assert_array_equal(whole(opened), mask)
    told, _ = opened.changed("steps", does="reset")
    assert told["prompts"] == [] and told["objects"][0]["ml"] == 0 and not whole(opened).any()


def test_objects_keep_their_number_when_an_earlier_one_goes(opened):
    opened.changed("prompts", kind="point", at=[20, 24, 12])
    told, _ = opened.changed("objects", does="add")
    assert told["current"] == "object 2"
    opened.changed("prompts", kind="point", at=[5, 5, 3])
    mask = whole(opened) == 2
    assert mask.any()
    told, _ = opened.changed("objects", does="remove", name="object 1")
    assert [(o["name"], o["number"]) for o in told["objects"]] == [("object 2", 2)]
    assert set(np.unique(whole(opened))) == {0, 2}


def test_the_scan_of_the_command_line_needs_no_upload(engine, scan_file):
    with serving(engine, scan_file) as address:
        client = Client(address)
        assert client.http.get("/page/about").json()["given"] == "scan.nii.gz"
        told = client.open(source="given")
        assert told["stage"] == "ready" and told["meta"]["name"] == "scan.nii.gz"


def test_a_dicom_folder_and_a_zip_of_it(address, tmp_path):
    grid = grid_around(np.diag([1.5, 1.5, 2.0]) @ np.diag([-1, -1, 1]), (32, 30, 20))
    folder = tmp_path / "series"
    values = np.round(10 * PHANTOM.image(grid))
    write_series(folder, values, grid, edit=lambda made, k: setattr(made, "FrameOfReferenceUID", "1.2.826.0.1"))
    files = {f"series/{f.name}": f.read_bytes() for f in folder.iterdir()}
    packed_files = io.BytesIO()
    with zipfile.ZipFile(packed_files, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("__MACOSX/series/._a.dcm", b"x")
    for given in (files, {"series.zip": packed_files.getvalue()}):
        client = Client(address)
        told = client.open_files(given)
        assert told["stage"] == "ready", told["error"]
        assert told["meta"]["name"] == ("series" if given is files else "series.zip")
        volume = nib.Nifti1Image.from_bytes(client.get("/volume").content)
        shown = ShownGrid.of(grid.affine, grid.shape)
        np.testing.assert_array_equal(volume.get_fdata(), shown.show(values))
    check_segmentation(client, shown, grid)


def test_of_several_series_one_is_chosen(address, tmp_path):
    found = two_series(tmp_path / "study", PHANTOM)
    client = Client(address)
    told = client.open_files({f"study/{f.name}": f.read_bytes() for f in (tmp_path / "study").iterdir()})
    assert told["stage"] == "choose" and not told["error"]
    assert [number for number, _ in told["choices"]] == [1, 2]
    numbers = {int(said.split(" images of")[0].split()[-1]): number for number, said in told["choices"]}
    assert set(numbers) == {20, 14}
    assert client.get("/volume").status_code == 409
    values, grid = found[1]
    told = client.open(source="upload", upload=0, series=numbers[14])
    assert told["stage"] == "ready", told["error"]
    volume = nib.Nifti1Image.from_bytes(client.get("/volume").content)
    np.testing.assert_array_equal(volume.get_fdata(), ShownGrid.of(grid.affine, grid.shape).show(values))
    check_segmentation(client, ShownGrid.of(grid.affine, grid.shape), grid)


def check_segmentation(client, shown, grid):
    """The DICOM segmentation has each object's mask on the very slices, read back by highdicom."""
    hd = pytest.importorskip("highdicom")
    assert "expected a prompt" in client.get("/save/seg").json()["detail"]
    assert client.get().json()["meta"]["no_seg"] is None
    client.changed("objects", does="rename", name="object 1", to="ball")
    client.changed("prompts", kind="point", at=[round(x) for x in shown.shown_voxel(PHANTOM.click(grid))])
    saved = client.get("/save/seg")
    assert saved.status_code == 200, saved.text
    written = hd.seg.segread(io.BytesIO(saved.content))
    assert written.get_segment_description(1).segment_label == "ball"
    expected = shown.store(whole(client)) == 1
    volume = written.get_volume(combine_segments=True)
    found = np.zeros(grid.shape, bool)
    for place in np.argwhere(volume.array):
        mm = np.diag([-1, -1, 1]) @ (volume.affine @ [*place, 1])[:3]
        found[tuple(np.rint(grid.to_voxels(mm)).astype(int))] = True
    np.testing.assert_array_equal(found, expected)


def test_a_header_and_its_voxels_stay_together(address, tmp_path):
    import itk

    image = itk.image_from_array(np.random.default_rng(1).normal(size=(6, 7, 8)).astype(np.float32))
    itk.imwrite(image, str(tmp_path / "scan.mhd"))
    told = Client(address).open_files({f"my folder/{f.name}": f.read_bytes() for f in tmp_path.iterdir()})
    assert told["stage"] == "ready", told["error"]
    assert told["meta"]["stored_shape"] == [8, 7, 6]


def test_names_of_files_lead_nowhere(address, scan_file, tmp_path):
    names = ["../../../evil.nii.gz", "C:\\evil.nii.gz", "/etc/evil.nii.gz", "a\0b.nii.gz", "…/ünï côdé.nii.gz"]
    for name in names:
        told = Client(address).open_files({name: scan_file.read_bytes()})
        assert told["stage"] == "ready", (name, told["error"])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("../../evil.nii.gz", scan_file.read_bytes())
    assert Client(address).open_files({"x.zip": made.getvalue()})["stage"] == "ready"


BROKEN = {
    "no scan": ({"scan.nii.gz": b"nothing"}, "scan.nii.gz: "),
    "text": ({"notes.txt": b"hello"}, "notes.txt: cannot be read"),
    "no zip": ({"scan.zip": b"PK\3\4 and no more"}, "cannot be unpacked"),
    "2D": ({"scan.nii": nib.Nifti1Image(np.eye(4), np.eye(4)).to_bytes()}, "expected a 3D volume"),
    "constant": ({"scan.nii": nib.Nifti1Image(np.ones((4, 4, 4)), np.eye(4)).to_bytes()}, "expected contrast"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_scan_is_named_in_a_sentence(name, address):
    files, sentence = BROKEN[name]
    told = Client(address).open_files(files)
    assert told["stage"] == "failed" and sentence in told["error"]
    # Folders of this computer are nobody's business.
    assert "/tmp" not in told["error"] and "sam-bundles-" not in told["error"]


def test_a_zip_that_unpacks_to_a_thousand_times_its_size(address):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("scan.nii", bytes(64 << 20))
    told = Client(address).open_files({"scan.zip": made.getvalue()})
    assert told["stage"] == "failed" and "200 times its own" in told["error"]


POINT = {"kind": "point", "at": [20, 24, 12]}
FLAT = [[2, 4], [2, 4], [2, 3]]
BAD = [
    ("prompts", {}, "kind"),
    ("prompts", {"kind": "circle"}, "kind"),
    ("prompts", {"kind": "point"}, "without 'at'"),
    ("prompts", {"kind": "point", "at": [1, 2]}, "at"),
    ("prompts", {"kind": "point", "at": [1, 2, "3"]}, "at"),
    ("prompts", {"kind": "point", "at": [1, 2, 400]}, "outside"),
    ("prompts", {"kind": "point", "at": [-5, 2, 4]}, "outside"),
    ("prompts", {**POINT, "include": "yes"}, "include"),
    ("prompts", {**POINT, "path": "/etc/passwd"}, "path"),
    ("prompts", {"kind": "box"}, "without 'box'"),
    ("prompts", {"kind": "box", "box": [[1, 2], [3, 4]]}, "box"),
    ("prompts", {"kind": "box", "box": [[4, 2], [3, 4], [1, 2]]}, "no voxel inside"),
    ("prompts", {"kind": "box", "box": [[0, 999], [3, 4], [1, 2]]}, "outside"),
    ("prompts", {"kind": "brush", "box": FLAT}, "expected 1 for a box of 4"),
    ("prompts", {"kind": "brush", "box": FLAT, "bits": "§"}, "base64"),
    ("prompts", {"kind": "brush", "box": FLAT, "bits": packed(np.zeros(4, bool))}, "every voxel is 0"),
    ("prompts", {"kind": "lasso", "box": FLAT, "bits": packed(np.ones(400, bool))}, "50 bytes"),
    ("prompts", {"kind": "lasso", "box": [[0, 2**31]] * 3, "bits": "AA=="}, "half open"),
    ("prompts", {"kind": "lasso", "box": [[900, 902], [2, 4], [2, 3]], "bits": "8A=="}, "outside"),
    ("prompts", {"kind": "mask"}, "upload None"),
    ("prompts", {"kind": "mask", "upload": 7}, "upload 7"),
    ("steps", {}, "does"),
    ("steps", {"does": "jump"}, "does"),
    ("steps", {"does": "remove"}, "no prompt"),
    ("steps", {"does": "remove", "prompt": 99}, "no prompt 99"),
    ("objects", {"does": "add", "name": "object 1"}, "taken"),
    ("objects", {"does": "add", "name": "x" * 200}, "name"),
    ("objects", {"does": "select"}, "no name"),
    ("objects", {"does": "select", "name": "liver"}, "no object 'liver'"),
    ("objects", {"does": "rename", "name": "object 1", "to": " "}, "expected some text"),
    ("objects", {"does": "rename", "name": "object 1"}, "expected some text"),
    ("objects", {"does": "remove", "name": "liver"}, "no object 'liver'"),
    ("image", {"source": "demo"}, "has its image"),
    ("uploads", {"files": []}, "0 files"),
    ("uploads", {"files": [{"name": "a", "size": 2**45}]}, "GiB"),
    ("uploads", {"files": [{"name": "a", "size": -1}]}, "size"),
    ("uploads", {"files": [{"name": "", "size": 1}]}, "name"),
    ("restore", {}, "the session: "),
    ("restore", {"format": "fastsam3d session", "image": 3}, "the session: "),
]


def test_bad_calls_are_answered_with_a_sentence_and_change_nothing(opened):
    opened.changed("prompts", **POINT)
    before = opened.changed("masks")
    for path, said, sentence in BAD:
        answer = opened.post(path, **said)
        assert answer.status_code == 400, (path, said, answer.status_code, answer.text)
        assert sentence in answer.json()["detail"] and len(answer.json()["detail"]) > 10, answer.text
    after = opened.changed("masks")
    before[0].pop("seconds"), after[0].pop("seconds")
    assert before[0] == after[0]
    np.testing.assert_array_equal(before[1], after[1])


def test_pieces_of_files_come_in_order_and_whole(address):
    client = Client(address)
    number = client.post("uploads", files=[{"name": "scan.nii", "size": 10}]).json()["upload"]
    for upload, index, offset, content, sentence in [
        (number, 0, 4, b"1234", "expected the one for byte 0"),
        (number, 1, 0, b"1234", "expected 0 to 0"),
        (number, 0, 0, b"12345678901", "11 bytes of a file of 10"),
        (number + 1, 0, 0, b"1", "upload 1"),
    ]:
        answer = client.piece(upload, index, offset, content)
        assert answer.status_code == 400 and sentence in answer.json()["detail"]
    assert client.piece(number, 0, 0, b"1234").json() == {"received": 4}
    told = client.open(source="upload", upload=number)
    assert told["stage"] == "failed" and "not come whole" in told["error"]


def test_calls_before_the_scan_is_open_and_after_it_is_closed(address):
    client = Client(address)
    assert client.get().json()["stage"] == "empty"
    assert client.post("prompts", **POINT).status_code == 409
    assert client.get("/volume").status_code == 409
    assert client.post("image", source="given").status_code == 400
    assert client.http.post(f"/page/scans/{client.scan}/close").json() == {"closed": True}
    assert client.get().status_code == 410
    assert client.http.get("/page/scans/none/volume").status_code == 410


def test_who_may_ask(address, opened):
    place = f"/page/scans/{opened.scan}/prompts"
    assert opened.http.post(place, json=POINT, headers={"Origin": "https://example.org"}).status_code == 403
    assert opened.http.post(place, json=POINT, headers={"Host": "example.org"}).status_code == 421
    assert opened.http.get("/page/about", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    # Another client of the same server has no scan of the page.
    lease = opened.http.post("/claim").json()["lease_token"]
    assert opened.http.get(f"/page/scans/{lease}").status_code == 404


def test_only_the_pages_own_files_are_served_and_they_may_load_nothing_else(opened):
    page = opened.http.get("/")
    assert page.status_code == 200 and "No data leaves this computer" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self' 'wasm-unsafe-eval';" in policy and "http" not in policy
    for name in ("main.js", "view.js", "style.css", "icon.svg"):
        part = opened.http.get(f"/page/{name}")
        assert part.status_code == 200 and "://" not in part.text.replace("http://www.w3.org/2000/svg", "")
    for name in ("..%2f..%2f..%2fsetup.cfg", "%2e%2e/setup.cfg", "build.py", "version", "nothing.js"):
        assert opened.http.get(f"/page/{name}").status_code == 404, name


def test_a_mask_file_becomes_the_current_object(opened, scan_file, engine):
    image = nib.load(scan_file)
    mask = np.zeros(image.shape, np.uint8)
    mask[10:20, 12:24, 6:15] = 1
    number = opened.upload({"mask.nii": nib.Nifti1Image(mask, image.affine).to_bytes()})
    told, _ = opened.changed("prompts", kind="mask", upload=number)
    session = Session(engine)
    session.set_image(scan_file)
    session.add_initial_seg_interaction(mask)
    shown = ShownGrid.of(image.affine, image.shape)
    np.testing.assert_array_equal(whole(opened), shown.show(session.labels()))
    assert [p["kind"] for p in told["prompts"]] == ["mask"]
    other = opened.upload({"other.nii": nib.Nifti1Image(mask[:5], image.affine).to_bytes()})
    answer = opened.post("prompts", kind="mask", upload=other)
    assert answer.status_code == 400 and answer.json()["detail"].startswith("other.nii: ")


def test_a_saved_session_goes_on_in_another_tab(opened, address, scan_file):
    opened.changed("prompts", **POINT)
    opened.changed("objects", does="rename", name="object 1", to="Leber ünd größer")
    opened.changed("objects", does="add", name="second")
    opened.changed("prompts", kind="point", at=[4, 4, 4])
    saved = opened.get("/save/session")
    assert saved.headers["content-disposition"].endswith("my%20scan_session.json")
    assert saved.json()["image"]["file"] == "my scan.nii.gz"
    other = Client(address)
    other.open_files({"copy.nii.gz": scan_file.read_bytes()})
    told, labels = other.changed("restore", **saved.json())
    assert [o["name"] for o in told["objects"]] == ["Leber ünd größer", "second"] and told["current"] == "second"
    np.testing.assert_array_equal(labels, whole(opened))
    told, _ = other.changed("prompts", kind="point", at=[6, 6, 6], include=False)
    assert [p["kind"] for p in told["prompts"]] == ["point", "point"]
    values = nib.Nifti1Image(np.random.default_rng(2).normal(size=(40, 48, 24)), np.eye(4)).to_bytes()
    third = Client(address)
    third.open_files({"other.nii": values})
    answer = third.post("restore", **saved.json())
    assert answer.status_code == 400 and answer.json()["detail"].startswith("the session: ")


def test_the_saved_mask_is_the_runs_own(opened, scan_file, tmp_path, fastsam3d_path):
    opened.changed("prompts", **POINT)
    opened.changed("prompts", kind="point", at=[20, 24, 22], include=False)
    shown = ShownGrid.of(nib.load(scan_file).affine, nib.load(scan_file).shape)
    clicks = {"image": str(scan_file), "foreground": [shown.stored_voxel(POINT["at"])]}
    clicks["background"] = [shown.stored_voxel([20, 24, 22])]
    options = {"device": "cpu", "cube_size": 64, "small_cube_size": 64, "preview": False, "output_dir": str(tmp_path)}
    run_configs(fastsam3d_path, ["inference.json"], **clicks, **options)
    (ran,) = tmp_path.glob("*_seg.nii.gz")
    saved = opened.get("/save/nifti")
    assert saved.headers["content-disposition"].endswith("my%20scan_seg.nii.gz")
    (tmp_path / "saved.nii.gz").write_bytes(saved.content)
    one, other = nib.load(tmp_path / "saved.nii.gz"), nib.load(ran)
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    assert np.asarray(one.dataobj).any() and one.header == other.header


def test_nothing_to_save_and_no_such_form(opened):
    assert "expected a prompt" in opened.get("/save/nifti").json()["detail"]
    assert opened.get("/save/exe").status_code == 404
    answer = opened.get("/save/seg")
    assert answer.status_code == 400 and "only for scans that are DICOM files" in answer.json()["detail"]
