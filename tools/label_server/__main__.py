# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Sets up the server's folder and starts MONAI Label on it, offline and for this computer alone."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.access import add_options, check_port, read_access
from common.reading.options import IRREGULAR

from .app.label_app.rules import Rules
from .app_folder import FOLDERS, OURS, ROOT, make_app

APP = ROOT / "runs" / "monailabel"
IMAGES = ("*.nii.gz", "*.nii", "*.nrrd", "*.mha", "*.png", "*.jpg", "*.jpeg", "*.bmp", "*.tif")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bash tools/monailabel.sh",
        description="Serve the bundles to 3D Slicer and OHIF: clicks in 3D volumes, labels of 2D images.",
        epilog="The first call makes .venv-label (3.7 GB, minutes). What to do in the viewers: docs/monailabel.md.",
    )
    parser.add_argument(
        "studies",
        help="folder of NIfTI, NRRD, MetaImage, PNG or JPEG images, or of DICOM series folders; or http://...",
    )
    add_options(parser, "--token", "MONAI_LABEL_TOKEN", os.environ.get("MONAI_LABEL_TOKEN"), port=8000)
    several = {"action": "append", "default": []}
    parser.add_argument(
        "--allow-folder", **several, metavar="FOLDER", help="folder that links among the studies may lead to"
    )
    parser.add_argument(
        "--series", **several, metavar="FOLDER=NUMBER", help="which stack of a DICOM folder that holds several"
    )
    parser.add_argument(
        "--irregular",
        choices=IRREGULAR,
        default="refuse",
        help="DICOM slices that lack some or lie at uneven distances: refuse, or resample to even ones",
    )
    parser.add_argument(
        "--slice-thickness",
        "--slice_thickness",
        type=float,
        metavar="MM",
        help="of single DICOM slices that do not say it",
    )
    parser.add_argument("--labels", default="", help="what you will click on in volumes, such as liver,spleen")
    parser.add_argument("--labels-2d", default="", help="what you will label in 2D images, and train ssam_2d on")
    parser.add_argument(
        "--bundles", default=",".join(FOLDERS), help=f"which ones are served, out of {','.join(FOLDERS)}"
    )
    parser.add_argument(
        "--scoring", action="store_true", help="score the unlabelled images in the background, for strategy 'uncertain'"
    )
    parser.add_argument("--app", type=Path, default=APP, help=f"the server's folder ({APP.relative_to(ROOT)})")
    parser.add_argument("--fresh-weights", action="store_true", help="put weights that were trained in it aside")
    parser.add_argument("--set-up-only", action="store_true", help="make the folder and do not start")
    parser.add_argument("--verbose", action="store_true", help="show all that MONAI Label logs")
    return parser


