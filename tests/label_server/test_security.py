# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A hostile client against a real server: docs/security.md has a sentence for each of these tests."""

import gzip
import io
import json
import os
import signal
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from blocks import seen, write_blocks
from servers import Server, reader, with_threshold_network

BLOCK = (slice(12, 24), slice(18, 30), slice(5, 11))
CLICK = {"foreground": [[17, 23, 8]]}
METAIMAGE = "ObjectType = Image\nNDims = {dims}\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = {file}\n"
NRRD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n{more}\n"


@pytest.fixture(scope="module")
def image(known) -> str:
    write_blocks(known.studies / "safe.nii.gz", np.eye(4), [BLOCK])
    seen(known, "safe")
    return "safe"


def send(server: Server, method: str, path: str, **more):
    import requests

    return requests.request(method, server.address + path, timeout=300, **more)


def infer(server: Server, params: dict | str = CLICK, image: str | None = None, model="fastsam3d_deepgrow", **more):
    files = {"params": (None, params if isinstance(params, str) else json.dumps(params)), **more.pop("files", {})}
    return send(server, "POST", f"/infer/{model}", params={"image": image} if image else {}, files=files, **more)


def refused(answer, *statuses: int, says: str = "") -> None:
    """One of these statuses, or any 4xx, with a sentence that holds ``says``."""
    detail = answer.json()["detail"]
    assert answer.status_code in (statuses or range(400, 500)), detail
    assert isinstance(detail, str) and says in detail
    assert "Traceback" not in detail


def lives(server: Server, image: str) -> None:
    """The same process answers, with a mask."""
    assert server.process.poll() is None
    assert infer(server, image=image).status_code == 200


def test_no_request_is_evaluated(known, image, tmp_path):
    """Expressions and targets, wherever a request has room for them."""
    mark = tmp_path / "evaluated"
    for value in (f"$open('{mark}', 'w')", {"_target_": "builtins.open", "file": str(mark), "mode": "w"}, f"$@{mark}"):
        for key in ("max_epochs", "device", "run_id", "model_filename", "displayable_configs", "other", "gpus"):
            refused(send(known, "POST", "/train/fastsam3d_deepgrow", json={key: value}))
            refused(send(known, "POST", "/train/", json={"fastsam3d_deepgrow": {key: value}}))
            refused(send(known, "POST", "/train/", json={key: value}))
            refused(send(known, "POST", "/batch/infer/fastsam3d_deepgrow", json={key: value}))
            refused(infer(known, {**CLICK, key: value}, image))
        refused(send(known, "POST", "/activelearning/first", json={"strategy": value}))
        refused(send(known, "POST", "/scoring/first", json={"method": value}))
    refused(send(known, "POST", "/train/fastsam3d_deepgrow", json={"max_epochs": 1}, params={"run_sync": "true"}), 400)
    assert not mark.exists()
    lives(known, image)


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/logs/"),
        ("GET", "/logs/gpu"),
        ("POST", "/reload"),
        ("POST", "/infer/wsi/fastsam3d_deepgrow"),
        ("POST", "/infer/wsi_v2/fastsam3d_deepgrow"),
        ("GET", "/datastore/dataset"),
        ("GET", "/datastore/?output=train"),
        ("DELETE", "/datastore/image?id=safe"),
        ("PUT", "/datastore/image/info?image=safe"),
        ("PUT", "/model/fastsam3d_deepgrow"),
        ("DELETE", "/model/fastsam3d_deepgrow"),
        ("GET", "/proxy/dicom/studies"),
        ("POST", "/scoring/"),
        ("GET", "/session/..%2f..%2fetc"),
        ("GET", "/model/..%2f..%2fetc"),
        ("GET", "/ohif/..%2f..%2f..%2fapp.py%00"),
        ("TRACE", "/info/"),
    ],
)
def test_what_is_not_listed_is_refused(known, image, method, path):
    answer = send(known, method, path)
    if path.startswith("/ohif"):
        # Every address below it is one of the viewer's pages.
        assert "html" in answer.text and "import" not in answer.text[:20]
        return
    refused(answer)
    lives(known, image)


def test_unknown_parameters_are_refused(known, image):
    refused(send(known, "GET", "/datastore/image?image=safe&path=/etc/passwd"), 400, says="expected image")
    refused(send(known, "POST", "/train/fastsam3d_deepgrow?run_sync=true"), 400, says="expected enqueue")


