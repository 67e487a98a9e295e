# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A session as a small JSON file: what was said, and of which image; the masks follow from it.

What is read may come from anybody: every part of it is checked as if it had just been said.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from ..common.bounded_cache import digest
from ..common.files import existing, whole_file
from .packed import PackedMask
from .prompts import BOX, KINDS, POINT, Prompt, Said, read_box, read_mask, read_point

FORMAT = "sam_bundles session"
VERSION = 1
EXPECTED = "a session that Session.save wrote, JSON"
# mm: affines that were written and read again differ by less.
SAME_PLACE = 1e-3


def describe_image(image: MetaTensor) -> dict[str, Any]:
    """What tells an image (1, X, Y, Z) from another: a hash of its voxels, and where they lie."""
    return {
        "sha256": digest(image.as_tensor().cpu()).split()[0],
        "shape": [int(n) for n in image.shape[1:]],
        "affine": np.asarray(image.affine.cpu(), dtype=np.float64).tolist(),
        "file": image.meta.get("filename_or_obj"),
    }


def write_session(path: str | Path, image: Mapping[str, Any], objects: Sequence[Said], current: str) -> None:
    """Write the file, whole or not at all.

    Raises:
        ValueError: another file is there, or it cannot be written.
    """
    path = Path(path).expanduser()
    if path.exists() and not _is_session(path):
        raise ValueError(f"{path}: is there already and is no session; expected another name: it is not overwritten")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "image": image,
        "objects": [
            {
                "name": o.name,
                "prompts": [{**p._asdict(), "given": _plain(p.given)} for p in o.prompts],
                "answered": [p.id for p in o.answered],
            }
            for o in objects
        ],
        "current": current,
    }
    with whole_file(path) as file:
        file.write_text(json.dumps(content, indent=1))


def read_session(path: str | Path) -> dict[str, Any]:
    """The content of the file, not checked further than that it is a session.

    Raises:
        ValueError: no such file, or of another kind.
    """
    path = existing(path, EXPECTED)
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}); expected {EXPECTED}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: is no session; expected {EXPECTED}")
    if content.get("version") != VERSION:
        raise ValueError(f"{path}: version {content.get('version')!r}; expected {VERSION}: take a newer sam-bundles")
    if not isinstance(content.get("image"), dict):
        raise ValueError(f"{path}: says nothing of its image; expected {EXPECTED}")
    return content


def check_image(path: str | Path, content: Mapping[str, Any], image: MetaTensor) -> None:
    """Raises ValueError where ``image`` is not the one that the session was saved of."""
    saved, given = content["image"], describe_image(image)
    if saved.get("shape") != given["shape"]:
        raise ValueError(
            f"{path}: is of another image, of {saved.get('shape')} voxels; this one has {given['shape']}: expected the "
            f"image that the session was saved of"
        )
    if saved.get("sha256") != given["sha256"]:
        raise ValueError(f"{path}: is of another image of the same shape: its voxels differ; expected the same image")
    try:
        same = np.allclose(np.array(saved.get("affine"), dtype=float), given["affine"], rtol=0, atol=SAME_PLACE)
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ValueError(
            f"{path}: is of an image with the affine {saved.get('affine')}, this one has {given['affine']}: expected "
            f"the same image_properties"
        )


def read_objects(path: str | Path, content: Mapping[str, Any], shape: Sequence[int]) -> tuple[tuple[Said, ...], int]:
    """The objects, and which is the current one.

    Raises:
        ValueError: a part of another form, or outside the image.
    """
    try:
        objects = tuple(_said(i, given, shape) for i, given in enumerate(content["objects"], start=1))
        names = [o.name for o in objects]
        if not objects or len(set(names)) < len(names):
            raise ValueError(f"objects {names}: expected at least one, and no name twice")
        numbers = [p.id for o in objects for p in o.prompts]
        if len(set(numbers)) < len(numbers):
            raise ValueError("two prompts have the same id: expected each once")
        return objects, objects[names.index(content["current"])].id
    except (KeyError, TypeError, AttributeError, IndexError, zlib.error) as error:
        raise ValueError(f"{path}: a part of it cannot be understood ({error!r}); expected {EXPECTED}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _plain(given: Any) -> Any:
    if not isinstance(given, PackedMask):
        return given
    return {"box": given.box, "bits": base64.b64encode(given.bits).decode()}


def _said(id: int, given: Mapping[str, Any], shape: Sequence[int]) -> Said:
    if not isinstance(given["name"], str) or not given["name"].strip():
        raise ValueError(f"the name {given['name']!r}: expected some text")
    prompts = tuple(_prompt(p, shape) for p in given["prompts"])
    answered = set(given["answered"])
    if answered - {p.id for p in prompts}:
        raise ValueError(f"{given['name']}: prompts {sorted(answered)} were answered: expected some of its own")
    return Said(id, given["name"], prompts, tuple(p for p in prompts if p.id in answered))


def _prompt(given: Mapping[str, Any], shape: Sequence[int]) -> Prompt:
    kind, id, include = given["kind"], given["id"], given["include"]
    if kind not in KINDS or type(id) is not int or id < 1 or type(include) is not bool:
        raise ValueError(f"prompt {id!r} of kind {kind!r}, include {include!r}: expected one of {', '.join(KINDS)}")
    if kind == POINT:
        return Prompt(id, kind, include, read_point(given["given"], shape))
    if kind == BOX:
        return Prompt(id, kind, include, read_box(given["given"], shape))
    box = read_box(given["given"]["box"], shape)
    size = [high - low for low, high in box]
    unpacker = zlib.decompressobj()
    # No more than the box holds: a few bytes may say that they are gigabytes.
    needed = (int(np.prod(size)) + 7) // 8
    bits = np.frombuffer(unpacker.decompress(base64.b64decode(given["given"]["bits"]), needed + 1), np.uint8)
    if len(bits) != needed:
        raise ValueError(f"prompt {id}: {len(bits)} bytes of a mask in a box of {size} voxels; expected {needed}")
    return Prompt(id, kind, include, read_mask(np.unpackbits(bits, count=int(np.prod(size))).reshape(size), shape, box))


def _is_session(path: Path) -> bool:
    try:
        return json.loads(path.read_bytes()).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        return False
