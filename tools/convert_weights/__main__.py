# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The command line of the conversions."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from common.files import whole_files

from . import images, ssam, tiny_vit, volumes
from .accounts import Conversion
from .kinds import KINDS, chosen_kind
from .labels import read_labels, read_names
from .reading import Checkpoint, read_checkpoint
from .report import report
from .sources import bring, chosen_source, read_sources


def convert(kind: str, checkpoint: Checkpoint, options: argparse.Namespace) -> Conversion:
    """The checkpoint as this kind has it."""
    state = checkpoint.state
    if kind == "sam":
        return images.sam(state)
    if kind == "tiny_sam":
        return tiny_vit.tiny_sam(state)
    if kind == "to_sam":
        return images.to_sam(state, options.image_size)
    if kind == "ssam":
        return ssam.ssam(state, read_labels(options.labels))
    if kind == "ssam_adapter":
        return ssam.ssam_adapter(state, read_labels(options.labels))
    if kind == "named":
        return ssam.named(state, read_names(options.labels))
    if kind == "ssam_base":
        return ssam.ssam_base(state)
    if kind == "sammed3d":
        return volumes.sammed3d(state)
    if kind == "sammed3d_teacher":
        return volumes.sammed3d_teacher(state)
    return volumes.fastsam3d(state, options.decoder and read_checkpoint(options.decoder).state)


def check_options(kind: str, options: argparse.Namespace) -> None:
    """Raise a ValueError for an option that this kind would pass over in silence."""
    for name, owners in ("decoder", ["fastsam3d"]), ("labels", ["ssam", "ssam_adapter", "named"]):
        if getattr(options, name) is not None and kind not in owners:
            raise ValueError(f"--{name} with --kind {kind}: it is for {' and '.join(owners)}")
    if (kind == "ssam_adapter") != (options.output.suffix == ".safetensors"):
        raise ValueError(f"{options.output} with --kind {kind}: an adapter's name ends in .safetensors, others' do not")
    if options.image_size != images.SAM_SIZE and kind != "to_sam":
        raise ValueError(f"--image_size with --kind {kind}: only to_sam takes it")


def check_output(options: argparse.Namespace) -> None:
    """Raise a ValueError unless the result may be written where it shall be."""
    output: Path = options.output
    if output.is_dir():
        raise ValueError(f"{output} is a folder; expected the name of a file to write")
    if output.exists() and Path(options.input).exists() and output.samefile(options.input):
        raise ValueError(f"{output} is the checkpoint itself; give another name")
    if output.exists() and not options.force:
        raise ValueError(f"{output} is there already; give another name, or --force to replace it")


def run(options: argparse.Namespace) -> str:
    """Fetch where that is asked for, convert, write, and say what was done."""
    check_output(options)
    path, notes = Path(options.input), []
    if options.download:
        source = chosen_source(options.input, options.sha256)
        path, notes = bring(source, options.output.parent)
        options.kind = options.kind or source.kind
    elif options.sha256:
        raise ValueError("--sha256 without --download: it is the hash of the file to fetch")
    checkpoint = read_checkpoint(path)
    checkpoint.notes[:0] = notes
    try:
        kind = chosen_kind(options.kind, checkpoint.state)
        check_options(kind, options)
        conversion = convert(kind, checkpoint, options)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from problem
    said = report(kind, checkpoint, conversion, options.output)
    with whole_files(options.output.parent) as side:
        write(conversion, side / options.output.name)
    return said


def write(conversion: Conversion, path: Path) -> None:
    """The result as the bundle reads it."""
    if conversion.adapter is not None:
        conversion.adapter.save(path)
    else:
        torch.save(conversion.tensors, path)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    kinds = "\n".join(f"  {name:<18}{kind.source}\n{'':<20}-> {kind.result}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tools.convert_weights",
        description="Convert published weights into files that the bundles run, and a tuned network back to SAM.\n"
        "No code of a checkpoint is run; every tensor in it is accounted for, and unknown ones are refused.",
        epilog=f"kinds:\n{kinds}\n\nnames for --download: {', '.join(read_sources())}\n"
        "where published weights are found, and their licences: bundles/*/models/README.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "input", metavar="IN", help="the checkpoint, a .pth or .pt file; its name or URL with --download"
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="the file to write, a plain state dict")
    parser.add_argument("--kind", choices=KINDS, help="what IN is and what it becomes; told by its tensors if left out")
    parser.add_argument("--decoder", type=Path, metavar="FILE", help="fastsam3d: SAM-Med3D, for a student without one")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="ssam, ssam_adapter: names with their text features; named: a list of names",
    )
    parser.add_argument(
        "--image_size",
        type=int,
        default=images.SAM_SIZE,
        metavar="PIXELS",
        help=f"to_sam: a side of the images that the SAM tool encodes ({images.SAM_SIZE})",
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch IN first, into the folder of OUT; goes on where it was cut off"
    )
    parser.add_argument("--sha256", metavar="HEX", help="what a file by URL must have")
    parser.add_argument("--force", action="store_true", help="replace OUT where it is there already")
    try:
        print(run(parser.parse_args(arguments)))
    except ValueError as problem:
        print(f"not converted: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