def test_web_pages_of_others_are_refused(known, image):
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Referer": "http://evil.example/a"}):
        refused(send(known, "POST", "/train/fastsam3d_deepgrow", json={"max_epochs": 1}, headers=headers), 403)
        assert "access-control-allow-origin" not in send(known, "GET", "/info/", headers=headers).headers
    refused(send(known, "OPTIONS", "/info/", headers={"Origin": "http://evil.example"}), 403)
    own = {"Origin": known.address, "Sec-Fetch-Site": "same-origin"}
    assert send(known, "POST", "/activelearning/first", json={}, headers=own).status_code == 200


def test_other_hosts_are_refused(known):
    """A name of the attacker's that was made to point at this computer."""
    refused(send(known, "GET", "/info/", headers={"Host": "evil.example:8000"}), 421, says="--allow-host")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "labels/final/safe", "safe\0", "%2e%2e", "", "."])
def test_images_are_named_by_what_is_in_the_studies(known, image, tmp_path, name):
    write_blocks(known.studies.parent / "secret.nii.gz", np.eye(4), [BLOCK])
    refused(infer(known, image=name), 404, 422)
    for path in ("/datastore/image", "/datastore/image/info"):
        refused(send(known, "GET", path, params={"image": name}), 404, 422)
    refused(send(known, "GET", "/datastore/label", params={"label": name, "tag": "final"}), 404, 422)
    refused(send(known, "DELETE", "/datastore/label", params={"id": name, "tag": "final"}), 404, 422)


def test_no_file_is_opened_because_a_request_names_it(known, image, tmp_path):
    secret = tmp_path / "secret.nii.gz"
    write_blocks(secret, np.eye(4), [BLOCK], (48, 40, 36))
    named = str(secret)
    for params in (
        {"scribble": named},
        {"previous_mask": named},
        {"label": named},
        {"image": named},
        {"image_path": named},
        {"selected_label_name": named},
        {"objects": {"a": {"scribble": named}}},
        {"objects": {"a": {"previous_mask": named}}},
        {"session": {"image": named}},
        {named: [[1, 2, 3]]},
        {"text_model": named},
        {"adapter": named},
    ):
        refused(infer(known, {**CLICK, **params} if "objects" not in params else params, image), 400)


def test_links_out_of_the_studies_are_not_followed(start, tmp_path):
    studies, elsewhere = tmp_path / "studies", tmp_path / "elsewhere"
    for folder in (studies, elsewhere):
        folder.mkdir()
        write_blocks(folder / "here.nii.gz", np.eye(4), [BLOCK])
    (studies / "out.nii.gz").symlink_to(elsewhere / "here.nii.gz")
    (studies / "in.nii.gz").symlink_to(studies / "here.nii.gz")
    os.mkfifo(studies / "pipe.nii.gz")
    (studies / "labels").mkdir()
    (studies / "labels" / "theirs").symlink_to(elsewhere)
    with start(studies, change=with_threshold_network) as server:
        assert set(server.client().datastore()["objects"]) == {"here", "in"}
        assert "out.nii.gz is left out" in server.log()
        assert infer(server, image="in").status_code == 200
        refused(infer(server, image="out"), 404)
        label = {"label": ("a.nii.gz", (studies / "here.nii.gz").read_bytes())}
        answer = send(server, "PUT", "/datastore/label", params={"image": "here", "tag": "theirs"}, files=label)
        refused(answer, 400, says="would leave the folder")
        assert sorted(p.name for p in elsewhere.iterdir()) == ["here.nii.gz"]
    with start(studies, "--allow-folder", str(elsewhere), change=with_threshold_network) as server:
        assert set(server.client().datastore()["objects"]) == {"here", "in", "out"}


