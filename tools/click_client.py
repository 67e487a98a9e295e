# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Clicks on a running MONAI Label server as a viewer does, and says how long each answer took."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from common.digits import shown
from common.files import check_writable, whole_files
from common.geometry import Grid
from common.preview import save_preview

SERVER = "http://127.0.0.1:8000"
OUTPUT = Path("output/clicks")
# Where the token is looked for, as other users of a computer read command lines.
TOKEN = "MONAI_LABEL_TOKEN"


class Answer(NamedTuple):
    """What came back for one request.

    Attributes:
        mask: the file, as it was sent; None where the server sent JSON alone.
        params: label names, objects, seconds.
        seconds: of the round trip.
    """

    mask: bytes | None
    params: dict[str, Any]
    seconds: float


def ask(server: str, path: str, fields: dict[str, str] | None = None, token: str = "") -> tuple[bytes, str, float]:
    """Body, content type and seconds of a request, GET without fields and POST with.

    Raises:
        ValueError: no server there, or it refused; with its own sentence.
    """
    data = None if fields is None else urllib.parse.urlencode(fields).encode()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    start = time.perf_counter()
    try:
        request = urllib.request.Request(server.rstrip("/") + path, data, headers)
        with urllib.request.urlopen(request, timeout=600) as response:
            return response.read(), response.headers["Content-Type"], time.perf_counter() - start
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            text = json.loads(text)["detail"]
        except (ValueError, KeyError, TypeError):
            pass
        raise ValueError(f"the server refused ({error.code}): {text}") from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(f"{server}: {reason}; start one with: bash tools/monailabel.sh STUDIES") from error


def infer(server: str, model: str, image: str, params: dict[str, Any], token: str = "") -> Answer:
    """One request for a mask.

    Raises:
        ValueError: see :func:`ask`.
    """
    path = f"/infer/{urllib.parse.quote(model)}?{urllib.parse.urlencode({'image': image, 'output': 'all'})}"
    body, kind, seconds = ask(server, path, {"params": json.dumps(params)}, token)
    if not kind.startswith("multipart"):
        return Answer(None, json.loads(body), seconds)
    parts = split_parts(body, kind.split("boundary=")[1].split(";")[0].strip('"'))
    return Answer(parts.get("image"), json.loads(parts["params"]), seconds)


def split_parts(body: bytes, boundary: str) -> dict[str, bytes]:
    """The parts of a multipart answer by their names."""
    parts = {}
    for part in body.split(b"--" + boundary.encode())[1:-1]:
        head, content = part.split(b"\r\n\r\n", 1)
        parts[head.decode().split('name="')[1].split('"')[0]] = content.removesuffix(b"\r\n")
    return parts


def describe(answer: Answer) -> str:
    """One line: what was found, and how long that took where."""
    params = answer.params
    found = ", ".join(f"{o['name']} {shown(o['volume_ml'])} mL" for o in params.get("objects", ())) or "nothing named"
    cubes = params.get("embeddings")
    cache = f"; cubes encoded {cubes['computed']}, from the cache {cubes['reused']}" if cubes else ""
    server = params["latencies"]["total"]
    size = len(answer.mask or b"") / 1e6
    return f"{found}: server {server:.2f} s, round trip {answer.seconds:.2f} s for {size:.1f} MB{cache}"


def show_server(server: str, token: str = "") -> None:
    """Print models and images."""
    info = json.loads(ask(server, "/info/", token=token)[0])
    images = json.loads(ask(server, "/datastore/?output=all", token=token)[0]).get("objects", {})
    for name, model in info["models"].items():
        print(f"model  {name} ({model['type']}): {', '.join(k for k in model['labels'] if k != 'background')}")
    for image in sorted(images):
        print(f"image  {image}")


