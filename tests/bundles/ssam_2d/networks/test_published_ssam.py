# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""S-SAM's published layers, and SAM's parts with torchvision working, broken and absent."""

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from bundles.ssam_2d.scripts.networks import sam
from bundles.ssam_2d.scripts.networks.published import PublishedImageEncoder, ReformedConv2d, ReformedLinear
from common.svd_affine import SVDAffine


@pytest.mark.parametrize(
    ("published", "plain", "shape"),
    [
        (lambda: ReformedLinear(6, 9), lambda: nn.Linear(6, 9), (4, 6)),
        (lambda: ReformedConv2d(3, 5, 3, stride=2, padding=1), lambda: nn.Conv2d(3, 5, 3, 2, 1), (2, 3, 6, 7)),
    ],
)
def test_re_formed_and_factored_train_alike(published, plain, shape):
    torch.manual_seed(0)
    published, plain, x = published().double(), plain().double(), torch.randn(shape, dtype=torch.float64)
    plain.load_state_dict({"weight": published.weight.detach(), "bias": published.bias.detach()})
    ours = SVDAffine(plain)
    with torch.no_grad():
        ours.scale += 0.3 * torch.randn_like(ours.scale)
        ours.shift += 0.3 * torch.randn_like(ours.shift)
        published.trainable_scale.copy_(ours.scale)
        published.trainable_shift.copy_(ours.shift)
    assert torch.allclose(published(x), ours(x), rtol=0, atol=1e-12)
    for layer in published, ours:
        (layer(x).pow(2).sum() + layer.regularisation()).backward()
    assert torch.allclose(published.trainable_scale.grad, ours.scale.grad, rtol=0, atol=1e-10)
    assert torch.allclose(published.trainable_shift.grad, ours.shift.grad, rtol=0, atol=1e-10)
    assert published.weight.grad is None


def test_loading_weights_after_use_takes_new_factors():
    encoders = [PublishedImageEncoder(16, 4, 8, 1, 2, 4).eval() for _ in range(2)]
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        first, second = (encoder(image) for encoder in encoders)
        encoders[0].load_state_dict(encoders[1].state_dict())
        assert not torch.allclose(first, second, atol=1e-3)
        assert torch.allclose(encoders[0](image), second, atol=1e-6)
    assert not any(name.endswith((".U", ".S", ".V")) for name in encoders[0].state_dict())


@pytest.fixture
def no_package(monkeypatch):
    """As if segment_anything had never been imported."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "segment_anything"]:
        monkeypatch.delitem(sys.modules, name)
    yield monkeypatch
    for name in [n for n in sys.modules if n.partition(".")[0] == "segment_anything"]:
        del sys.modules[name]


def test_without_torchvision(no_package):
    # None in its place makes every import of it fail, whether it is installed or not.
    no_package.setitem(sys.modules, "torchvision", None)
    assert sam.sam_modeling().MaskDecoder.__module__ == "segment_anything.modeling.mask_decoder"
    assert "segment_anything" not in sys.modules
    with pytest.raises(ImportError, match="torchvision"):
        importlib.import_module("segment_anything")


def test_with_a_torchvision_of_another_torch(no_package):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    no_package.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        no_package.delitem(sys.modules, name)
    assert sam.sam_modeling().PromptEncoder.__module__ == "segment_anything.modeling.prompt_encoder"


def test_with_a_working_torchvision_the_package_is_imported_plainly(no_package):
    class Anything(ModuleType):
        def __getattr__(self, name):
            return object()

    for name in "", ".ops", ".ops.boxes", ".transforms", ".transforms.functional":
        no_package.setitem(sys.modules, f"torchvision{name}", Anything(f"torchvision{name}"))
    modeling = sam.sam_modeling()
    assert sys.modules["segment_anything"].modeling is modeling
    assert sys.modules["segment_anything"].__file__


def test_without_the_package(no_package):
    no_package.setitem(sys.modules, "segment_anything", None)
    no_package.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install segment-anything"):
        sam.sam_modeling()
    no_package.undo()
