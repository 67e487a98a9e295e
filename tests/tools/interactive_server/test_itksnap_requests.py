# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""ITK-SNAP's requests as it forms them: by the old names of its releases, and by the new ones."""

import asyncio
import base64
import gzip
import json
import tempfile
import time

import httpx
import numpy as np
import pytest
from interactive_server_help import ball, dice

# (x, y, z)
SHAPE, CENTER = (44, 36, 30), (20, 17, 14)
OLD, NEW = "", "/v2"


def form(array: np.ndarray, **more) -> dict:
    """``array`` (x, y, z) as the two parts of ITK-SNAP's form."""
    content = gzip.compress(np.ascontiguousarray(array.T, dtype="<f4").tobytes())
    metadata = {
        "dimensions": list(array.shape),
        "spacing": [1.0, 1.2, 1.5],
        "origin": [-30.0, 12.5, 100.0],
        "direction": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "components_per_pixel": 1,
        "component_type": "float32",
        **more,
    }
    return {
        "file": ("image.gz", content, "application/gzip"),
        "metadata": (None, json.dumps(metadata), "application/json"),
    }


def mask_in(answer: httpx.Response) -> np.ndarray:
    """(x, y, z) of what ITK-SNAP reads out of the answer."""
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "success"
    content = gzip.decompress(base64.b64decode(answer.json()["result"]))
    mask = np.frombuffer(content, np.int8).reshape(SHAPE[::-1]).T
    assert set(np.unique(mask)) <= {0, 1}
    return mask


def session_of(client: httpx.Client, version: str) -> str:
    path = (
        "/start_session"
        if version == OLD
        else f"/v2/start_session/{client.get('/v2/models').json()['models'][0]['id']}"
    )
    return client.get(path).json()["session_id"]


def click(client, version, session, point, foreground):
    places = "x={}&y={}&z={}" if version == OLD else "point={}&point={}&point={}"
    path = f"{version}/process_point_interaction/{session}?{places.format(*point)}&foreground={foreground}"
    return mask_in(client.get(path))


@pytest.fixture(scope="module")
def volume():
    return ball(SHAPE, CENTER, 10)


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_whole_session(client, volume, version):
    status = client.get("/status").json()
    assert status["status"] == "ok" and [int(n) for n in status["version"].split(".")] >= [0, 1, 0]
    (model,) = client.get("/v2/models").json()["models"]
    assert (model["dimensions"], model["channels"]) == (3, [1])
    assert set(model["interactions"]) == {"point", "scribble", "lasso"}
    session = session_of(client, version)
    uploaded = client.post(f"{version}/upload_raw/{session}?filename=upload.nii.gz", files=form(volume[0]))
    assert uploaded.status_code == 200 and uploaded.json()["message"]
    assert dice(click(client, version, session, CENTER, "true"), volume[1]) > 0.9
    assert (
        click(client, version, session, (CENTER[0] + 14, *CENTER[1:]), "false")[CENTER[0] + 14, CENTER[1], CENTER[2]]
        == 0
    )
    assert client.get(f"{version}/reset_interactions/{session}").json() == {"status": "success"}
    drawn = np.zeros(SHAPE)
    drawn[14:27, CENTER[1], CENTER[2]] = 1
    for kind in ("scribble", "lasso"):
        path = f"/process_{kind}_interaction/{session}?foreground=true"
        mask = mask_in(client.post(path, files=form(drawn if kind == "scribble" else drawn_disc(volume[1]))))
        assert mask[CENTER] == 1, kind
        client.get(f"{version}/reset_interactions/{session}")
    assert client.get(f"{version}/end_session/{session}").json() == {"message": "Session ended"}
    assert client.get(f"{version}/end_session/{session}").json() == {"message": "Invalid session"}
    assert client.get(f"/process_point_interaction/{session}?x=1&y=1&z=1").status_code == 410


def drawn_disc(truth: np.ndarray) -> np.ndarray:
    """What is inside of a lasso in one slice."""
    disc = np.zeros(SHAPE)
    disc[:, :, CENTER[2]] = truth[:, :, CENTER[2]]
    return disc


