# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""nnInteractive's protocol, second version, as ``nninteractive-client`` speaks it: in 3D Slicer, napari and Python.

Arrays and boxes are on the array's own axes, ``[C, X, Y, Z]`` as the client sent it. What the protocol leaves open is
done as its own server does: a reset begins anew (nothing before it can be undone), a first segmentation replaces all
prompts. ``undo`` goes back as far as there are prompts, where theirs goes one step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from nnInteractive.inference.remote import _protocol as protocol
from pydantic import Field
from sam_bundles.common.gate import Refusal

from .arrays import IMAGES, MASKS, pack_mask, unpack
from .orientation import placed
from .requests import Finite, Strict, read_body, read_json
from .sessions import Lease, Leases

Box = list[list[int]]
Interval = Annotated[list[Finite], Field(min_length=2, max_length=2)]
Whole = Annotated[list[int], Field(min_length=2, max_length=2)]
router = APIRouter()


class Prompt(Strict):
    include_interaction: bool
    run_prediction: bool = True
    # Nothing that this server says about itself depends on it.
    override_capability_checks: bool = False


class Point(Prompt):
    coordinates: Annotated[list[Finite], Field(min_length=3, max_length=3)]


class BBox(Prompt):
    bbox_coords: Annotated[list[Interval], Field(min_length=3, max_length=3)]


class Drawing(Prompt):
    interaction_bbox: Annotated[list[Whole], Field(min_length=3, max_length=3)] | None = None


class InitialSeg(Strict):
    run_prediction: bool = False
    override_capability_checks: bool = False


class Image(Strict):
    image_properties: dict[str, Any] = {}


class TargetBuffer(Strict):
    shape: Annotated[list[Annotated[int, Field(ge=1, le=1 << 20)]], Field(min_length=3, max_length=3)]
    dtype: Annotated[str, Field(max_length=20)]


class Predict(Strict):
    # Every prediction of this network looks at the whole object again.
    force_full_refine: bool = False


class Autozoom(Strict):
    do_autozoom: bool


class Nothing(Strict):
    pass


async def leases_of(request: Request) -> Leases:
    return request.app.state.leases


async def lease_of(request: Request, leases: Annotated[Leases, Depends(leases_of)]) -> Lease:
    return leases.get(request.headers.get(protocol.LEASE_HEADER))


Held = Annotated[Lease, Depends(lease_of)]
All = Annotated[Leases, Depends(leases_of)]


@router.get(protocol.PATH_HEALTHZ)
async def healthz() -> dict[str, bool]:
    return {"ok": True}


@router.get(protocol.PATH_CAPABILITIES)
async def capabilities() -> dict[str, Any]:
    """What this server can do, in the words of the protocol."""
    kinds = ("points", "bbox2d", "bbox3d", "scribble", "lasso")
    return {
        "supported_interactions": dict.fromkeys(kinds, True),
        # Prompts are no channels of this network.
        "channel_mapping": {},
        "num_interaction_channels": 0,
        "supports_initial_label": True,
        "supports_zero_shot_label_refinement": False,
        "preferred_scribble_thickness": [2, 2, 2],
        "interaction_decay": None,
        "patch_size": [128, 128, 128],
        # It looks as far as the object reaches; there is no switch.
        "do_autozoom": True,
        "inference_session_version": 2,
        "license": "Apache-2.0",
        "supports_undo": True,
    }


@router.post(protocol.PATH_CLAIM)
async def claim(leases: All) -> dict[str, Any]:
    settings = leases.settings
    return {
        "lease_token": leases.claim().token,
        "idle_timeout_seconds": settings.idle_timeout,
        "liveness_timeout_seconds": settings.liveness_timeout,
        "max_sessions": settings.max_sessions,
    }


@router.post(protocol.PATH_RELEASE)
async def release(request: Request, leases: All) -> dict[str, bool]:
    """Free the place; a place that is free already is left as it is."""
    leases.release(request.headers.get(protocol.LEASE_HEADER))
    return {"released": True}


@router.post(protocol.PATH_HEARTBEAT)
async def heartbeat(lease: Held, leases: All) -> dict[str, float]:
    """The client lives. Only what does something puts the idle timeout off."""
    return {"remaining_seconds": leases.remaining(lease)}


