# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Packed bundles: the same bytes, all that is needed, nothing else, nothing overwritten."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
import torch

from common.label_names import to_tensor
from tools.package_bundle import BUNDLES, bundle_content, known_bundles, main, package


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A bundle as a user has it after some use: links, byte code, earlier weights."""
    folder = tmp_path / "small_bundle"
    for name in ("configs", "scripts/__pycache__", "models", "docs", "eval", "runs/one"):
        (folder / name).mkdir(parents=True)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "tool.py").write_text("VALUE = 1\n")
    (folder / "scripts" / "common").symlink_to(tmp_path / "shared")
    metadata = {
        "version": "0.2.0",
        "changelog": {"0.2.0": "second"},
        "network_data_format": {"outputs": {"pred": {"num_channels": 1, "channel_def": {"0": "background"}}}},
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    for name in ("configs/inference.json", "LICENSE", "docs/README.md"):
        (folder / name).write_text("{}")
    for name in ("scripts/__pycache__/a.pyc", "scripts/.hidden", "eval/mask.png", "runs/one/state.pt", "state.part"):
        (folder / name).write_text("not for others")
    weights = {"weight": torch.arange(4.0)}
    for name in ("model.pt", "model_20260102_030405.pt", "model.part"):
        torch.save(weights, folder / "models" / name)
    return folder


def test_what_is_in_the_zip(bundle, tmp_path):
    made = package(bundle, tmp_path / "dist")
    with zipfile.ZipFile(made["zip"]) as archive:
        names = archive.namelist()
        assert archive.read("small_bundle/scripts/common/tool.py") == b"VALUE = 1\n"
    wanted = ["LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.pt"]
    assert names == [f"small_bundle/{n}" for n in [*wanted, "scripts/common/tool.py"]]
    assert made["zip"].name == "small_bundle_v0.2.0.zip"


def test_same_bytes_from_files_of_another_day(bundle, tmp_path):
    first = package(bundle, tmp_path / "first")
    for file in bundle.rglob("*.json"):
        file.touch()
        file.chmod(0o600)
    second = package(bundle, tmp_path / "second")
    assert first["zip"].read_bytes() == second["zip"].read_bytes()
    info = json.loads((tmp_path / "second" / "model_info.json").read_text())
    sha1 = hashlib.sha1(second["zip"].read_bytes()).hexdigest()
    assert info == {"small_bundle_v0.2.0": {"checksum": sha1, "source": "small_bundle_v0.2.0.zip"}}


def test_model_info_keeps_other_versions(bundle, tmp_path):
    output = tmp_path / "dist"
    output.mkdir()
    earlier = {"small_bundle_v0.1.0": {"checksum": "abc", "source": "https://example.org/x.zip"}}
    (output / "model_info.json").write_text(json.dumps(earlier))
    package(bundle, output, source="https://example.org/y.zip")
    info = json.loads((output / "model_info.json").read_text())
    assert info["small_bundle_v0.1.0"] == earlier["small_bundle_v0.1.0"]
    assert info["small_bundle_v0.2.0"]["source"] == "https://example.org/y.zip"


def test_weights_and_labels_of_a_run(bundle, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    torch.save({"weight": torch.ones(2), "label_names": to_tensor(["Drüse", "polyp"])}, run / "model.pt")
    made = package(bundle, tmp_path / "dist", run, name="gland_segmentation")
    with zipfile.ZipFile(made["zip"]) as archive:
        archive.extractall(tmp_path / "unpacked")
    unpacked = tmp_path / "unpacked" / "gland_segmentation"
    assert torch.load(unpacked / "models" / "model.pt", weights_only=True)["weight"].tolist() == [1, 1]
    pred = json.loads((unpacked / "configs/metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    assert pred == {"num_channels": 2, "channel_def": {"0": "background", "1": "Drüse", "2": "polyp"}}


def test_flat_folder_for_a_hub(bundle, tmp_path):
    made = package(bundle, tmp_path / "dist", hub=True)
    files = {str(f.relative_to(made["hub"])): f.read_bytes() for f in made["hub"].rglob("*") if f.is_file()}
    assert files == bundle_content(bundle)
    with pytest.raises(ValueError, match="exists: remove it"):
        package(bundle, tmp_path / "dist", hub=True)


def test_a_published_version_is_not_replaced(bundle, tmp_path):
    made = package(bundle, tmp_path / "dist")
    before = made["zip"].read_bytes()
    package(bundle, tmp_path / "dist")
    (bundle / "docs" / "README.md").write_text("changed")
    with pytest.raises(ValueError, match="a version is published once"):
        package(bundle, tmp_path / "dist")
    assert made["zip"].read_bytes() == before
    assert sorted(f.name for f in (tmp_path / "dist").iterdir()) == ["model_info.json", made["zip"].name]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda b: (b / "LICENSE").unlink(), "no LICENSE"),
        (lambda b: (b / "models/model.pt").unlink(), "no models/model.pt"),
        (lambda b: (b / "models/model.pt").write_bytes(b"no weights"), "cannot be read as weights"),
        (
            lambda b: (b / "configs/metadata.json").write_text('{"version": "9", "changelog": {}}'),
            "not in its changelog",
        ),
    ],
)
def test_what_is_no_bundle(bundle, tmp_path, spoil, said):
    spoil(bundle)
    with pytest.raises(ValueError, match=said):
        package(bundle, tmp_path / "dist")
    assert not list((tmp_path / "dist").glob("*.zip"))


def test_bad_arguments(bundle, tmp_path, capsys):
    assert main([str(bundle), "--output", str(tmp_path / "dist"), "--run", str(tmp_path / "nothing")]) == 1
    assert "holds no model.pt" in capsys.readouterr().err
    assert main([str(bundle), "--output", str(tmp_path / "dist"), "--as", "with space"]) == 1
    assert "letters, digits and _" in capsys.readouterr().err
    assert main(["no_such_bundle", "--output", str(tmp_path / "dist")]) == 1
    assert "no bundle" in capsys.readouterr().err


@pytest.mark.parametrize("name", known_bundles())
def test_our_bundles_bring_the_shared_code(name):
    if not (BUNDLES / name / "models" / "model.pt").is_file():
        pytest.skip(f"{name} has no weights yet")
    content = bundle_content(BUNDLES / name)
    assert "scripts/common/geometry.py" in content
    assert not [path for path in content if "__pycache__" in path or path.startswith("eval")]
