# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Real files through the whole of inference.json: what is found lies where it was, in files of every kind."""

import json
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from pictures import write_dicom_slice
from PIL import Image
from small_sam import sam_state, small_sam
from volumes import rotation

from bundles.ssam_2d.scripts.images import normalise, to_network_size
from common.result_files import case_name

H, W = 50, 90
# Rows and columns of two blocks; nothing is symmetric, so that nothing can be turned without being noticed.
RED, GREEN = (slice(5, 17), slice(40, 75)), (slice(28, 45), slice(6, 20))


def blocks() -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) picture on black, and its index map: 1 red, 2 green."""
    picture, labels = np.zeros((H, W, 3), np.uint8), np.zeros((H, W), np.uint8)
    for value, (block, channel) in enumerate(((RED, 0), (GREEN, 1)), start=1):
        picture[(*block, channel)] = 255
        labels[block] = value
    return picture, labels


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The Dice score of two masks."""
    return 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)


def read_map(folder: Path, name: str = "a") -> tuple[np.ndarray, dict]:
    """The index map and its description."""
    return np.array(Image.open(folder / f"{name}_seg.png")), json.loads((folder / f"{name}_seg.json").read_text())


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.fromarray(blocks()[0]).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_all_labels_of_a_picture(run_ssam, picture, colour_network):
    folder = run_ssam(image=picture, overlay=True)
    found, described = read_map(folder)
    expected = blocks()[1]
    assert found.shape == (H, W) and found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1, 2}
    assert overlap(found == 1, expected == 1) > 0.95 and overlap(found == 2, expected == 2) > 0.95
    assert described["label_names"] == {"1": "red", "2": "green", "3": "blue", "4": "bright"}
    red, green, blue, _ = described["objects"]
    assert red["area_px"] == int((found == 1).sum()) and red["area_mm2"] is None and red["score"] > 0.9
    assert blue["area_px"] == 0 and blue["score"] < 0.5 and green["predicted_iou"] == 0.75
    # One encoding and one call of the decoder for all labels of the image.
    assert colour_network.encoded == 1 and colour_network.decoded == [4]
    assert described["weights"]["file"] == "stand_in.pt" and described["mask"] == "a_seg.png"
    assert sorted(p.name for p in folder.iterdir()) == ["a_seg.json", "a_seg.png", "a_seg_overlay.png"]
    assert Image.open(folder / "a_seg_overlay.png").size[0] >= 400


def test_labels_keep_their_index_whatever_is_asked(run_ssam, picture):
    found, described = read_map(run_ssam(image=picture, labels="Green"))
    assert set(np.unique(found)) == {0, 2}
    assert described["label_names"] == {"2": "green"}


@pytest.mark.parametrize("kind", ["rgba.png", "grey.png", "16.png", "grey.tif", "a.jpg", "a.bmp", "a.dcm"])
def test_every_kind_of_file(run_ssam, tmp_path, kind):
    colours, labels = blocks()
    bright = (labels == 1).astype(np.uint8) * 255
    file = tmp_path / kind
    if kind == "rgba.png":
        Image.fromarray(np.dstack([bright, bright, bright, bright])).save(file)
    elif kind == "16.png":
        Image.fromarray(bright.astype(np.uint16) * 10).save(file)
    elif kind == "a.dcm":
        write_dicom_slice(file, bright.astype(np.int16) * 5 - 1000)
    else:
        Image.fromarray(bright).save(file)
    found, described = read_map(run_ssam(image=file, labels=["bright"]), case_name(file))
    assert found.shape == (H, W) and overlap(found == 4, labels == 1) > 0.9
    area = described["objects"][0]["area_mm2"]
    assert area == (pytest.approx((found == 4).sum() * 0.4) if kind == "a.dcm" else None)