@router.get(protocol.PATH_LEASE_STATUS)
async def lease_status(request: Request, leases: All) -> dict[str, float]:
    lease = leases.peek(request.headers.get(protocol.LEASE_HEADER))
    return {
        "remaining_seconds": leases.remaining(lease),
        "idle_timeout_seconds": leases.settings.idle_timeout,
    }


@router.post(protocol.PATH_SET_IMAGE)
async def set_image(request: Request, lease: Held, leases: All) -> dict[str, list[int]]:
    """A new image. Answered when it is in memory; what the first click needs is prepared afterwards."""
    properties = meta(request, Image).image_properties
    properties = placed(properties, leases.settings.orientation)
    packed = await read_body(request, lease, leases.settings.max_bytes)

    def work() -> list[int]:
        image = unpack(packed, 4, IMAGES, leases.settings.max_voxels)
        lease.session.set_image(image, properties)
        lease.kept.clear()
        return list(image.shape)

    shape = await lease.run(work)
    lease.prepare()
    return {"original_image_shape": shape}


@router.post(protocol.PATH_SET_TARGET_BUFFER)
async def set_target_buffer(request: Request, lease: Held) -> dict[str, Any]:
    """How the client keeps the mask: its shape has to be the image's."""
    given = read_json(await read_body(request, lease), TargetBuffer)
    if given.dtype not in MASKS:
        raise Refusal(400, f"dtype {given.dtype!r}: expected one of {', '.join(MASKS)}")

    def work() -> None:
        shape = tuple(given.shape)
        if lease.session.shape != shape:
            raise ValueError(f"a target buffer of shape {shape}: expected that of the image, {lease.session.shape}")
        buffer = np.zeros(shape, dtype=bool)
        lease.session.set_target_buffer(buffer)
        lease.kept.update(buffer=buffer, dtype=given.dtype, before=[])

    await lease.run(work)
    return {}


@router.post(protocol.PATH_SET_DO_AUTOZOOM)
async def set_do_autozoom(request: Request, lease: Held) -> dict[str, bool]:
    """Taken, as viewers send it when they begin; the answer says what holds."""
    read_json(await read_body(request, lease), Autozoom)
    lease.active()
    return {"do_autozoom": True}


@router.post(protocol.PATH_RESET_INTERACTIONS)
async def reset_interactions(request: Request, lease: Held) -> dict[str, Any]:
    """Begin anew on the same image."""
    read_json(await read_body(request, lease), Nothing)

    def work() -> None:
        lease.session.reset_interactions()
        lease.kept["before"] = []

    await lease.run(work)
    return {}


@router.post(protocol.PATH_UNDO)
async def undo(request: Request, lease: Held) -> Response:
    """Take the last prompt back, then the one before, down to the last reset."""
    read_json(await read_body(request, lease), Nothing)

    def work() -> Response:
        buffer_of(lease)
        before = lease.kept["before"]
        if not before:
            return changed(lease, None, ran=False)
        boxes = [lease.session.undo() for _ in range(lease.session.steps - before.pop())]
        return changed(lease, around([box for box in boxes if box is not None]), ran=True)

    return await lease.predict(work)


@router.post(protocol.PATH_PREDICT)
async def predict(request: Request, lease: Held) -> Response:
    """Do what prompts that were only noted ask for."""
    read_json(await read_body(request, lease), Predict)

    def work() -> Response:
        buffer_of(lease)
        steps = lease.session.steps
        box = lease.session.predict()
        return changed(lease, box, ran=lease.session.steps > steps)

    return await lease.predict(work)


@router.post(protocol.PATH_ADD_POINT)
async def add_point(request: Request, lease: Held) -> Response:
    """A click; its place is rounded to a voxel."""
    given = read_json(await read_body(request, lease), Point)
    place = [round(c) for c in given.coordinates]
    return await prompted(
        lease,
        given.run_prediction,
        lambda s: s.add_point_interaction(place, given.include_interaction, given.run_prediction),
    )


@router.post(protocol.PATH_ADD_BBOX)
async def add_bbox(request: Request, lease: Held) -> Response:
    """A box, flat ones too; what of it lies beyond the image is cut off."""
    given = read_json(await read_body(request, lease), BBox)
    return await prompted(
        lease,
        given.run_prediction,
        lambda s: s.add_bbox_interaction(
            clipped(given.bbox_coords, lease.session.shape), given.include_interaction, given.run_prediction
        ),
    )


