# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The page's server, real, in a thread of the tests; and what the page says to it."""

import base64
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from dicom_files import write_series
from interactive_server_help import free_port
from pydicom import Dataset
from volumes import Grid, Phantom, grid_around

from sam_bundles import Engine
from tools.interactive_server.app import create_app
from tools.interactive_server.page import Page
from tools.interactive_server.settings import Settings
from tools.page.build import folders


@contextmanager
def serving(engine: Engine, given: Path | None = None, **settings: Any) -> Iterator[str]:
    """The address of a server with the page, and ``given`` as the scan of its command line."""
    app = create_app(Settings(**{"max_sessions": 40, **settings}), engine, Page(folders(), given))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


class Client:
    """What the page's own JavaScript says, in Python."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=address, timeout=120)
        self.scan = self.http.post("/page/scans", json={}).json()["scan"]

    def post(self, path: str, /, **said: Any) -> httpx.Response:
        return self.http.post(f"/page/scans/{self.scan}/{path}", json=said)

    def get(self, path: str = "") -> httpx.Response:
        return self.http.get(f"/page/scans/{self.scan}{path}")

    def upload(self, files: dict[str, bytes], piece: int = 1 << 20) -> int:
        listed = [{"name": name, "size": len(content)} for name, content in files.items()]
        number = self.post("uploads", files=listed).json()["upload"]
        for i, content in enumerate(files.values()):
            for at in range(0, len(content), piece):
                sent = self.piece(number, i, at, content[at : at + piece])
                assert sent.status_code == 200, sent.text
        return number

    def piece(self, upload: int, index: int, offset: int, content: bytes) -> httpx.Response:
        place = f"/page/scans/{self.scan}/uploads/{upload}/{index}?offset={offset}"
        return self.http.put(place, content=content)

    def open_files(self, files: dict[str, bytes]) -> dict[str, Any]:
        return self.open(source="upload", upload=self.upload(files))

    def open(self, **said: Any) -> dict[str, Any]:
        """What the server tells of the scan when it is open, or why it is not."""
        answer = self.post("image", **said)
        assert answer.status_code == 200, answer.text
        while (told := self.get().json())["stage"] == "reading":
            time.sleep(0.02)
        return told

    def changed(self, path: str, /, **said: Any) -> tuple[dict[str, Any], np.ndarray]:
        """The JSON of an answer, and its labels, (X, Y, Z) of its box in the page's order."""
        answer = self.post(path, **said)
        assert answer.status_code == 200, answer.text
        (length,) = struct.unpack("<I", answer.content[:4])
        told = json.loads(answer.content[4 : 4 + length])
        labels = np.frombuffer(answer.content[4 + length :], np.uint8)
        box = told["box"] or [[0, 0]] * 3
        return told, labels.reshape([high - low for low, high in box], order="F")


def two_series(folder: Path, phantom: Phantom) -> list[tuple[np.ndarray, Grid]]:
    """Of one patient, 20 slices and 14; the values of each, and where they lie."""
    found = []
    for i, depth in enumerate((20, 14)):
        grid = grid_around(np.diag([-1.5, -1.5, 2.0]), (32, 30, depth))
        found.append((np.round(10 * phantom.image(grid)) + i, grid))

        def edit(made: Dataset, _: int, i: int = i) -> None:
            made.FrameOfReferenceUID, made.SeriesDescription = "1.2.826.0.1", ("early", "late")[i]

        write_series(folder, *found[-1], edit=edit, series=f"1.2.826.0.1.9.{i}", name=f"{i}_{{:04d}}.dcm")
    return found


def packed(mask: np.ndarray) -> str:
    """Bits of a mask of the page, as its JavaScript packs them."""
    return base64.b64encode(np.packbits(mask.ravel(order="F")).tobytes()).decode()
