# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Places on the server: taken, lost, given back, refused when all are taken; keys, hosts and origins over the wire."""

import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from interactive_server_help import ROOT, ball, claim, meta
from nnInteractive.inference.remote import (
    ServerAtCapacityError,
    SessionExpiredError,
)
from nnInteractive.inference.remote import (
    nnInteractiveRemoteInferenceSession as Client,
)
from nnInteractive.inference.remote.serialization import pack_array

KEY = "0123456789abcdef-key"


@pytest.fixture(scope="module")
def small_server(start_server):
    """Two places, a key, and little patience."""
    options = ("--max-sessions", "2", "--liveness-timeout", "2", "--idle-timeout", "5", "--max-upload", "1")
    with start_server(*options, NN_INTERACTIVE_API_KEY=KEY) as address:
        yield address


def gone(client: httpx.Client) -> bool:
    return client.get("/lease_status").status_code == 410


def wait_for(true, seconds: float) -> float:
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, "it did not happen"
        time.sleep(0.1)
    return time.monotonic() - start


def authorized(address: str) -> httpx.Client:
    return claim(address, Authorization=f"Bearer {KEY}")


def test_a_full_server_says_when_to_come_again_and_a_freed_place_is_taken(small_server):
    first, second = authorized(small_server), authorized(small_server)
    refused = first.post("/claim")
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
    assert "--max-sessions" in refused.json()["detail"]
    with pytest.raises(ServerAtCapacityError, match="2 places"):
        Client(small_server, api_key=KEY)
    assert second.post("/release").json() == {"released": True}
    assert gone(second)
    with Client(small_server, api_key=KEY):
        pass
    # Given back twice, or never taken: the same.
    assert second.post("/release").json() == {"released": True}
    first.post("/release")


def test_a_client_that_died_frees_its_place(small_server):
    dead, alive = authorized(small_server), authorized(small_server)
    stop = threading.Event()

    def beat():
        while not stop.wait(0.3):
            alive.post("/heartbeat")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        wait_for(lambda: gone(dead), 10)
        assert alive.get("/lease_status").status_code == 200
        with Client(small_server, api_key=KEY):
            pass
        # Heartbeats alone do not keep a place for ever.
        wait_for(lambda: gone(alive), 20)
    finally:
        stop.set()
        thread.join()


def test_a_lost_place_is_told_at_every_call(small_server):
    client = Client(small_server, api_key=KEY)
    image, _ = ball((16, 16, 16), (8, 8, 8), 4)
    client.set_image(image[None])
    client.target_buffer = np.zeros(image.shape, np.uint8)
    httpx.post(
        f"{small_server}/release",
        headers={"Authorization": f"Bearer {KEY}", "X-Lease-Token": client._lease_token},
    )
    point, box = [8, 8, 8], [[4, 12], [4, 12], [8, 9]]
    calls = [
        lambda: client.set_image(image[None]),
        lambda: client.set_target_buffer(np.zeros(image.shape, np.uint8)),
        lambda: client.add_point_interaction(point, True),
        lambda: client.add_bbox_interaction(box, True),
        lambda: client.add_scribble_interaction(image > 100, True),
        lambda: client.add_lasso_interaction(image > 100, True),
        lambda: client.add_initial_seg_interaction((image > 100).astype(np.uint8)),
        client._predict,
        client.undo,
        client.reset_interactions,
        client.heartbeat,
        client.lease_status,
        lambda: client.set_do_autozoom(True),
    ]
    for call in calls:
        with pytest.raises(SessionExpiredError, match="claim a place again"):
            call()
    client.close()


@pytest.mark.parametrize("key", [None, "wrong", KEY + "x", KEY[:-1]])
def test_a_wrong_key_is_told_nothing(small_server, key):
    with pytest.raises(httpx.HTTPStatusError) as error:
        Client(small_server, api_key=key)
    assert error.value.response.status_code == 401
    assert "token" in error.value.response.json()["detail"]
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    for path in ("/capabilities", "/lease_status", "/status", "/v2/models"):
        assert httpx.get(small_server + path, headers=headers).status_code == 401
    # Whether a server is there may be asked.
    assert httpx.get(f"{small_server}/healthz").json() == {"ok": True}


def test_the_key_is_the_variable_that_the_client_reads_too(small_server, monkeypatch):
    monkeypatch.setenv("NN_INTERACTIVE_API_KEY", KEY)
    with Client(small_server) as client:
        assert client.ping()


def test_more_than_may_be_uploaded_is_refused(small_server):
    client = authorized(small_server)
    packed = pack_array(np.random.default_rng(0).random((1, 80, 80, 80)))
    for content in (packed, iter([packed[:4096]] * (1 + len(packed) // 4096))):
        refused = client.post("/set_image", content=content, headers=meta(image_properties={}))
        assert refused.status_code == 413 and "--max-upload" in refused.json()["detail"]
    assert client.get("/lease_status").status_code == 200
    client.post("/release")


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:1527"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
    ],
)
def test_web_pages_of_others_and_other_names_are_refused(server, headers, status):
    for method, path in (("GET", "/capabilities"), ("POST", "/claim"), ("GET", "/start_session"), ("GET", "/status")):
        answer = httpx.request(method, server + path, headers=headers)
        assert answer.status_code == status and answer.json()["detail"], (method, path)


def test_a_page_cannot_take_places_by_opening_addresses(server):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert httpx.get(f"{server}/start_session", headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/set_image", "/../etc/passwd", "/%00"])
def test_what_is_no_request_is_refused_with_a_sentence(server, path):
    answer = httpx.get(server + path)
    assert answer.status_code in (404, 405) and "is no request to this server" in answer.json()["detail"]


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--host", "0.0.0.0"], "--api-key"),
        (["--host", "192.0.2.1"], "--api-key"),
        (["--api-key", "short"], "16 or more"),
        (["--max-sessions", "0"], "--max-sessions 0: expected a positive number"),
        (["--liveness-timeout", "-1"], "--liveness-timeout"),
        (["--orientation", "LPX"], "L or R, P or A, S or I"),
        (["--orientation", "LRS"], "L or R, P or A, S or I"),
        (["--allow-origin", "x"], "--allow-origin"),
        (["--max-upload", "0"], "--max-upload"),
        (["--port", "99999"], "99999"),
        (["--weights", "no.pt"], "no.pt"),
    ],
)
def test_what_does_not_start(options, sentence, capsys):
    from tools.interactive_server.__main__ import main

    assert main(["--device", "cpu", *options]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("Error: ") and sentence in said.err and not said.out


def test_help_is_complete():
    command = [sys.executable, "-m", "tools.interactive_server", "--help"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for option in ("--host", "--port", "--api-key", "--max-sessions", "--orientation", "--idle-timeout", "docs/"):
        assert option in said


def test_the_key_stays_out_of_what_the_server_shows():
    from tools.interactive_server.settings import Settings

    assert KEY not in repr(Settings(token=KEY))


def test_a_lease_works_while_its_image_is_prepared():
    import asyncio

    from tools.interactive_server.sessions import Leases
    from tools.interactive_server.settings import Settings

    leases = Leases(Settings(max_sessions=1), engine=None)
    lease, prepared = leases.claim(), threading.Event()
    lease.session.prepare = lambda: prepared.wait(30)
    lease.prepare()
    assert asyncio.run(lease.run(lambda: "done")) == "done"
    prepared.set()
    # Predictions wait: both would use all cores.
    assert asyncio.run(lease.predict(prepared.is_set))
    leases.close()
