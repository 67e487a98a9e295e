# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Clicks over HTTP on a real server, with a network whose masks are known to the voxel."""

import nibabel as nib
import numpy as np
import pytest
from blocks import AFFINES, dice, seen, write_blocks

FIRST = (slice(12, 24), slice(18, 30), slice(5, 11))
SECOND = (slice(32, 44), slice(6, 16), slice(20, 30))


@pytest.fixture(scope="module", params=AFFINES)
def blocks(known, request):
    """Name of an image on the server with two blocks, their label map, and the image's affine."""
    affine, name = AFFINES[request.param], f"blocks_{request.param}"
    labels = write_blocks(known.studies / f"{name}.nii.gz", affine, [FIRST, SECOND])
    seen(known, name)
    return name, labels, affine


def test_info_tells_viewers_which_tools_to_offer(known):
    info = known.client().info()
    types = {name: model["type"] for name, model in info["models"].items()}
    assert types == {
        "fastsam3d_deepgrow": "deepgrow",
        "fastsam3d_deepedit": "deepedit",
        "fastsam3d_scribbles": "scribbles",
    }
    assert info["models"]["fastsam3d_deepgrow"]["labels"] == {"liver": 1, "spleen": 2, "tumour": 3}
    assert all(model["dimension"] == 3 for model in info["models"].values())
    assert info["labels"][:3] == ["liver", "spleen", "tumour"]


@pytest.mark.parametrize(
    "prompts",
    [
        {"label": "liver", "foreground": [[17, 23, 8]], "background": []},
        {"points": [[17, 23, 8], [2, 2, 2]], "point_labels": [1, 0]},
        {"liver": [[17, 23, 8]], "background": [[2, 2, 2]]},
        {"roi": [24, 11, 17, 30, 4, 11], "foreground": [], "label": "liver"},
    ],
    ids=["foreground and background", "points and labels", "by name", "region of interest"],
)
def test_the_mask_of_one_object_lies_on_the_image_s_own_grid(known, blocks, prompts):
    name, labels, affine = blocks
    mask, answer = known.infer("fastsam3d_deepgrow", name, **prompts)
    values = np.asarray(mask.dataobj)
    assert values.shape == labels.shape
    assert values.dtype == np.uint8
    assert set(np.unique(values)) == {0, 1}
    assert dice(values > 0, labels == 1) > 0.9
    np.testing.assert_allclose(mask.affine, affine, atol=1e-4)
    (found,) = answer["objects"]
    assert found["voxels"] == (values > 0).sum()
    assert found["volume_ml"] == pytest.approx(found["voxels"] * abs(np.linalg.det(affine[:3, :3])) / 1000, abs=1e-3)
    assert 0 <= found["predicted_iou"] <= 1
    assert {"encode", "decode"} <= set(answer["seconds"])


def test_a_click_comes_back_at_its_voxel(known, blocks):
    """The voxel that was sent is the voxel that was clicked: next to every corner the block is still hit."""
    name, labels, _ = blocks
    for corner in ([13, 19, 6], [22, 28, 9], [13, 28, 6], [33, 7, 21], [42, 14, 28]):
        mask, answer = known.infer("fastsam3d_deepgrow", name, foreground=[corner])
        assert answer["objects"][0]["prompts"]["points"] == [corner]
        assert dice(np.asarray(mask.dataobj) > 0, labels == labels[tuple(corner)]) > 0.9


def test_the_mask_as_a_viewer_gets_it_lies_where_the_image_does(known, blocks):
    import SimpleITK

    name, labels, affine = blocks
    params = {"foreground": [[17, 23, 8]], "result_extension": ".nrrd", "result_dtype": "uint8"}
    file, _ = known.client("nrrd").infer("fastsam3d_deepgrow", name, params)
    mask = SimpleITK.ReadImage(file)
    image = SimpleITK.ReadImage(str(known.studies / f"{name}.nii.gz"))
    for voxel in ((0, 0, 0), (17, 23, 8), tuple(n - 1 for n in labels.shape)):
        place = mask.TransformIndexToPhysicalPoint(voxel)
        np.testing.assert_allclose(place, image.TransformIndexToPhysicalPoint(voxel), atol=1e-3)
    assert dice(SimpleITK.GetArrayFromImage(mask).T > 0, labels == 1) > 0.9


