# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The configuration as a MONAI Label server calls it: its transforms one by one, the inferer with two arguments."""

import nibabel as nib
import numpy as np
import pytest

GRIDS = {
    "RAS": np.diag([1.0, 1.0, 1.0, 1.0]),
    "LPS": np.diag([-1.0, -1.0, 1.0, 1.0]),
    "thick slices": np.diag([-0.8, 0.8, 3.0, 1.0]),
}


@pytest.fixture(params=GRIDS.values(), ids=GRIDS.keys())
def blob(request, tmp_path):
    """A bright block off the centre of a volume, by its file, and the block."""
    affine = request.param
    shape = (48, 40, 16 if affine[2, 2] > 1 else 44)
    block = np.zeros(shape, dtype=bool)
    block[12:24, 18:30, 5:11] = True
    rng = np.random.default_rng(0)
    image = np.where(block, 1000, 0) + rng.normal(0, 5, shape)
    path = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(image.astype(np.float32), affine), path)
    return path, block


def overlap(data, block):
    mask = data["pred"].numpy()[0] > 0
    return 2 * (mask & block).sum() / (mask.sum() + block.sum())


@pytest.mark.parametrize(
    "request_keys",
    [
        {"label": "tumour", "foreground": [[17, 23, 8]], "background": []},
        {"points": [[17, 23, 8], [2, 2, 2]], "point_labels": [1, 0]},
        {"tumour": [[17, 23, 8]], "background": [[2, 2, 2]]},
    ],
    ids=["foreground and background", "points and labels", "by name"],
)
def test_every_spelling_gives_the_mask_on_the_image_s_grid(serve, blob, request_keys):
    path, block = blob
    data = serve(path, **request_keys)
    assert data["pred"].shape == (1, *block.shape)
    assert overlap(data, block) > 0.9
    found = data["result"]["objects"][0]
    assert found["name"] == ("object" if "points" in request_keys else "tumour")
    assert found["voxels"] == int((data["pred"].numpy() > 0).sum())
    # Nothing of the request that the server needs to write the answer is lost.
    assert data["result_extension"] == ".nrrd"
    np.testing.assert_allclose(np.asarray(data["pred"].meta["affine"]), nib.load(path).affine)


def test_the_second_click_re_uses_the_embedding(serve, blob):
    path, _ = blob
    first = serve(path, foreground=[[17, 23, 8]])["result"]["embeddings"]
    second = serve(path, foreground=[[17, 23, 8], [18, 24, 8]])["result"]["embeddings"]
    assert first["computed"] >= 1
    assert second == {"computed": 0, "reused": first["computed"] + first["reused"]}


def test_strokes_drawn_in_a_viewer_are_told_from_its_other_segments(serve, blob, tmp_path):
    path, block = blob
    drawn = np.zeros(block.shape, dtype=np.uint8)
    drawn[30:40, 5:10, 3:6] = 1
    drawn[2:6, 2:6, 2:4] = 2
    drawn[16:19, 22:26, 7:9] = 3
    upload = tmp_path / "upload.nii.gz"
    nib.save(nib.Nifti1Image(drawn, nib.load(path).affine), upload)
    names = ("spleen", "background_scribbles", "foreground_scribbles")
    segments = [{"name": name, "id": value} for value, name in enumerate(names, start=1)]
    data = serve(path, label=str(upload), label_info=segments, selected_label_name="liver", roi=[])
    assert overlap(data, block) > 0.9
    assert data["result"]["label_names"] == {"1": "liver"}


def test_a_region_of_interest_is_taken_as_a_box(serve, blob):
    path, block = blob
    data = serve(path, label="tumour", foreground=[], roi=[24, 11, 17, 30, 4, 11])
    assert overlap(data, block) > 0.9


def test_a_request_without_prompts_is_refused(serve, blob):
    with pytest.raises(ValueError, match="no prompt was given"):
        serve(blob[0], label="tumour")
