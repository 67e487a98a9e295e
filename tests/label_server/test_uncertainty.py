# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Scoring by option, and the strategy that goes by it."""

import time

import numpy as np
import pytest
from blocks import write_blocks
from servers import with_threshold_network

BLOCK = (slice(12, 24), slice(18, 30), slice(5, 11))


def test_images_are_scored_in_the_background_and_the_least_sure_comes_first(start, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for name in ("first", "second"):
        write_blocks(studies / f"{name}.nii.gz", np.eye(4), [BLOCK])
    (studies / "broken.nii.gz").write_bytes(b"this is no image")
    with start(studies, "--scoring", change=with_threshold_network) as server:
        client = server.client()
        assert set(client.info()["scoring"]) == {"fastsam3d_deepgrow_uncertainty"}
        info = scored(client)
        for name in ("first", "second"):
            # The stand-in network says 0.9 of each of its masks.
            assert info[name]["fastsam3d_deepgrow_uncertainty"]["score"] == pytest.approx(0.1)
        assert info["broken"]["fastsam3d_deepgrow_uncertainty"]["score"] is None
        # Nobody was given the first one yet, then the second one; what no model takes comes last.
        given = [client.next_sample("uncertain", {})["id"] for _ in range(3)]
        assert given == ["first", "second", "broken"]


def scored(client) -> dict:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        info = {k: v["image"]["info"] for k, v in client.datastore()["objects"].items()}
        if all("fastsam3d_deepgrow_uncertainty" in v for v in info.values()):
            return info
        time.sleep(1)
    raise AssertionError("the images were not scored")
