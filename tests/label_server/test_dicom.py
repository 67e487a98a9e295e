# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DICOM series in, DICOM SEG out: from a folder, and from a DICOMweb server where Orthanc is installed."""

import io
import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from blocks import dice, post
from servers import free_port, with_threshold_network

BLOCK = (slice(12, 24), slice(18, 30), slice(5, 11))
CLICK = [17, 23, 8]
INFO = [{"name": "liver", "model_name": "fastsam3d", "description": "liver"}]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def write_series(folder: Path, uid: str, oblique: bool = False) -> np.ndarray:
    """A CT series with a bright block; returns where it is."""
    import SimpleITK

    truth = np.zeros((48, 40, 16), dtype=bool)
    truth[BLOCK] = True
    values = np.where(truth, 900, 0) + np.random.default_rng(0).normal(0, 5, truth.shape)
    image = SimpleITK.GetImageFromArray(values.astype(np.int16).T)
    image.SetSpacing((0.8, 0.8, 3.0))
    image.SetOrigin((-20.0, 15.0, 100.0))
    if oblique:
        c, s = np.cos(0.3), np.sin(0.3)
        image.SetDirection((c, -s, 0, s, c, 0, 0, 0, 1))
    direction = image.GetDirection()
    orientation = "\\".join(f"{direction[i]:.8f}" for i in (0, 3, 6, 1, 4, 7))
    folder.mkdir(parents=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(image.GetDepth()):
        part = image[:, :, k]
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{uid}.{k + 1}",
            "0008|0020": "20240101",
            "0008|0030": "120000",
            "0008|0060": "CT",
            "0010|0010": "Phantom^Block",
            "0010|0020": "phantom",
            "0020|000d": f"{uid}.1000",
            "0020|000e": uid,
            "0020|0052": f"{uid}.2000",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:.6f}" for x in image.TransformIndexToPhysicalPoint((0, 0, k))),
            "0020|0037": orientation,
            "0028|0030": "0.8\\0.8",
            "0018|0050": "3.0",
        }
        for tag, value in tags.items():
            part.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"slice_{k:03d}.dcm"))
        writer.Execute(part)
    return truth


def dicom_seg(server, image: str) -> np.ndarray:
    """The DICOM SEG of a click, as an array along the axes of the series."""
    import pydicom
    import pydicom_seg
    import SimpleITK

    params = json.dumps({"foreground": [CLICK], "label": "liver", "label_info": INFO, "result_extension": ".nii.gz"})
    data = urllib.parse.urlencode({"params": params}).encode()
    url = f"{server.address}/infer/fastsam3d_deepgrow?image={image}&output=dicom_seg"
    with urllib.request.urlopen(url, data, timeout=300) as response:
        dataset = pydicom.dcmread(io.BytesIO(response.read()))
    assert dataset.Modality == "SEG"
    assert [s.SegmentLabel for s in dataset.SegmentSequence] == ["liver"]
    segments = pydicom_seg.MultiClassReader().read(dataset).image
    # The file may hold the slices in another order than the series.
    grid = SimpleITK.ReadImage(str(server.image_of(image)))
    return SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(segments, grid, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    ).T


@pytest.fixture(scope="module")
def folder_server(start, tmp_path_factory):
    studies = tmp_path_factory.mktemp("series")
    truths = {"straight": write_series(studies / "straight", "1.2.826.0.1.3680043.8.498.11")}
    truths["oblique"] = write_series(studies / "oblique", "1.2.826.0.1.3680043.8.498.12", oblique=True)
    shutil.copytree(studies / "straight", studies / "two")
    for file in (studies / "oblique").iterdir():
        shutil.copy(file, studies / "two" / f"other_{file.name}")
    write_series(studies / "gap", "1.2.826.0.1.3680043.8.498.14")
    (studies / "gap" / "slice_006.dcm").unlink()
    with start(studies, labels={"fastsam3d": ("liver",)}, change=with_threshold_network) as server:
        server.image_of = lambda image: studies / f"{image}.nii.gz"
        yield server, truths


