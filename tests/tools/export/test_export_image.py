# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""S-SAM as files: the same numbers, names and clicks, and index maps without torch."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from small_exports import needs_onnx

from bundles.ssam_2d.scripts.images import normalise, to_network_size
from tools.export import segment_image

pytestmark = needs_onnx


def outputs(folder, form, name, **inputs):
    if form == "ts":
        found = torch.jit.load(folder / f"{name}.ts")(*inputs.values())
        return found if isinstance(found, tuple) else (found,)
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    return session.run(None, {key: value.numpy() for key, value in inputs.items()})


def same(ours, expected):
    assert tuple(ours.shape) == tuple(expected.shape)
    assert (torch.as_tensor(ours) - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("form", ["onnx", "ts"])
def test_names_and_any_number_of_points(exported_image, form):
    """At twice the size that the positions were made for, as in the bundle."""
    network, folder = exported_image
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, 64, 64, generator=generator)
    with torch.no_grad():
        embedding = network.encode(image)
        (ours,) = outputs(folder, form, "encoder", image=image)
        same(ours, embedding)
        features = torch.randn(1, 20, generator=generator)
        for given, wanted in zip(
            outputs(folder, form, "decoder", embedding=embedding, features=features),
            network.decode(embedding, features),
            strict=True,
        ):
            same(given, wanted)
        for count in (1, 2, 9):
            points = torch.rand(1, count, 2, generator=generator) * 63
            labels = torch.randint(-1, 2, (1, count), generator=generator)
            box = torch.tensor([[[5.0, 9], [40, 50]]])
            # Without a box a point that is none comes last.
            alone = torch.cat([points, torch.zeros(1, 1, 2)], 1), torch.cat([labels, torch.tensor([[-1]])], 1)
            boxed = torch.cat([points, box], 1), torch.cat([labels, torch.tensor([[2, 3]])], 1)
            expected = network.decode(embedding, None, points, labels)
            framed = network.decode(embedding, None, points, labels, box.flatten(1))
            for (places, kinds), wanted in ((alone, expected), (boxed, framed)):
                given = outputs(folder, form, "click_decoder", embedding=embedding, points=places, labels=kinds)
                for ours, theirs in zip(given, wanted, strict=True):
                    same(ours, theirs)


def test_the_picture_is_shown_as_the_bundle_shows_it(exported_image):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    networks = segment_image.Networks(exported_image[1])
    shown = networks.shown(Image.fromarray(pixels))
    expected = normalise(to_network_size(torch.from_numpy(pixels).permute(2, 0, 1), 64))
    assert np.abs(shown[0] - expected.numpy()).max() < 1e-3


def test_segmenting_with_onnxruntime_alone(exported_image, run_alone, tmp_path):
    network, folder = exported_image
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    process = run_alone(folder, tmp_path / "image.png", "--output", tmp_path / "map.png")
    assert process.returncode == 0, process.stderr
    assert "1 gland: " in process.stdout
    assert "3 stroma: " in process.stdout
    found = np.asarray(Image.open(tmp_path / "map.png"))
    image = normalise(to_network_size(torch.from_numpy(pixels).permute(2, 0, 1), 64))[None]
    with torch.no_grad():
        logits, _ = network.decode(network.encode(image), network.label_features)
        enlarged = torch.nn.functional.interpolate(logits, (70, 90), mode="bilinear", align_corners=False)[0]
    expected = torch.where(enlarged.amax(0) > 0, enlarged.argmax(0) + 1, 0).numpy()
    assert found.shape == expected.shape
    assert (found != expected).mean() < 0.005
    words = ["--foreground", 20, 30, "--foreground", 25, 31, "--background", 80, 60, "--box", 10, 10, 60, 50]
    process = run_alone(folder, tmp_path / "image.png", *words, "--output", tmp_path / "object.png")
    assert process.returncode == 0, process.stderr
    assert "1 object: " in process.stdout
    scale = 64 / torch.tensor([90, 70])
    points = (torch.tensor([[[20.0, 30], [25, 31], [80, 60]]]) + 0.5) * scale - 0.5
    box = (torch.tensor([[[10.0, 10], [60, 50]]]) + 0.5) * scale - 0.5
    with torch.no_grad():
        logits, _ = network.decode(network.encode(image), None, points, torch.tensor([[1, 1, 0]]), box.flatten(1))
        enlarged = torch.nn.functional.interpolate(logits, (70, 90), mode="bilinear", align_corners=False)[0, 0]
    assert ((np.asarray(Image.open(tmp_path / "object.png")) > 0) != (enlarged > 0).numpy()).mean() < 0.005


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.png"], "cannot be read"),
        (["image.png", "--labels", "unicorn"], "labels unicorn: expected some of gland, lumen, stroma"),
        (["image.png", "--foreground", "99", "5"], "outside the image of 40 x 30 pixels"),
        (["image.png", "--output", "image.png"], "is the image itself"),
        (["image.png", "--box", "1", "1", "40", "5"], "outside the image of 40 x 30 pixels"),
        (["deep.png"], "expected 8 bits"),
    ],
)
def test_what_the_script_refuses(exported_image, tmp_path, monkeypatch, capsys, words, message):
    Image.fromarray(np.zeros((30, 40), dtype=np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(np.zeros((30, 40), dtype=np.uint16)).save(tmp_path / "deep.png")
    monkeypatch.chdir(tmp_path)
    assert segment_image.main([*words, "--networks", str(exported_image[1])]) == 1
    assert message in capsys.readouterr().err


def test_the_settings(exported_image):
    settings = json.loads((exported_image[1] / "export.json").read_text())
    assert settings["labels"] == ["gland", "lumen", "stroma"]
    assert np.array(settings["label_features"]).shape == (3, 20)
