# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Pack a bundle as the Model Zoo distributes it: ``NAME_vVERSION.zip``, the same bytes every time.

::

    python -m tools.package_bundle fastsam3d --output dist
    python -m tools.package_bundle ssam_2d --run runs/polyps --as polyp_segmentation --output dist

The zip holds all that the bundle needs to run, the shared code in ``scripts/common`` too. Beside it
``model_info.json`` gets the entry that the Zoo keeps of every version.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from common.files import check_writable, whole_files
from common.json_files import parse_json
from common.label_names import names_in
from common.weights import read_state

BUNDLES = Path(__file__).parents[1] / "bundles"
PARTS = ("configs", "docs", "models", "scripts")
# What using and training a bundle leaves in it: byte code, half-written files, weights that newer ones replaced.
LEFT_OUT = re.compile(r"(^|/)(__pycache__|\..*)(/|$)|\.(pyc|part)$|^models/model_\d{8}_\d{6}\.pt$")
# The Zoo's own time stamp of packed files (30 May 2022), and rw-r--r--.
STAMP, MODE = (2022, 5, 30, 0, 0, 0), 0o100644 << 16
# Names of folders, and of modules' parents in servers.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def bundle_content(bundle: Path, run: Path | None = None) -> dict[str, bytes]:
    """All files of the packed bundle by their path in it, links followed, in order.

    Args:
        bundle: its folder.
        run: of a training: its ``model.pt`` takes the place of the bundle's, and where it holds names of labels the
            metadata has them.

    Raises:
        ValueError: no bundle, no weights, or a run without a ``model.pt``.
    """
    for needed in ("configs/metadata.json", "configs/inference.json", "LICENSE"):
        if not (bundle / needed).is_file():
            raise ValueError(f"{bundle}: no bundle, it has no {needed}; there are {', '.join(known_bundles())}")
    content = {"LICENSE": (bundle / "LICENSE").read_bytes()}
    for part in PARTS:
        content |= {path: file.read_bytes() for path, file in _files(bundle / part, part)}
    if run is not None:
        content |= _of_run(run, _metadata(content))
    if "models/model.pt" not in content:
        raise ValueError(f"{bundle}: no models/model.pt; train one, or give the folder of a training by --run")
    return dict(sorted(content.items()))