def uploads() -> dict[str, bytes]:
    """Files that keep their voxels elsewhere."""
    pair = bytearray(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_bytes())
    pair[344:348] = b"ni1\0"
    return {
        "passwd.mha": METAIMAGE.format(dims=3, file="/etc/passwd").encode(),
        "list.mha": METAIMAGE.format(dims=3, file="LIST").encode(),
        "none.mha": b"ObjectType = Image\n",
        "passwd.nrrd": NRRD.format(more="data file: /etc/passwd\n").encode(),
        "upper.nrrd": NRRD.format(more="DATAFILE:= /etc/passwd\n").encode(),
        "pair.nii": bytes(pair),
        "pair.nii.gz": gzip.compress(bytes(pair)),
        "image.mhd": METAIMAGE.format(dims=3, file="/etc/passwd").encode(),
        "image.nhdr": NRRD.format(more="data file: /etc/passwd\n").encode(),
        "image.hdr": bytes(pair),
        "script.sh": b"#!/bin/sh\n",
        "image.py": b"1",
        "image": b"1",
        "image.nii.gz/../../x.sh": b"1",
    }


@pytest.mark.parametrize("name", uploads())
def test_uploads_hold_their_voxels_themselves(known, image, name):
    content = uploads()[name]
    before = sorted(p.name for p in known.studies.rglob("*"))
    refused(infer(known, files={"file": (name, content)}), 400)
    refused(infer(known, image=image, files={"label": (name, content)}), 400)
    refused(send(known, "PUT", "/datastore/image", params={"image": "sent"}, files={"file": (name, content)}), 400)
    refused(send(known, "PUT", "/datastore/label", params={"image": image}, files={"label": (name, content)}), 400)
    refused(send(known, "PUT", "/session/", files={"files": (name, content)}), 400)
    assert sorted(p.name for p in known.studies.rglob("*")) == before


def test_nothing_is_written_outside_the_studies(known, image, tmp_path):
    content = (known.studies / "safe.nii.gz").read_bytes()
    around = sorted(known.studies.parent.rglob("*.nii.gz"))
    for name in ("../out", "/tmp/out", "a/b", ".hidden", "a\\b", "$a"):
        answer = send(known, "PUT", "/datastore/image", params={"image": name}, files={"file": ("a.nii.gz", content)})
        refused(answer, 422)
        answer = send(
            known,
            "PUT",
            "/datastore/label",
            params={"image": image, "tag": name},
            files={"label": ("a.nii.gz", content)},
        )
        refused(answer, 422)
        refused(send(known, "POST", "/batch/infer/fastsam3d_deepgrow", json={"label_tag": name}), 400)
    assert sorted(known.studies.parent.rglob("*.nii.gz")) == around


def test_an_image_is_not_replaced_by_an_upload(known, image):
    content = (known.studies / "safe.nii.gz").read_bytes()
    answer = send(known, "PUT", "/datastore/image", params={"image": image}, files={"file": ("a.nii", b"other")})
    refused(answer, 409, says="another name")
    assert (known.studies / "safe.nii.gz").read_bytes() == content
    assert send(known, "PUT", "/datastore/image", files={"file": ("fresh.nii.gz", content)}).json() == {
        "image": "fresh"
    }
    assert (known.studies / "fresh.nii.gz").read_bytes() == content


def test_a_session_takes_one_image_and_unpacks_nothing(known, image):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("../../escaped")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    for name in ("x.tar", "x.zip", "x.nii.gz.tar"):
        refused(send(known, "PUT", "/session/", files={"files": (name, packed.getvalue())}), 400)
    refused(send(known, "PUT", "/session/?uncompress=true", files={"files": ("x.tar", b"")}), 400)
    content = (known.studies / "safe.nii.gz").read_bytes()
    refused(
        send(known, "PUT", "/session/", files=[("files", ("a.nii.gz", content)), ("files", ("b.nii.gz", content))]), 400
    )
    created = known.client().create_session(str(known.studies / "safe.nii.gz"))
    assert Path(created["session_info"]["path"]).is_relative_to(known.app / "sessions")
    answer = send(
        known,
        "POST",
        f"/infer/fastsam3d_deepgrow?session_id={created['session_id']}",
        data={"params": json.dumps(CLICK)},
    )
    assert answer.status_code == 200
    assert "safe" not in created["session_info"]["image"]
    known.client().remove_session(created["session_id"])
    assert not Path(created["session_info"]["path"]).exists()
    refused(send(known, "GET", f"/session/{created['session_id']}"), 404)
    refused(send(known, "GET", "/session/" + "0" * 36), 422)


