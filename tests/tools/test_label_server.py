# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The server's folder and command line, as far as they need no MONAI Label."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tools.label_server import __main__ as command
from tools.label_server import app_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def served(tmp_path):
    target = tmp_path / "app" / "model" / "fastsam3d_deepgrow"
    assert app_folder.copy_bundle(ROOT / "bundles" / "fastsam3d", target)
    return target


def test_a_served_bundle_is_a_copy_without_links(served):
    assert (served / "scripts" / "common" / "geometry.py").is_file()
    assert not [p for p in served.rglob("*") if p.is_symlink()]
    assert all((served / name).is_file() for name in app_folder.NEEDED)
    assert not list(served.rglob("__pycache__"))


def test_a_further_call_brings_new_code_and_keeps_what_was_trained(served):
    bundle = ROOT / "bundles" / "fastsam3d"
    (served / "scripts" / "old.py").write_text("gone = True")
    (served / "models" / "model.pt").write_bytes(b"changed, but not by a training")
    assert app_folder.copy_bundle(bundle, served)
    assert not (served / "scripts" / "old.py").exists()
    assert (served / "models" / "model.pt").read_bytes() == (bundle / "models" / "model.pt").read_bytes()
    # As a training leaves it: its weights, and the earlier ones beside them.
    (served / "models" / "model.pt").rename(served / "models" / "model_20260101_120000.pt")
    (served / "models" / "model.pt").write_bytes(b"trained")
    assert not app_folder.copy_bundle(bundle, served)
    assert (served / "models" / "model.pt").read_bytes() == b"trained"
    assert (served / "models" / "model_20260101_120000.pt").exists()


def test_labels_are_what_viewers_make_segments_of(served):
    app_folder.name_labels(served, ["liver", "spleen"])
    given = json.loads((served / "configs" / "metadata.json").read_text())
    expected = {"0": "background", "1": "liver", "2": "spleen"}
    assert given["network_data_format"]["outputs"]["pred"]["channel_def"] == expected


def test_a_bundle_that_is_not_complete_is_left_out_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(app_folder, "copy_stock_app", lambda app: None)
    monkeypatch.setattr(app_folder, "ROOT", tmp_path)
    (tmp_path / "bundles" / "fastsam3d" / "configs").mkdir(parents=True)
    with pytest.raises(ValueError, match="fastsam3d is left out: bundles/fastsam3d has no configs/inference.json, no"):
        app_folder.make_app(tmp_path / "app", ["fastsam3d"])


@pytest.mark.parametrize(
    "given, sentence",
    [
        (["/nowhere/studies"], "no such folder; expected a folder of images"),
        ([".", "--bundles", "vista3d"], "expected some of fastsam3d, ssam_2d"),
        ([".", "--port", "99999"], "Give another --port"),
    ],
)
def test_the_command_line_says_what_is_wrong(given, sentence, capsys):
    assert command.main(given) == 1
    assert sentence in capsys.readouterr().err


def test_images_that_may_only_be_read_are_served_by_links(tmp_path, monkeypatch, capsys):
    studies = tmp_path / "archive"
    (studies / "series").mkdir(parents=True)
    (studies / "labels").mkdir()
    (studies / "scan.nii.gz").write_bytes(b"")
    assert command.checked_studies(str(studies), tmp_path / "app") == (str(studies), [])
    monkeypatch.setattr(os, "access", lambda *given: False)
    for _ in range(2):
        served, linked = command.checked_studies(str(studies), tmp_path / "app")
        served = Path(served)
    assert linked == [str(studies)]
    assert served == tmp_path / "app" / "studies" / "archive"
    assert sorted(p.name for p in served.iterdir()) == ["scan.nii.gz", "series"]
    assert (served / "scan.nii.gz").resolve() == studies / "scan.nii.gz"
    assert f"labels go to {served / 'labels'}" in capsys.readouterr().out


def test_other_computers_need_a_token(tmp_path, capsys):
    for host in ("0.0.0.0", "192.0.2.1", "::", "labels.example.org"):
        assert command.main([str(tmp_path), "--host", host, "--set-up-only"]) == 1
        assert "lets other computers in: expected --token" in capsys.readouterr().err
    for host in ("127.0.0.1", "127.0.0.5", "localhost", "::1"):
        assert command.rules(command.arguments().parse_args([".", "--host", host])).token == ""
    given = command.rules(command.arguments().parse_args([".", "--host", "192.0.2.1", "--token"]))
    assert len(given.token) >= 32
    assert "192.0.2.1" in given.hosts
    assert given.token not in repr(given)


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--token", "short"], "--token is too short"),
        (["--token", "with blanks in it, and long"], "other characters"),
        (["--allow-origin", "*"], "expected an address such as"),
        (["--allow-origin", "https://a.example/path"], "expected an address such as"),
        (["--allow-host", "a.example:80"], "without a port"),
        (["--max-upload", "0"], "expected MiB"),
    ],
)
def test_what_is_allowed_is_checked(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        command.rules(command.arguments().parse_args([".", *options]))


def test_the_server_gets_its_rules_as_a_variable(monkeypatch):
    options = [".", "--token", "a-token-of-some-length", "--allow-host", "A.example", "--allow-folder", "/data"]
    rules = command.rules(command.arguments().parse_args(options), ["/archive"])
    for name, value in rules.to_environment().items():
        monkeypatch.setenv(name, value)
    read = type(rules).from_environment()
    assert (read.token, "a.example" in read.hosts, read.folders) == (rules.token, True, ["/archive", "/data"])


def chosen(rules, folder):
    reading = rules.reading(Path(folder))
    return reading.series, reading.irregular, reading.slice_thickness


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--series", "two"], "--series two: expected FOLDER=NUMBER"),
        (["--series", "none=1"], "none is no folder; expected one among the studies"),
        (["--slice-thickness", "-1"], "slice_thickness is -1.0: expected a positive number of mm"),
    ],
)
def test_how_dicom_is_read_is_checked(tmp_path, options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        command.rules(command.arguments().parse_args([str(tmp_path), *options]))
    (tmp_path / "two").mkdir()
    options = [str(tmp_path), "--series", "two=2", "--irregular", "resample", "--slice-thickness", "3"]
    rules = command.rules(command.arguments().parse_args(options))
    assert chosen(rules, "two") == ("2", "resample", 3.0)
    assert chosen(rules, "one") == (None, "resample", 3.0)


def test_a_port_in_use_is_named(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert command.main([".", "--port", port]) == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


def test_help_and_no_arguments_need_no_environment(tmp_path):
    script = str(ROOT / "tools" / "monailabel.sh")
    environment = {"PATH": os.environ["PATH"], "PYTHON": sys.executable}
    helped = subprocess.run(["bash", script, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert helped.returncode == 0
    assert "--labels" in helped.stdout
    alone = subprocess.run(["bash", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert alone.returncode == 2
    assert "bash tools/monailabel.sh STUDIES" in alone.stdout


def test_the_stand_in_for_torchvision_imports_and_says_what_is_missing():
    code = "from torchvision.utils import make_grid, save_image; save_image(None, 'a.png')"
    environment = {"PYTHONPATH": str(app_folder.OURS / "stand_in")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "ImportError: torchvision cannot be imported here" in done.stderr
