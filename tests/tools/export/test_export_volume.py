# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""FastSAM3D as files: the same numbers, any number of points, and masks at their place without torch."""

import json

import nibabel as nib
import numpy as np
import onnxruntime
import pytest
import torch
from small_exports import needs_onnx

from common.geometry import Grid, cube_around, resample
from common.intensity import intensity_bounds, normalise, normalise_above_zero
from tools.export import segment_volume

pytestmark = needs_onnx
# Oblique, flipped, anisotropic, in another order of axes; finer than the cube along two axes.
AFFINES = {
    "plain": np.diag([1.5, 1.5, 1.5, 1.0]),
    "flipped": np.array([[-0.7, 0, 0, 20], [0, -0.7, 0, 5], [0, 0, 3.0, -30], [0, 0, 0, 1.0]]),
    "turned": np.array([[0, 0.1, 2.0, -9], [0.8, 0.05, 0, 3], [0.05, -0.8, 0.1, 11], [0, 0, 0, 1.0]]),
}


def phantom(affine, shape=(40, 44, 30), centre=(18, 20, 14)):
    """A ball of 200 above a background of -20, given in mm."""
    places = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    middle = affine[:3, :3] @ centre + affine[:3, 3]
    distance = np.linalg.norm(places - middle, axis=-1)
    return (220 / (1 + np.exp((distance - 9) / 1.5)) - 20).astype(np.float32)


def test_the_files(exported_volume):
    network, folder = exported_volume
    assert sorted(f.name for f in folder.iterdir()) == [
        "decoder.onnx",
        "decoder.ts",
        "encoder.onnx",
        "encoder.ts",
        "export.json",
        "segment.py",
    ]
    settings = json.loads((folder / "export.json").read_text())
    assert settings["normalisation"] == "above_zero"
    assert (settings["cube_size"], settings["rounds"], settings["spacing"]) == (32, 1, 1.5)
    assert settings["parts"]["decoder"]["inputs"] == ["features", "points", "labels", "mask"]


