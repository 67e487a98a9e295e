# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What fine-tuning starts from: every tensor accounted for, and what is no SAM refused."""

import pytest
import torch
from small_sam import sam_state, small_sam

from bundles.ssam_2d.scripts.checkpoints import load_start


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_published_checkpoint_is_taken_whole(tmp_path, wrapped):
    source, network = small_sam(seed=1), small_sam()
    text, labels = network.text_affine.linear.weight.clone(), network.label_features.clone()
    state = sam_state(source)
    torch.save({"model": state} if wrapped else state, tmp_path / "sam.pth")
    report = load_start(network, tmp_path / "sam.pth")
    assert set(report.loaded) == set(state) and not report.resized and not report.ignored
    assert set(report.untouched) == {k for k in network.state_dict() if k.startswith("text_affine.")}
    assert all(torch.equal(network.state_dict()[k], v) for k, v in state.items())
    assert torch.equal(network.text_affine.linear.weight, text) and torch.equal(network.label_features, labels)


def test_weights_tuned_here_bring_their_text_layer_but_not_their_labels(tmp_path):
    source, network = small_sam(seed=1, labels=["gland"]), small_sam()
    torch.save(source.state_dict(), tmp_path / "model.pt")
    report = load_start(network, tmp_path / "model.pt")
    assert torch.equal(network.text_affine.linear.weight, source.text_affine.linear.weight)
    assert report.ignored == ["label_features", "label_names"] and not report.untouched
    assert network.labels == ["liver", "spleen", "polyp"] and len(network.label_features) == 3


def test_positions_are_resized_and_reported(tmp_path):
    source, network = small_sam(64, window=5), small_sam(32, window=3)
    torch.save(sam_state(source), tmp_path / "sam.pt")
    report = load_start(network, tmp_path / "sam.pt")
    blocks = {f"image_encoder.blocks.{i}.attn.rel_pos_{a}" for i in range(2) for a in "hw"}
    assert set(report.resized) == {"image_encoder.pos_embed"} | blocks
    assert report.resized["image_encoder.pos_embed"] == ((1, 16, 16, 16), (1, 8, 8, 16))
    assert report.resized["image_encoder.blocks.1.attn.rel_pos_h"] == ((31, 8), (15, 8))
    assert len(report.loaded) + len(report.resized) == len(sam_state(network))


def test_what_does_not_fit_is_refused_and_the_network_left_as_it_was(tmp_path):
    network = small_sam()
    before = {k: v.clone() for k, v in network.state_dict().items()}

    def refused(state, reason: str):
        torch.save(state, tmp_path / "a.pt")
        with pytest.raises(ValueError, match=reason):
            load_start(network, tmp_path / "a.pt")
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())

    state = sam_state(small_sam(seed=1))
    refused({"conv1.weight": torch.zeros(3)}, "no SAM checkpoint: its 1 tensors are conv1.weight")
    refused({"a": 1, "b": "text"}, "not names with tensors")
    refused(
        sam_state(small_sam(width=32)), "a SAM of 2 blocks of width 32, network_def is a SAM of 2 blocks of width 16"
    )
    refused({k: v for k, v in state.items() if k != "mask_decoder.iou_token.weight"}, "iou_token.weight is missing")
    refused({**state, "mask_decoder.extra": torch.zeros(1)}, "mask_decoder.extra is not known")
    refused({**state, "text_affine.linear.weight": torch.zeros(16, 12)}, "text_affine.linear.bias is missing")
    text = {k: v for k, v in network.state_dict().items() if k.startswith("text_affine.")}
    refused({**state, **text, "text_affine.linear.weight": torch.zeros(16, 10)}, "give --text_dim 10$")
    refused({**state, "mask_decoder.iou_token.weight": torch.full((1, 16), torch.nan)}, "1 of .* tensors hold NaN")
    (tmp_path / "b.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_start(network, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="no such file"):
        load_start(network, tmp_path / "missing.pt")
