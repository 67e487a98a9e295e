# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Clicks and boxes without a name are answered by weights that know prompts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_sam import sam_state, small_sam

from bundles.ssam_2d.scripts import lite_medsam
from bundles.ssam_2d.scripts.inference.prompt_network import PromptNetwork

BUSI = Path(__file__).parents[4].parent / "shared" / "data" / "busi100"
SHIPPED = Path(__file__).parents[4] / "bundles" / "ssam_2d" / "models" / "model.pt"
BOX = [6, 4, 30, 20]


@pytest.fixture
def weights(tmp_path):
    """Files of a tuned network, of the SAM that answers prompts, and an image."""
    torch.save(small_sam(seed=1).state_dict(), tmp_path / "tuned.pt")
    torch.save(sam_state(small_sam(seed=2)), tmp_path / "sam.pt")
    values = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    return tmp_path


@pytest.fixture
def asked(run_ssam, weights):
    """``asked(weights, ...) -> (index map, probabilities by name, description)``."""

    def run(name, **overrides):
        settings = {"image": weights / "a.png", "image_size": 32, "network_def": small_sam(), "probabilities": True}
        folder = run_ssam(**settings, **{"ckpt_path": weights / name, **overrides})
        described = json.loads((folder / "a_seg.json").read_text())
        pages = Image.open(folder / "a_seg_probabilities.tif")
        found = {}
        for place, described_object in enumerate(described["objects"]):
            pages.seek(place)
            found[described_object["name"]] = np.array(pages)
        return np.array(Image.open(folder / "a_seg.png")), found, described

    return run


def test_a_prompt_without_a_name_is_answered_by_the_sam_and_a_name_by_the_tuned_network(asked, weights):
    path = {"prompt_path": weights / "sam.pt"}
    objects = {"thing": {"box": BOX}, "spleen": {"foreground": [[9, 9]]}}
    _, found, described = asked("tuned.pt", objects=objects, labels=["liver"], **path)
    _, plain, _ = asked("sam.pt", objects={"thing": {"box": BOX}})
    _, named, alone = asked("tuned.pt", objects={"spleen": objects["spleen"]}, labels=["liver"], **path)
    assert np.array_equal(found["thing"], plain["thing"])
    assert np.array_equal(found["liver"], named["liver"]) and np.array_equal(found["spleen"], named["spleen"])
    answered = {thing["name"]: thing["prompts"]["weights"] for thing in described["objects"] if "prompts" in thing}
    assert answered["thing"]["file"] == "sam.pt" and answered["spleen"] is None
    assert described["weights"]["file"] == "tuned.pt" and not alone["notes"]
    assert described["embeddings"] == {"computed": 2, "reused": 0}
    _, tuned, described = asked("tuned.pt", objects={"thing": {"box": BOX}}, prompt_path=None)
    assert not np.array_equal(tuned["thing"], plain["thing"])
    assert described["objects"][0]["prompts"]["weights"] is None


def test_weights_that_are_missing_or_of_another_network_are_named_with_the_remedy(refused, weights):
    settings = {"image": weights / "a.png", "image_size": 32, "network_def": small_sam(), "box": BOX}
    settings |= {"ckpt_path": weights / "tuned.pt"}
    refused("none.pt: no such file.*give prompt_path", **settings, prompt_path=weights / "none.pt")
    torch.save(sam_state(small_sam(width=32)), weights / "wide.pt")
    refused("wide.pt.*width 32.*give prompt_path.*or null", **settings, prompt_path=weights / "wide.pt")


