# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""inference.json from the file to the mask, its description and its picture."""

import hashlib
import json

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out
from volumes import Phantom, dice, grid_around, rotation, write_nifti

from bundles.fastsam3d.scripts.inference.writer import SaveSegmentationd

GRID = grid_around(rotation(10, 5, -20) * [2.0, 2.0, 2.5], (30, 28, 24))
# Two bodies that do not touch, and what lies between them.
PAIR = Phantom(((0, -30, 45), (8, 9, 8)), ((24, -30, 45), (9, 8, 9)), ramp=4)
WINDOW = [-100.0, 100.0]


@pytest.fixture
def pair(tmp_path):
    return write_nifti(tmp_path / "pair.nii.gz", PAIR.image(GRID), GRID, sform=4, qform=2)


def masks_beside(tmp_path, name, values):
    return write_nifti(tmp_path / name, values.astype(np.uint8), GRID)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["from the repository", "from another folder"])
def test_the_command(run_command, fastsam3d_path, random_weights, tmp_path, elsewhere, pair):
    """The issue's own command line, from the repository's root and from anywhere."""
    root = fastsam3d_path.parent.parent
    bundle = str(fastsam3d_path) if elsewhere else "bundles/fastsam3d"
    (tmp_path / "cwd").mkdir()
    done = run_command(
        tmp_path / "cwd" if elsewhere else root,
        bundle_root=bundle,
        config_file=f"{bundle}/configs/inference.json",
        image=str(pair),
        foreground=[[round(x) for x in PAIR.click(GRID)]],
        output_dir=str(tmp_path / "out"),
        ckpt_path=str(random_weights),
        cube_size=64,
        device="cpu",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["pair_seg.json", "pair_seg.nii.gz", "pair_seg.png"]
    mask, image = nib.load(tmp_path / "out/pair_seg.nii.gz"), nib.load(pair)
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.shape == image.shape and mask.get_data_dtype() == np.uint8
    summary = json.loads((tmp_path / "out/pair_seg.json").read_text())
    assert summary["objects"][0]["voxels"] == int((np.asarray(mask.dataobj) == 1).sum())
    assert not any((tmp_path / "cwd").iterdir())


def test_header_of_the_mask(run_bundle, pair):
    mask, _ = run_bundle(image=pair, foreground=[PAIR.click(GRID)], window=WINDOW)
    image = nib.load(pair)
    for header in (mask.header, image.header):
        assert (int(header["sform_code"]), int(header["qform_code"])) == (4, 2)
        assert header.get_xyzt_units() == ("mm", "sec")
    np.testing.assert_array_equal(mask.header.get_sform(), image.header.get_sform())
    np.testing.assert_array_equal(mask.header.get_qform(), image.header.get_qform())
    np.testing.assert_array_equal(mask.header.get_zooms(), image.header.get_zooms())
    assert mask.get_data_dtype() == np.uint8
    assert set(np.unique(mask.dataobj)) == {0, 1}


@pytest.mark.parametrize("code", ["sform", "qform"])
def test_a_header_with_one_of_the_two_affines(run_bundle, tmp_path, code):
    file = write_nifti(tmp_path / "one.nii.gz", PAIR.image(GRID), GRID, **{"sform": 0, "qform": 0, code: 1})
    mask, _ = run_bundle(image=file, foreground=[PAIR.click(GRID)], window=WINDOW)
    image = nib.load(file)
    assert int(mask.header["sform_code"]) == int(image.header["sform_code"])
    assert int(mask.header["qform_code"]) == int(image.header["qform_code"])
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert dice(mask.get_fdata(), PAIR.truth(GRID)) >= 0.97


@pytest.mark.parametrize("kind", ["NIfTI-2", "big-endian"])
def test_rarer_kinds_of_nifti(run_bundle, tmp_path, kind):
    image = nib.Nifti1Image(PAIR.image(GRID), GRID.affine)
    if kind == "NIfTI-2":
        image = nib.Nifti2Image.from_image(image)
    else:
        image = nib.Nifti1Image(image.get_fdata(dtype=np.float32), GRID.affine, image.header.as_byteswapped(">"))
    nib.save(image, tmp_path / "rare.nii.gz")
    mask, _ = run_bundle(image=tmp_path / "rare.nii.gz", foreground=[PAIR.click(GRID)], window=WINDOW)
    np.testing.assert_array_equal(mask.affine, nib.load(tmp_path / "rare.nii.gz").affine)
    assert dice(mask.get_fdata(), PAIR.truth(GRID)) >= 0.97


def test_summary(run_bundle, pair, tmp_path):
    clicks = [PAIR.click(GRID), [3.0, 4, 5]]
    mask, summary = run_bundle(image=pair, points=clicks, point_labels=[1, 0], window=WINDOW)
    (described,) = summary["objects"]
    voxels = int((np.asarray(mask.dataobj) == 1).sum())
    assert summary["label_names"] == {"1": "object"}
    assert summary["image"] == str(pair) and summary["mask"] == "pair_seg.nii.gz"
    assert (described["name"], described["label"], described["voxels"]) == ("object", 1, voxels)
    assert described["volume_ml"] == pytest.approx(voxels * 2 * 2 * 2.5 / 1000, abs=1e-3)
    np.testing.assert_allclose(described["prompts"]["points"], clicks)
    assert described["prompts"]["point_labels"] == [1, 0]
    assert described["prompts"]["box"] is None
    # In the order in which they were looked at.
    assert [c["spacing_mm"] for c in described["cubes"]] == pytest.approx([1.5, 0.75])
    assert 0 <= described["predicted_iou"] <= 1
    assert summary["seconds"].keys() == {"encode", "decode"} and min(summary["seconds"].values()) > 0
    assert summary["notes"] == [] and described["notes"] == []
    weights = (tmp_path / "stand_in.pt").read_bytes()
    assert summary["weights"] == {"file": "stand_in.pt", "sha256": hashlib.sha256(weights).hexdigest()[:16]}
    assert summary["bundle_version"]


def test_picture(run_workflow, pair):
    folder = run_workflow(image=pair, foreground=[PAIR.click(GRID)], window=WINDOW, preview=True)
    picture = matplotlib.image.imread(folder / "pair_seg.png")
    assert picture.shape[0] > 300 and picture.shape[1] > 900
    assert picture[..., :3].std() > 0.05


def test_nothing_found_is_said(run_bundle, pair):
    mask, summary = run_bundle(image=pair, foreground=[[1, 1, 1]], window=WINDOW, preview=True)
    assert not np.asarray(mask.dataobj).any()
    assert "found nothing" in summary["objects"][0]["notes"][0]


@pytest.mark.parametrize(
    "spelling",
    [
        lambda p: {"foreground": [p]},
        lambda p: {"foreground": p},
        lambda p: {"points": [p], "point_labels": [1]},
        lambda p: {"points": [p, [0, 0, 0]], "point_labels": [1, -1]},
        lambda p: {"objects": {"left": [p]}},
        lambda p: {"objects": {"left": {"foreground": [p], "background": [[1, 1, 1]]}}},
        lambda p: {"objects": {"left": {"points": [p], "point_labels": [1]}}},
        lambda p: {"foreground": np.array([p])},
        lambda p: {"foreground": [tuple(p)], "background": []},
    ],
)
def test_spellings(run_bundle, pair, spelling):
    mask, summary = run_bundle(image=pair, window=WINDOW, **spelling(PAIR.click(GRID)))
    assert dice(mask.get_fdata(), PAIR.truth(GRID)) >= 0.97
    assert summary["label_names"]["1"] in ("left", "object")


def test_several_objects(run_bundle, pair):
    left, right = PAIR.click(GRID, 0), PAIR.click(GRID, 1)
    objects = {"right": [right], "nothing": [[1, 1, 1]], "left": {"foreground": [left], "background": [right]}}
    mask, summary = run_bundle(image=pair, window=WINDOW, objects=objects, preview=True)
    values = np.asarray(mask.dataobj)
    assert summary["label_names"] == {"1": "right", "2": "nothing", "3": "left"}
    assert [o["name"] for o in summary["objects"]] == ["right", "nothing", "left"]
    assert set(np.unique(values)) == {0, 1, 3}
    assert dice(values == 1, PAIR.truth(GRID, 1)) >= 0.97
    assert dice(values == 3, PAIR.truth(GRID, 0)) >= 0.97
    assert [o["voxels"] for o in summary["objects"]] == [int((values == v).sum()) for v in (1, 2, 3)]


def test_the_same_object_twice_is_not_lost(run_bundle, pair):
    click = PAIR.click(GRID)
    mask, summary = run_bundle(image=pair, window=WINDOW, objects={"a": [click], "b": [click]})
    first, second = summary["objects"]
    assert first["voxels"] > 0 and second["voxels"] == 0
    assert "cover all of it" in second["notes"][0]
    assert dice(mask.get_fdata(), PAIR.truth(GRID)) >= 0.97


@pytest.mark.parametrize("takes_boxes", [True, False])
def test_box(run_bundle, threshold_network, pair, takes_boxes):
    threshold_network.prompt_encoder.takes_boxes = takes_boxes
    voxels = np.argwhere(PAIR.truth(GRID, 1))
    box = [voxels.min(axis=0).tolist(), voxels.max(axis=0).tolist()]
    mask, summary = run_bundle(image=pair, window=WINDOW, box=box)
    assert dice(mask.get_fdata(), PAIR.truth(GRID, 1)) >= 0.97
    assert summary["objects"][0]["prompts"]["box"] == box
    if takes_boxes:
        low, high = threshold_network.calls[0]["boxes"][0].numpy()
        assert (low < high).all() and (low >= -0.5).all() and (high <= 31.5).all()
        assert threshold_network.calls[0]["points"].shape == (1, 0, 3)
    else:
        assert all(c["boxes"] is None for c in threshold_network.calls)
        assert "no boxes" in summary["objects"][0]["notes"][0]


def test_scribble(run_bundle, threshold_network, pair, tmp_path):
    strokes = np.zeros(GRID.shape, np.uint8)
    middle = np.round(PAIR.click(GRID, 1)).astype(int)
    strokes[middle[0] - 2 : middle[0] + 3, middle[1], middle[2]] = 1
    other = np.round(PAIR.click(GRID, 0)).astype(int)
    strokes[other[0], other[1] - 2 : other[1] + 3, other[2]] = 2
    file = masks_beside(tmp_path, "strokes.nii.gz", strokes)
    mask, summary = run_bundle(image=pair, window=WINDOW, scribble=str(file))
    assert dice(mask.get_fdata(), PAIR.truth(GRID, 1)) >= 0.97
    assert summary["objects"][0]["prompts"]["scribble"] == str(file)
    # As a click in their middle: shown all points of a stroke at once, the network marks too much.
    assert all(c["labels"].flatten().tolist() == [1] for c in threshold_network.calls)


def test_lasso(run_bundle, threshold_network, pair, tmp_path):
    outline = PAIR.truth(GRID, 1).astype(np.uint8)
    middle = np.round(PAIR.click(GRID, 1)).astype(int)
    outline[:, :, np.arange(GRID.shape[2]) != middle[2]] = 0
    file = masks_beside(tmp_path, "lasso.nii.gz", outline)
    mask, summary = run_bundle(image=pair, window=WINDOW, lasso=str(file))
    assert dice(mask.get_fdata(), PAIR.truth(GRID, 1)) >= 0.97
    (found,) = summary["objects"]
    assert found["prompts"]["lasso"] == str(file) and set(found["prompts"]["point_labels"]) == {0, 1}


def test_previous_mask(run_bundle, threshold_network, pair, tmp_path):
    """The last mask alone comes back as it is; a click on the other object adds that one to it."""
    before = PAIR.truth(GRID, 1) & (np.indices(GRID.shape)[0] % 3 > 0)
    file = masks_beside(tmp_path, "before.nii.gz", before)
    mask, _ = run_bundle(image=pair, window=WINDOW, previous_mask=str(file))
    assert np.array_equal(mask.get_fdata() > 0, before) and not threshold_network.calls
    mask, _ = run_bundle(image=pair, window=WINDOW, previous_mask=str(file), foreground=[PAIR.click(GRID, 0)])
    assert threshold_network.calls[-1]["masks"] is not None
    assert dice(mask.get_fdata() > 0, before | PAIR.truth(GRID, 0)) >= 0.75


def test_a_list_of_images(run_workflow, tmp_path):
    for k in range(3):
        write_nifti(tmp_path / f"case{k}.nii.gz", PAIR.image(GRID), GRID)
    images = [str(tmp_path / f"case{k}.nii.gz") for k in range(3)]
    folder = run_workflow(image=images[:2], foreground=[PAIR.click(GRID)], window=WINDOW)
    assert sorted(p.name for p in folder.glob("*.nii.gz")) == ["case0_seg.nii.gz", "case1_seg.nii.gz"]
    own = [{"image": images[0], "foreground": [PAIR.click(GRID, 1)]}, {"image": images[1]}, images[2]]
    folder = run_workflow(image=own, foreground=[PAIR.click(GRID, 0)], window=WINDOW, separate_folder=True)
    for k, ball in enumerate((1, 0, 0)):
        mask = nib.load(folder / f"case{k}" / f"case{k}_seg.nii.gz")
        assert dice(mask.get_fdata(), PAIR.truth(GRID, ball)) >= 0.97
        assert (folder / f"case{k}" / f"case{k}_seg.json").is_file()


def test_one_dictionary_is_one_image(run_bundle, pair):
    mask, _ = run_bundle(image={"image": str(pair), "foreground": [PAIR.click(GRID, 1)]}, window=WINDOW)
    assert dice(mask.get_fdata(), PAIR.truth(GRID, 1)) >= 0.97


def test_names_of_the_results(run_workflow, pair):
    folder = run_workflow(image=pair, foreground=[PAIR.click(GRID)], output_postfix="organ", output_ext=".nii")
    assert sorted(p.name for p in folder.iterdir()) == ["pair_organ.json", "pair_organ.nii"]
    # A second run replaces the first one's files and leaves nothing else behind.
    run_workflow(
        image=pair, foreground=[PAIR.click(GRID, 1)], output_dir=str(folder), output_postfix="organ", output_ext=".nii"
    )
    assert sorted(p.name for p in folder.iterdir()) == ["pair_organ.json", "pair_organ.nii"]


def test_switches_as_a_command_line_gives_them(run_workflow, pair):
    """``--preview false`` arrives as a word."""
    folder = run_workflow(image=pair, foreground=[PAIR.click(GRID)], preview="false", separate_folder="True")
    assert sorted(p.name for p in (folder / "pair").iterdir()) == ["pair_seg.json", "pair_seg.nii.gz"]
    with pytest.raises(ValueError, match="preview"):
        SaveSegmentationd(preview="perhaps", output_dir=str(folder))


def test_a_click_names_its_own_voxel(run_bundle, tmp_path):
    """Voxel indices are those of the stored file: a body of a single voxel is found by its index alone."""
    grid = grid_around(np.diag([-3.0, 3.0, 3.0])[:, [1, 2, 0]], (16, 14, 12))
    values = np.full(grid.shape, -100, np.float32)
    values[5, 9, 4] = 100
    file = write_nifti(tmp_path / "dot.nii.gz", values, grid)
    mask, _ = run_bundle(image=file, foreground=[[5, 9, 4]], window=WINDOW)
    assert np.argwhere(np.asarray(mask.dataobj)).tolist() == [[5, 9, 4]]


def test_more_than_255_objects_need_two_bytes(run_bundle, pair):
    click = PAIR.click(GRID)
    objects = {f"nothing {k}": [[1, 1, 1]] for k in range(255)} | {"last": [click]}
    mask, summary = run_bundle(image=pair, window=WINDOW, objects=objects, max_objects=300)
    assert mask.get_data_dtype() == np.uint16
    assert set(np.unique(mask.dataobj)) == {0, 256}
    assert summary["objects"][255]["voxels"] == int((np.asarray(mask.dataobj) == 256).sum())


def test_amp_gives_nearly_the_same(run_bundle, pair, random_weights):
    click = [PAIR.click(GRID)]
    exact, _ = run_bundle(image=pair, foreground=click, ckpt_path=random_weights)
    half, _ = run_bundle(image=pair, foreground=click, ckpt_path=random_weights, amp=True)
    assert exact.get_fdata().any()
    assert dice(exact.get_fdata(), half.get_fdata()) > 0.9


def test_runs_are_repeatable(run_bundle, pair, random_weights):
    one, _ = run_bundle(image=pair, foreground=[PAIR.click(GRID)], ckpt_path=random_weights)
    two, _ = run_bundle(image=pair, foreground=[PAIR.click(GRID)], ckpt_path=random_weights)
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(two.dataobj))


