# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""ssam_2d on a real server: pictures and slices by label name, and a round of training that brings other labels."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from blocks import dice, post, seen
from colour_network import ColourNetwork
from monai.bundle import ConfigParser
from PIL import Image
from servers import running
from test_server_training import train

from tools.label_server.app_folder import ROOT, copy_bundle, make_app, name_labels

# Columns and rows of a rectangle of each colour.
PATCHES = {"red": (slice(30, 60), slice(5, 15)), "blue": (slice(5, 20), slice(22, 36))}
SHAPE = (70, 40)


def write_picture(path) -> np.ndarray:
    """A picture with a rectangle of each colour; returns the index map (W, H) of ColourNetwork's labels."""
    values, labels = np.zeros((*SHAPE, 3), np.uint8), np.zeros(SHAPE, np.uint8)
    for (place, channel), value in zip(((PATCHES["red"], 0), (PATCHES["blue"], 2)), (1, 3), strict=True):
        values[(*place, channel)] = 255
        labels[place] = value
    Image.fromarray(values.transpose(1, 0, 2)).save(path)
    return labels


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A server with ssam_2d, a network that knows colours in its place."""
    folder = tmp_path_factory.mktemp("colours")
    models, _ = make_app(folder / "app", ["fastsam3d"])
    bundle = folder / "app" / "model" / "ssam_2d"
    copy_bundle(ROOT / "bundles" / "ssam_2d", bundle)
    name_labels(bundle, ColourNetwork().labels)
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text()) | {"network_def": {"_target_": "colour_network.ColourNetwork"}}
    config["prompt_path"] = None
    path.write_text(json.dumps(config))
    torch.save(ColourNetwork().state_dict(), bundle / "models" / "model.pt")
    (folder / "studies").mkdir()
    with running(folder / "app", folder / "studies", [*models, "ssam_2d"], folder) as server:
        yield server


def test_viewers_see_a_model_by_labels(colours):
    model = colours.client().info()["models"]["ssam_2d"]
    assert model["type"] == "segmentation"
    assert model["dimension"] == 2
    assert model["labels"] == {"red": 1, "green": 2, "blue": 3, "bright": 4}


def test_a_picture_comes_back_as_a_picture_of_the_same_size(colours, tmp_path):
    labels = write_picture(colours.studies / "picture.png")
    seen(colours, "picture")
    file, answer = colours.client("png").infer("ssam_2d", "picture", {"result_extension": ".png"})
    mask = np.asarray(Image.open(file))
    assert mask.shape == SHAPE[::-1]
    assert mask.dtype == np.uint8
    for value in (1, 3):
        assert dice(mask.T == value, labels == value) > 0.9
    found = {o["name"]: o for o in answer["objects"]}
    assert found["red"]["label"] == 1
    assert 0 <= found["red"]["predicted_iou"] <= 1
    _, again = colours.client("png").infer("ssam_2d", "picture", {"result_extension": ".png"})
    assert again["embeddings"] == {"computed": 0, "reused": 1}


def test_a_click_in_a_picture(colours):
    write_picture(colours.studies / "clicked.png")
    seen(colours, "clicked")
    params = {"foreground": [[45, 10]], "label": "patch", "result_extension": ".png"}
    file, answer = colours.client("png").infer("ssam_2d", "clicked", params)
    columns, rows = np.nonzero(np.asarray(Image.open(file)).T)
    assert abs(columns.mean() - 45) < 1
    assert abs(rows.mean() - 10) < 1
    assert answer["objects"][0]["name"] == "patch"


def test_a_volume_is_taken_slice_by_slice(colours):
    values = np.zeros((30, 24, 6), np.int16)
    values[4:14, 10:20, 2:5] = 900
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(values, affine), colours.studies / "slices.nii.gz")
    seen(colours, "slices")
    mask, answer = colours.infer("ssam_2d", "slices", labels=["bright"])
    assert dice(np.asarray(mask.dataobj) > 0, values > 0) > 0.9
    np.testing.assert_allclose(mask.affine, affine, atol=1e-4)
    assert [o["name"] for o in answer["objects"]] == ["bright"]


def test_an_unknown_label_is_refused_with_those_that_are_known(colours):
    write_picture(colours.studies / "unknown.png")
    seen(colours, "unknown")
    status, answer = post(colours, "/infer/ssam_2d?image=unknown&output=json", '{"labels": ["violet"]}')
    assert status == 400
    assert "unknown label 'violet': the network knows red, green, blue, bright" in answer["detail"]
    status, answer = post(colours, "/infer/fastsam3d_deepgrow?image=unknown", '{"foreground": [[1, 1, 0]]}')
    assert status == 400
    assert "expected a 3D volume" in answer["detail"]


def random_weights(bundle) -> None:
    """A base and a model of the configuration's own network, untrained."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    sys.path.insert(1, str(bundle))
    try:
        torch.manual_seed(0)
        network = parser.get_parsed_content("network_def")
        torch.nn.init.normal_(network.label_features)
    finally:
        sys.path.remove(str(bundle))
        for name in [n for n in sys.modules if n == "scripts" or n.startswith("scripts.")]:
            del sys.modules[name]
    state = network.state_dict()
    parts = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
    torch.save(state, bundle / "models" / "model.pt")
    torch.save({k: v for k, v in state.items() if k.startswith(parts)}, bundle / "models" / "bases" / "small.pt")


def test_a_round_of_training_on_labels_of_one_s_own(tmp_path):
    """Other names than the weights know: refused with what to do, then trained, then answered without a restart."""
    bundle = tmp_path / "app" / "model" / "ssam_2d"
    make_app(tmp_path / "app", ["fastsam3d"])
    copy_bundle(ROOT / "bundles" / "ssam_2d", bundle)
    random_weights(bundle)
    name_labels(bundle, ["Red Patch", "blue patch"])
    studies = tmp_path / "studies"
    studies.mkdir()
    with running(tmp_path / "app", studies, ["ssam_2d"], tmp_path) as server:
        names = [f"case_{k}" for k in range(3)]
        for name in names:
            labels = write_picture(studies / f"{name}.png")
            labels[labels == 3] = 2
            Image.fromarray(labels.T).save(tmp_path / f"{name}.png")
        seen(server, *names)
        status, answer = post(server, "/infer/ssam_2d?image=case_0&output=json", "{}")
        assert status == 400
        assert "ssam_2d was not trained on red patch, blue patch yet: label some images by hand" in answer["detail"]
        for name in names:
            server.client().save_label(name, str(tmp_path / f"{name}.png"), tag="final", params={"client": "test"})
        before = (bundle / "models" / "model.pt").read_bytes()
        assert train(server, "ssam_2d")["status"] == "DONE", server.log()[-3000:]
        assert [p.read_bytes() for p in (bundle / "models").glob("model_*.pt")] == [before]
        adapter = list((bundle / "runs").rglob("adapter.safetensors"))
        assert len(adapter) == 1
        status, answer = post(server, "/infer/ssam_2d?image=case_0&output=json", "{}")
        assert status == 200, answer
        assert [o["name"] for o in answer["objects"]] == ["Red Patch", "blue patch"]