def test_it_follows_the_network_and_leaves_it_as_it_is(weights):
    network = small_sam(seed=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    prompts = PromptNetwork(network, weights / "sam.pt")
    other = prompts.of(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    expected = sam_state(small_sam(seed=2))
    assert all(torch.equal(value, expected[name]) for name, value in sam_state(other).items())
    assert prompts.of(network) is other
    # A network without names is a SAM, and answers itself.
    network.set_labels([], network.label_features[:0])
    assert prompts.of(network) is network and PromptNetwork(small_sam()).of(small_sam()).labels


@pytest.mark.skipif(not BUSI.is_dir(), reason="needs ../shared/data/busi100")
def test_the_shipped_weights_answer_boxes_and_clicks_on_real_images(run_ssam, tmp_path):
    scores = {"box": [], "click": []}
    for file in sorted((BUSI / "images").iterdir())[:40:8]:
        truth = np.array(Image.open(BUSI / "masks" / file.name)) > 0
        rows, columns = truth.nonzero()
        middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        prompts = {
            "box": {"box": [int(v) for v in (columns.min(), rows.min(), columns.max(), rows.max())]},
            "click": {"foreground": [[int(columns[middle]), int(rows[middle])]]},
        }
        for kind, given in prompts.items():
            settings = {"image": file, "ckpt_path": str(SHIPPED), "output_dir": str(tmp_path / kind / file.stem)}
            found = np.array(Image.open(run_ssam(**settings, **given) / f"{file.stem}_seg.png")) > 0
            scores[kind].append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    # The weights that were tuned by names alone: 0.4 and less.
    assert np.mean(scores["box"]) > 0.6 and np.mean(scores["click"]) > 0.5, scores


def test_where_litemedsam_is_not_here_the_result_says_who_answered_a_box_instead(asked, weights, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    objects = {"thing": {"box": BOX}, "other": {"foreground": [[9, 9]]}}
    settings = {"prompt_path": weights / "sam.pt", "box_path": "lite_medsam"}
    _, _, described = asked("tuned.pt", objects=objects, **settings)
    assert [thing["prompts"]["weights"]["file"] for thing in described["objects"]] == ["sam.pt", "sam.pt"]
    assert len(described["notes"]) == 1 and "python -m tools.lite_medsam" in described["notes"][0]
    for kind in ({"objects": {"other": objects["other"]}}, {"labels": ["liver"]}):
        assert not asked("tuned.pt", **kind, **settings)[2]["notes"]


def test_a_box_file_that_is_missing_or_no_litemedsam_is_refused(refused, weights):
    settings = {"image": weights / "a.png", "image_size": 32, "network_def": small_sam(), "box": BOX}
    settings |= {"ckpt_path": weights / "tuned.pt"}
    refused("none.pt: no such file.*give box_path", **settings, box_path=weights / "none.pt")
    refused("sam.pt.*give box_path", **settings, box_path=weights / "sam.pt")


@pytest.mark.skipif(lite_medsam.found() is None, reason=f"LiteMedSAM is not here: {lite_medsam.COMMAND} brings it")
def test_litemedsam_answers_boxes_and_others_answer_clicks(asked, weights, caplog):
    objects = {"thing": {"box": BOX}, "other": {"foreground": [[9, 9]]}}
    settings = {"prompt_path": weights / "sam.pt"}
    _, published, described = asked("tuned.pt", objects=objects, box_path="lite_medsam", **settings)
    answered = {thing["name"]: thing["prompts"]["weights"] for thing in described["objects"]}
    assert answered["thing"]["sha256"] == lite_medsam.SHA256[:16] and answered["other"]["file"] == "sam.pt"
    # Weights of another hash that fit are taken, with a warning that names both hashes.
    state = torch.load(lite_medsam.found(), weights_only=True)
    state["mask_decoder.output_upscaling.3.bias"] += 0.5
    torch.save(state, weights / "other.pth")
    _, other, described = asked("tuned.pt", objects=objects, box_path=weights / "other.pth", **settings)
    assert "other.pth is not the published LiteMedSAM" in caplog.text and lite_medsam.SHA256 in caplog.text
    assert described["objects"][0]["prompts"]["weights"]["file"] == "other.pth"
    assert not np.array_equal(published["thing"], other["thing"])
    assert np.array_equal(published["other"], other["other"])
