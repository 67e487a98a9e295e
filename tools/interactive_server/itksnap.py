# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""ITK-SNAP's deep learning protocol, as ``itksnap-dls`` 0.1.6 answers it, with the old names of requests and the new.

Images and drawings come as forms: ``file`` holds the voxels as gzipped float32, x fastest, and ``metadata`` the grid in
ITK's terms. Every prompt is answered with the whole mask, int8, gzipped and in base64. ITK-SNAP sends no heartbeats:
its place is taken away only when another client needs it and it has done nothing for as long as others may.
"""

from __future__ import annotations

import base64
import zlib
from math import prod
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from sam_bundles.common.gate import Refusal
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from .nninteractive import leases_of
from .orientation import placed
from .requests import MAX_JSON_BYTES, Finite, read_json
from .sessions import Lease, Leases

# Of itksnap-dls, whose requests these are: ITK-SNAP refuses servers that are older than it expects.
VERSION = "0.1.6"
MODEL = "fastsam3d"
GZIP = 16 + zlib.MAX_WBITS


async def no_browser(request: Request) -> None:
    """Refuse web pages: the protocol changes sessions by GET, which pages may send anywhere."""
    if "sec-fetch-mode" in request.headers:
        raise Refusal(403, "this is for ITK-SNAP: a browser has no business here")


router = APIRouter(dependencies=[Depends(no_browser)])
All = Annotated[Leases, Depends(leases_of)]
Index = Annotated[int, Query(ge=-(2**31), lt=2**31)]


class Metadata(BaseModel):
    """Of an image in ITK's terms, axes x, y, z; positions in mm, LPS."""

    dimensions: Annotated[list[Annotated[int, Field(ge=1, le=1 << 20)]], Field(min_length=3, max_length=3)]
    components_per_pixel: int = 1
    component_type: str = "float32"
    spacing: Annotated[list[Finite], Field(min_length=3, max_length=3)] | None = None
    origin: Annotated[list[Finite], Field(min_length=3, max_length=3)] = [0.0, 0.0, 0.0]
    direction: Annotated[list[Finite], Field(min_length=9, max_length=9)] | None = None


class InMemory(MultiPartParser):
    """Writes nothing to disk: scans of patients are in these forms."""

    spool_max_size = 1 << 40


@router.get("/status")
async def status() -> dict[str, str]:
    return {"status": "ok", "version": VERSION}


@router.get("/v2/models")
async def models() -> dict[str, Any]:
    """The one network that answers here, and what it takes."""
    one = {"id": MODEL, "channels": [1], "dimensions": 3, "interactions": ["point", "scribble", "lasso"]}
    return {"models": [one]}


@router.get("/start_session")
@router.get("/v2/start_session/{model_id}")
async def start_session(leases: All, model_id: str = MODEL) -> dict[str, str]:
    if model_id != MODEL:
        raise Refusal(400, f"model {model_id[:40]!r}: expected {MODEL}, the one that this server has")
    return {"session_id": leases.claim(heartbeats=False).token}


@router.get("/end_session/{session_id}")
@router.get("/v2/end_session/{session_id}")
async def end_session(session_id: str, leases: All) -> dict[str, str]:
    return {"message": "Session ended" if leases.release(session_id) else "Invalid session"}


@router.post("/upload_raw/{session_id}")
@router.post("/v2/upload_raw/{session_id}")
async def upload_raw(session_id: str, request: Request, leases: All) -> dict[str, str]:
    """A new image. Answered when it is in memory; what the first click needs is prepared afterwards."""
    lease = leases.get(session_id)
    metadata, packed = await form_of(request, lease)

    def work() -> None:
        image = voxels(metadata, packed, leases.settings.max_voxels)
        lease.session.set_image(image, properties_of(metadata, leases.settings.orientation))

    await lease.run(work)
    lease.prepare()
    return {"message": "the image is in memory"}


@router.get("/process_point_interaction/{session_id}")
async def old_point(
    session_id: str, leases: All, x: Index, y: Index, z: Index, foreground: bool = False
) -> dict[str, str]:
    return await point_at(leases.get(session_id), [x, y, z], foreground)


@router.get("/v2/process_point_interaction/{session_id}")
async def point(
    session_id: str,
    leases: All,
    point: Annotated[list[Index], Query(min_length=3, max_length=3)],
    foreground: bool = False,
) -> dict[str, str]:
    return await point_at(leases.get(session_id), point, foreground)


