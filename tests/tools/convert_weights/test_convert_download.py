# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Downloads from a real server that supports ranges, breaks off, lies and changes its mind."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from tools.convert_weights import sources
from tools.convert_weights.__main__ import main
from tools.convert_weights.download import fetch

CONTENT = bytes(range(256)) * 400


class Server(ThreadingHTTPServer):
    """One file, served with ranges.

    Attributes:
        breaks: after how many bytes each of the next transfers breaks off.
        tag: the file's ETag, None for none.
        ranges: whether ranges are served.
        fails: how often the next requests are answered with 503.
        asked: what the Range header of each request was.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks, self.tag, self.ranges, self.fails, self.asked = CONTENT, [], '"one"', True, 0, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, content = self.server, self.server.content
        span = self.headers.get("Range")
        server.asked.append(span)
        if self.path != "/weights.pth":
            return self.send_error(404)
        if server.fails:
            server.fails -= 1
            return self.send_error(503)
        start = 0
        if span and server.ranges and self.headers.get("If-Range") in (None, server.tag):
            start = int(re.fullmatch(r"bytes=(\d+)-", span)[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.tag:
            self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        sent = content[start:]
        self.wfile.write(sent[: server.breaks.pop(0)] if server.breaks else sent)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def get(server, tmp_path):
    def get(hash_val=None, hash_type="sha256", name="weights.pth"):
        return fetch(server.url, tmp_path / name, hash_val, hash_type, pause=0, progress=False)

    return get


SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("hash_type", ["md5", "sha1", "sha256", "sha512"])
def test_a_whole_file(get, tmp_path, hash_type):
    assert get(hashlib.new(hash_type, CONTENT).hexdigest(), hash_type) == SHA256
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert [f.name for f in tmp_path.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize("hash_val", [SHA256, None])
@pytest.mark.parametrize("tag", ['"one"', None])
def test_a_transfer_that_breaks_off_goes_on(get, server, tmp_path, hash_val, tag):
    server.breaks, server.tag = [30_000, 20_000], tag
    assert get(hash_val) == SHA256
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    # Without a hash and without a tag nothing would tell that the rest belongs to the beginning.
    resumed = [None, "bytes=30000-", "bytes=50000-"] if hash_val or tag else [None, None, None]
    assert server.asked == resumed


def test_a_later_call_goes_on(get, server, tmp_path):
    server.breaks = [10_000] * 5
    with pytest.raises(ValueError, match="broken off after 50,000 of 102,400 bytes; 50,000 bytes are kept: the same"):
        get(SHA256)
    assert not (tmp_path / "weights.pth").exists()
    assert (tmp_path / "weights.pth.part").read_bytes() == CONTENT[:50_000]
    assert get(SHA256) == SHA256
    assert server.asked[-1] == "bytes=50000-"
    assert [f.name for f in tmp_path.iterdir()] == ["weights.pth"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(get, server, tmp_path):
    server.breaks = [10_000] * 5
    with pytest.raises(ValueError, match="broken off"):
        get()
    server.content, server.tag = CONTENT[::-1], '"two"'
    get()
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges(get, server, tmp_path):
    server.breaks, server.ranges = [10_000], False
    assert get(SHA256) == SHA256
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("more", [b"", b"too much"])
def test_everything_was_there_already(get, tmp_path, more):
    """Killed between the last byte and the new name; or a longer file of the same name before."""
    (tmp_path / "weights.pth.part").write_bytes(CONTENT + more)
    assert get(SHA256) == SHA256
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_server_that_is_busy(get, server):
    server.fails = 3
    assert get(SHA256) == SHA256
    assert len(server.asked) == 4


def test_a_hash_that_differs(get, tmp_path):
    with pytest.raises(ValueError, match=f"its sha256 is {SHA256}, expected {'0' * 64}; the file was changed"):
        get("0" * 64)
    assert not list(tmp_path.glob("weights.pth*"))


def test_a_file_that_is_there(get, server, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(CONTENT)
    assert get(SHA256) == get() == SHA256
    path.write_text("mine")
    with pytest.raises(ValueError, match="is there already, and its sha256 is not"):
        get(SHA256)
    assert path.read_text() == "mine"
    assert server.asked == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda url: url.replace("weights", "other"), "404"),
        (lambda url: url.replace("http", "file"), "expected a URL that starts with https"),
        (lambda url: re.sub(r":\d+", ":1", url), "refused"),
    ],
)
def test_a_url_that_gives_nothing(server, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        fetch(change(server.url), tmp_path / "weights.pth", pause=0, progress=False)
    assert not list(tmp_path.iterdir())


def test_an_unknown_hash_type(server, tmp_path):
    with pytest.raises(ValueError, match="hash type 'crc32': expected one of"):
        fetch(server.url, tmp_path / "weights.pth", "0", "crc32")


@pytest.fixture
def command(tmp_path, capsys):
    def run(*options):
        status = main([*map(str, options)])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def test_from_a_url_to_a_base(server, sam, publish, command, tmp_path):
    server.content = publish(sam, "").read_bytes()
    server.breaks = [len(server.content) // 2]
    output = tmp_path / "models" / "base.pt"
    status, text = command("--download", server.url, output, "--sha256", hashlib.sha256(server.content).hexdigest())
    assert status == 0, text
    assert server.asked[1].startswith("bytes=")
    assert f"fetched from {server.url}, licence: unknown" in text
    assert "its sha256 is the expected one" in text
    converted = torch.load(output, weights_only=True)
    assert all(torch.equal(converted[key], value) for key, value in sam.items())


def test_by_name(server, sam, publish, command, tmp_path, monkeypatch):
    server.content = publish(sam, "").read_bytes()
    tables = tmp_path / "bundles" / "some" / "models"
    tables.mkdir(parents=True)
    entry = {"url": server.url, "licence": "CC0-1.0", "kind": "sam"}
    known = {"hash_type": "md5", "hash_val": hashlib.md5(server.content).hexdigest()}
    table = {"known": entry | known, "unknown": entry, "wrong": entry | known | {"hash_val": "0" * 32}}
    (tables / "sources.json").write_text(json.dumps(table))
    monkeypatch.setattr(sources, "BUNDLES", tmp_path / "bundles")
    status, text = command("--download", "known", tmp_path / "a" / "base.pt")
    assert status == 0, text
    assert "licence: CC0-1.0" in text
    assert "its md5 is the expected one" in text
    status, text = command("--download", "unknown", tmp_path / "b" / "base.pt")
    assert status == 0, text
    assert f"its sha256 is {hashlib.sha256(server.content).hexdigest()}, for --sha256 next time" in text
    status, text = command("--download", "wrong", tmp_path / "c" / "base.pt")
    assert status == 1
    assert "expected 00000000000000000000000000000000" in text
    assert not list((tmp_path / "c").iterdir())
    status, text = command("--download", "nobody", tmp_path / "d" / "base.pt")
    assert status == 1
    assert "'nobody' is no known source; expected a URL or one of known, unknown, wrong" in text
    status, text = command("--download", "known", tmp_path / "e" / "base.pt", "--sha256", "0" * 64)
    assert status == 1
    assert "its md5 is known and checked" in text


def test_a_result_that_is_there_stops_before_the_download(server, command, tmp_path):
    (tmp_path / "base.pt").write_text("precious")
    status, text = command("--download", server.url, tmp_path / "base.pt")
    assert status == 1
    assert "is there already" in text
    assert server.asked == []


@pytest.mark.parametrize("bundle", ["fastsam3d", "ssam_2d"])
def test_every_source_is_documented(bundle):
    folder = Path("bundles") / bundle / "models"
    readme = (folder / "README.md").read_text()
    for name, entry in json.loads((folder / "sources.json").read_text()).items():
        source = sources.Source(**entry)
        assert source.url.startswith("https://")
        assert f"`{name}`" in readme
        assert source.url in readme
        assert source.hash_val is None or len(source.hash_val) == {"md5": 32, "sha256": 64}[source.hash_type]