@pytest.mark.parametrize("name", ["straight", "oblique"])
def test_a_folder_with_a_series_is_an_image(folder_server, name):
    server, truths = folder_server
    mask, answer = server.infer("fastsam3d_deepgrow", name, foreground=[CLICK])
    assert dice(np.asarray(mask.dataobj) > 0, truths[name]) > 0.9
    assert answer["objects"][0]["volume_ml"] == pytest.approx(
        answer["objects"][0]["voxels"] * 0.8 * 0.8 * 3 / 1000, abs=1e-3
    )
    assert dice(dicom_seg(server, name) > 0, truths[name]) > 0.9


def test_a_folder_that_is_no_single_series_is_left_out_and_the_log_says_why(folder_server):
    server, _ = folder_server
    assert set(server.client().datastore()["objects"]) == {"straight", "oblique"}
    assert "two is left out: " in server.log() and "more than one DICOM series" in server.log()
    assert "gap is left out: " in server.log()
    missing = "1 of 16 slices at 3 mm are missing: 1 between slice_005.dcm and slice_007.dcm"
    assert missing in server.log()
    # Whoever asks for it is told too.
    for name, reason in (("gap", missing), ("two", "more than one DICOM series")):
        status, answer = post(server, f"/infer/fastsam3d_deepgrow?image={name}", json.dumps({"foreground": [CLICK]}))
        assert status == 404 and answer["detail"].startswith(f"{name} is left out: ") and reason in answer["detail"]
        assert "--irregular resample" in answer["detail"] and str(server.studies) not in answer["detail"]


def test_the_options_of_reading_are_those_of_the_command_line(folder_server, start, tmp_path):
    given, truths = folder_server
    for name in ("gap", "two"):
        shutil.copytree(given.studies / name, tmp_path / "studies" / name)
    options = ("--irregular", "resample", "--series", "two=2")
    with start(tmp_path / "studies", *options, change=with_threshold_network) as server:
        assert set(server.client().datastore()["objects"]) == {"gap", "two"}
        for name, truth in (("gap", truths["straight"]), ("two", truths["oblique"])):
            mask, _ = server.infer("fastsam3d_deepgrow", name, foreground=[CLICK])
            assert dice(np.asarray(mask.dataobj) > 0, truth) > 0.9


def test_dicom_seg_of_an_image_without_a_series_is_refused(folder_server):
    server, _ = folder_server
    status, answer = post(
        server, "/infer/fastsam3d_deepgrow?image=nobody&output=dicom_seg", json.dumps({"label_info": INFO})
    )
    assert status == 404
    assert "there is no image" in answer["detail"]


@pytest.fixture
def orthanc(tmp_path):
    """The address of a running Orthanc with DICOMweb."""
    command = shutil.which("Orthanc")
    if not command or not PLUGIN.exists():
        pytest.skip("needs Orthanc with DICOMweb: apt-get install orthanc orthanc-dicomweb")
    port = free_port()
    config = {
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(config))
    with open(tmp_path / "orthanc.log", "w") as log:
        process = subprocess.Popen([command, str(tmp_path / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(address + "/system", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail((tmp_path / "orthanc.log").read_text()[-2000:])
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_dicomweb_server_is_served_and_gets_the_labels(orthanc, start, tmp_path, monkeypatch):
    uid = "1.2.826.0.1.3680043.8.498.13"
    truth = write_series(tmp_path / "series", uid)
    for file in (tmp_path / "series").iterdir():
        urllib.request.urlopen(f"{orthanc}/instances", file.read_bytes(), timeout=60).close()
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "cache"))
    with start(f"{orthanc}/dicom-web", labels={"fastsam3d": ("liver",)}, change=with_threshold_network) as server:
        assert server.client().next_sample("first", {})["id"] == uid
        mask, _ = server.infer("fastsam3d_deepgrow", uid, foreground=[CLICK])
        assert dice(np.asarray(mask.dataobj) > 0, truth) > 0.9
        server.image_of = lambda image: next((tmp_path / "cache").rglob(f"{image}.nii.gz"))
        assert dice(dicom_seg(server, uid) > 0, truth) > 0.9

        file, _ = server.client().infer(
            "fastsam3d_deepgrow", uid, {"foreground": [CLICK], "result_extension": ".nii.gz"}
        )
        server.client().save_label(uid, file, tag="final", params={"label_info": INFO})
        os.unlink(file)
        with urllib.request.urlopen(f"{orthanc}/dicom-web/series?Modality=SEG", timeout=60) as response:
            assert len(json.loads(response.read())) == 1
