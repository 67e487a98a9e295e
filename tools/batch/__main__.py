# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Segment many images by one command: a table of jobs, a folder or a DICOM tree in, masks and a table of results out.

::

    sam-bundles batch jobs.csv --output out
    sam-bundles batch scans --pattern "*/t1.nii.gz" --mask "masks/{name}.nii.gz" --output out
    sam-bundles batch archive --dicom_tree --mask "masks/{stem}.nii.gz" --output out
    sam-bundles batch pictures --bundle ssam_2d --labels '["liver", "spleen"]' --output out

JOBS is a table (CSV, JSON lines, Parquet) with a column image, and where needed name, prompts (foreground, box,
objects, ...), labels, mask, boxes and options of the bundle; or a folder. All other options are the bundle's: they hold
for every job that has none of its own. Run again, the same command does what is missing, has failed or has changed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

EPILOG = (
    "Exit code: 0 where all jobs are done, 3 where some failed or were refused (see results.csv), 1 where the run "
    "could not begin. More: docs/batch.md."
)
SOME_FAILED = 3
RAY = "expected pip install 'sam-bundles[ray]', or --engine processes"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    about, _, more = __doc__.partition("::")
    parser = argparse.ArgumentParser(
        prog="sam-bundles batch",
        description=f"{about.strip()}\n{more}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "jobs", type=Path, metavar="JOBS", help="table of jobs, folder of images, or tree of DICOM files"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="folder of masks and tables")
    parser.add_argument("--bundle", default="fastsam3d", help="fastsam3d, ssam_2d or the folder of one (%(default)s)")
    parser.add_argument(
        "--worst", type=int, default=12, metavar="N", help="pictures in report.html (12); 0 for no report"
    )
    jobs = parser.add_argument_group("jobs")
    jobs.add_argument("--pattern", help="which images of the folder JOBS, such as '*/t1.nii.gz' (all)")
    jobs.add_argument("--dicom_tree", action="store_true", help="JOBS is a tree of DICOM files: a job for each series")
    jobs.add_argument("--keep", nargs="+", default=[], metavar="COLUMN", help="columns that only go into the results")
    jobs.add_argument("--root", type=Path, help="where relative paths start (a table's folder; else this one)")
    jobs.add_argument(
        "--mask", help="label map of another tool, of whose objects the middle is clicked: a path with {name} or {stem}"
    )
    jobs.add_argument("--mask_names", metavar="NAMES", help="names of its values: JSON, or a file of it")
    jobs.add_argument("--boxes", help="file of boxes, a path with {name} or {stem}")
    workers = parser.add_argument_group("workers")
    workers.add_argument("--workers", type=int, metavar="N", help="at once (as many as processor cores, or GPUs)")
    workers.add_argument("--threads", type=int, default=1, metavar="N", help="of each; masks can differ with it (1)")
    workers.add_argument("--memory", type=float, metavar="GIB", help="for all jobs at once (most of what is free)")
    workers.add_argument("--retries", type=int, default=2, metavar="N", help="of a job whose worker died (2)")
    workers.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda")
    workers.add_argument(
        "--engine",
        choices=("processes", "ray"),
        help="processes of this computer, or actors of a Ray cluster (ray where --address is given)",
    )
    workers.add_argument("--address", help="of a Ray cluster: auto, or HOST:PORT")
    workers.add_argument("--cpus", type=float, default=1, metavar="N", help="of each Ray actor (1)")
    workers.add_argument("--gpus", type=float, default=0, metavar="N", help="of each Ray actor, such as 0.25 (0)")
    workers.add_argument("--no-progress", action="store_true", help="no progress bar")
    return parser


def main(given: list[str] | None = None) -> int:
    """Find the jobs, do what is not done, write the tables."""
    parser = arguments()
    options, others = parser.parse_known_args(given)
    try:
        return batch(options, _pairs(others))
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130


def batch(options: argparse.Namespace, others: dict[str, str]) -> int:
    """The command.

    Raises:
        ValueError: what keeps the run from beginning.
    """
    for name in ("workers", "threads", "memory", "cpus"):
        if getattr(options, name) is not None and not getattr(options, name) > 0:
            raise ValueError(f"--{name} {getattr(options, name)}: expected a positive number")
    for name in ("retries", "gpus"):
        if getattr(options, name) < 0:
            raise ValueError(f"--{name} {getattr(options, name):g}: expected 0 or more")
    # They take seconds to import: whoever asks for help, or errs, need not wait for them.
    from sam_bundles.common.files import check_writable

    from .configuration import Configurations
    from .fingerprint import Fingerprints
    from .jobs import FIXED, check_jobs
    from .report import NAME as REPORT
    from .report import write_report
    from .run import Run, locked
    from .worker import Setup

    check_writable(options.output, "--output")
    output = options.output.resolve()
    asked, settings = {}, {"device": options.device}
    configurations = Configurations(options.bundle, settings)
    configuration = configurations()
    for name, text in others.items():
        if name in FIXED:
            raise ValueError(f"--{name}: {FIXED[name]}")
        value = configuration.value(name, text)
        (asked if name in configuration.request_keys else settings)[name] = value
    configuration.check(settings)
    configurations.settings = settings
    asked |= {name: getattr(options, name) for name in ("mask", "mask_names", "boxes") if getattr(options, name)}
    jobs = check_jobs(find_jobs(options, configurations, asked, output), output)
    with locked(output):
        run = Run(
            output,
            jobs,
            Fingerprints(configurations),
            options.retries,
            not options.no_progress,
        )
        tasks = run.tasks()
        run.write()
        setup = Setup(str(configuration.root), settings, str(output), run.number, options.threads)
        try:
            if tasks:
                run.finish(tasks, *hired(options, setup))
        finally:
            files = run.write()
        counts = run.counts()
        if options.worst > 0 and (tasks or not (output / REPORT).is_file()):
            write_report(output, jobs, run.rows, configurations, options.worst, progress=not options.no_progress)
    failed = sum(counts[status] for status in ("failed", "refused"))
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    print(f"{len(jobs)} jobs, {len(tasks)} of them now: {told}; {files[-1].with_suffix('.csv')}")
    return SOME_FAILED if failed else 0


def find_jobs(options: argparse.Namespace, configurations: Any, asked: dict[str, Any], output: Path) -> list[Any]:
    """Jobs of a table, a folder or a tree.

    Raises:
        ValueError: nothing there, or nothing that can be read.
    """
    from .dicom_tree import ABOUT, rows_of
    from .folder import images_in
    from .jobs import read_job
    from .rows import read_rows

    place, aside, keep = options.jobs.expanduser(), set(), list(options.keep)
    root = options.root or (Path() if place.is_dir() else place.parent)
    if not place.is_dir() and (options.pattern or options.dicom_tree):
        raise ValueError(f"{place}: --pattern and --dicom_tree are for folders; expected a folder")
    if options.pattern and options.dicom_tree:
        raise ValueError("--pattern and --dicom_tree: expected one of them")
    if options.dicom_tree:
        if place.resolve() == output or place.resolve() in output.parents:
            raise ValueError(f"--output {output}: lies in the tree {place}; expected a folder beside it")
        volumes = "series" in configurations().model.model_fields
        rows, aside = rows_of(place.resolve(), volumes, not options.no_progress)
        keep += ABOUT
    elif place.is_dir():
        rows = images_in(place.resolve(), options.pattern, output)
    else:
        rows = read_rows(place)
    jobs = [read_job(row, configurations, asked, root.resolve(), keep) for row in rows]
    return [_aside(job) if job.name in aside else job for job in jobs]


def hired(options: argparse.Namespace, setup: Any) -> tuple[Any, int]:
    """Who runs the workers, and how many at once.

    Raises:
        ValueError: Ray is asked for and not there, or has no such cluster.
    """
    memory = int(options.memory * 2**30) if options.memory else None
    if options.engine == "ray" or (options.engine is None and options.address):
        try:
            from .ray_actors import RayActors
        except ModuleNotFoundError as error:
            raise ValueError(f"--engine ray needs the package {error.name}: {RAY}") from error
        crew = RayActors(setup, options.address, options.cpus, options.gpus, memory)
        return crew, options.workers or crew.default_workers()
    from .processes import Processes

    found = gpus(options.device)
    return Processes(setup, memory, found), options.workers or len(found) or os.cpu_count() or 1


def gpus(device: str) -> list[str]:
    """Numbers of the GPUs that there are to choose from."""
    if device not in ("auto", "cuda"):
        return []
    import torch

    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible or [str(number) for number in range(torch.cuda.device_count())]


def _pairs(words: list[str]) -> dict[str, str]:
    """``--name value`` or ``--name=value`` of the bundle's options."""
    pairs: dict[str, str] = {}
    words = list(words)
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").replace("-", "_", 0).partition("=")
        if not word.startswith("--") or not name:
            raise ValueError(f"{word}: expected --NAME VALUE")
        if not equals:
            if not words:
                raise ValueError(f"--{name}: expected a value")
            value = words.pop(0)
        if name in pairs:
            raise ValueError(f"--{name}: comes twice; expected it once")
        pairs[name] = value
    return pairs


def _aside(job: Any) -> Any:
    from dataclasses import replace

    return replace(job, aside=True)


if __name__ == "__main__":
    sys.exit(main())