@router.post(protocol.PATH_ADD_SCRIBBLE)
async def add_scribble(request: Request, lease: Held, leases: All) -> Response:
    return await drawn(request, lease, leases, "add_scribble_interaction")


@router.post(protocol.PATH_ADD_LASSO)
async def add_lasso(request: Request, lease: Held, leases: All) -> Response:
    return await drawn(request, lease, leases, "add_lasso_interaction")


@router.post(protocol.PATH_ADD_INITIAL_SEG)
async def add_initial_seg(request: Request, lease: Held, leases: All) -> Response:
    """A mask to go on from, in place of all prompts."""
    given = meta(request, InitialSeg)
    packed = await read_body(request, lease, leases.settings.max_bytes)

    def work(session: Any) -> Box | None:
        mask = unpack(packed, 3, MASKS, leases.settings.max_voxels) != 0
        return session.add_initial_seg_interaction(mask, given.run_prediction)

    return await prompted(lease, given.run_prediction, work)


async def drawn(request: Request, lease: Lease, leases: Leases, method: str) -> Response:
    """A mask that was drawn, of the whole image or of a box of it."""
    given = meta(request, Drawing)
    packed = await read_body(request, lease, leases.settings.max_bytes)

    def work(session: Any) -> Box | None:
        mask = unpack(packed, 3, MASKS, leases.settings.max_voxels) != 0
        box = given.interaction_bbox
        return getattr(session, method)(mask, given.include_interaction, given.run_prediction, interaction_bbox=box)

    return await prompted(lease, given.run_prediction, work)


async def prompted(lease: Lease, ran: bool, add: Callable[[Any], Box | None]) -> Response:
    """Add a prompt in the lease's thread, and answer what changed."""

    def work() -> Response:
        buffer_of(lease)
        steps = lease.session.steps
        box = add(lease.session)
        # A prediction that is asked for later is taken back together with this prompt.
        lease.kept["before"].append(steps)
        return changed(lease, box, ran)

    return await lease.predict(work)


def changed(lease: Lease, box: Box | None, ran: bool) -> Response:
    """The voxels of the mask in ``box``, packed; no voxels where nothing ran or nothing changed."""
    told: dict[str, Any] = {"ran_prediction": ran, "bbox": None}
    content = b""
    if ran and box is not None:
        part = lease.kept["buffer"][tuple(slice(low, high) for low, high in box)].astype(lease.kept["dtype"])
        told |= {"bbox": [[int(low), int(high)] for low, high in box], "dtype": str(part.dtype)}
        told["shape"] = list(part.shape)
        content = pack_mask(part)
    headers = {protocol.META_HEADER: json.dumps(told, separators=(",", ":"))}
    return Response(content, media_type=protocol.CONTENT_TYPE_OCTET_STREAM, headers=headers)


def meta(request: Request, form: type[Any]) -> Any:
    """The header beside an array."""
    try:
        return read_json(request.headers.get(protocol.META_HEADER, "{}"), form)
    except ValueError as error:
        raise Refusal(400, f"{protocol.META_HEADER}: {error}") from error


def buffer_of(lease: Lease) -> np.ndarray:
    """The mask as the client has it.

    Raises:
        ValueError: there is none yet.
    """
    if "buffer" not in lease.kept:
        raise ValueError("there is no target buffer yet: call set_target_buffer after set_image")
    return lease.kept["buffer"]


def around(boxes: list[Box]) -> Box | None:
    """The box around all."""
    if not boxes:
        return None
    return [[min(s[0] for s in sides), max(s[1] for s in sides)] for sides in zip(*boxes, strict=True)]


def clipped(box: list[list[float]], shape: tuple[int, ...]) -> Box:
    """Rounded, and cut off at the borders of the image.

    Raises:
        ValueError: nothing of it lies in the image, or an upper bound is not above the lower one.
    """
    rounded = [[round(low), round(high)] for low, high in box]
    if any(high <= low for low, high in rounded):
        raise ValueError(f"bbox_coords {box}: expected [low, high) for each axis, with a voxel or more between them")
    inside = [[max(low, 0), min(high, size)] for (low, high), size in zip(rounded, shape, strict=True)]
    if any(high <= low for low, high in inside):
        raise ValueError(f"bbox_coords {box}: expected a box in the image of shape {shape}")
    return inside
