# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A request survives whatever the tensor that carries it goes through."""

import pytest
import torch
from monai.data import MetaTensor, list_data_collate

from common.prompts import read_prompts
from common.request import put_request, take_request

ASKED = {
    "a": {"foreground": [[1.25, 2, 3]], "background": [[0, 0, 0]], "previous_mask": "m.nii"},
    "b": {"box": [[1, 2, 3], [4, 5, 6]]},
}


def carrying(**others) -> MetaTensor:
    image = MetaTensor(torch.rand(1, 9, 9, 9))
    put_request(image, read_prompts({"objects": ASKED}, (9, 9, 9)), **others)
    return image


def test_there_and_back():
    request = take_request(carrying(labels=["liver"], adapter=None))
    assert request == {"objects": read_prompts({"objects": ASKED}, (9, 9, 9)), "labels": ["liver"], "adapter": None}


def test_in_a_batch():
    batch = list_data_collate([{"image": carrying()}])["image"]
    assert batch.shape == (1, 1, 9, 9, 9)
    assert take_request(batch.to(torch.float64)) == take_request(carrying())


def test_no_request():
    with pytest.raises(ValueError, match="carries no request"):
        take_request(MetaTensor(torch.rand(1, 9, 9, 9)))