def listed(names: str) -> list[str]:
    """The names of a list with commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def checked_studies(studies: str, app: Path) -> tuple[str, list[str]]:
    """The absolute path of a folder that the server may write to, or an address as it is; and where links in it lead.

    MONAI Label keeps its list of images and the labels in the folder of the images: where that cannot be, a folder in
    ``app`` with links to them takes its place.

    Raises:
        ValueError: no such folder.
    """
    if studies.startswith(("http://", "https://")):
        return studies, []
    folder = Path(studies).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{studies}: no such folder; expected a folder of images, or the http:// address of DICOMweb")
    if not any(found for pattern in IMAGES for found in folder.glob(pattern)):
        print(f"{studies} has no images yet: put them right into it, and each DICOM series in a folder of its own")
    folder = folder.resolve()
    if os.access(folder, os.W_OK | os.X_OK):
        return str(folder), []
    links = app / "studies" / folder.name
    links.mkdir(parents=True, exist_ok=True)
    for item in folder.iterdir():
        if item.name != "labels" and not (links / item.name).is_symlink():
            (links / item.name).symlink_to(item)
    print(f"{studies} is not writable: links to its images are served, labels go to {links / 'labels'}")
    return str(links), [str(folder)]


def rules(options: argparse.Namespace, linked: Sequence[str] = ()) -> Rules:
    """Who may talk to the server, which folders it reads beside that of the studies, and how those of DICOM files.

    Raises:
        ValueError: it would listen to other computers without a token, or something that is no token, name, origin,
            folder or thickness.
    """
    allowed = read_access(options.host, options.token, options.allow_host, options.allow_origin, options.max_upload)
    folders = [*linked, *(str(Path(folder).expanduser().resolve()) for folder in options.allow_folder)]
    series = dict(named_stack(options.studies, given) for given in options.series)
    found = Rules(**vars(allowed), folders=folders, series=series)
    found = replace(found, irregular=options.irregular, slice_thickness=options.slice_thickness)
    # Raises where the thickness is none.
    found.reading(Path(options.studies))
    return found


def named_stack(studies: str, given: str) -> tuple[str, str]:
    """``FOLDER=NUMBER``, the folder being one of the studies.

    Raises:
        ValueError: another form, or no such folder.
    """
    name, _, stack = given.rpartition("=")
    if not name or not stack:
        raise ValueError(f"--series {given}: expected FOLDER=NUMBER, such as scan1=2")
    if studies.startswith(("http://", "https://")):
        raise ValueError(f"--series {given}: the studies are no folder; DICOMweb has a place for each series")
    folder = Path(studies).expanduser() / name
    if not folder.is_dir():
        raise ValueError(f"--series {given}: {folder} is no folder; expected one among the studies")
    return name, stack


def environment(app: Path, allowed: Rules) -> dict[str, str]:
    """The variables of the server's process: no downloads, our files importable, its tools found."""
    needs = [sys.executable, "-c", "import torchvision.utils"]
    stand_in = [] if subprocess.run(needs, capture_output=True).returncode == 0 else [str(OURS / "stand_in")]
    return {
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(IMAGES),
        **os.environ,
        **allowed.to_environment(),
        "BUNDLE_DOWNLOAD_SRC": "local",
        "MONAI_LABEL_SESSION_PATH": str(app / "sessions"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([*stand_in, str(app)]),
    }


def server_command(app: Path, studies: str, models: list[str], options: argparse.Namespace) -> list[str]:
    """How MONAI Label is started on ``app``."""
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", studies]
    command += ["--host", options.host, "--port", str(options.port), "--uvicorn_app", "label_app.server:app"]
    conf = {"models": ",".join(models), "sam2": "false", "scoring": str(options.scoring).lower()}
    for key, value in conf.items():
        command += ["--conf", key, value]
    command += ["--verbose", "INFO" if options.verbose else "WARNING"]
    return command + ["--log_level", "info" if options.verbose else "warning"]


def main(given: list[str] | None = None) -> int:
    """Check what was asked for, make the folder, become the server."""
    options = arguments().parse_args(given)
    names = listed(options.bundles)
    labels = {"fastsam3d": listed(options.labels), "ssam_2d": listed(options.labels_2d)}
    try:
        unknown = sorted(set(names) - set(FOLDERS))
        if unknown or not names:
            raise ValueError(f"--bundles {options.bundles}: expected some of {', '.join(FOLDERS)}")
        app = options.app.expanduser().resolve()
        studies, linked = checked_studies(options.studies, app)
        if not options.set_up_only:
            check_port(options.host, options.port)
        allowed = rules(options, linked)
        models, remarks = make_app(app, names, labels, options.fresh_weights)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    made = [name for name in allowed.series if (Path(studies) / f"{name}.nii.gz").exists()]
    remarks += [
        f"{name}.nii.gz is there already and stays: remove it to have it made of another stack" for name in made
    ]
    for remark in remarks:
        print(remark)
    print(f"{app} serves {', '.join(models)}")
    if options.set_up_only:
        return 0
    if options.token == "":
        print(f"token: {allowed.token}")
    print("starting, some seconds ...", flush=True)
    # In the folder of the app, because MONAI Label reads a file .env from where it is started.
    os.chdir(app)
    os.execve(sys.executable, server_command(app, studies, models, options), environment(app, allowed))


if __name__ == "__main__":
    sys.exit(main())
