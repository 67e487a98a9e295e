# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A first look at the project: clicks in a real volume, then tissues by name; it writes masks and pictures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.metrics import compute_dice

from bundles.ssam_2d.scripts.lite_medsam import ABOUT, bring
from common.digits import shown
from common.result_files import case_name
from tools import demo_names
from tools.run_python import run_python

BUNDLE = Path("bundles/fastsam3d")
OUTPUT = Path("output/demo")
# Voxels of the MNI152 template at 1 mm: in a hemisphere, then each in the middle of the largest part that was missing.
BRAIN_CLICKS = [[56, 81, 102], [133, 109, 76], [120, 73, 42], [108, 190, 71]]


def save_template(folder: Path) -> tuple[Path, Path]:
    """Write the MNI152 T1 template that nilearn carries, and its brain: grey + white matter above one half."""
    from nilearn import datasets

    template = datasets.load_mni152_template(resolution=1)
    grey, white = (load(resolution=1) for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template))
    brain = (grey.get_fdata() + white.get_fdata() > 0.5).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    image, reference = folder / "mni152_t1.nii.gz", folder / "mni152_brain_reference.nii.gz"
    nib.save(template, image)
    nib.save(nib.Nifti1Image(brain, template.affine), reference)
    return image, reference


def segment(image: Path, clicks: list[list[int]], name: str, output: Path) -> dict:
    """Run the bundle as a user would, its progress shown, and return the description that it wrote.

    Raises:
        ValueError: with the bundle's own reason, where it stopped.
    """
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--bundle_root", str(BUNDLE), "--config_file", str(BUNDLE / "configs/inference.json")]
    command += ["--image", str(image), "--objects", json.dumps({name: clicks}), "--output_dir", str(output)]
    run_python(command[1:])
    return json.loads((output / f"{case_name(str(image))}_seg.json").read_text())


def report(result: dict, output: Path, reference: Path | None) -> list[str]:
    """What was found, how good it is where that is known, and how long it took."""
    found = result["objects"][0]
    mask_file = output / result["mask"]
    count = len(found["prompts"]["points"])
    lines = [
        f"segmented  {found['name']} from {count} click{'s' * (count > 1)}: {mask_file}",
        f"volume     {shown(found['volume_ml'])} mL",
    ]
    if reference is None:
        lines[1] += f"; Dice unknown without a reference, the network expects an IoU of {found['predicted_iou']:.2f}"
    else:
        mask, truth = (torch.from_numpy(np.asarray(nib.load(f).dataobj) > 0) for f in (mask_file, reference))
        lines[1] += f"; Dice {float(compute_dice(mask[None, None], truth[None, None])):.3f} against {reference}"
    seconds, computed = result["seconds"], max(1, result["embeddings"]["computed"])
    encoding, click = seconds["encode"] / computed, seconds["decode"] / max(1, result["decoder_calls"])
    lines.append(
        f"time       {encoding:.2f} s to encode a cube, {click:.2f} s for a click, {torch.get_num_threads()} threads"
    )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bash tools/demo.sh",
        description="Segment the brain in the MNI152 template, or what lies at a voxel of your own volume.",
    )
    parser.add_argument("image", nargs="?", type=Path, help="NIfTI, NRRD or MetaImage file, or a DICOM series folder")
    parser.add_argument(
        "click", nargs="*", type=int, help="voxel X Y Z of the stored file; several clicks one after the other"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"folder of the results ({OUTPUT})")
    given = parser.parse_args(arguments)
    if given.image is not None and (not given.click or len(given.click) % 3):
        parser.error(f"{len(given.click)} numbers after the image: expected X Y Z, a voxel of the object")
    if given.image is None:
        image, reference = save_template(given.output)
        clicks, name = BRAIN_CLICKS, "brain"
    else:
        image, reference, name = given.image, None, "object"
        clicks = [given.click[i : i + 3] for i in range(0, len(given.click), 3)]
    try:
        result = segment(image, clicks, name, given.output)
    except ValueError as error:
        print(f"\nnot segmented: {error}", file=sys.stderr)
        return 1
    print("\n" + "\n".join(report(result, given.output, reference)))
    print(f"picture    {given.output / (case_name(str(image)) + '_seg.png')}")
    if given.image is None:
        try:
            print(f"\nboxes in pictures are answered by {bring()}\n{ABOUT}")
        except ValueError as error:
            print(f"\n{error}\nuntil then the small base answers boxes", file=sys.stderr)
        print("\nthe second part: tissues by name, learned from a few slices (about a minute)\n", flush=True)
        try:
            lines = demo_names.run(given.output / "names", run_python)
        except ValueError as error:
            print(f"\nnot fine-tuned: {error}", file=sys.stderr)
            return 1
        print("\n" + "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
