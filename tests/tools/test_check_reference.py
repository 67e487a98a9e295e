# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The tool agrees with the published networks, and says no where it must."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bundles.fastsam3d.scripts.networks.image_encoder import ImageEncoder3D
from bundles.ssam_2d.scripts import lite_medsam
from tools.check_reference import KINDS, check, main

GOLDEN = Path("../shared/golden")
# One kind has several files; the others have one of the kind's own name.
FILES = [kind for kind in KINDS if kind not in ("svdsam_layer", "lite_medsam")]
FILES += ["svdsam_linear_wide", "svdsam_linear_tall", "svdsam_conv1x1", "svdsam_conv3x3"]
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the reference files (../shared/golden) are not here")

LITE_MEDSAM = Path("../shared/litemedsam/reference.npz")

SMALL = {
    "img_size": 8,
    "patch_size": 4,
    "embed_dim": 6,
    "depth": 1,
    "num_heads": 1,
    "mlp_ratio": 1,
    "out_chans": 4,
    "global_attn_indexes": [0],
    "window_size": 0,
    "use_rel_pos": True,
}


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


def small_reference() -> dict[str, np.ndarray]:
    """A file's arrays made with our own network: for what the tool does with them, no proof of the network."""
    encoder = ImageEncoder3D(**SMALL).eval()
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        _, (block,) = encoder.forward_features(image)
        outputs = {"out/block0": block, "out/embedding": encoder(image)}
    arrays = {f"state/{key}": value for key, value in encoder.state_dict().items()} | {"in/image": image} | outputs
    return {"config": config_array(SMALL)} | {key: value.numpy() for key, value in arrays.items()}


def config_array(config: dict) -> np.ndarray:
    return np.frombuffer(json.dumps(config).encode(), dtype=np.uint8)


