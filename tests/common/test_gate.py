# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Who may talk to the server: hosts, origins, token and size, asked of the gate itself."""

import asyncio
import base64
import json

import pytest

pytest.importorskip("starlette")

from common.access import Access

HERE = {"host": "127.0.0.1:8000"}


def ask(
    rules: Access, headers: dict[str, str], method: str = "POST", path: str = "/infer/m", body: bytes = b""
) -> tuple:
    """Status and sentence; the application behind the gate answers 200 after it has read everything."""
    from common.gate import Gate

    sent = []

    async def application(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"detail": ""}'})

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    raw = [(k.encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw}
    asyncio.run(Gate(application, rules, "the server", ("/auth/",))(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])["detail"]


@pytest.mark.parametrize(
    "host, status",
    [
        ("127.0.0.1:8000", 200),
        ("127.0.0.1", 200),
        ("localhost:8000", 200),
        ("LOCALHOST:8000", 200),
        ("[::1]:8000", 200),
        ("viewer.example.org", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("", 421),
    ],
)
def test_hosts(host, status):
    rules = Access([*Access().hosts, "viewer.example.org"])
    answer = ask(rules, {"host": host})
    assert answer[0] == status
    assert status == 200 or "--allow-host" in answer[1]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "origin, status",
    [
        ("http://127.0.0.1:8000", 200),
        ("https://viewer.example.org", 200),
        ("http://evil.example", 403),
        ("http://127.0.0.1:3000", 403),
        ("http://127.0.0.1", 403),
        ("http://localhost:8000", 403),
        ("http://127.0.0.1:8000.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_origins(method, origin, status):
    answer = ask(Access(origins=["https://viewer.example.org"]), {**HERE, "origin": origin}, method)
    assert answer[0] == status
    assert status == 200 or "--allow-origin" in answer[1]


@pytest.mark.parametrize(
    "method, headers, status",
    [
        ("POST", {"sec-fetch-site": "cross-site"}, 403),
        ("POST", {"sec-fetch-site": "same-site"}, 403),
        ("POST", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        ("POST", {"sec-fetch-site": "same-origin"}, 200),
        ("POST", {"referer": "http://evil.example/page"}, 403),
        ("POST", {"referer": "http://127.0.0.1:8000/ohif/"}, 200),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ("GET", {"referer": "http://127.0.0.1:9999/links"}, 200),
        ("POST", {}, 200),
    ],
)
def test_what_browsers_say_where_they_name_no_origin(method, headers, status):
    assert ask(Access(), {**HERE, **headers}, method)[0] == status


@pytest.mark.parametrize(
    "authorization, status",
    [
        ("Bearer 0123456789abcdef", 200),
        ("bearer 0123456789abcdef", 200),
        ("Basic " + base64.b64encode(b"anybody:0123456789abcdef").decode(), 200),
        ("Basic " + base64.b64encode(b"0123456789abcdef").decode(), 401),
        ("Basic ?", 401),
        ("Bearer 0123456789abcde", 401),
        ("Bearer 0123456789abcdeg", 401),
        ("Bearer ", 401),
        ("0123456789abcdef", 401),
        (None, 401),
    ],
)
@pytest.mark.parametrize("path", ["/infer/m", "/ohif/", "/info/", "/auth/token/valid"])
def test_tokens(authorization, status, path):
    headers = HERE if authorization is None else {**HERE, "authorization": authorization}
    assert ask(Access(token="0123456789abcdef"), headers, path=path)[0] == status


def test_whether_a_token_is_wanted_may_be_asked_without_one():
    assert ask(Access(token="0123456789abcdef"), HERE, "GET", "/auth/")[0] == 200


def test_more_bytes_than_allowed_are_refused_whatever_was_announced():
    rules = Access(max_bytes=10)
    assert ask(rules, HERE, body=b"0123456789")[0] == 200
    status, sentence = ask(rules, HERE, body=b"0123456789a")
    assert (status, "--max-upload" in sentence) == (413, True)
    assert ask(rules, {**HERE, "content-length": "11"})[0] == 413
