# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""300 requests that nobody should send, seeded: each is answered with a sentence, none harms anybody."""

import json
import random
import struct

import httpx
import numpy as np
import pytest
from interactive_server_help import ball, claim, meta
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Client
from nnInteractive.inference.remote.serialization import pack_array

SHAPE = (20, 24, 28)
BAD_VALUES = [None, True, "a", "1", [], {}, [1], [1, 2], [1, 2, 3, 4], [[1, 2]], float("nan"), float("inf"), 1e300, -1]
PATHS = ("/add_point_interaction", "/add_bbox_interaction", "/predict", "/undo", "/set_target_buffer")
ARRAY_PATHS = ("/set_image", "/add_scribble_interaction", "/add_lasso_interaction", "/add_initial_seg_interaction")
METAS = {
    "/set_image": {"image_properties": {"spacing": [1, 1, 1]}},
    "/add_initial_seg_interaction": {"run_prediction": True},
}
DRAWN = {"include_interaction": True, "run_prediction": True}


def bad_json(rng):
    """A call whose values are wrong."""
    good = {
        "/add_point_interaction": {"coordinates": [10, 12, 14], "include_interaction": True},
        "/add_bbox_interaction": {"bbox_coords": [[5, 9], [5, 9], [5, 9]], "include_interaction": True},
        "/set_target_buffer": {"shape": list(SHAPE), "dtype": "uint8"},
    }
    path = rng.choice(list(good))
    body = json.loads(json.dumps(good[path]))
    key = rng.choice(list(body))
    way = rng.randrange(5)
    if way == 0:
        del body[key]
    elif way == 1:
        body[key] = rng.choice([v for v in BAD_VALUES if not (v is True and key == "include_interaction")])
    elif way == 2:
        body["more"] = 1
    elif path == "/add_point_interaction":
        body["coordinates"][rng.randrange(3)] = rng.choice([-5, 99, 2**40, "x", None, float("nan"), [1]])
    elif path == "/add_bbox_interaction":
        body["bbox_coords"][rng.randrange(3)] = rng.choice(
            [[9, 5], [5, 5], [40, 50], [-9, -2], [1], [1, 2, 3], ["a", 2]]
        )
    else:
        body |= rng.choice([{"shape": [20, 24, 27]}, {"shape": [-1, 2, 3]}, {"dtype": "float32"}, {"dtype": "O"}])
    return path, json.dumps(body).encode(), {}


def no_json(rng):
    """A body that is no JSON, or much too deep or long."""
    texts = [
        b"{",
        b"\xff\xfe\x00",
        b"[" * 5000,
        b"null",
        b"[]",
        b'"x"',
        b'{"a":' * 2000,
        b'{"a":1e999}',
        b"x" * 2_000_000,
    ]
    return rng.choice(PATHS), rng.choice(texts), {}


def bad_array(rng):
    """A packed array of a wrong shape or type, or one that says other things than it holds."""
    path = rng.choice(ARRAY_PATHS)
    axes = 4 if path == "/set_image" else 3
    right = (1, *SHAPE)[4 - axes :]
    shapes = [(2,), (3, 3), right[:-1], (*right, 1), tuple(n + 1 for n in right), (1,) * axes]
    way = rng.randrange(4)
    if way == 0:
        packed = pack_array(np.ones(rng.choice(shapes), np.uint8))
    elif way == 1:
        packed = pack_array(np.ones(right, rng.choice([np.complex64, np.complex128])))
    else:
        sound = pack_array(np.ones(right, np.uint8))
        wrong = rng.choice([b"uint9", b"objec", b"str_8", b"\xff\xff\xff\xff\xff", b"int64"])
        packed = sound[:8] + wrong + sound[13:]
        if way == 3:
            place = 8 + 5 + 8 * rng.randrange(axes)
            packed = sound[:place] + struct.pack("<q", rng.choice([-1, 0, 2**62, 2**31, 10**6])) + sound[place + 8 :]
    return path, packed, meta(**METAS.get(path, DRAWN))


def garbage(rng):
    """Bytes at random, or a packed array with some of them changed or missing."""
    path = rng.choice(ARRAY_PATHS)
    shape = (1, *SHAPE) if path == "/set_image" else SHAPE
    packed = bytearray(pack_array(np.random.default_rng(rng.randrange(99)).integers(0, 9, shape).astype(np.uint8)))
    way = rng.randrange(4)
    if way == 0:
        packed = packed[: rng.randrange(len(packed) - 1)]
    elif way == 1:
        packed = rng.randbytes(rng.randrange(500))
    elif way == 2:
        packed += b"more"
    else:
        # The lengths of the chunk, and the header of what blosc2 made.
        start = 8 + 5 + 8 * len(shape)
        for _ in range(4):
            packed[start + rng.randrange(20)] ^= 1 + rng.randrange(255)
    return path, bytes(packed), meta(**METAS.get(path, DRAWN))


