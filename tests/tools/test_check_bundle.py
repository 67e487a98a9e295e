# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The Model Zoo's checks: they find what is wrong, and our bundles pass them as they are downloaded."""

import functools
import http.server
import json
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tools.check_bundle import files, metadata
from tools.check_bundle.__main__ import check, main, report, running_steps, static_steps
from tools.check_bundle.unpack import unpack
from tools.package_bundle import BUNDLES, known_bundles, package

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A bundle that passes the checks of its files."""
    bundle = tmp_path / "tiny"
    for name in ("configs", "models", "scripts", "docs"):
        (bundle / name).mkdir(parents=True)
    content = json.loads((BUNDLES / "fastsam3d" / "configs" / "metadata.json").read_text())
    (bundle / "configs" / "metadata.json").write_text(json.dumps(content))
    for name in ("configs/inference.json", "LICENSE", "models/model.pt"):
        (bundle / name).write_text("{}")
    (bundle / "scripts" / "part.py").write_text("# Licensed under the Apache License\nimport torch\n")
    return bundle


def problems(bundle: Path) -> list[str]:
    return report(static_steps(bundle, metadata.SCHEMA, None))


def test_files_in_order(folder):
    assert problems(folder) == []


@pytest.mark.parametrize(
    ("name", "text", "failed"),
    [
        ("scripts/part.py", "# Licensed\nfrom common.geometry import Grid\n", "text of files"),
        ("scripts/part.py", "import torch\n", "text of files"),
        ("configs/train.json", '{"dataset_dir": "/home/anna/data"}', "text of files"),
        ("large_files.yml", "large_files:\n  - {path: models/x.pt, url: 'file:///x', hash_val: ab}\n", "large files"),
    ],
)
def test_what_stands_in_files(folder, name, text, failed):
    (folder / name).write_text(text)
    assert problems(folder) == [failed]


@pytest.mark.parametrize(("name", "fits"), [("base.pt", False), ("vit_b.pt", False), ("vit_base.pt", True)])
def test_weights_that_a_server_would_take_in_the_place_of_the_model(folder, name, fits):
    (folder / "models" / name).write_text("{}")
    assert problems(folder) == ([] if fits else ["weights that MONAI Label serves"])


@pytest.mark.parametrize("name", known_bundles())
def test_our_models_are_those_that_a_server_takes(name):
    assert files.check_served(BUNDLES / name) == "models/model.pt"


def test_too_large_for_git(folder):
    with open(folder / "models" / "model.pt", "wb") as file:
        file.truncate(files.LARGEST_BYTES + 1)
    assert problems(folder) == ["sizes"]


def test_large_files_are_fetched(folder, tmp_path):
    (folder / "models" / "model.pt").unlink()
    (tmp_path / "elsewhere.pt").write_text("weights")
    entry = f"large_files:\n  - path: models/model.pt\n    url: {(tmp_path / 'elsewhere.pt').as_uri()}\n"
    (folder / "large_files.yml").write_text(entry)
    assert problems(folder) == []
    assert (folder / "models" / "model.pt").read_text() == "weights"


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"version": "7.0.0"}, "version and changelog"),
        ({"authors": ""}, "metadata schema"),
        ({"task": None}, "metadata schema"),
        ({"required_packages_version": {"nibabel": "five"}}, "metadata schema"),
        ({"numpy_version": "2.*"}, "metadata schema"),
    ],
)
def test_metadata(folder, change, failed):
    path = folder / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert failed in problems(folder)


def test_a_version_that_the_zoo_has(folder, tmp_path):
    known = tmp_path / "model_info.json"
    version = metadata.read_metadata(folder)["version"]
    known.write_text(json.dumps({f"tiny_v{version}": {"checksum": "", "source": ""}}))
    with pytest.raises(ValueError, match="already; raise the version"):
        metadata.check_version(folder, known)


def write_zip(path: Path, entries: dict[str, str], link: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "../outside")
    return path


@pytest.mark.parametrize(
    ("entries", "link", "said"),
    [
        ({"tiny/../../evil.py": ""}, None, "outside the target folder"),
        ({"/etc/evil": ""}, None, "outside the target folder"),
        ({"tiny/LICENSE": ""}, "tiny/scripts", "is a link"),
        ({"tiny/LICENSE": "", "other/LICENSE": ""}, None, "expected one, named as the bundle"),
    ],
)
def test_zips_that_must_not_be_unpacked(tmp_path, entries, link, said):
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ValueError, match=said):
        unpack(write_zip(tmp_path / "tiny.zip", entries, link), target)
    assert not list(target.iterdir())
    assert not (tmp_path.parent / "evil.py").exists()


def test_a_truncated_zip(folder, tmp_path, capsys):
    whole = write_zip(tmp_path / "tiny.zip", {"tiny/LICENSE": "x" * 1000}).read_bytes()
    (tmp_path / "tiny.zip").write_bytes(whole[: len(whole) // 2])
    assert main([str(tmp_path / "tiny.zip"), "--no-run"]) == 1
    assert "no whole zip file" in capsys.readouterr().out
    assert main([str(tmp_path / "nothing.zip"), "--no-run"]) == 1
    assert "no such file" in capsys.readouterr().out


def test_a_damaged_zip(tmp_path):
    path = write_zip(tmp_path / "tiny.zip", {"tiny/LICENSE": "words " * 50})
    path.write_bytes(path.read_bytes().replace(b"words words", b"words wards", 1))
    with pytest.raises(ValueError, match="tiny/LICENSE' in it: no whole zip file .*; pack or download it anew"):
        unpack(path, tmp_path / "target")


def test_a_zip_garbled_anywhere_is_read_or_refused(tmp_path):
    path = tmp_path / "tiny.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("LICENSE", "configs/metadata.json", "models/model.pt"):
            archive.writestr(f"tiny/{name}", name * 50)
    whole, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for number in range(300):
        garbled = bytearray(whole)
        for place in random.integers(len(whole), size=random.integers(1, 4)):
            garbled[place] = random.integers(256)
        path.write_bytes(garbled)
        (tmp_path / str(number)).mkdir()
        try:
            unpack(path, tmp_path / str(number))
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    # What is left are times and other bytes that say nothing of the content.
    assert refused > 200


@pytest.mark.parametrize(("text", "said"), [("[]", "a list"), ("{", "not valid JSON"), ("{}", "has no monai_version")])
def test_metadata_of_another_form(folder, text, said):
    (folder / "configs" / "metadata.json").write_text(text)
    with pytest.raises(ValueError, match=f"configs/metadata.json.*{said}"):
        metadata.requirements(folder)


def test_broken_bundles_are_not_run(folder, capsys):
    (folder / "models" / "model.pt").unlink()
    assert check(folder) == ["needed files"]
    assert "was not run" in capsys.readouterr().out


@pytest.fixture(scope="session")
def downloaded(tmp_path_factory) -> Path:
    """The folder into which all bundles were downloaded from a server on this machine, as users do."""
    served, target = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("downloaded")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in known_bundles():
        file = package(BUNDLES / name, served)["zip"].name
        command = [sys.executable, "-m", "monai.bundle", "download", "--name", name, "--bundle_dir", str(target)]
        command += ["--url", f"http://127.0.0.1:{server.server_port}/{file}"]
        subprocess.run(command, cwd=target, check=True, capture_output=True, timeout=300)
    server.shutdown()
    return target


@pytest.mark.parametrize("name", known_bundles())
def test_our_bundles_as_downloaded(downloaded, name, tmp_path):
    assert problems(downloaded / name) == []
    assert report(running_steps(downloaded / name, tmp_path, sys.executable)) == []


def test_two_bundles_in_one_process(downloaded):
    text = (ROOT / "docs" / "model_zoo.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    code += f"""
import torch
networks = [load_bundle(name, {str(downloaded)!r}) for name in {known_bundles()!r}]
assert [type(n).__name__ for n in networks] == ["FastSAM3D", "SSAM"]
with torch.no_grad():
    assert networks[0].eval()(torch.rand(1, 1, 64, 64, 64)).shape == (1, 1, 64, 64, 64)
    assert networks[1].eval()(torch.rand(1, 3, 64, 64)).shape[2:] == (64, 64)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", known_bundles())
def test_with_the_packages_of_the_metadata_alone(name, tmp_path):
    made = package(BUNDLES / name, tmp_path)
    assert check(made["zip"], fresh=True) == []