def draw(path: Path, mask: Path, image: Path, answer: Answer) -> None:
    """A PNG of three planes through the first click, from the image as this computer has it.

    Raises:
        ValueError: another grid than that of the mask.
    """
    volume, labels = nib.load(image), nib.load(mask)
    if volume.shape != labels.shape:
        raise ValueError(f"{image} has {volume.shape} voxels, the mask {labels.shape}: expected the file on the server")
    found = answer.params["objects"]
    prompts = [o["prompts"] for o in found]
    clicks = [c for p in prompts for c in zip(p["points"], p["point_labels"], strict=True)]
    names = [f"{o['name']} ({shown(o['volume_ml'])} mL)" for o in found]
    grid = Grid(np.asarray(labels.affine, dtype=np.float64), labels.shape)
    window = tuple(answer.params["intensity_bounds"])
    save_preview(path, volume.get_fdata(), np.asarray(labels.dataobj), grid, window, names, clicks, clicks[0][0])


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.click_client",
        description="Click in an image of a running MONAI Label server: one request for each click, as viewers do.",
        epilog="Example: python -m tools.click_client example_ct --click 40 45 60 --click 44 45 60 --not 60 45 60",
    )
    parser.add_argument("image", nargs="?", help="name of an image on the server, without its extension")
    parser.add_argument("--server", default=SERVER, help=f"address ({SERVER})")
    parser.add_argument(
        "--token", default=os.environ.get(TOKEN, ""), help=f"of a server that wants one (the variable {TOKEN})"
    )
    parser.add_argument("--model", default="fastsam3d_deepgrow", help="name of the model (fastsam3d_deepgrow)")
    parser.add_argument("--list", action="store_true", help="show the server's models and images")
    voxel = {"nargs": 3, "type": int, "action": "append", "metavar": ("I", "J", "K")}
    parser.add_argument("--click", default=[], help="voxel of the object; as often as you like", **voxel)
    parser.add_argument(
        "--not", dest="background", default=[], help="voxel that is not the object, after those", **voxel
    )
    parser.add_argument("--name", default="object", help="of the object")
    parser.add_argument("--repeat", type=int, default=1, help="send everything so often")
    parser.add_argument(
        "--output", type=Path, default=Path("output/clicks"), help="folder of the masks (output/clicks)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="the image, here: draw a picture of each mask")
    parser.add_argument("--extension", default=".nii.gz", choices=[".nii.gz", ".nrrd", ".png"], help="of the masks")
    return parser


def requests_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The growing list of clicks, as a viewer sends it; without clicks one request for all labels."""
    common = {"label": options.name, "result_extension": options.extension, "result_dtype": "uint8"}
    clicks = [(c, 1) for c in options.click] + [(c, 0) for c in options.background]
    if not clicks:
        return [common]
    return [
        {
            **common,
            "foreground": [c for c, kind in clicks[:count] if kind],
            "background": [c for c, kind in clicks[:count] if not kind],
        }
        for count in range(1, len(clicks) + 1)
    ]


def main(given: list[str] | None = None) -> int:
    """Click, print a line for each answer, save each mask."""
    parser = arguments()
    options = parser.parse_args(given)
    if not options.list and not options.image:
        parser.error("no image was given: expected its name on the server, see --list")
    if options.background and not options.click:
        parser.error("--not alone says what the object is not: expected a --click too")
    if options.picture and not (options.click and options.extension == ".nii.gz"):
        parser.error("--picture draws clicks in a volume: expected a --click, and masks as .nii.gz")
    try:
        if options.list:
            show_server(options.server, options.token)
            return 0
        check_writable(options.output)
        for turn in range(options.repeat):
            for number, params in enumerate(requests_of(options), start=1):
                answer = infer(options.server, options.model, options.image, params, options.token)
                print(f"{turn + 1}.{number}  {describe(answer)}", flush=True)
                stem = f"{options.image}_{options.model}_{number}"
                with whole_files(options.output) as side:
                    (side / f"{stem}.json").write_text(json.dumps(answer.params, indent=2))
                    if answer.mask is not None:
                        (side / (stem + options.extension)).write_bytes(answer.mask)
                    if options.picture:
                        draw(side / f"{stem}.png", side / (stem + options.extension), options.picture, answer)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"masks in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
