# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The client against a server that answers as MONAI Label does, byte for byte as it frames its answers."""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tools import click_client

MASK = bytes(range(256)) + b"\r\n--almost the boundary\r\n"
RESULT = {
    "objects": [{"name": "liver", "volume_ml": 12.5}],
    "embeddings": {"computed": 0, "reused": 1},
    "latencies": {"total": 0.21},
}


class Handler(BaseHTTPRequestHandler):
    asked: list[dict] = []

    def do_GET(self):
        if self.path.startswith("/info"):
            answer = {"models": {"fastsam3d_deepgrow": {"type": "deepgrow", "labels": {"background": 0, "liver": 1}}}}
        else:
            answer = {"objects": {"scan": {}}}
        self.answer(200, "application/json", json.dumps(answer).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.asked.append(json.loads(urllib.parse.parse_qs(body)["params"][0]))
        if "image=scan&" not in self.path:
            self.answer(404, "application/json", b'{"detail": "there is no such image"}')
            return
        parts = [
            b'Content-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
            + json.dumps(RESULT).encode(),
            b'Content-Disposition: form-data; name="image"; filename="mask.nii.gz"\r\n\r\n' + MASK,
        ]
        framed = b"".join(b"--f00d\r\n" + part + b"\r\n" for part in parts) + b"--f00d--\r\n"
        self.answer(200, "multipart/form-data; boundary=f00d", framed)

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    Handler.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def test_each_click_is_a_request_with_all_clicks_so_far(server, tmp_path, capsys):
    clicks = ["--click", "1", "2", "3", "--click", "4", "5", "6", "--not", "7", "8", "9", "--name", "liver"]
    assert click_client.main(["scan", "--server", server, *clicks, "--output", str(tmp_path)]) == 0
    assert [(a["foreground"], a["background"]) for a in Handler.asked] == [
        ([[1, 2, 3]], []),
        ([[1, 2, 3], [4, 5, 6]], []),
        ([[1, 2, 3], [4, 5, 6]], [[7, 8, 9]]),
    ]
    assert all(a["label"] == "liver" for a in Handler.asked)
    written = sorted(p.name for p in tmp_path.iterdir())
    assert written == [f"scan_fastsam3d_deepgrow_{k}{e}" for k in (1, 2, 3) for e in (".json", ".nii.gz")]
    assert (tmp_path / "scan_fastsam3d_deepgrow_3.nii.gz").read_bytes() == MASK
    line = capsys.readouterr().out.splitlines()[0]
    assert "liver 12.5 mL: server 0.21 s, round trip" in line
    assert "cubes encoded 0, from the cache 1" in line


def test_models_and_images_are_listed(server, capsys):
    assert click_client.main(["--list", "--server", server]) == 0
    assert capsys.readouterr().out.splitlines() == ["model  fastsam3d_deepgrow (deepgrow): liver", "image  scan"]


def test_the_server_s_own_sentence_is_shown(server, tmp_path, capsys):
    given = ["other", "--click", "1", "2", "3", "--server", server, "--output", str(tmp_path)]
    assert click_client.main(given) == 1
    assert "the server refused (404): there is no such image" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_server_is_said_with_what_to_do(capsys):
    assert click_client.main(["--list", "--server", "http://127.0.0.1:9"]) == 1
    assert "start one with: bash tools/monailabel.sh STUDIES" in capsys.readouterr().err


@pytest.mark.parametrize("given", [[], ["scan", "--not", "1", "2", "3"]])
def test_a_command_without_a_click_or_an_image_is_refused(given):
    with pytest.raises(SystemExit) as stopped:
        click_client.main(given)
    assert stopped.value.code == 2