def _files(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """The path in the bundle and on disk of each file; what links lead to belongs to it: the shared code is one."""
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        path = f"{name}/{entry.name}"
        if LEFT_OUT.search(path):
            continue
        if entry.is_dir():
            yield from _files(entry, path)
        else:
            yield path, entry


def _of_run(run: Path, metadata: dict[str, Any]) -> dict[str, bytes]:
    weights = run / "model.pt"
    if not weights.is_file():
        raise ValueError(f"--run {run}: holds no model.pt; expected the output_dir of a training that has ended")
    content = {"models/model.pt": weights.read_bytes()}
    names = names_in(read_state(weights))
    if names is not None:
        pred = metadata["network_data_format"]["outputs"]["pred"]
        pred["num_channels"] = len(names)
        pred["channel_def"] = {str(i): name for i, name in enumerate(["background", *names])}
        content["configs/metadata.json"] = (json.dumps(metadata, indent=4, ensure_ascii=False) + "\n").encode()
    return content


def _metadata(content: Mapping[str, bytes]) -> dict[str, Any]:
    expected = "MONAI's metadata, a JSON object"
    metadata = parse_json(content["configs/metadata.json"], "configs/metadata.json", expected)
    if not isinstance(metadata, dict):
        raise ValueError(f"configs/metadata.json holds a {type(metadata).__name__}; expected {expected}")
    return metadata


def check_content(content: dict[str, bytes]) -> str:
    """The version of the bundle.

    Raises:
        ValueError: a version without an entry in the changelog, or weights that need more than tensors to be loaded.
    """
    metadata = _metadata(content)
    version, changelog = metadata.get("version"), metadata.get("changelog", {})
    if not version or version not in changelog:
        raise ValueError(f"metadata.json: version {version!r} is not in its changelog ({', '.join(changelog)}): add it")
    try:
        torch.load(io.BytesIO(content["models/model.pt"]), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"model.pt cannot be read as weights ({reason}); expected a plain state dict") from error
    return version


def write_zip(path: Path, name: str, content: dict[str, bytes]) -> None:
    """``content`` under the folder ``name``; no entry for folders, as in the Zoo's own zips."""
    with zipfile.ZipFile(path, "w") as archive:
        for file, data in content.items():
            info = zipfile.ZipInfo(f"{name}/{file}", STAMP)
            info.external_attr, info.compress_type, info.create_system = MODE, zipfile.ZIP_DEFLATED, 3
            archive.writestr(info, data, compresslevel=9)


def package(
    bundle: Path,
    output: Path,
    run: Path | None = None,
    name: str | None = None,
    source: str | None = None,
    hub: bool = False,
) -> dict[str, Any]:
    """Write the zip, its entry in ``model_info.json``, and the flat folder for a hub if wanted.

    Args:
        bundle: its folder.
        output: where everything goes; made where it does not exist.
        run: see :func:`bundle_content`.
        name: of the packed bundle; its folder's where it is None.
        source: URL that the zip will have, for ``model_info.json``.
        hub: also write the folder ``NAME_vVERSION`` with the files as a hub's repository holds them.

    Returns:
        ``zip``, ``version``, ``size`` in bytes, ``sha1``, ``files``, and ``hub`` (a path or None).

    Raises:
        ValueError: see :func:`bundle_content` and :func:`check_content`; a bad name; a zip of this version with other
            content, or a folder for the hub, that is there already.
    """
    name = name or bundle.name
    if not NAME.fullmatch(name):
        raise ValueError(f"the name {name!r}: expected letters, digits and _, a letter first, as in polyp_segmentation")
    check_writable(output)
    content = bundle_content(bundle, run)
    version = check_content(content)
    stem = f"{name}_v{version}"
    target, folder = output / f"{stem}.zip", output / stem
    if hub and folder.exists():
        raise ValueError(f"{folder} exists: remove it, or give another --output")
    with whole_files(output) as side:
        packed = side / target.name
        write_zip(packed, name, content)
        sha1 = hashlib.sha1(packed.read_bytes()).hexdigest()
        if target.exists() and hashlib.sha1(target.read_bytes()).hexdigest() != sha1:
            raise ValueError(
                f"{target} exists with other content: a version is published once. Raise the version in metadata.json "
                "(and its changelog), remove the file, or give another --output"
            )
        entry = {stem: {"checksum": sha1, "source": source or target.name}}
        (side / "model_info.json").write_text(json.dumps(_model_info(output) | entry, indent=4) + "\n")
        if hub:
            for file, data in content.items():
                (side / stem / file).parent.mkdir(parents=True, exist_ok=True)
                (side / stem / file).write_bytes(data)
    return {
        "zip": target,
        "version": version,
        "size": target.stat().st_size,
        "sha1": sha1,
        "files": len(content),
        "hub": folder if hub else None,
    }


def _model_info(output: Path) -> dict[str, Any]:
    path = output / "model_info.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); expected the Zoo's JSON, or no file") from error


def known_bundles() -> list[str]:
    """The names of the bundles of this repository."""
    return sorted(file.parts[-3] for file in BUNDLES.glob("*/configs/metadata.json"))


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.package_bundle",
        description="Pack a bundle into NAME_vVERSION.zip with all that it needs, and write its model_info.json.",
        epilog="What a release must be called on GitHub, Hugging Face and NGC: docs/model_zoo.md",
    )
    parser.add_argument("name", help=f"one of {', '.join(known_bundles())}, or the path of a bundle's folder")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder of the results (dist)")
    parser.add_argument("--run", type=Path, help="output_dir of a training: pack its weights and labels")
    parser.add_argument("--as", dest="packed_name", metavar="NAME", help="name of the packed bundle, if another")
    parser.add_argument("--source", metavar="URL", help="where the zip will be found, for model_info.json")
    parser.add_argument("--hub", action="store_true", help="also write the flat folder NAME_vVERSION, for Hugging Face")
    given = parser.parse_args(arguments)
    bundle = BUNDLES / given.name if given.name in known_bundles() else Path(given.name)
    try:
        made = package(bundle, given.output, given.run, given.packed_name, given.source, given.hub)
    except ValueError as error:
        print(f"not packed: {error}", file=sys.stderr)
        return 1
    print(f"{made['zip']}  {made['files']} files, {made['size'] / 1e6:.1f} MB, sha1 {made['sha1']}")
    print(f"{given.output / 'model_info.json'}  entry {made['zip'].stem}")
    if made["hub"]:
        print(f"{made['hub']}  upload its content with the tag {made['version']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
