# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The page in the browser and what it asks: a scan is opened, clicked in, and its masks are saved.

Positions are voxels of the page's grid, see :mod:`.shown_grid`. A scan is a lease; its token is the only name that the
browser knows of anything on this computer.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field
from sam_bundles.common.gate import Refusal
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response, StreamingResponse

from .received import MAX_PIECE, Received
from .requests import Finite, Strict, read_body, read_json
from .scan import Scan
from .sessions import Lease, Leases

# Uploads of one scan: itself, and masks to start from.
MAX_UPLOADS = 50
MAX_UPLOAD_JSON = 8 << 20
MAX_SESSION_BYTES = 256 << 20
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# The browser itself holds the page to what the page says: nothing comes from elsewhere, nothing goes there.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; worker-src blob:; "
    "img-src 'self' data: blob:; connect-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Page:
    """What the page is made of.

    Attributes:
        folders: where its files lie: the page's own, and what was built at set-up.
        given: the scan of the command line, opened at once.
    """

    folders: tuple[Path, ...]
    given: Path | None = None
    made: TemporaryDirectory = field(default_factory=lambda: TemporaryDirectory(prefix="sam-bundles-"))


Index = Annotated[int, Field(ge=0, le=2**31)]
Side = Annotated[list[Index], Field(min_length=2, max_length=2)]
BoxOf = Annotated[list[Side], Field(min_length=3, max_length=3)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class FileSaid(Strict):
    """A file that will come."""

    name: Annotated[str, Field(min_length=1, max_length=1000)]
    size: Annotated[int, Field(ge=0, le=2**48)]


class UploadSaid(Strict):
    """All files that will come."""

    files: list[FileSaid]


class ImageSaid(Strict):
    """Which scan is meant; ``series`` of a DICOM folder, once there was a choice."""

    source: Literal["upload", "given", "demo"]
    upload: Index | None = None
    series: Index | None = None


class PromptSaid(Strict):
    """A prompt: ``at`` of a point, ``box`` of a box, ``box`` and ``bits`` of strokes, ``upload`` of a mask."""

    kind: Literal["point", "box", "brush", "lasso", "mask"]
    include: bool = True
    at: Annotated[list[Finite], Field(min_length=3, max_length=3)] | None = None
    box: BoxOf | None = None
    bits: str | None = None
    upload: Index | None = None


class StepSaid(Strict):
    """A step back or forward; ``prompt`` says which is removed."""

    does: Literal["undo", "redo", "reset", "remove"]
    prompt: Index | None = None


class ObjectSaid(Strict):
    """What is done with an object."""

    does: Literal["add", "select", "rename", "remove"]
    name: Name | None = None
    to: str | None = None


def page_router(page: Page) -> APIRouter:
    """All requests of the page.

    Args:
        page: its files, and the scan of the command line.
    """
    router = APIRouter()

    @router.get("/")
    async def index() -> Response:
        return serve("index.html")

    @router.get("/page/about")
    async def about() -> dict[str, Any]:
        """What can be opened without an upload."""
        return {"given": page.given and page.given.name, "demo": find_spec("nilearn") is not None}

    @router.post("/page/scans")
    async def open_scan(request: Request) -> dict[str, str]:
        leases: Leases = request.app.state.leases
        # A tab in the background sends its signs of life when the browser pleases: idleness alone ends the lease.
        lease = leases.claim(heartbeats=False)
        lease.kept["scan"] = Scan(lease.session)
        return {"scan": lease.token}

    @router.post("/page/scans/{token}/uploads")
    async def announce(token: str, request: Request) -> dict[str, int]:
        lease, scan = _of(request, token)
        said = _read(await read_body(request, lease, MAX_UPLOAD_JSON), UploadSaid)
        if len(scan.uploads) >= MAX_UPLOADS:
            raise Refusal(400, f"{MAX_UPLOADS} uploads for this scan: expected no more; open the scan anew")
        limit = request.app.state.settings.max_bytes
        made = partial(Received, [f.name for f in said.files], [f.size for f in said.files], limit)
        scan.uploads.append(await _refused(made))
        return {"upload": len(scan.uploads) - 1}

    @router.put("/page/scans/{token}/uploads/{upload}/{index}")
    async def receive(token: str, upload: int, index: int, offset: int, request: Request) -> dict[str, int]:
        lease, scan = _of(request, token)
        received = _upload(scan, upload)
        piece = bytes(await read_body(request, lease, MAX_PIECE))
        return {"received": await _refused(lambda: received.write(index, offset, piece))}

    @router.post("/page/scans/{token}/image")
    async def read_image(token: str, request: Request) -> dict[str, str]:
        lease, scan = _of(request, token)
        said = _read(await read_body(request, lease), ImageSaid)
        if scan.stage not in ("empty", "choose"):
            raise Refusal(400, "this scan has its image: expected a new one, POST /page/scans")
        find = _finder(said, scan, page)
        scan.stage = "reading"
        lease.begin(lambda: scan.read(find, said.series))
        lease.begin(lambda: scan.stage == "ready" and lease.session.prepare())
        return {"stage": scan.stage}

    @router.get("/page/scans/{token}")
    async def look(token: str, request: Request) -> dict[str, Any]:
        """How far it is; also the page's sign of life."""
        lease, scan = _of(request, token)
        lease.active()
        told: dict[str, Any] = {"stage": scan.stage, "error": scan.error, "choices": scan.choices}
        return {**told, "meta": scan.meta()} if scan.stage == "ready" else told

    @router.get("/page/scans/{token}/volume")
    async def volume(token: str, request: Request) -> Response:
        _, scan = _ready(request, token)
        size = {"Content-Length": str(scan.volume_size())}
        return StreamingResponse(scan.volume(), media_type="application/octet-stream", headers=size)

    @router.post("/page/scans/{token}/masks")
    async def masks(token: str, request: Request) -> Response:
        lease, scan = _ready(request, token)
        return _packed(await lease.run(lambda: scan.everything(time.perf_counter())))

    @router.post("/page/scans/{token}/prompts")
    async def prompt(token: str, request: Request) -> Response:
        lease, scan = _ready(request, token)
        said = _read(await read_body(request, lease, MAX_SESSION_BYTES), PromptSaid)
        return _packed(await _answer(lease, scan, _prompted(said, scan), predicts=True, tell_prompt=True))

    @router.post("/page/scans/{token}/steps")
    async def step(token: str, request: Request) -> Response:
        lease, scan = _ready(request, token)
        said = _read(await read_body(request, lease), StepSaid)
        session = lease.session
        if said.does == "remove" and said.prompt is None:
            raise Refusal(400, "no prompt: expected the number of the one to remove")
        does: dict[str, Callable[[], Any]] = {
            "undo": session.undo,
            "redo": session.redo,
            "reset": session.reset_interactions,
            "remove": lambda: session.remove_prompt(said.prompt),
        }
        return _packed(await _answer(lease, scan, does[said.does], predicts=True))

    @router.post("/page/scans/{token}/objects")
    async def objects(token: str, request: Request) -> Response:
        lease, scan = _ready(request, token)
        said = _read(await read_body(request, lease), ObjectSaid)
        if said.name is None and said.does != "add":
            raise Refusal(400, f"no name: expected that of the object to {said.does}")
        return _packed(await _answer(lease, scan, lambda: _object(lease, said), predicts=said.does == "remove"))

    @router.post("/page/scans/{token}/restore")
    async def restore(token: str, request: Request) -> Response:
        lease, scan = _ready(request, token)
        body = await read_body(request, lease, MAX_SESSION_BYTES)
        answer = await lease.predict(lambda: scan.restore(bytes(body)))
        lease.session = scan.session
        return _packed(answer)

    @router.get("/page/scans/{token}/save/{form}")
    async def save(token: str, form: str, request: Request) -> Response:
        lease, scan = _ready(request, token)
        if form not in scan.FORMS:
            raise Refusal(404, f"a file of the kind {form[:40]!r}: expected one of {', '.join(scan.FORMS)}")
        name, content = await lease.run(lambda: scan.save(form))
        named = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
        return Response(content, media_type="application/octet-stream", headers=named)

    @router.post("/page/scans/{token}/close")
    async def close(token: str, request: Request) -> dict[str, bool]:
        return {"closed": request.app.state.leases.release(token)}

    @router.get("/page/{name}")
    async def part(name: str) -> Response:
        return serve(name)

    def serve(name: str) -> Response:
        kind = KINDS.get(Path(name).suffix)
        # Names, not paths: what is asked for is looked up among the files that there are.
        found = [f for folder in page.folders if folder.is_dir() for f in folder.iterdir() if f.name == name]
        if kind is None or not found:
            raise Refusal(404, f"the page has no part {name[:80]!r}")
        return FileResponse(found[0], media_type=kind, headers=HEADERS)

    return router


def _of(request: Request, token: str) -> tuple[Lease, Scan]:
    lease = request.app.state.leases.get(token)
    scan = lease.kept.get("scan")
    if scan is None:
        raise Refusal(404, "this place belongs to another program than the page")
    return lease, scan


def _ready(request: Request, token: str) -> tuple[Lease, Scan]:
    lease, scan = _of(request, token)
    if scan.stage != "ready":
        raise Refusal(409, "the scan is not open yet: expected this after its stage is 'ready'")
    return lease, scan


def _read(body: bytearray, form: Any) -> Any:
    try:
        return read_json(body, form)
    except ValueError as error:
        raise Refusal(400, str(error)) from error


async def _refused(work: Callable[[], Any]) -> Any:
    try:
        return await run_in_threadpool(work)
    except ValueError as error:
        raise Refusal(400, str(error)) from error


def _packed(answer: bytes) -> Response:
    # The browser unpacks it itself.
    return Response(answer, media_type="application/octet-stream", headers={"Content-Encoding": "gzip"})


def _upload(scan: Scan, number: int | None) -> Received:
    if number is None or not 0 <= number < len(scan.uploads):
        raise Refusal(400, f"upload {number}: expected one of the {len(scan.uploads)} that were announced")
    return scan.uploads[number]


def _finder(said: ImageSaid, scan: Scan, page: Page) -> Callable[[], tuple[Path, str]]:
    if said.source == "upload":
        received = _upload(scan, said.upload)
        return lambda: (received.path(), received.title)
    if said.source == "demo":
        return lambda: _example(Path(page.made.name))
    if page.given is None:
        raise Refusal(400, "no scan was named on the command line: expected another source")
    given = page.given
    return lambda: (given, given.name)


def _example(folder: Path) -> tuple[Path, str]:
    """The MNI152 T1 template that nilearn carries, as a file."""
    try:
        from nilearn.datasets import load_mni152_template
    except ImportError as error:
        raise ValueError("the example brain comes with the package nilearn: pip install nilearn") from error
    path = folder / "example_brain.nii.gz"
    if not path.exists():
        load_mni152_template(resolution=1).to_filename(path)
    return path, "Example brain.nii.gz"


async def _answer(
    lease: Lease, scan: Scan, work: Callable[[], Any], predicts: bool, tell_prompt: bool = False
) -> bytes:
    def answered() -> bytes:
        started = time.perf_counter()
        box = work()
        more = {"prompt": lease.session.prompts[-1].id} if tell_prompt else {}
        return scan.answer(box, started, **more)

    return await (lease.predict(answered) if predicts else lease.run(answered))


def _object(lease: Lease, said: ObjectSaid) -> Any:
    session = lease.session
    if said.does == "remove":
        return session.remove_object(said.name)
    if said.does == "add":
        session.add_object(said.name)
    elif said.does == "select":
        session.select_object(said.name)
    else:
        session.rename_object(said.name, said.to)
    return None


def _prompted(said: PromptSaid, scan: Scan) -> Callable[[], Any]:
    session, grid = scan.session, scan.grid
    if said.kind == "mask":
        received = _upload(scan, said.upload)
        return lambda: scan.start_from(received)
    if said.kind == "point":
        if said.at is None:
            raise Refusal(400, "a point without 'at': expected the three indices of its voxel")
        return lambda: session.add_point_interaction(grid.stored_voxel(said.at), said.include)
    if said.box is None:
        raise Refusal(400, f"a {said.kind} without 'box': expected [[lo, hi], [lo, hi], [lo, hi]], half open")
    box = grid.stored_box(said.box)
    if said.kind == "box":
        return lambda: session.add_bbox_interaction(box, said.include)
    mask = grid.store(_unpacked(said.bits, said.box))
    add = session.add_scribble_interaction if said.kind == "brush" else session.add_lasso_interaction
    return lambda: add(mask, said.include, interaction_bbox=box)


def _unpacked(bits: str | None, box: list[list[int]]) -> np.ndarray:
    """Bool (X, Y, Z) of a box of the page, from the base64 of its bits, the first axis fastest."""
    size = [high - low for low, high in box]
    if min(size) < 1 or np.prod(size, dtype=object) > 8 * MAX_SESSION_BYTES:
        raise Refusal(400, f"box {box}: expected [[lo, hi], [lo, hi], [lo, hi]], half open, with a voxel inside")
    try:
        packed = np.frombuffer(base64.b64decode(bits or "", validate=True), np.uint8)
    except ValueError as error:
        raise Refusal(400, "bits that are no base64: expected the bits of the box's voxels") from error
    count = int(np.prod(size))
    if packed.size != (count + 7) // 8:
        raise Refusal(400, f"{packed.size} bytes of bits: expected {(count + 7) // 8} for a box of {count} voxels")
    return np.unpackbits(packed, count=count).reshape(size, order="F").astype(bool)