def test_the_grid_that_itk_tells_is_the_one_that_is_used():
    """ITK's positions are LPS, ours are RAS."""
    from tools.interactive_server.itksnap import Metadata, properties_of

    turned = {"dimensions": [4, 5, 6], "spacing": [1, 2, 3], "origin": [10, 20, 30]}
    turned["direction"] = [0, 1, 0, 1, 0, 0, 0, 0, -1]
    affine = properties_of(Metadata(**turned), "LPS")["affine"]
    assert affine.tolist() == [[0, -2, 0, -10], [-1, 0, 0, -20], [0, 0, -3, 30], [0, 0, 0, 1]]
    told = properties_of(Metadata(dimensions=[4, 5, 6], spacing=[1, 2, 3]), "LPS")
    assert told == {"orientation": "LPS", "spacing": [1, 2, 3]}


@pytest.mark.parametrize(
    "more, sentence",
    [
        ({"dimensions": [3, 3]}, "dimensions"),
        ({"dimensions": [3, 3, 3]}, "voxels"),
        ({"components_per_pixel": 3}, "expected 1 of float32"),
        ({"component_type": "int16"}, "expected 1 of float32"),
        ({"direction": [0] * 9}, "affine"),
        ({"spacing": "1 1 1"}, "spacing"),
        ({"dimensions": [1 << 19, 1 << 19, 1]}, "voxels"),
    ],
)
def test_images_that_cannot_be_are_refused(client, volume, more, sentence):
    session = session_of(client, NEW)
    refused = client.post(f"/v2/upload_raw/{session}", files=form(volume[0], **more))
    assert refused.status_code in (400, 413) and sentence in refused.json()["detail"]
    refused = client.post(f"/v2/upload_raw/{session}", files=form(volume[0]) | {"file": ("f", b"no gzip")})
    assert refused.status_code == 400 and "gzip" in refused.json()["detail"]
    assert client.get(f"/process_point_interaction/{session}?x=1&y=1&z=1").status_code == 400
    client.get(f"/v2/end_session/{session}")


def test_nothing_that_is_sent_is_written_to_disk(monkeypatch):
    """Forms of more than a MiB go to temporary files elsewhere."""
    from fastapi import Request

    from tools.interactive_server.itksnap import form_of, voxels
    from tools.interactive_server.sessions import Lease

    def written(file):
        raise AssertionError("a form is written to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", written)
    image = np.random.default_rng(0).random((100, 90, 80)).astype(np.float32)
    sent = httpx.Request("POST", "http://here/", files=form(image))
    assert len(sent.read()) > 2 << 20
    headers = [(k.encode(), v.encode()) for k, v in sent.headers.items()]

    async def receive():
        return {"type": "http.request", "body": sent.content}

    request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)
    metadata, packed = asyncio.run(form_of(request, Lease(None, None, None)))
    assert np.array_equal(voxels(metadata, packed, 1 << 20), image)


def test_clicks_outside_and_unknown_models_are_refused(client, volume):
    assert client.get("/v2/start_session/SAM2").status_code == 400
    session = session_of(client, OLD)
    client.post(f"/upload_raw/{session}", files=form(volume[0]))
    for query in ("x=99&y=1&z=1", "x=1&y=1", "x=a&y=1&z=1", "x=1.5&y=1&z=1"):
        refused = client.get(f"/process_point_interaction/{session}?{query}&foreground=true")
        assert refused.status_code == 400 and len(refused.json()["detail"].split()) > 3, query
    client.get(f"/end_session/{session}")


def test_a_place_without_heartbeats_is_kept_until_another_client_needs_it(monkeypatch):
    from sam_bundles.common.gate import Refusal

    from tools.interactive_server.sessions import Leases
    from tools.interactive_server.settings import Settings

    leases = Leases(Settings(max_sessions=1, liveness_timeout=1, idle_timeout=5), engine=None)
    lease = leases.claim(heartbeats=False)
    with pytest.raises(Refusal, match="all 1 places"):
        leases.claim()
    now = time.monotonic()
    monkeypatch.setattr("tools.interactive_server.sessions.time.monotonic", lambda: now + 100)
    leases.sweep()
    assert leases.get(lease.token) is lease
    # A place with heartbeats would have been free long ago.
    other = leases.claim()
    with pytest.raises(Refusal, match="no such lease"):
        leases.get(lease.token)
    monkeypatch.setattr("tools.interactive_server.sessions.time.monotonic", lambda: now + 102)
    leases.sweep()
    with pytest.raises(Refusal, match="no such lease"):
        leases.get(other.token)
    leases.close()