def bad_meta(rng):
    """A sound array beside a wrong header."""
    path = rng.choice(ARRAY_PATHS)
    packed = pack_array(np.ones((1, *SHAPE) if path == "/set_image" else SHAPE, np.uint8))
    wrong = [
        "{",
        "[]",
        "null",
        '{"more": 1}',
        '{"run_prediction": "yes"}',
        '{"image_properties": 3}',
        "\\u0000",
        "1" * 4000,
    ]
    boxes = [
        [[0, 5]] * 3,
        [[0, 20], [0, 24], [0, 29]],
        [[-1, 19], [0, 24], [0, 28]],
        [[0, 20.5]] * 3,
        "all",
        [[2, 1]] * 3,
    ]
    spacings = [[1, 1], [0, 1, 1], ["1", 1, 1], [1e9, float("nan"), 1], {"x": 1}, [[1, 1, 1]]]
    if path == "/set_image" and rng.random() < 0.5:
        properties = rng.choice(
            [
                {"spacing": rng.choice(spacings)},
                {"affine": [[1]]},
                {"affine": np.zeros((4, 4)).tolist()},
                {"orientation": "XYZ"},
            ]
        )
        return path, packed, meta(image_properties=properties)
    if path in ("/add_scribble_interaction", "/add_lasso_interaction") and rng.random() < 0.5:
        return path, packed, meta(**DRAWN, interaction_bbox=rng.choice([*boxes, "all"]))
    return path, packed, {"X-Meta": rng.choice(wrong)}


def no_lease(rng):
    """A call of somebody who holds no place."""
    token = rng.choice(["", "0" * 32, "../..", "\x7f" * 40])
    return rng.choice([*PATHS, *ARRAY_PATHS, "/heartbeat", "/set_image"]), b"{}", {"X-Lease-Token": token}


def bad_form(rng):
    """What ITK-SNAP would not send."""
    token = rng.choice(["LEASE", "x"])
    paths = [
        f"/upload_raw/{token}",
        f"/v2/upload_raw/{token}",
        f"/process_scribble_interaction/{token}?foreground=maybe",
        f"/process_lasso_interaction/{token}?foreground=true",
    ]
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    bodies = [
        (b"", {}),
        (b"{}", {"Content-Type": "application/json"}),
        (b"--x\r\n", multipart),
        (b"no boundary", multipart),
        (b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nabc\r\n--x--\r\n', multipart),
        (rng.randbytes(300), {"Content-Type": "multipart/form-data"}),
    ]
    return rng.choice(paths), *rng.choice(bodies)


KINDS = (bad_json, no_json, bad_array, garbage, bad_meta, no_lease, bad_form)


@pytest.fixture(scope="module")
def bystander(server):
    """Another client, in the middle of its work."""
    image, _ = ball(SHAPE, (10, 12, 14), 6)
    with Client(server) as client:
        client.set_image(image[None])
        client.set_target_buffer(np.zeros(SHAPE, np.uint8))
        client.add_point_interaction([10, 12, 14], True)
        yield client


def test_malformed_requests(server, bystander):
    before = bystander.target_buffer.copy()
    image, _ = ball(SHAPE, (9, 12, 14), 7, seed=1)
    client = claim(server)
    client.post("/set_image", content=pack_array(image[None]), headers=meta(image_properties={}))
    client.post("/set_target_buffer", json={"shape": list(SHAPE), "dtype": "uint8"})
    click = {"coordinates": [9, 12, 14], "include_interaction": True}
    first = client.post("/add_point_interaction", json=click)
    assert first.status_code == 200
    rng = random.Random(2026)
    seen = set()
    for number in range(300):
        kind = KINDS[number % len(KINDS)]
        path, body, headers = kind(rng)
        path = path.replace("LEASE", client.headers["X-Lease-Token"])
        answer = client.post(path, content=body, headers=headers)
        case = (number, kind.__name__, path, body[:80], headers, answer.status_code, answer.text[:200])
        assert 400 <= answer.status_code < 500, case
        detail = answer.json()["detail"]
        assert isinstance(detail, str) and len(detail.split()) > 3 and "Traceback" not in detail, case
        seen.add(answer.status_code)
        if number % 50 == 0:
            assert httpx.get(f"{server}/healthz").json() == {"ok": True}
    assert seen >= {400, 410, 413}
    # The session that got all of them is as it was: what the click did can be taken back, and done again.
    undone = client.post("/undo", content=b"{}")
    assert json.loads(undone.headers["X-Meta"])["bbox"] == json.loads(first.headers["X-Meta"])["bbox"]
    assert json.loads(client.post("/undo", content=b"{}").headers["X-Meta"])["ran_prediction"] is False
    again = client.post("/add_point_interaction", json=click)
    assert again.content == first.content
    client.post("/release")
    # And so is everybody else's.
    assert np.array_equal(bystander.target_buffer, before)
    assert bystander.undo() is True and not bystander.target_buffer.any()
    bystander.add_point_interaction([10, 12, 14], True)
    assert np.array_equal(bystander.target_buffer, before)
