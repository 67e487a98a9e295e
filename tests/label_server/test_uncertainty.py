# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Scoring by option, and the strategy that goes by it."""

import time

import numpy as np
from blocks import write_blocks
from servers import with_threshold_network

# All places that are scored lie in the first one, none in the second.
BLOCKS = {"sure": (slice(8, 40), slice(6, 34), slice(5, 31)), "unsure": (slice(13, 23), slice(21, 28), slice(5, 8))}


def test_images_are_scored_in_the_background_and_the_least_sure_comes_first(start, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for name, block in BLOCKS.items():
        write_blocks(studies / f"{name}.nii.gz", np.eye(4), [block])
    (studies / "broken.nii.gz").write_bytes(b"this is no image")
    with start(studies, "--scoring", change=with_threshold_network) as server:
        client = server.client()
        assert set(client.info()["scoring"]) == {"fastsam3d_deepgrow_uncertainty"}
        info = scored(client)
        # The stand-in network says 0.9 of each of its masks, of which its logits are more or less certain.
        assert 0.1 <= info["sure"]["fastsam3d_deepgrow_uncertainty"]["score"] < 0.5
        # Nothing was found where it was clicked.
        assert info["unsure"]["fastsam3d_deepgrow_uncertainty"]["score"] > 0.99
        assert info["broken"]["fastsam3d_deepgrow_uncertainty"]["score"] is None
        # What no model takes comes last.
        given = [client.next_sample("uncertain", {})["id"] for _ in range(3)]
        assert given == ["unsure", "sure", "broken"]


def scored(client) -> dict:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        info = {k: v["image"]["info"] for k, v in client.datastore()["objects"].items()}
        if all("fastsam3d_deepgrow_uncertainty" in v for v in info.values()):
            return info
        time.sleep(1)
    raise AssertionError("the images were not scored")