def test_a_folder_with_dicom_slices_and_pictures(run_ssam, tmp_path, picture, caplog):
    (tmp_path / "in").mkdir()
    bright = (blocks()[1] == 1).astype(np.int16) * 900
    write_dicom_slice(tmp_path / "in" / "slice.dcm", bright).rename(tmp_path / "in" / "IM1")
    picture.rename(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    folder = run_ssam(image=tmp_path / "in", separate_folder="true", overlay="false", labels=["bright", "red"])
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png")) == ["IM1/IM1_seg.png", "a/a_seg.png"]
    assert overlap(read_map(folder / "IM1", "IM1")[0] == 4, bright > 0) > 0.9
    assert "1 files are no images" in caplog.text


def test_results_in_the_folder_of_the_images_are_not_segmented_again(run_ssam, refused, tmp_path, picture, caplog):
    (tmp_path / "in").mkdir()
    picture.rename(tmp_path / "in" / "a.png")
    Image.fromarray(blocks()[0]).save(tmp_path / "in" / "b.jpg")
    options = {"image": tmp_path / "in", "output_dir": str(tmp_path / "in"), "overlay": "true", "labels": ["bright"]}
    options["probabilities"] = "true"
    run_ssam(**options)
    once = {f.name: f.read_bytes() for f in (tmp_path / "in").iterdir()}
    assert len(once) == 2 + 2 * 4 and "results of earlier runs" not in caplog.text
    run_ssam(**options)
    assert {f.name for f in (tmp_path / "in").iterdir()} == set(once)
    assert "6 files are results of earlier runs and left out, such as a_seg.png" in caplog.text
    # What a person drew is not ours, and stays.
    for file in (tmp_path / "in").glob("*.json"):
        file.unlink()
    refused("a_seg.png: the result of .*a.png would overwrite this image", **options)
    assert all((tmp_path / "in" / name).read_bytes() == once[name] for name in ("a_seg.png", "b_seg.png"))


def test_results_of_links_are_named_as_the_links(run_ssam, tmp_path, picture):
    (tmp_path / "objects").mkdir()
    picture.rename(tmp_path / "objects" / "9f86d081.png")
    for name in ("one.png", "two.png"):
        (tmp_path / name).symlink_to("objects/9f86d081.png")
    folder = run_ssam(image=[str(tmp_path / n) for n in ("one.png", "two.png")], labels=["bright"])
    assert {f.name for f in folder.iterdir()} == {f"{n}_seg{e}" for n in ("one", "two") for e in (".png", ".json")}


def test_a_name_that_is_too_long_stops_the_run_before_it_starts(refused, tmp_path, picture, colour_network):
    long = tmp_path / f"{'x' * 250}.png"
    long.write_bytes(picture.read_bytes())
    refused(r"has 2\d\d bytes, a file system takes 255", image=[str(picture), str(long)], labels=["bright"])
    assert colour_network.encoded == 0


def test_each_image_of_a_list_with_a_request_of_its_own(run_ssam, tmp_path, picture):
    Image.fromarray(blocks()[0]).save(tmp_path / "b.png")
    folder = run_ssam(image=[str(picture), {"image": str(tmp_path / "b.png"), "labels": ["green"]}], labels=["red"])
    assert read_map(folder, "a")[1]["label_names"] == {"1": "red"}
    assert read_map(folder, "b")[1]["label_names"] == {"2": "green"}


def test_where_labels_overlap_the_more_probable_one_wins(run_ssam, tmp_path):
    values = np.zeros((H, W, 3), np.uint8)
    values[..., 0] = 255
    # More and more green, from where red is the better answer to where bright is.
    values[10:30, 10:80, 1] = np.linspace(60, 140, 70)
    Image.fromarray(values).save(tmp_path / "a.png")
    folder = run_ssam(image=tmp_path / "a.png", labels=["bright", "red"], probabilities=True)
    found, described = read_map(folder)
    pages = Image.open(folder / described["probabilities"])
    maps = []
    for page in range(pages.n_frames):
        pages.seek(page)
        maps.append(np.array(pages))
    maps = np.stack(maps)
    order = [o["label"] for o in described["objects"]]
    assert order == [1, 4] and maps.shape == (2, H, W) and maps.dtype == np.float32
    claimed = (maps > 0.5).all(0)
    assert set(np.unique(found[claimed])) == {1, 4}
    expected = np.where(maps.max(0) > 0.5, np.array(order)[maps.argmax(0)], 0)
    assert np.array_equal(found, expected)
    for place, described_label in enumerate(described["objects"]):
        inside = found == described_label["label"]
        expected_score = maps[place][inside].mean() if inside.any() else maps[place].max()
        assert described_label["score"] == pytest.approx(expected_score, abs=1e-3)


def test_clicks_and_boxes_lie_where_they_are_given(run_ssam, picture):
    """The network's answer to a click is a disc in its own square image, which is an ellipse here."""
    found, described = read_map(run_ssam(image={"image": str(picture), "foreground": [[70, 8]], "label": "tumour"}))
    rows, columns = np.nonzero(found)
    assert abs(columns.mean() - 70) < 0.6 and abs(rows.mean() - 8) < 0.6
    assert described["label_names"] == {"5": "tumour"}
    assert described["objects"][0]["prompts"]["points"] == [[70, 8]]
    found, described = read_map(run_ssam(image=picture, box=[20, 10, 49, 30]))
    assert described["objects"][0]["prompts"]["box"] == [[20, 10], [49, 30]]
    rows, columns = np.nonzero(found)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == pytest.approx((20, 10, 49, 30), abs=1)


def test_a_box_to_the_size_of_the_picture_is_cut_off_and_it_is_said(run_ssam, picture):
    height, width = np.array(Image.open(picture)).shape[:2]
    _, described = read_map(run_ssam(image=picture, box=[20, 10, width, height]))
    assert described["objects"][0]["prompts"]["box"] == [[20, 10], [width - 1, height - 1]]
    (note,) = [n for n in described["notes"] if "box" in n]
    assert "cut off at the last voxel" in note


def test_a_name_with_clicks_and_a_click_alone_in_one_request(run_ssam, picture, colour_network):
    found, described = read_map(
        run_ssam(
            image=picture,
            labels=["green"],
            objects={"red": {"foreground": [[45, 10]], "background": [[52, 10, 0]]}, "spot": [[85, 45]]},
        )
    )
    assert described["label_names"] == {"1": "red", "2": "green", "5": "spot"}
    expected = blocks()[1]
    # Red, but only near its click and not near the background one.
    assert (found == 1).any() and not ((found == 1) & (expected != 1)).any()
    assert found[10, 44] == 1 and found[10, 55] != 1 and found[10, 70] != 1
    assert overlap(found == 2, expected == 2) > 0.95 and found[45, 85] == 5
    assert sorted(colour_network.decoded) == [1, 1, 1]
    by_name = {o["name"]: o.get("prompts", {}).get("by_name") for o in described["objects"]}
    assert by_name == {"red": True, "green": None, "spot": False}


AFFINES = {
    "as stored by most scanners": np.diag([-0.8, -0.8, 3.0, 1.0]),
    "slices first": np.array([[0, 0.7, 0, 1], [0, 0, -0.9, 2], [-4.0, 0, 0, 3], [0, 0, 0, 1]]),
    "oblique": np.block([[rotation(12, -17, 8) @ np.diag([0.8, 0.9, 3.0]), np.array([[1.0], [2], [3]])], [0, 0, 0, 1]]),
}


def brick(shape: tuple[int, int, int]) -> tuple[slice, ...]:
    return tuple(slice(n // 5, n // 2 + i) for i, n in enumerate(shape))


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
@pytest.mark.parametrize("slice_axis", ["auto", "coronal", 0])
def test_volumes_slice_by_slice_on_their_own_grid(run_ssam, tmp_path, affine, slice_axis):
    shape = (12, 26, 30) if affine[0, 0] == 0 else (26, 30, 12)
    values = np.full(shape, -900, np.int16)
    values[brick(shape)] = 400
    volume = nib.Nifti1Image(values, affine)
    volume.set_sform(affine, code=2)
    volume.header.set_xyzt_units("mm")
    nib.save(volume, tmp_path / "a.nii.gz")
    folder = run_ssam(image=tmp_path / "a.nii.gz", labels=["bright"], slice_axis=slice_axis, overlay=True)
    found = nib.load(folder / "a_seg.nii.gz")
    assert np.array_equal(found.affine, volume.affine) and found.header["sform_code"] == 2
    assert found.get_data_dtype() == np.uint8
    expected = values > 0
    assert overlap(np.asarray(found.dataobj) == 4, expected) > 0.9
    described = json.loads((folder / "a_seg.json").read_text())["objects"][0]
    assert described["voxels"] == int((np.asarray(found.dataobj) == 4).sum())
    assert described["volume_ml"] == pytest.approx(
        described["voxels"] * abs(np.linalg.det(affine[:3, :3])) / 1000, rel=1e-3
    )
    assert (folder / "a_seg_overlay.png").is_file()


def test_a_click_in_a_volume_is_answered_in_its_slice_alone(run_ssam, tmp_path):
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).integers(0, 99, (60, 70, 5), np.int16), AFFINES["oblique"]),
        tmp_path / "a.nii.gz",
    )
    folder = run_ssam(image=tmp_path / "a.nii.gz", foreground=[[15, 50, 3]], probabilities=True)
    found = np.asarray(nib.load(folder / "a_seg.nii.gz").dataobj)
    where = np.argwhere(found)
    assert np.allclose(where.mean(0), (15, 50, 3), atol=0.6) and set(where[:, 2]) == {3}
    assert nib.load(folder / "a_seg_probabilities.nii.gz").shape == (60, 70, 5, 1)
    folder = run_ssam(image=tmp_path / "a.nii.gz", box=[[10, 20, 1], [30, 44, 2]])
    where = np.argwhere(np.asarray(nib.load(folder / "a_seg.nii.gz").dataobj))
    assert where.min(0).tolist() == [10, 20, 1] and where.max(0).tolist() == [30, 44, 2]


