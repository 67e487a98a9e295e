# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the export refuses, the network with a refiner, and TensorRT as far as it goes without a GPU."""

import inspect
import json
import logging
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from small_exports import IMAGE, VOLUME, forget, make, needs_onnx

from tools.export import write
from tools.export.__main__ import export, given_options, main, parsed, volume_export
from tools.export.parts import volume_parts
from tools.export.write import write_part

# The default network with its refiner, small.
REFINED = {
    "cube_size": 16,
    "network_def#image_encoder#image_size": 16,
    "network_def#image_encoder#embed_dim": 48,
    "network_def#image_encoder#stem#embed_dim": 48,
}


@pytest.fixture
def volume(tmp_path):
    network, words = make("fastsam3d", tmp_path, ["inference.json", "published.json"], VOLUME)
    yield network, [*words, "--formats", "torchscript"], tmp_path
    forget("fastsam3d")


def test_nothing_is_overwritten(volume, capsys):
    _, words, folder = volume
    (folder / "export").mkdir()
    (folder / "export" / "notes.txt").write_text("mine")
    assert main(words) == 0
    before = {path.name: path.read_bytes() for path in (folder / "export").iterdir()}
    assert sorted(before) == ["decoder.ts", "encoder.ts", "export.json", "notes.txt"]
    assert main(words) == 1
    assert "give another folder" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in (folder / "export").iterdir()}


def test_weights_of_another_network(volume, capsys):
    _, words, folder = volume
    torch.save({"something": torch.zeros(1)}, folder / "weights.pt")
    assert main(words) == 1
    assert "weights of another architecture" in capsys.readouterr().err
    assert not (folder / "export").exists()


def test_a_file_that_computes_something_else_is_not_written(volume, capsys, monkeypatch):
    _, words, folder = volume
    monkeypatch.setattr(write, "TOLERANCE", -1.0)
    assert main(words) == 1
    assert "differs from torch" in capsys.readouterr().err
    assert not list((folder / "export").iterdir())


def test_an_embedding_for_no_mask_is_refused(volume):
    network, _, _ = volume
    network.zeros_for_no_mask = False
    with pytest.raises(ValueError, match="an embedding learned for no mask"):
        volume_parts(network, 32)


@pytest.mark.parametrize("words", [["--cube_size"], ["cube_size", "32"], ["--a", "1", "b"]])
def test_options_that_are_no_pairs(words):
    with pytest.raises(ValueError, match="expected pairs of --id value"):
        given_options(words)


def test_options_are_read_as_json():
    assert given_options(["--a#b", "[1, 2]", "--path", "x/y.pt"]) == {"a#b": [1, 2], "path": "x/y.pt"}


@pytest.fixture
def refined(tmp_path):
    make("fastsam3d", tmp_path, ["inference.json"], REFINED)
    parser = parsed("fastsam3d", ["inference.json"], {**REFINED, "ckpt_path": str(tmp_path / "weights.pt")})
    yield volume_export(parser)[0], tmp_path
    forget("fastsam3d")


def test_the_network_with_a_refiner_as_torchscript(refined):
    parts, folder = refined
    assert parts[1].inputs == ["features", "skip0", "skip1", "detail", "points", "labels", "mask"]
    for part in parts:
        assert write_part(part, "torchscript", folder / f"{part.name}.ts") <= 1e-4


@pytest.mark.slow
@needs_onnx
def test_the_network_with_a_refiner_as_onnx(refined):
    parts, folder = refined
    for part in parts:
        assert write_part(part, "onnx", folder / f"{part.name}.onnx") <= 1e-4


def trt_configuration(bundle, options):
    parser = parsed(bundle, ["inference.json", "inference_trt.json"], {**options, "device": "cpu"})
    return parser, parser["trt_submodules"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU TensorRT compiles, which takes minutes")
@pytest.mark.parametrize(("bundle", "options"), [("fastsam3d", REFINED), ("ssam_2d", IMAGE)])
def test_tensorrt_without_a_gpu_changes_nothing_and_says_so(bundle, options, caplog, tmp_path, monkeypatch):
    # MONAI's loggers do not hand on what they get.
    monkeypatch.setattr(logging.getLogger("monai.networks.trt_compiler"), "handlers", [caplog.handler])
    parser, names = trt_configuration(bundle, {**options, "ckpt_path": str(tmp_path / "weights.pt")})
    try:
        with caplog.at_level(logging.WARNING):
            network = parser.get_parsed_content("network")
        assert network is parser.get_parsed_content("network_def")
        assert "trt_compile() has no effect" in caplog.text
        # Every part that would be compiled is there, and takes and gives single tensors.
        for name in names:
            assert isinstance(network.get_submodule(name), torch.nn.Module)
    finally:
        forget(bundle)


@pytest.mark.slow
@needs_onnx
@pytest.mark.parametrize(("bundle", "options"), [("fastsam3d", REFINED), ("ssam_2d", IMAGE | {"image_size": 32})])
def test_what_tensorrt_compiles_goes_to_onnx_as_monai_does_it(bundle, options, tmp_path):
    """The first of the two steps of trt_compile; the second one needs a GPU."""
    import onnxruntime
    from monai.networks.utils import convert_to_onnx

    parser, names = trt_configuration(bundle, {**options, "ckpt_path": str(tmp_path / "weights.pt")})
    network, seen = parser.get_parsed_content("network_def").eval(), {}
    try:

        def keep(name):
            # A hook that returned something would replace the output.
            return lambda module, inputs, output: seen.update({name: (inputs, output)})

        hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
        size = options.get("cube_size") or options["image_size"]
        with torch.no_grad():
            network(torch.randn(1, *([1] + [size] * 3 if bundle == "fastsam3d" else [3] + [size] * 2)))
        for hook in hooks:
            hook.remove()
        assert sorted(seen) == sorted(names)
        for name, ((image,), output) in seen.items():
            path = tmp_path / f"{name}.onnx"
            module = network.get_submodule(name)
            argument = inspect.getfullargspec(module.forward).args[1]
            convert_to_onnx(module, {argument: image}, input_names=[argument], output_names=["y"], filename=path)
            (ours,) = onnxruntime.InferenceSession(path).run(None, {argument: image.numpy()})
            assert abs(ours - output.numpy()).max() <= 1e-4 * output.abs().max()
    finally:
        forget(bundle)


def test_help_says_what_there_is(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    for word in "torchscript", "onnx", "segment.py", "inference_trt.json", "--ckpt_path":
        assert word in printed


def test_an_unknown_bundle_is_refused(tmp_path):
    with pytest.raises(SystemExit):
        main(["brain2d", "--output", str(tmp_path)])
    with pytest.raises(KeyError):
        export("brain2d", tmp_path, ["onnx"], ["inference.json"], {})


@pytest.mark.parametrize("bundle", ["fastsam3d", "ssam_2d"])
def test_the_overlay_refers_to_what_inference_json_has(bundle):
    parser = ConfigParser()
    parser.read_config([f"bundles/{bundle}/configs/{name}" for name in ("inference.json", "inference_trt.json")])
    assert "$from monai.networks import trt_compile" in parser["imports"]
    assert "$import monai" in parser["imports"]
    overlay = json.loads(Path(f"bundles/{bundle}/configs/inference_trt.json").read_text())
    for name in ("checked_device", "ckpt_path", "network_def"):
        assert f"@{name}" in overlay["network"]
        assert name in parser
    assert sys.modules.get("tensorrt") is None