def write(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(folder / name, **arrays)
    return folder / name


@needs_golden
@pytest.mark.parametrize("name", FILES)
def test_the_published_outputs(name):
    verdict, text = check(GOLDEN / f"{name}.npz")
    assert verdict == "ok", text


@pytest.mark.skipif(not LITE_MEDSAM.is_file(), reason=f"the reference file {LITE_MEDSAM} is not here")
@pytest.mark.skipif(lite_medsam.found() is None, reason=f"LiteMedSAM is not here: {lite_medsam.COMMAND} brings it")
def test_lite_medsam_by_its_published_weights(tmp_path):
    verdict, text = check(LITE_MEDSAM)
    assert verdict == "ok", text
    with np.load(LITE_MEDSAM, allow_pickle=False) as file:
        arrays = dict(file)
    changed = arrays | {"logits": arrays["logits"] * 1.01}
    verdict, text = check(write(tmp_path, "changed.npz", changed))
    assert verdict == "FAILED" and "largest relative error" in text, text


@needs_golden
def test_the_whole_folder(capsys):
    assert main([str(GOLDEN), "--all"]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == len(list(GOLDEN.glob("*.npz"))) + 1


@needs_golden
@pytest.mark.parametrize("kind", [name for name in FILES if not name.startswith("svdsam")])
def test_perturbed_weights_fail(kind, tmp_path):
    """Some weights of each part of the network in turn."""
    with np.load(GOLDEN / f"{kind}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    needles = ["attn.proj.weight", "mlp.lin2.bias", "neck.3.bias"]
    if "decoder" in kind:
        needles = ["layers.1.self_attn.out_proj.weight", "iou_token", "point_embeddings.1", "mask_downscaling.1.bias"]
    elif "sparse" not in kind:
        needles += ["rel_pos_d", "rel_pos_h", "rel_pos_w"]
    for needle in needles:
        changed = {key: value * 1.3 + 0.02 if needle in key else value for key, value in arrays.items()}
        verdict, text = check(write(tmp_path, f"{kind}_perturbed.npz", changed))
        assert verdict == "FAILED", f"{needle}: {text}"
        assert "largest relative error" in text


@needs_golden
@pytest.mark.parametrize(
    ("name", "needles"),
    [
        ("svdsam_linear_wide", ["trainable_scale", "trainable_shift", "weight", "bias"]),
        ("svdsam_conv3x3", ["trainable_scale", "trainable_shift", "weight"]),
        (
            "svdsam_image_encoder",
            ["qkv.trainable_scale", "lin2.weight", "norm1.bias", "pos_embed", "conv2.trainable_sh"],
        ),
        ("svdsam_text_decoder", ["Affine.2.running_var", "self_attn.q_proj.weight", "iou_token", "gaussian"]),
    ],
)
def test_perturbed_weights_of_the_2d_networks_fail(name, needles, tmp_path):
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    for needle in needles:
        # Both ends differ by more than a factor, which a norm after them would take out.
        changed = {
            key: value * np.linspace(0.7, 1.3, value.size, dtype=value.dtype).reshape(value.shape) + 0.02
            if key.startswith("state/") and needle in key
            else value
            for key, value in arrays.items()
        }
        verdict, text = check(write(tmp_path, f"{name}_perturbed.npz", changed))
        assert verdict == "FAILED", f"{needle}: {text}"
        assert "largest relative error" in text


@needs_golden
@pytest.mark.parametrize("changed", [{"use_rel_pos": True}, {"window_size": 14}])
def test_an_encoder_with_positions_or_windows_is_none_of_s_sam(changed, tmp_path):
    with np.load(GOLDEN / "svdsam_image_encoder.npz", allow_pickle=False) as file:
        arrays = dict(file)
    config = json.loads(arrays["config"].tobytes()) | changed
    verdict, text = check(write(tmp_path, "a.npz", arrays | {"config": config_array(config)}))
    assert verdict == "FAILED"
    assert "no published one is such" in text


@needs_golden
def test_the_forms_are_told_apart_by_name(tmp_path):
    """The content of the forms is alike, the outputs are not: with the other's name a file must fail."""
    swaps = {
        "fastsam3d_student_dense": "student_sparse_flash_b",
        "fastsam3d_student_sparse_flash": "fastsam3d_student_x",
        "sammed3d_prompt_decoder": "sammed3d_prompt_decoder_7_flash",
        "sammed3d_prompt_decoder_flash": "sammed3d_prompt_decoder_7",
    }
    for kind, other in swaps.items():
        copy = tmp_path / f"{kind}_of_another_size.npz"
        copy.write_bytes((GOLDEN / f"{kind}.npz").read_bytes())
        assert check(copy)[0] == "ok"
        assert check(copy.rename(tmp_path / f"{other}.npz"))[0] == "FAILED"


@pytest.mark.parametrize("name", ["sammed3d_image_encoder.npz", "sammed3d_image_encoder_b.npz", "anything.npz"])
def test_any_name_and_size(name, tmp_path, capsys):
    write(tmp_path, name, small_reference())
    assert main([str(tmp_path)]) == 0
    first, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("ok")
    assert name in first


def test_the_limit_is_wider_for_flash_only(tmp_path):
    arrays = small_reference()
    arrays["out/embedding"] = arrays["out/embedding"] * 1.001
    assert check(write(tmp_path, "sammed3d_image_encoder.npz", arrays))[0] == "FAILED"
    assert check(write(tmp_path, "sammed3d_image_encoder_flash.npz", arrays))[0] == "ok"
    arrays["out/embedding"] = arrays["out/embedding"] * 1.002
    assert check(write(tmp_path, "sammed3d_image_encoder_flash.npz", arrays))[0] == "FAILED"


def without(key):
    return lambda arrays: arrays.pop(key)


def with_array(key, change):
    return lambda arrays: arrays.update({key: change(arrays.get(key))})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("config"), "no `config`"),
        (without("in/image"), "image"),
        (without("state/pos_embed"), "pos_embed"),
        (with_array("state/extra", lambda _: np.zeros(1)), "extra"),
        (with_array("out/extra", lambda _: np.zeros(1)), "no output 'extra'"),
        (with_array("other", lambda _: np.zeros(1)), "'other'"),
        (with_array("out/block0", lambda array: array[:, :1]), "block0 has shape"),
        (with_array("out/block0", lambda array: array * np.nan), "inf in block0"),
        (with_array("state/pos_embed", lambda array: array * np.nan), "inf in"),
        (with_array("config", lambda _: np.frombuffer(b"{not json", dtype=np.uint8)), "JSONDecodeError"),
        (with_array("config", lambda _: config_array({**SMALL, "depth": 2})), "blocks.1"),
        (with_array("config", lambda _: config_array({"img_size": 8})), "unknown kind"),
        (with_array("in/image", lambda array: array.astype(object)), "allow_pickle"),
    ],
)
def test_a_spoilt_file_fails_and_says_why(spoil, message, tmp_path, capsys):
    arrays = small_reference()
    write(tmp_path, "sammed3d_image_encoder_good.npz", arrays)
    spoil(arrays)
    write(tmp_path, "sammed3d_image_encoder_bad.npz", arrays)
    assert main([str(tmp_path)]) == 1
    bad, good, _ = capsys.readouterr().out.splitlines()
    assert bad.startswith("FAILED")
    assert message in bad
    assert good.startswith("ok")


@pytest.mark.parametrize("content", [b"", b"no zip at all", None])
def test_a_corrupt_file_fails(content, tmp_path, capsys):
    path = write(tmp_path, "sammed3d_image_encoder.npz", small_reference())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("FAILED     sammed3d_image_encoder.npz")


def test_no_outputs_is_no_success(tmp_path):
    arrays = {key: value for key, value in small_reference().items() if not key.startswith("out/")}
    verdict, text = check(write(tmp_path, "sammed3d_image_encoder.npz", arrays))
    assert verdict == "FAILED"
    assert "nothing to compare" in text


def test_kinds_that_are_not_built_count_only_with_all(tmp_path, capsys, monkeypatch):
    write(tmp_path, "sammed3d_image_encoder.npz", small_reference())
    monkeypatch.delitem(KINDS, "sammed3d_image_encoder")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("not built  sammed3d_image_encoder.npz")
    assert main([str(tmp_path), "--all"]) == 1


@pytest.mark.parametrize("folder", ["", "missing"])
def test_nothing_to_check_is_no_success(folder, tmp_path, capsys):
    assert main([str(tmp_path / folder)]) == 1
    assert "no .npz file there" in capsys.readouterr().err