def test_the_only_weights_are_those_that_are_served(known, image, tmp_path):
    import torch

    foreign = tmp_path / "foreign.pt"
    torch.save(torch.nn.Linear(2, 2).state_dict(), foreign)
    models = known.app / "model" / "fastsam3d_deepgrow" / "models"
    before = (models / "model.pt").read_bytes()
    (models / "other.pt").write_bytes(foreign.read_bytes())
    for name in (str(foreign), "other.pt", "../model.pt", "../../../../model.pt", ["other.pt"]):
        refused(infer(known, {**CLICK, "model_filename": name}, image), 400, says="model_filename")
        refused(send(known, "POST", "/train/fastsam3d_deepgrow", json={"model_filename": name}), 400)
    refused(send(known, "PUT", "/model/fastsam3d_deepgrow", files={"file": ("model.pt", foreign.read_bytes())}), 405)
    assert (models / "model.pt").read_bytes() == before
    (models / "other.pt").unlink()
    assert send(known, "GET", "/model/fastsam3d_deepgrow").content == before


@pytest.mark.parametrize("dims", [-3, 0, 999999])
def test_a_header_that_kills_the_reader_leaves_the_server(known, image, dims):
    content = METAIMAGE.format(dims=dims, file="LOCAL").encode() + bytes(64)
    refused(infer(known, files={"file": ("x.mha", content)}), 400)
    lives(known, image)


def test_a_reader_that_dies_is_replaced(known, image):
    first = reader(known)
    with ThreadPoolExecutor(1) as thread:
        os.kill(first.pid, signal.SIGSTOP)
        waiting = thread.submit(infer, known, CLICK, image)
        time.sleep(1)
        os.kill(first.pid, signal.SIGSEGV)
        os.kill(first.pid, signal.SIGCONT)
        refused(waiting.result(), 400, says="died of this one (SIGSEGV)")
    lives(known, image)
    assert reader(known).pid != first.pid


def test_a_long_request_keeps_nobody_waiting(known, image):
    """While one mask is computed (here: waits for ever), everything else is answered at once."""
    worker = reader(known)
    with ThreadPoolExecutor(8) as threads:
        worker.suspend()
        try:
            waiting = [threads.submit(infer, known, CLICK, image) for _ in range(8)]
            time.sleep(1)
            seconds = []
            for path in ("/info/", "/datastore/?output=all", "/ohif/", "/auth/") * 3:
                begin = time.monotonic()
                assert send(known, "GET", path).status_code == 200
                seconds.append(time.monotonic() - begin)
            assert not any(w.done() for w in waiting)
        finally:
            worker.resume()
        assert all(w.result().status_code == 200 for w in waiting)
    assert max(seconds) < 2


def test_too_many_waiting_requests_are_refused(known, image):
    worker = reader(known)
    with ThreadPoolExecutor(40) as threads:
        worker.suspend()
        try:
            waiting = [threads.submit(infer, known, CLICK, image) for _ in range(40)]
            end = time.monotonic() + 60
            while sum(w.done() for w in waiting) < 8 and time.monotonic() < end:
                time.sleep(0.1)
        finally:
            worker.resume()
        statuses = sorted(w.result().status_code for w in waiting)
    assert statuses == [200] * 32 + [429] * 8


def test_a_token_is_wanted_from_everybody(start, tmp_path):
    token = "a-token-of-some-length"
    with start(tmp_path, "--token", token) as server:
        for path in ("/info/", "/ohif/", "/datastore/", "/auth/token/valid"):
            refused(send(server, "GET", path), 401)
            refused(send(server, "GET", path, headers={"Authorization": "Bearer another-token-of-it"}), 401)
            assert send(server, "GET", path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
        # As a browser asks, for OHIF.
        assert send(server, "GET", "/info/", auth=("anybody", token)).status_code == 200
        # As 3D Slicer asks.
        client = server.client()
        assert client.auth_enabled()
        client.update_auth(client.auth_token("anybody", token))
        assert client.auth_valid_token()
        assert "fastsam3d_deepgrow" in client.info()["models"]
        refused(send(server, "POST", "/auth/token", data={"username": "a", "password": "wrong"}), 401)
        # Other users of the computer read command lines.
        assert token not in " ".join(Path(f"/proc/{server.process.pid}/cmdline").read_text().split("\0"))
        assert token not in server.log()