@router.post("/process_scribble_interaction/{session_id}")
@router.post("/v2/process_scribble_interaction/{session_id}")
async def scribble(session_id: str, request: Request, leases: All, foreground: bool = False) -> dict[str, str]:
    return await drawn(request, leases, session_id, foreground, "add_scribble_interaction")


@router.post("/process_lasso_interaction/{session_id}")
@router.post("/v2/process_lasso_interaction/{session_id}")
async def lasso(session_id: str, request: Request, leases: All, foreground: bool = False) -> dict[str, str]:
    return await drawn(request, leases, session_id, foreground, "add_lasso_interaction")


@router.get("/reset_interactions/{session_id}")
@router.get("/v2/reset_interactions/{session_id}")
async def reset_interactions(session_id: str, leases: All) -> dict[str, str]:
    lease = leases.get(session_id)
    await lease.run(lambda: lease.session.reset_interactions())
    return {"status": "success"}


async def point_at(lease: Lease, index: list[int], foreground: bool) -> dict[str, str]:
    """A click on the object, or on the background."""

    def work() -> dict[str, str]:
        lease.session.add_point_interaction(index, foreground)
        return answer(lease)

    return await lease.predict(work)


async def drawn(request: Request, leases: Leases, session_id: str, foreground: bool, method: str) -> dict[str, str]:
    """A mask that was drawn, of the whole image."""
    lease = leases.get(session_id)
    metadata, packed = await form_of(request, lease)

    def work() -> dict[str, str]:
        mask = voxels(metadata, packed, leases.settings.max_voxels) != 0
        getattr(lease.session, method)(mask, foreground)
        return answer(lease)

    return await lease.predict(work)


def answer(lease: Lease) -> dict[str, str]:
    """The whole mask, x fastest."""
    content = lease.session.mask().T.astype(np.int8).tobytes()
    packer = zlib.compressobj(1, wbits=GZIP)
    packed = packer.compress(content) + packer.flush()
    return {"status": "success", "result": base64.b64encode(packed).decode()}


async def form_of(request: Request, lease: Lease) -> tuple[Metadata, bytes]:
    """The two fields of a form; the client of the ``lease`` does something as long as they arrive.

    Raises:
        ValueError: another form.
    """

    async def arriving() -> Any:
        async for part in request.stream():
            lease.active()
            yield part

    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise ValueError(f"a body of type {kind[:80]!r}: expected multipart/form-data with file and metadata")
    try:
        parser = InMemory(request.headers, arriving(), max_files=1, max_fields=1, max_part_size=MAX_JSON_BYTES)
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"the form cannot be read: {getattr(error, 'message', error)}") from error
    file, metadata = form.get("file"), form.get("metadata")
    if not isinstance(file, UploadFile) or not isinstance(metadata, str):
        raise ValueError(f"a form with {', '.join(form) or 'nothing'}: expected a file 'file' and a text 'metadata'")
    return read_json(metadata, Metadata), await file.read()


def voxels(metadata: Metadata, packed: bytes, max_voxels: int) -> np.ndarray:
    """(X, Y, Z) float32, x fastest in memory.

    Raises:
        ValueError: not as many voxels as the metadata says, or no gzip.
        Refusal: 413, too many.
    """
    if metadata.components_per_pixel != 1 or metadata.component_type != "float32":
        found = f"{metadata.components_per_pixel} components of {metadata.component_type[:20]}"
        raise ValueError(f"an image of {found} a voxel: expected 1 of float32")
    count = prod(metadata.dimensions)
    if count > max_voxels:
        raise Refusal(413, f"{metadata.dimensions} are more than {max_voxels} voxels: send a part of the image")
    unpacker = zlib.decompressobj(GZIP)
    try:
        content = unpacker.decompress(packed, 4 * count + 1)
    except zlib.error as error:
        raise ValueError(f"the file is not gzipped ({error})") from error
    if len(content) != 4 * count:
        raise ValueError(f"the file does not hold the {count} float32 voxels of {metadata.dimensions}")
    return np.frombuffer(content, dtype="<f4").reshape(metadata.dimensions[::-1]).T


def properties_of(metadata: Metadata, orientation: str) -> dict[str, Any]:
    """Where the voxels lie, as a session takes it."""
    if metadata.direction is None:
        return placed({"spacing": metadata.spacing}, orientation[::-1])
    affine = np.eye(4)
    affine[:3, :3] = np.array(metadata.direction).reshape(3, 3) * (metadata.spacing or [1.0, 1.0, 1.0])
    affine[:3, 3] = metadata.origin
    # LPS -> RAS.
    return {"affine": np.diag([-1, -1, 1, 1]) @ affine}
