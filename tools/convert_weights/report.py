# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What was done to a checkpoint, as text for the user."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from common.weights import describe_weights

from .accounts import WORKFLOW, Conversion
from .kinds import KINDS
from .reading import Checkpoint

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
# Prompts and image for the command at the end.
EXAMPLE = {
    "fastsam3d": ["--image", "scan.nii.gz", "--foreground", "[[120, 98, 44]]"],
    "ssam_2d": ["--image", "image.png"],
}


def report(kind: str, checkpoint: Checkpoint, conversion: Conversion, output: Path) -> str:
    """The text that is printed after a conversion."""
    numbers = sum(tensor.numel() for tensor in conversion.tensors.values())
    known = describe_weights(checkpoint.path)
    lines = [
        ("kind", f"{kind}: {KINDS[kind].source} -> {KINDS[kind].result}"),
        ("from", f"{checkpoint.path} (sha256 {known['sha256']}...)"),
        *(("", note) for note in checkpoint.notes),
        ("used", f"{len(conversion.used)} tensors of {len(conversion.used) + len(conversion.unused)}"),
        *(("not needed", text) for text in counted(conversion.unused)),
        *(("beside them", text) for text in counted(checkpoint.beside, names=True)),
        ("unknown", "0 tensors"),
        *(
            ("network", f"{part}: {', '.join(f'{k} {v}' for k, v in s.items())}")
            for part, s in conversion.network.items()
        ),
        *(("note", note) for note in conversion.notes),
        ("written", f"{output}: {len(conversion.tensors)} tensors, {numbers:,} numbers"),
    ]
    text = "\n".join(f"{title:<12}{value}" for title, value in lines)
    run = command(kind, conversion, output)
    return f"{text}\n\n{run}" if run else text


def counted(reasons: dict[str, str], names: bool = False) -> Iterator[str]:
    """Tensors or entries by the reason why they are not needed."""
    for reason, count in Counter(reasons.values()).items():
        keys = [key for key, why in reasons.items() if why == reason]
        shown = ", ".join(keys if names else keys[:2]) + ("" if names or count < 3 else ", ...")
        yield f"{count} ({shown}): {reason}"


def command(kind: str, conversion: Conversion, output: Path) -> str:
    """How the result runs; sizes that differ from the configuration's are given as options."""
    bundle, configs = KINDS[kind].bundle, KINDS[kind].configs
    if not configs and not conversion.overlays:
        return ""
    root = Path(os.path.relpath(BUNDLES / bundle))
    files = [str(root / "configs" / name) for name in configs or ("inference.json", *conversion.overlays)]
    words = ["python", "-m", "monai.bundle", "run", "--bundle_root", str(root), "--config_file", str(files)]
    words += ["--ckpt_path", str(output), *EXAMPLE[bundle]]
    if conversion.overlays:
        # Without label names, and with positions that the bundle resizes itself.
        return shlex.join([*words, "--box", "[80, 60, 140, 120]"])
    for name, value in overrides(files, conversion.network).items():
        words += [f"--{name}", str(value)]
    return shlex.join(words)


def overrides(files: list[str], network: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The settings that the configuration has otherwise, by the id that sets them."""
    parser = ConfigParser()
    parser.read_config(files)
    different = {}
    for part, settings in network.items():
        for name, value in settings.items():
            identifier = name if part == WORKFLOW else f"network_def#{part}#{name}"
            there = parser.get(identifier)
            # One reference deep, as in the bundles' configurations.
            there = parser.get(there[1:]) if isinstance(there, str) and there.startswith("@") else there
            # What the workflow reads from the weights themselves needs no setting.
            worked_out = "@weights." in str(there)
            if there != value and not worked_out:
                different[identifier] = value
    return different
