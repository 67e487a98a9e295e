# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A round of training by MONAI Label's own request, and the next click with what it learned."""

import json
import time

import nibabel as nib
import numpy as np
import pytest
from blocks import seen, write_blocks
from servers import change_config, with_little_memory

FIRST = (slice(12, 24), slice(18, 30), slice(5, 14))
SECOND = (slice(30, 44), slice(6, 18), slice(18, 32))


def train(server, model: str, **more) -> dict:
    """Start a training as 3D Slicer does, with all that the server offers to set, and wait for its end."""
    client = server.client("trainer")
    offered = client.info()["trainers"][model]["config"]
    params = {k: v[0] if isinstance(v, list) else v for k, v in offered.items()}
    client.train_start(model, {**params, "max_epochs": 1, **more})
    end = time.monotonic() + 500
    while time.monotonic() < end:
        status = client.train_status()
        if status["status"] not in ("SUBMITTED", "RUNNING"):
            return status
        time.sleep(1)
    raise AssertionError(server.log()[-3000:])


def short_rounds(models) -> None:
    """Little cubes and few of them, in the served copy of fastsam3d."""
    with_little_memory(models)
    config = json.loads((models / "fastsam3d_deepgrow" / "configs" / "train.json").read_text())
    clicking = config["clicking"] | {"steps": 2, "promptless": 0}
    change_config(models, "train.json", cube_size=32, rounds=1, draws=2, val_draws=1, clicking=clicking)


@pytest.fixture(scope="module")
def labelled(start, tmp_path_factory):
    """A server with three volumes whose labels (two values) were sent by a client, as finished."""
    studies, labels = tmp_path_factory.mktemp("labelled"), tmp_path_factory.mktemp("labels")
    names = [f"case_{k}" for k in range(3)]
    with start(studies, labels={"fastsam3d": ("liver", "spleen")}, change=short_rounds) as server:
        for name in names:
            truth = write_blocks(studies / f"{name}.nii.gz", np.diag([-1.5, -1.5, 1.5, 1]), [FIRST, SECOND])
            nib.save(nib.Nifti1Image(truth, np.diag([-1.5, -1.5, 1.5, 1])), labels / f"{name}.nii.gz")
        seen(server, *names)
        for name in names:
            server.client().save_label(name, str(labels / f"{name}.nii.gz"), tag="final", params={"client": "test"})
        assert server.client().info()["datastore"]["completed"] == 3
        yield server


def test_two_rounds_change_the_weights_of_the_running_server(labelled):
    models = labelled.app / "model" / "fastsam3d_deepgrow" / "models"
    click = {"foreground": [[17, 23, 8]]}
    labelled.infer("fastsam3d_deepgrow", "case_0", **click)
    _, known = labelled.infer("fastsam3d_deepgrow", "case_0", **click)
    assert known["embeddings"]["computed"] == 0
    earlier = [(models / "model.pt").read_bytes()]
    for _ in range(2):
        status = train(labelled, "fastsam3d_deepgrow")
        assert status["status"] == "DONE", labelled.log()[-3000:]
        now = (models / "model.pt").read_bytes()
        assert now not in earlier
        # Nothing of the earlier weights is used any more, and none of them is lost.
        mask, answer = labelled.infer("fastsam3d_deepgrow", "case_0", **click)
        assert answer["embeddings"]["computed"] >= 1
        assert mask.shape == (48, 40, 36)
        assert {p.read_bytes() for p in models.glob("model_*.pt")} == set(earlier)
        earlier.append(now)
    assert "Reload model from cache" in labelled.log()