def test_nrrd_in_and_out_and_a_slice_with_two_axes(run_ssam, tmp_path):
    values = np.full((26, 30, 4), -900, np.int16)
    values[5:13, 6:20, 1:3] = 400
    image = itk.image_from_array(values.transpose().copy())
    image.SetSpacing((0.5, 0.7, 3.0))
    itk.imwrite(image, str(tmp_path / "a.nrrd"))
    folder = run_ssam(image=tmp_path / "a.nrrd", labels=["bright"], output_ext=".nrrd")
    mask = itk.imread(str(folder / "a_seg.nrrd"))
    assert np.allclose(list(mask.GetSpacing()), (0.5, 0.7, 3.0))
    assert overlap(itk.array_from_image(mask).transpose() == 4, values > 0) > 0.9
    flat = itk.image_from_array(values[:, :, 1].T.copy())
    flat.SetSpacing((0.5, 0.7))
    itk.imwrite(flat, str(tmp_path / "c.mha"))
    folder = run_ssam(image=tmp_path / "c.mha", labels=["bright"], output_ext=".mha")
    mask = itk.imread(str(folder / "c_seg.mha"))
    assert list(mask.GetSpacing())[:2] == pytest.approx((0.5, 0.7))
    assert overlap(itk.array_from_image(mask)[0].T == 4, values[:, :, 1] > 0) > 0.9
    nib.save(nib.Nifti1Image(values[:, :, 1], np.diag([-0.5, -0.7, 1, 1.0])), tmp_path / "b.nii.gz")
    folder = run_ssam(image=tmp_path / "b.nii.gz", labels=["bright"])
    found = np.asarray(nib.load(folder / "b_seg.nii.gz").dataobj)
    assert found.shape == (26, 30) and overlap(found == 4, values[:, :, 1] > 0) > 0.9