def test_several_objects_are_an_index_map_in_the_order_of_the_request(known, blocks):
    name, labels, _ = blocks
    mask, answer = known.infer("fastsam3d_deepgrow", name, objects={"b": [[37, 10, 25]], "a": [[17, 23, 8]]})
    values = np.asarray(mask.dataobj)
    assert dice(values == 1, labels == 2) > 0.9
    assert dice(values == 2, labels == 1) > 0.9
    assert [(o["name"], o["label"]) for o in answer["objects"]] == [("b", 1), ("a", 2)]


def test_objects_by_label_name_have_the_values_of_the_model_s_labels(known, blocks):
    """A viewer sends every label it knows, and reads the values as the model's."""
    name, labels, _ = blocks
    prompts = {"liver": [], "spleen": [[17, 23, 8]], "tumour": [[37, 10, 25]], "background": [[2, 2, 2]]}
    mask, answer = known.infer("fastsam3d_deepedit", name, label="spleen", **prompts)
    values = np.asarray(mask.dataobj)
    assert set(np.unique(values)) == {0, 2, 3}
    assert dice(values == 2, labels == 1) > 0.9
    assert dice(values == 3, labels == 2) > 0.9
    assert {o["name"]: o["label"] for o in answer["objects"]} == {"spleen": 2, "tumour": 3}
    assert answer["label_names"] == {"background": 0, "liver": 1, "spleen": 2, "tumour": 3}


def test_strokes_are_uploaded_as_3d_slicer_does(known, blocks, tmp_path):
    name, labels, affine = blocks
    drawn = np.zeros(labels.shape, dtype=np.uint8)
    drawn[2:6, 2:6, 2:4] = 2
    drawn[16:19, 22:26, 7:9] = 3
    nib.save(nib.Nifti1Image(drawn, affine), tmp_path / "strokes.nii.gz")
    names = ("liver", "background_scribbles", "foreground_scribbles")
    params = {"roi": [], "label_info": [{"name": n, "id": v} for v, n in enumerate(names, start=1)]}
    mask, answer = known.infer(
        "fastsam3d_scribbles", name, str(tmp_path / "strokes.nii.gz"), selected_label_name="liver", **params
    )
    assert dice(np.asarray(mask.dataobj) > 0, labels == 1) > 0.9
    assert answer["objects"][0]["name"] == "liver"


def test_a_further_click_encodes_nothing_again(known, blocks):
    name, _, _ = blocks
    clicks = [[14, 20, 7], [15, 21, 8]]
    known.infer("fastsam3d_deepgrow", name, foreground=clicks[:1])
    _, answer = known.infer("fastsam3d_deepgrow", name, foreground=clicks)
    assert answer["embeddings"]["computed"] == 0
    assert answer["embeddings"]["reused"] >= 1
    # Another tool on the same image shares what is known of it.
    _, answer = known.infer("fastsam3d_deepedit", name, spleen=clicks)
    assert answer["embeddings"]["computed"] == 0


def test_a_file_that_changed_is_read_again(known):
    path = known.studies / "changing.nii.gz"
    for blocks in ([FIRST], [SECOND], [FIRST]):
        labels = write_blocks(path, np.eye(4), blocks)
        seen(known, "changing")
        click = [(s.start + s.stop) // 2 for s in blocks[0]]
        mask, _ = known.infer("fastsam3d_deepgrow", "changing", foreground=[click])
        assert dice(np.asarray(mask.dataobj) > 0, labels > 0) > 0.9
