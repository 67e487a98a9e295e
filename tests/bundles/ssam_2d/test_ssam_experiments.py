# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Every overlay of configs/experiments runs a few steps on miniature data that tools.prepare_data made ready.

What an overlay sets stays as it is, but for sizes: the bundle's small network on images of 32 pixels, an epoch of few
images, and drawn text features in place of CLIP's.
"""

import json
from pathlib import Path

import pytest
import torch
from data_set_trees import prepared_lists
from monai.bundle import ConfigParser
from workflows import run_configs

from common.label_names import names_in

SMALL = {"image_size": 32, "device": "cpu", "progress": False, "previews": 1}
# The miniatures do not show every label of the papers.
TRAINING = {"text_model": "table", "max_epochs": 1, "batch_size": 2, "cache_num": 0, "train#dataset#learnt": False}
DATA = ("cholecseg8k", "abdominal_us", "chestx_det", "lits", "glas", "drive", "arcade", "salt")


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """The data list of each data set."""
    return prepared_lists(tmp_path_factory.mktemp("data"), dict.fromkeys(DATA, "seed"))


# What each stage runs, the later ones on top.
STAGES = {"train": ["train.json"], "evaluate": ["inference.json", "evaluate.json"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory, ssam_weights):
    """SAM's parts of the bundle's network with random weights, as a checkpoint to start from."""
    parts = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
    state = torch.load(ssam_weights, weights_only=True)
    path = tmp_path_factory.mktemp("base") / "base.pt"
    torch.save({k: v for k, v in state.items() if k.startswith(parts)}, path)
    return path


@pytest.fixture
def run(ssam_path, tmp_path, lists, base):
    """Runs a configuration with overlays: ``run("train", ["glas"], "glas", ...) -> output folder``."""

    def run_config(stage, overlays, data, **overrides):
        method = ["variants/paper.json"] if stage == "train" else []
        files = [*STAGES[stage], *method, *(f"experiments/{name}.json" for name in overlays)]
        start = {"base_path": base} if stage == "train" else {}
        output = tmp_path / f"{stage}_{'_'.join(overlays)}"
        data_list = {"data_list_file_path": lists[data], "dataset_dir": lists[data].parent}
        run_configs(ssam_path, files, output_dir=output, **data_list, **start, **{**SMALL, **overrides})
        return output

    return run_config


def overlay(path):
    return ConfigParser.load_config_file(str(path))


@pytest.mark.parametrize(
    ("overlays", "data"),
    [
        (["cholecseg8k"], "cholecseg8k"),
        (["cholecseg8k", "published_cholecseg8k"], "cholecseg8k"),
        (["abdominal_us", "published_abdominal_us"], "abdominal_us"),
        (["chestx_det", "published_chestx_det"], "chestx_det"),
        (["lits", "published_lits"], "lits"),
        (["glas", "published_glas"], "glas"),
        (["vessels"], "drive"),
        (["vessels"], "arcade"),
        (["vessels", "lora_rank_4"], "salt"),
        (["vessels", "salt_rank_4"], "salt"),
        (["glas", "lora_rank_2"], "glas"),
        (["glas", "lora_rank_8"], "glas"),
        (["glas", "lora_rank_16"], "glas"),
    ],
)
def test_a_training_of_every_data_set_and_method(overlays, data, run):
    output = run("train", overlays, data, **TRAINING)
    state = torch.load(output / "model.pt", weights_only=True)
    labels = names_in(state)
    assert labels == overlay_labels(overlays[0])
    assert state["label_features"].shape[0] == len(labels)
    assert (output / "adapter.safetensors").is_file()


@pytest.mark.parametrize("method", ["lora_rank_256", "salt_rank_256"])
def test_a_rank_above_what_the_small_network_has(method, run):
    """SALT's largest rank is one of ViT-B: here it is lowered to what the narrow network can have."""
    output = run("train", ["vessels", method], "salt", **TRAINING, **{"tuning#rank": 32})
    assert (output / "adapter.safetensors").is_file()


def test_the_same_adapter_by_text_points_and_boxes(run):
    trained = run("train", ["chestx_det"], "chestx_det", **TRAINING)
    weights = {"ckpt_path": str(trained / "model.pt"), "section": "training"}
    scores = {}
    for overlays in (["chestx_det"], *(["chestx_det", p] for p in PROMPTS)):
        output = run("evaluate", overlays, "chestx_det", **weights)
        report = json.loads((output / "metrics.json").read_text())
        assert {"dice", "iou", "nsd", "hd95", "area", "predicted_area"} == report["mean"].keys()
        assert all({"mean", "median", "min", "max"} == c["hd95"].keys() for c in report["per_class"].values())
        scores[overlays[-1]] = [(c["image"], c["class"], c["predicted_area"]) for c in report["cases"]]
        if overlays[-1] in PROMPTS:
            assert all(about["predicted_area"]["max"] == 0 for about in report["absent"].values())
    assert len({tuple(rows) for rows in scores.values()}) > 1


PROMPTS = ("prompts_point", "prompts_box", "prompts_text_point", "prompts_text_box")


def overlay_labels(name):
    bundle = Path(__file__).resolve().parents[3] / "bundles" / "ssam_2d"
    return overlay(bundle / "configs" / "experiments" / f"{name}.json")["labels"]