@pytest.mark.parametrize("points", [1, 2, 4, 17])
@pytest.mark.parametrize("form", ["onnx", "ts"])
def test_any_number_of_points(exported_volume, form, points):
    network, folder = exported_volume
    generator = torch.Generator().manual_seed(points)
    image = torch.randn(1, 1, 32, 32, 32, generator=generator)
    places = torch.rand(1, points, 3, generator=generator) * 31
    labels = torch.randint(0, 2, (1, points), generator=generator)
    mask = 5 * torch.randn(1, 1, 16, 16, 16, generator=generator)
    with torch.no_grad():
        embedding = network.encode(image)
        expected = network.decode(embedding, places, labels, None, mask)
        nothing = network.decode(embedding, places, labels)
        if form == "ts":
            encoder, decoder = (torch.jit.load(folder / f"{name}.ts") for name in ("encoder", "decoder"))
            features = encoder(image)
            features = features[0] if isinstance(features, tuple) else features
            ours, first = decoder(features, places, labels, mask), decoder(features, places, labels, 0 * mask)
        else:
            encoder, decoder = (onnxruntime.InferenceSession(folder / f"{n}.onnx") for n in ("encoder", "decoder"))
            features = torch.from_numpy(encoder.run(None, {"image": image.numpy()})[0])
            inputs = {"features": features, "points": places, "labels": labels, "mask": mask}
            ours = decoder.run(None, {name: value.numpy() for name, value in inputs.items()})
            inputs["mask"] = 0 * mask
            first = decoder.run(None, {name: value.numpy() for name, value in inputs.items()})
    pairs = zip([features, *ours, *first], [embedding.features, *expected, *nothing], strict=True)
    for given, wanted in pairs:
        assert tuple(given.shape) == tuple(wanted.shape)
        assert (torch.as_tensor(given) - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("how", ["clipped", "above_zero"])
@pytest.mark.parametrize("name", AFFINES)
def test_without_torch_the_network_is_shown_the_same(name, how):
    affine = AFFINES[name]
    values = phantom(affine)
    settings = {"cube_size": 24, "spacing": 1.5, "window": "auto", "normalisation": how}
    centre = affine[:3, :3] @ [17, 22, 13] + affine[:3, 3]
    ours = segment_volume.look(values, affine, segment_volume.cube_around(centre, 1.5, 24), settings)
    volume = torch.from_numpy(values)[None]
    shown, inside = resample(volume, Grid(affine, values.shape), cube_around(centre, 1.5, 24))
    form = normalise if how == "clipped" else normalise_above_zero
    expected = form(shown, inside, intensity_bounds(volume, "auto"))[0].numpy()
    assert np.abs(ours - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("name", AFFINES)
def test_a_mask_comes_back_to_its_place(name):
    """Logits of a ball in the cube's cells, cut out of space: the mask is the ball on the volume's grid."""
    affine, size = AFFINES[name], 48
    middle = affine[:3, :3] @ [18, 20, 14] + affine[:3, 3]
    cube = segment_volume.cube_around(middle + [3.3, -2.1, 1.7], 1.5, size)
    cells = np.moveaxis(np.indices((24, 24, 24)), 0, -1) * 2 + 0.5
    distance = np.linalg.norm(cells @ cube[:3, :3].T + cube[:3, 3] - middle, axis=-1)
    mask = segment_volume.bring_back((9 - distance).astype(np.float32), cube, size, affine, (40, 44, 30))
    truth = phantom(affine) > 90
    dice = 2 * (mask * truth).sum() / (mask.sum() + truth.sum())
    assert dice > 0.96


def test_segmenting_with_onnxruntime_alone(exported_volume, run_alone, tmp_path):
    """The mask of the script is that of the torch network in the very same cube."""
    network, folder = exported_volume
    affine = AFFINES["flipped"]
    values = phantom(affine)
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "scan.nii.gz")
    words = [tmp_path / "scan.nii.gz", "--output", tmp_path / "mask.nii.gz", "--foreground", 18, 20, 14]
    process = run_alone(folder, *words, "--background", 30, 20, 14)
    assert process.returncode == 0, process.stderr
    mask = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(mask.affine, affine)
    assert f"{int(mask.get_fdata().sum())} voxels" in process.stdout
    settings = json.loads((folder / "export.json").read_text())
    clicks = segment_volume.to_mm(affine, np.array([[18.0, 20, 14], [30, 20, 14]]))
    cube = segment_volume.cube_around(clicks[0], 1.5, 32)
    shown = torch.from_numpy(segment_volume.look(values, affine, cube, settings))[None, None]
    points = torch.from_numpy(segment_volume.to_mm(np.linalg.inv(cube), clicks)).float()[None]
    with torch.no_grad():
        embedding = network.encode(shown)
        first, _ = network.decode(embedding, points[:, :1], torch.tensor([[1]]))
        logits, _ = network.decode(embedding, points, torch.tensor([[1, 0]]), None, first.clamp(-10, 10))
    expected = segment_volume.bring_back(logits[0, 0].numpy(), cube, 32, affine, values.shape)
    assert expected.any()
    assert (mask.get_fdata() != expected).sum() <= 1e-3 * expected.size


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.nii.gz", "--foreground", "1", "1", "1"], "cannot be read"),
        (["scan.nii.gz", "--foreground", "99", "1", "1"], "one lies outside the volume"),
        (["scan.nii.gz", "--foreground", "1", "1", "1", "--output", "scan.nii.gz"], "is the volume itself"),
        (["text.nii.gz", "--foreground", "1", "1", "1"], "cannot be read"),
    ],
)
def test_what_the_script_refuses(exported_volume, tmp_path, monkeypatch, capsys, words, message):
    nib.save(nib.Nifti1Image(phantom(AFFINES["plain"]), AFFINES["plain"]), tmp_path / "scan.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no volume")
    monkeypatch.chdir(tmp_path)
    assert segment_volume.main([*words, "--networks", str(exported_volume[1])]) == 1
    assert message in capsys.readouterr().err
