# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What pictures LiteMedSAM's form takes: each comes back on its own pixels, as the padded view shows it."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_lite_medsam import SMALL, network

from bundles.ssam_2d.scripts.view import View


@pytest.fixture
def named(tmp_path):
    """Weights with two names."""
    made = network()
    made.set_labels(["one", "other"], torch.randn(2, 32, generator=torch.Generator().manual_seed(1)))
    torch.save(made.state_dict(), tmp_path / "named.pt")
    return made, tmp_path / "named.pt"


PICTURES = {
    "smaller than a window": ((5, 3), np.uint8, 3),
    "one channel": ((40, 30), np.uint8, 1),
    "16 bit": ((40, 30), np.uint16, 1),
    "very wide": ((6, 300), np.uint8, 3),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_any_picture_comes_back_on_its_own_pixels(run_ssam, named, tmp_path, kind):
    made, weights = named
    shape, dtype, channels = PICTURES[kind]
    highest = 60000 if dtype == np.uint16 else 255
    values = np.random.default_rng(0).integers(0, highest, (*shape, channels)).astype(dtype)
    Image.fromarray(values[..., 0] if channels == 1 else values).save(tmp_path / "a.png")
    settings = {"config_file": ["lite_medsam.json"], "image": tmp_path / "a.png", "ckpt_path": weights, **SMALL}
    folder = run_ssam(**settings, threshold=0.1, probabilities=True, window=[0, highest])
    mask = np.array(Image.open(folder / "a_seg.png"))
    assert mask.shape == shape

    view = View("medsam", 64)
    picture = torch.from_numpy(values.astype(np.float32) * 255 / highest).permute(2, 0, 1).expand(3, -1, -1)
    with torch.no_grad():
        logits, _ = made.decode(made.encode(view(picture)[None]), made.label_features)
    expected = view.back(logits, shape).sigmoid()[0, 0]
    first = np.array(Image.open(folder / "a_seg_probabilities.tif"))
    assert np.abs(first - expected.numpy()).max() < 0.02
