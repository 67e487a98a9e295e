# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Whatever a client sends, it gets an HTTP error with a clear sentence, and the server goes on."""

import json

import nibabel as nib
import numpy as np
import pytest
from blocks import post, seen, write_blocks

CLICK = {"foreground": [[17, 23, 8]]}


@pytest.fixture(scope="module")
def image(known):
    write_blocks(known.studies / "errors.nii.gz", np.eye(4), [(slice(12, 24), slice(18, 30), slice(5, 11))])
    seen(known, "errors")
    return "errors"


def infer(server, params, image="errors", model="fastsam3d_deepgrow"):
    text = params if isinstance(params, str) else json.dumps(params)
    return post(server, f"/infer/{model}?image={image}&output=json", text)


@pytest.mark.parametrize(
    "params, sentence",
    [
        ({"foreground": [[99, 0, 0]]}, "foreground [99.0, 0.0, 0.0] lies outside the volume"),
        ({"foreground": [[1, 2]]}, "expected a list of [i, j, k] voxel indices"),
        ({"background": [[1, 2, 3]]}, "expected at least one foreground point"),
        ({"points": [[1, 2, 3]], "point_labels": [1, 0]}, "expected one label for each point"),
        ({"box": [[9, 9, 9], [1, 1, 1]]}, "minimum above its maximum"),
        ({"scribble": "/nowhere/scribble.nii.gz"}, "a server opens no file that a request names"),
        ({}, "no prompt was given"),
        ({**CLICK, "device": "tpu"}, "device 'tpu' is not there: expected one of"),
        ({**CLICK, "device": "cuda:77"}, "device 'cuda:77' is not there: expected one of"),
        ({**CLICK, "device": 5}, "is not there: expected one of"),
        ('{"foreground": [[1, 2', "params is not valid JSON"),
        ("[1, 2]", "expected an object"),
        ('"liver"', "expected an object"),
    ],
)
def test_bad_input_is_refused_with_its_reason(known, image, params, sentence):
    status, answer = infer(known, params)
    assert status == 400
    assert sentence in answer["detail"]
    assert "Traceback" not in answer["detail"]


def test_a_name_that_is_none_of_the_server_s_labels_is_refused(known, image):
    status, answer = infer(known, {"livr": [[17, 23, 8]]}, model="fastsam3d_deepedit")
    assert status == 400
    assert "unknown label 'livr': the server was started with liver, spleen, tumour" in answer["detail"]


def test_what_is_not_there_is_named(known, image):
    status, answer = infer(known, CLICK, image="nobody")
    assert status == 404
    assert "there is no image 'nobody'" in answer["detail"]
    assert "expected one of" in answer["detail"]
    status, answer = infer(known, CLICK, model="nothing")
    assert status == 404
    assert "there is no model 'nothing': expected one of fastsam3d_deepedit" in answer["detail"]
    status, answer = infer(known, CLICK, image="")
    assert status >= 400
    assert answer["detail"]


@pytest.mark.parametrize(
    "name, write",
    [
        ("broken", lambda path: path.write_bytes(b"this is no image")),
        ("flat", lambda path: nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.float32), np.eye(4)), path)),
    ],
)
def test_an_image_that_is_none_is_refused(known, name, write):
    write(known.studies / f"{name}.nii.gz")
    seen(known, name)
    status, answer = infer(known, {"foreground": [[1, 1, 1]]}, image=name)
    assert status == 400
    assert f"{name}.nii.gz" in answer["detail"]
    assert "expected" in answer["detail"]


def test_a_label_for_no_image_is_refused(known, tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.uint8), np.eye(4)), tmp_path / "label.nii.gz")
    from monailabel.client.client import MONAILabelClientException

    with pytest.raises(MONAILabelClientException) as refused:
        known.client().save_label("nobody", str(tmp_path / "label.nii.gz"), tag="final")
    assert "Status: 404" in refused.value.msg
    assert "there is no image 'nobody'" in refused.value.msg


def test_an_empty_folder_of_studies_is_served_and_said(start, tmp_path):
    (tmp_path / "studies").mkdir()
    with start(tmp_path / "studies") as server:
        assert server.client().info()["datastore"]["total"] == 0
        assert server.client().next_sample("first", {}) == {}
        status, answer = infer(server, CLICK, image="any")
        assert status == 404
        assert "the folder of studies is empty" in answer["detail"]


def test_after_all_that_the_server_answers(known, image):
    status, answer = infer(known, CLICK)
    assert status == 200
    assert answer["objects"][0]["voxels"] > 0
    assert known.process.poll() is None