def test_every_overlay_says_what_it_is_and_is_run_here(ssam_path):
    with open(__file__) as file:
        tests = file.read()
    for path in (ssam_path / "configs" / "experiments").glob("*.json"):
        assert len(overlay(path)["experiment"]) > 40
        assert f'"{path.stem}"' in tests


@pytest.mark.parametrize("name", ["cholecseg8k", "abdominal_us", "chestx_det", "lits", "glas", "vessels"])
def test_overlays_hold_what_the_paper_states(name, ssam_path):
    content = overlay(ssam_path / "configs" / "experiments" / f"{name}.json")
    stated = {"batch_size": 32, "learning_rate": 1e-4, "weight_decay": 1e-2, "step_epochs": 200, "step_gamma": 0.2}
    assert stated.items() <= content.items()
    assert content["image_size"] == (512 if name == "glas" else 256)
    train = overlay(ssam_path / "configs" / "train.json")
    assert set(content) - set(train) <= {"experiment", "overlaps"}
    assert (train["loss"]["loss"]["alpha"], train["loss"]["loss"]["gamma"]) == (0.75, 3.0)


class TestPromptedInferer:
    """Where prompts land, seen by a network that paints what it is asked."""

    SIZE = 16

    class Painter(torch.nn.Module):
        """Logits that are high in the box, or at the point, of each object; features shift them."""

        labels = ("a", "b", "c")
        label_features = torch.tensor([[0.0], [1.0], [2.0]])

        def encode(self, image):
            return image

        def decode(self, embedding, features=None, points=None, point_labels=None, boxes=None):
            self.asked = {"features": features, "points": points, "point_labels": point_labels, "boxes": boxes}
            y, x = torch.meshgrid(*[torch.arange(embedding.shape[-1]).float()] * 2, indexing="ij")
            given = points[:, 0].repeat(1, 2) if boxes is None else boxes
            painted = [(x >= a - 0.6) & (y >= b - 0.6) & (x <= c + 0.6) & (y <= d + 0.6) for a, b, c, d in given]
            return (torch.stack(painted).float()[None] - 0.5) * 20, None

    @pytest.fixture
    def inferer(self, ssam_path):
        from scripts.evaluation.prompted import PromptedInferer
        from scripts.view import View

        return lambda prompts: PromptedInferer(["a", "b", "c"], View(size=self.SIZE), prompts)

    @pytest.fixture
    def truth(self):
        """32 x 64 pixels: label a a rectangle, b absent, c a dot."""
        masks = torch.zeros(1, 3, 32, 64)
        masks[0, 0, 8:20, 16:48] = 1
        masks[0, 2, 30, 2] = 1
        return masks

    def test_boxes_hold_the_objects_on_the_image_of_another_shape(self, inferer, truth):
        found = inferer("box")(torch.rand(1, 3, 32, 64) * 255, self.Painter(), truth=truth) > 0.5
        overlap = (found[0, 0] & (truth[0, 0] > 0)).sum() / (found[0, 0] | (truth[0, 0] > 0)).sum()
        assert overlap > 0.75
        assert not found[0, 1].any() and found[0, 2].any() and found[0, 2].nonzero().float().mean(0)[1] < 8

    def test_points_lie_in_the_objects_and_names_go_with_them(self, inferer, truth):
        network = self.Painter()
        found = inferer("text+point")(torch.rand(1, 3, 32, 64) * 255, network, truth=truth) > 0.5
        assert (found[0, 0] <= (truth[0, 0] > 0)).all() and found[0, 0].any()
        assert network.asked["features"].flatten().tolist() == [0.0, 2.0]
        assert network.asked["point_labels"].tolist() == [[1], [1]]

    def test_prompts_without_names_or_objects(self, inferer, truth):
        network = self.Painter()
        inferer("point")(torch.rand(1, 3, 32, 64) * 255, network, truth=truth)
        assert network.asked["features"] is None
        assert not inferer("point")(torch.rand(1, 3, 32, 64) * 255, network, truth=0 * truth).any()

    def test_other_prompts_are_refused(self, inferer):
        with pytest.raises(ValueError, match="expected point, box"):
            inferer("scribble")


@pytest.mark.parametrize(
    ("stage", "name", "grid"),
    [
        ("train", "cholecseg8k", 16),
        ("train", "glas", 32),
        ("train", "published_glas", 64),
        ("evaluate", "cholecseg8k", 16),
        ("evaluate", "glas", 32),
    ],
)
def test_vit_b_has_the_size_of_the_overlay(stage, name, grid, ssam_path):
    overlays = ["vit_b", *(["experiments/glas"] if name == "published_glas" else []), f"experiments/{name}"]
    files = [*STAGES[stage], *(f"{overlay}.json" for overlay in overlays)]
    parser = ConfigParser(ConfigParser.load_config_files([str(ssam_path / "configs" / file) for file in files]))
    # The weights that are there have other labels than the experiment's.
    parser["labels"] = None if stage == "evaluate" else parser["labels"]
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert network.image_encoder.pos_embed.shape == (1, grid, grid, 768)
    sam = sum(p.numel() for n, p in network.named_parameters() if not n.startswith(("text_affine", "label_")))
    # 93.7 million at 1024 pixels; fewer positions, absolute and relative, for smaller images.
    assert 89e6 < sam < 93.8e6
