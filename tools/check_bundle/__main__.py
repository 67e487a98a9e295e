# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Check a bundle as the Model Zoo does, then use it as its first user will.

::

    python -m tools.check_bundle dist/fastsam3d_v0.1.0.zip
    python -m tools.check_bundle bundles/ssam_2d --fresh-environment
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.check_bundle import files, metadata
from tools.check_bundle.runs import check_inference, check_inside, fresh_python
from tools.check_bundle.samples import make_sample
from tools.check_bundle.unpack import unpack

Step = tuple[str, Callable[[], str]]


def static_steps(bundle: Path, schema: Path, model_info: Path | None) -> Iterator[Step]:
    """What the Zoo reads in the files, in its order."""
    yield "large files", lambda: files.check_large_files(bundle)
    yield "needed files", lambda: files.check_needed(bundle)
    yield "weights that MONAI Label serves", lambda: files.check_served(bundle)
    yield "version and changelog", lambda: metadata.check_version(bundle, model_info)
    yield "metadata schema", lambda: metadata.check_schema(bundle, schema)
    yield "requirements", lambda: metadata.check_requirements(bundle)
    yield "sizes", lambda: files.check_sizes(bundle)
    yield "text of files", lambda: files.check_text(bundle)


def running_steps(bundle: Path, folder: Path, python: str) -> Iterator[Step]:
    """What the Zoo runs, and what a user runs first.

    Args:
        bundle: that has passed the static steps.
        folder: for samples and results.
        python: the interpreter to run with.
    """
    sample = make_sample(folder / "sample", metadata.read_metadata(bundle))
    elsewhere = folder / "empty"
    elsewhere.mkdir()
    inference, training = sample.inference(), sample.training(folder / "training")
    for title, check, overrides in (
        ("properties of inference", "properties_infer", {**inference, "output_dir": str(folder / "unused")}),
        ("properties of training", "properties_train", training),
        ("network in and out", "net_in_out", {}),
        ("TorchScript", "torchscript", {}),
    ):
        yield title, lambda c=check, o=overrides: check_inside(python, bundle, c, elsewhere, o)
    kinds = {"kinds": [k for k in ("train", "inference") if (bundle / f"configs/{k}.json").is_file()]}
    yield "monai.bundle.load", lambda: check_inside(python, bundle, "load_network", elsewhere, kinds)
    for title, cwd in (("run from another folder", elsewhere), ("run from the bundle", bundle)):
        yield title, lambda c=cwd: check_inference(python, bundle, sample, c, folder / f"out_{c.name}")


def report(steps: Iterator[Step]) -> list[str]:
    """Run and print each step; the titles of those that failed."""
    failed = []
    for title, step in steps:
        try:
            print(f"  ok      {title}: {step()}", flush=True)
        except Exception as error:
            print(f"  FAILED  {title}: {error}", flush=True)
            failed.append(title)
    return failed


def check(
    bundle: Path, schema: Path = metadata.SCHEMA, model_info: Path | None = None, fresh: bool = False, run: bool = True
) -> list[str]:
    """All steps; the titles of those that failed.

    Args:
        bundle: folder or zip.
        schema: of the metadata.
        model_info: the Zoo's list of versions, which must not hold this one.
        fresh: run in a new virtual environment with the packages of the metadata alone.
        run: also what needs processes of its own.

    Raises:
        ValueError: see :func:`.unpack.unpack`; packages that cannot be installed.
    """
    with tempfile.TemporaryDirectory(prefix="check_bundle_") as temporary:
        folder = Path(temporary)
        unpacked = unpack(bundle, folder)
        failed = report(static_steps(unpacked, schema, model_info))
        if not run:
            return failed
        if "needed files" in failed or "requirements" in failed:
            print("  the bundle was not run: see above")
            return failed
        python = fresh_python(folder / "environment", metadata.requirements(unpacked)) if fresh else sys.executable
        return failed + report(running_steps(unpacked, folder, python))


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.check_bundle",
        description="Check a bundle as the Model Zoo does, then run it as its first user will.",
    )
    parser.add_argument("bundle", type=Path, nargs="+", help="folder of a bundle, or its zip")
    parser.add_argument("--schema", type=Path, default=metadata.SCHEMA, help="JSON schema of the metadata")
    parser.add_argument("--model-info", type=Path, help="the Zoo's model_info.json: its versions must not come again")
    parser.add_argument(
        "--fresh-environment", action="store_true", help="run with the metadata's packages alone (slow)"
    )
    parser.add_argument("--no-run", action="store_true", help="read the files only (seconds)")
    given = parser.parse_args(arguments)
    failed = 0
    for bundle in given.bundle:
        print(bundle)
        try:
            failed += len(check(bundle, given.schema, given.model_info, given.fresh_environment, not given.no_run))
        except ValueError as error:
            print(f"  FAILED  {error}")
            failed += 1
    print(f"{failed} checks failed" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
