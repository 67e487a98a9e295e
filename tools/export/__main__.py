# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The command line of the exports."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from common.files import whole_files
from common.weights import describe_weights, load_weights

from .parts import Part, image_parts, volume_parts
from .write import FORMATS, TOLERANCE, write_part

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
HERE = Path(__file__).resolve().parent
ABOUT = f"""Write the networks of a bundle as files that run without this project.

torchscript  encoder.ts and decoder.ts, by tracing. torch.jit.script, which the Model Zoo's check uses, cannot take the
             networks: see the bundle's README.
onnx         encoder.onnx, decoder.onnx and segment.py, which segments with onnxruntime, numpy and a reader of images
             alone: python DIR/segment.py --help
tensorrt     no file is written: configs/inference_trt.json on top of inference.json compiles on the GPU itself.

Every file is run and held against torch: at most {TOLERANCE:.0e} of an output's largest value. The number of points
varies; the size of the cube or image is fixed, and one object is decoded at a time."""


def parsed(bundle: str, config_file: list[str], options: dict[str, Any]) -> ConfigParser:
    """The configuration, with its scripts importable."""
    root = BUNDLES / bundle
    if str(root) not in sys.path:
        sys.path.insert(1, str(root))
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / name) for name in config_file])
    for name, value in {"bundle_root": str(root), **options}.items():
        parser[name] = value
    return parser


def volume_export(parser: ConfigParser) -> tuple[list[Part], dict[str, Any]]:
    """The parts of fastsam3d, and what segment.py has to know."""
    network = loaded(parser)
    size = parser.get_parsed_content("cube_size")
    settings = {name: parser.get_parsed_content(name) for name in ("cube_size", "spacing", "rounds", "window")}
    normalisation = parser.get("inferer#normalisation", "clipped")
    return volume_parts(network, size), {**settings, "normalisation": normalisation}


def image_export(parser: ConfigParser) -> tuple[list[Part], dict[str, Any]]:
    """The parts of ssam_2d, and what segment.py has to know."""
    network = loaded(parser)
    settings = {name: parser.get_parsed_content(name) for name in ("image_size", "threshold")}
    labels = {"labels": network.labels, "label_features": network.label_features.tolist()}
    return image_parts(network, settings["image_size"]), {**settings, **labels}


def loaded(parser: ConfigParser) -> torch.nn.Module:
    """The network with its weights."""
    network = parser.get_parsed_content("network_def").eval()
    load_weights(network, parser.get_parsed_content("ckpt_path"))
    return network.requires_grad_(False)


# How a bundle's parts are made, and the script that runs them.
BUNDLE_KINDS = {"fastsam3d": (volume_export, "segment_volume.py"), "ssam_2d": (image_export, "segment_image.py")}


def export(bundle: str, output: Path, formats: list[str], config_file: list[str], options: dict[str, Any]) -> list[str]:
    """Write the files; returns a line on each.

    Raises:
        ValueError: files that are there already, weights that do not fit, a file that differs from torch.
    """
    make, script = BUNDLE_KINDS[bundle]
    there = [path.name for path in output.glob("*") if path.suffix in FORMATS.values()] if output.is_dir() else []
    if output.exists() and (there or not output.is_dir()):
        raise ValueError(f"{output} has {', '.join(there) or 'no place for files'}; give another folder")
    parser = parsed(bundle, config_file, options)
    parts, settings = make(parser)
    metadata = parser.get_parsed_content("metadata")
    settings = {
        "bundle": bundle,
        "version": metadata["version"],
        "weights": describe_weights(parser.get_parsed_content("ckpt_path")),
        **settings,
        "parts": {part.name: {"inputs": part.inputs, "outputs": part.outputs} for part in parts},
    }
    lines = []
    with whole_files(output) as side:
        for form in formats:
            for part in parts:
                path, start = side / (part.name + FORMATS[form]), time.perf_counter()
                error = write_part(part, form, path)
                seconds, size = time.perf_counter() - start, path.stat().st_size / 1e6
                lines.append(f"{path.name:<20}{size:8.1f} MB  error {error:.1e}  {seconds:6.1f} s")
        (side / "export.json").write_text(json.dumps(settings, indent=1))
        if "onnx" in formats:
            shutil.copy(HERE / script, side / "segment.py")
    return lines


def given_options(words: list[str]) -> dict[str, Any]:
    """Further ``--id value`` pairs, as monai.bundle takes them. Raises ValueError for anything else."""
    if len(words) % 2 or any(not word.startswith("--") for word in words[::2]):
        raise ValueError(f"{' '.join(words)}: expected pairs of --id value")
    options = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        try:
            options[name[2:]] = json.loads(value)
        except json.JSONDecodeError:
            options[name[2:]] = value
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.export",
        description=ABOUT,
        epilog="Any further --id value changes the configuration, as in monai.bundle: --ckpt_path FILE, --cube_size 96",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", choices=BUNDLE_KINDS)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the files, made if needed")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="all if left out")
    parser.add_argument(
        "--config_file",
        nargs="+",
        default=["inference.json"],
        metavar="NAME",
        help="of the bundle's configs, one on top of the other: inference.json published.json",
    )
    options, further = parser.parse_known_args(arguments)
    try:
        lines = export(options.bundle, options.output, options.formats, options.config_file, given_options(further))
    except ValueError as problem:
        print(f"not exported: {problem}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    print(f"written to {options.output}, with export.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