def test_a_plain_sam_answers_clicks_and_boxes(run_ssam, picture):
    torch.save(sam_state(small_sam()), picture.with_name("sam.pt"))
    settings = {"image_size": 32, "network_def": small_sam(seed=1), "ckpt_path": picture.with_name("sam.pt")}
    folder = run_ssam(image=picture, box=[20, 10, 49, 30], probabilities=True, **settings)
    found, described = read_map(folder)
    assert described["label_names"] == {"1": "object"} and not described["objects"][0]["prompts"]["by_name"]
    network = small_sam()
    square = normalise(to_network_size(torch.from_numpy(blocks()[0]).permute(2, 0, 1), 32))
    # Centres of pixels of 90 x 50 in an image of 32 x 32.
    corners = [(v + 0.5) * 32 / side - 0.5 for v, side in ((20, W), (10, H), (49, W), (30, H))]
    with torch.no_grad():
        logits, _ = network.decode(network.encode(square[None]), boxes=torch.tensor([corners]))
    expected = torch.nn.functional.interpolate(logits, (H, W), mode="bilinear").sigmoid()[0, 0].numpy()
    assert np.allclose(np.array(Image.open(folder / "a_seg_probabilities.tif")), expected, atol=1e-5)
    assert np.array_equal(found == 1, expected > 0.5)


def test_half_precision_gives_nearly_the_same(run_ssam, picture):
    network = small_sam()
    torch.save(network.state_dict(), picture.with_name("model.pt"))
    settings = {"image": picture, "image_size": 32, "network_def": network, "probabilities": True}
    pages = []
    for amp in (False, True):
        folder = run_ssam(**settings, amp=amp, ckpt_path=picture.with_name("model.pt"))
        pages.append(np.array(Image.open(folder / "a_seg_probabilities.tif")))
    assert 0 < np.abs(pages[0] - pages[1]).max() < 0.05


def test_the_command_line_from_another_folder(run_command, ssam_path, ssam_weights, picture, tmp_path):
    done = run_command(
        tmp_path,
        bundle_root=str(ssam_path),
        config_file=str(ssam_path / "configs" / "inference.json"),
        image=str(picture),
        labels=["polyp", "cancer"],
        ckpt_path=str(ssam_weights),
        output_dir="out",
        device="cpu",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found, described = read_map(tmp_path / "out")
    assert found.shape == (H, W) and set(described["label_names"].values()) == {"polyp", "cancer"}
    assert set(np.unique(found)) <= {0, *(int(v) for v in described["label_names"])}
