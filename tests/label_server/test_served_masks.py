# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The mask that a server sends is the command line's, voxel by voxel: real images, before and after a training."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from servers import ROOT
from test_server_training import short_rounds, train

SHARED = ROOT.parent / "shared" / "data"
CT = SHARED / "totalseg_example" / "example_ct_sm.nii.gz"
PICTURES = SHARED / "busi_breast_us"
needs_images = pytest.mark.skipif(not CT.is_file() or not PICTURES.is_dir(), reason="needs ../shared/data")


def command_line(bundle: Path, output: Path, **options) -> tuple[np.ndarray, dict]:
    """Mask and summary of ``python -m monai.bundle run`` in the bundle's folder."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    for key, value in {"output_dir": str(output), **options}.items():
        command += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    done = subprocess.run(command, cwd=bundle, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (mask,) = [p for p in output.rglob("*_seg.*") if p.suffix != ".json" and "overlay" not in p.name]
    (summary,) = output.rglob("*.json")
    values = np.asarray(Image.open(mask)).T if mask.suffix == ".png" else np.asarray(nib.load(mask).dataobj)
    return values, json.loads(summary.read_text(encoding="utf-8"))


def assert_same(served: tuple[np.ndarray, dict], direct: tuple[np.ndarray, dict]) -> None:
    """Equal voxels, and the same said of each object."""
    np.testing.assert_array_equal(served[0].squeeze(), direct[0].squeeze())
    assert served[0].any()
    for one, other in zip(served[1]["objects"], direct[1]["objects"], strict=True):
        assert one["name"] == other["name"]
        assert one["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-6)


@needs_images
def test_fastsam3d(start, tmp_path):
    clicks = [[62, 50, 15], [60, 52, 16]]
    studies = tmp_path / "studies"
    studies.mkdir()
    for k in range(3):
        shutil.copy(CT, studies / f"ct_{k}.nii.gz")

    def served_and_direct(server, step: str) -> None:
        bundle = server.app / "model" / "fastsam3d_deepgrow"
        mask, answer = server.infer("fastsam3d_deepgrow", "ct_0", foreground=clicks, device="cpu")
        direct = command_line(
            bundle, tmp_path / step, image=str(studies / "ct_0.nii.gz"), foreground=clicks, preview=False, device="cpu"
        )
        assert_same((np.asarray(mask.dataobj), answer), direct)

    def quick(models: Path) -> None:
        """Short trainings; what is inferred stays as it is."""
        whole = (models / "fastsam3d_deepgrow" / "configs" / "inference.json").read_bytes()
        short_rounds(models)
        (models / "fastsam3d_deepgrow" / "configs" / "inference.json").write_bytes(whole)

    with start(studies, change=quick) as server:
        served_and_direct(server, "before")
        before = (server.app / "model" / "fastsam3d_deepgrow" / "models" / "model.pt").read_bytes()
        volume = nib.load(CT)
        label = (np.asarray(volume.dataobj) > 150).astype(np.uint8)
        nib.save(nib.Nifti1Image(label, volume.affine), tmp_path / "label.nii.gz")
        for k in range(3):
            server.client().save_label(f"ct_{k}", str(tmp_path / "label.nii.gz"), tag="final", params={})
        assert train(server, "fastsam3d_deepgrow")["status"] == "DONE", server.log()[-3000:]
        assert (server.app / "model" / "fastsam3d_deepgrow" / "models" / "model.pt").read_bytes() != before
        served_and_direct(server, "after")


@needs_images
def test_ssam_2d(start, tmp_path):
    names = sorted(p.stem for p in (PICTURES / "images").glob("*.png"))[:4]
    studies = tmp_path / "studies"
    studies.mkdir()
    for name in names:
        shutil.copy(PICTURES / "images" / f"{name}.png", studies)
    with start(studies, bundles=("ssam_2d",)) as server:
        bundle = server.app / "model" / "ssam_2d"

        def served(name: str, **params) -> tuple[np.ndarray, dict]:
            file, answer = server.client("png").infer("ssam_2d", name, {"result_extension": ".png", **params})
            return np.asarray(Image.open(file)).T, answer

        def direct(name: str, step: str, **options) -> tuple[np.ndarray, dict]:
            return command_line(
                bundle, tmp_path / step / name, image=str(studies / f"{name}.png"), overlay=False, **options
            )

        model = server.client().info()["models"]["ssam_2d"]
        assert model["config"]["model_filename"] == ["model.pt"]
        for name in names[:2]:
            assert_same(served(name), direct(name, "before"))
        # Each label has weights of its own: with none, or random ones, all have one score.
        scores = {o["name"]: o["predicted_iou"] for o in served(names[0])[1]["objects"]}
        assert len(set(scores.values())) == len(scores) > 1
        for name in names:
            label = np.asarray(Image.open(next((PICTURES / "masks").glob(f"{name}*"))).convert("L")) > 0
            # The labels that the weights know, so that nothing but the numbers changes.
            Image.fromarray(label.astype(np.uint8)).save(tmp_path / "label.png")
            server.client().save_label(name, str(tmp_path / "label.png"), tag="final", params={})
        before = (bundle / "models" / "model.pt").read_bytes()
        assert train(server, "ssam_2d")["status"] == "DONE", server.log()[-3000:]
        assert (bundle / "models" / "model.pt").read_bytes() != before
        for name in names[:2]:
            assert_same(served(name), direct(name, "after"))


def test_a_server_does_not_start_with_weights_that_do_not_fit(start, tmp_path):
    """Half of a state dict: MONAI Label would go on with random numbers for the rest."""

    def half(models: Path) -> None:
        path = models / "fastsam3d_deepgrow" / "models" / "model.pt"
        state = torch.load(path, weights_only=True)
        torch.save(dict(list(state.items())[: len(state) // 2]), path)

    with pytest.raises(AssertionError, match="model.pt: weights of another architecture .*Missing key"):
        with start(tmp_path, change=half):
            pass