def test_network_def_takes_an_image_alone(fastsam3d_path):
    """The Model Zoo's check, on a smaller cube than the metadata names."""
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(fastsam3d_path / "configs/metadata.json"),
        config_file=str(fastsam3d_path / "configs/inference.json"),
        device="cpu",
        **{"_meta_#network_data_format#inputs#image#spatial_shape": [32, 32, 32]},
    )


def test_properties_of_the_workflow(fastsam3d_path, tmp_path):
    (tmp_path / "volume.nii.gz").write_bytes(b"")
    workflow = ConfigWorkflow(
        config_file=str(fastsam3d_path / "configs/inference.json"),
        workflow_type="infer",
        logging_file=False,
        image=str(tmp_path / "volume.nii.gz"),
        foreground=[[1, 2, 3]],
        output_dir=str(tmp_path),
        bundle_root=str(fastsam3d_path),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_called_as_a_server_does(fastsam3d_path, pair, threshold_network):
    """MONAI Label's order: each transform by itself, ``inferer(image[None], network)``, then postprocessing."""
    parser = ConfigParser()
    parser.read_config(str(fastsam3d_path / "configs/inference.json"))
    parser["bundle_root"] = str(fastsam3d_path)
    parser["window"] = WINDOW
    parser["cube_size"] = 32
    data = {"image": str(pair), "left": [PAIR.click(GRID, 0)], "right": [PAIR.click(GRID, 1)], "model": "fastsam3d"}
    for transform in parser.get_parsed_content("preprocessing").transforms:
        data = transform(data)
    data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], threshold_network)[0]
    data = parser.get_parsed_content("postprocessing#transforms#0")(data)
    assert data["result"]["label_names"] == {"1": "left", "2": "right"}
    assert data["pred"].shape == (1, *GRID.shape)
    assert dice(data["pred"][0] == 2, PAIR.truth(GRID, 1)) >= 0.97
    assert torch.equal(data["pred"].affine, data["image"].affine)
