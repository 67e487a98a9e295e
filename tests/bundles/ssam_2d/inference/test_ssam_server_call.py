# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The configuration as a MONAI Label server calls it, and as the Model Zoo's checks load it."""

import itk
import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from colour_network import ColourNetwork
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.transforms import Resize, SaveImaged
from PIL import Image

H, W = 40, 70


@pytest.fixture
def serve(ssam_path, tmp_path):
    """``serve(image, **request) -> data``; one server, many requests, and the network that answers them."""
    parser = ConfigParser()
    parser.read_config(str(ssam_path / "configs" / "inference.json"))
    parser.update({"bundle_root": str(ssam_path), "output_dir": str(tmp_path / "unused"), "prompt_path": None})
    network, inferer = ColourNetwork(), parser.get_parsed_content("inferer")

    def call(image, **request):
        data = {"model": "ssam_2d", "device": "cpu", "result_extension": ".png", **request, "image": str(image)}
        for transform in parser.get_parsed_content("preprocessing").transforms:
            data = transform(data)
        data["pred"] = inferer(data["image"][None].to("cpu"), network)[0]
        for transform in parser.get_parsed_content("postprocessing").transforms:
            if not isinstance(transform, SaveImaged):
                data = transform(data)
        data["pred"] = restored(data["pred"], data["image"].meta)
        return data

    call.network = network
    return call


def restored(result, meta):
    """The server's own last step: it takes the first dimension for channels and resizes where the others differ."""
    size = meta["spatial_shape"][-len(result.shape[1:]) :]
    if np.any(np.not_equal(result.shape[1:], size)):
        result = Resize(spatial_size=size, mode="nearest")(result)
    return result if result.ndim <= 3 else result[0]


@pytest.fixture
def picture(tmp_path):
    values = np.zeros((H, W, 3), np.uint8)
    values[5:15, 30:60, 0] = 255
    Image.fromarray(values).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_picture_comes_back_as_servers_write_it(serve, picture, tmp_path):
    data = serve(picture)
    assert data["pred"].shape == (W, H) and data["pred"].dtype == torch.uint8
    # As the server's writer does it: transposed once, then through ITK.
    itk.imwrite(itk.image_from_array(data["pred"].array.transpose().copy()), str(tmp_path / "mask.png"))
    mask = np.array(Image.open(tmp_path / "mask.png"))
    assert mask.shape == (H, W)
    expected = np.zeros((H, W), bool)
    expected[5:15, 30:60] = True
    assert 2 * ((mask == 1) & expected).sum() / ((mask == 1).sum() + expected.sum()) > 0.95
    assert data["result"]["objects"][0]["name"] == "red" and data["result"]["label_names"]["1"] == "red"
    assert data["image"].meta["original_affine"].shape == (3, 3) and data["result_extension"] == ".png"


@pytest.mark.parametrize(
    "request_keys",
    [
        {"label": "tumour", "foreground": [[50, 10, 0]], "background": []},
        {"label": "tumour", "foreground": [[50, 10]], "background": [[10, 30]]},
        {"points": [[50, 10, 0], [5, 35, 0]], "point_labels": [1, 0]},
        {"tumour": [[50, 10, 0]], "background": [[10, 30, 0]]},
    ],
    ids=["Slicer", "two indices", "points and labels", "by name"],
)
def test_every_spelling_of_a_click(serve, picture, request_keys):
    data = serve(picture, **request_keys)
    columns, rows = np.nonzero(data["pred"].numpy())
    assert abs(columns.mean() - 50) < 1 and abs(rows.mean() - 10) < 1
    (found,) = data["result"]["objects"]
    assert found["name"] == ("object" if "points" in request_keys else "tumour")


def test_the_embedding_is_kept_for_the_next_request(serve, picture):
    first, second = serve(picture), serve(picture, foreground=[[50, 10]])
    assert serve.network.encoded == 1
    assert [d["result"]["embeddings"]["reused"] for d in (first, second)] == [0, 1]
    # Other weights, another embedding.
    with torch.no_grad():
        serve.network.label_features += 0.01
    serve(picture)
    assert serve.network.encoded == 2


def test_a_volume_comes_back_on_its_grid(serve, tmp_path):
    values = np.zeros((30, 24, 6), np.int16)
    values[4:14, 10:20, 2:5] = 900
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, 1.0, 2.0, 1.0])), tmp_path / "a.nii.gz")
    data = serve(tmp_path / "a.nii.gz", labels=["bright"])
    mask = data["pred"].numpy()
    assert mask.shape == values.shape
    assert 2 * ((mask == 4) & (values > 0)).sum() / ((mask == 4).sum() + (values > 0).sum()) > 0.9


def test_the_zoos_checks(ssam_path, ssam_weights, tmp_path):
    configs = ssam_path / "configs"
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        bundle_root=str(ssam_path),
    )
    workflow = ConfigWorkflow(
        config_file=str(configs / "inference.json"),
        meta_file=str(configs / "metadata.json"),
        logging_file=str(configs / "logging.conf"),
        workflow_type="infer",
        bundle_root=str(ssam_path),
        image=str(make_image(tmp_path)),
        ckpt_path=str(ssam_weights),
        output_dir=str(tmp_path / "out"),
    )
    workflow.initialize()
    assert not workflow.check_properties()
    workflow.run()
    workflow.finalize()
    assert (tmp_path / "out" / "b_seg.png").is_file()


def make_image(folder):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (33, 45, 3), np.uint8)).save(folder / "b.png")
    return folder / "b.png"
