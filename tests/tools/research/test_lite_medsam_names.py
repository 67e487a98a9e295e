# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The trial of names on LiteMedSAM, on random weights and small embeddings: what it trains on, keeps and scores."""

import json

import numpy as np
import pytest
import torch

from bundles.ssam_2d.scripts.networks.lite_medsam import lite_medsam
from tools.research import lite_medsam_names as trial


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Twelve encoded pictures of 8 x 8 cells with a disc, which leaves its trace in the embedding, and two copies."""
    monkeypatch.setattr(trial, "network", lambda: seeded())
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:256, :256]
    for at in range(12):
        for copy in range(3):
            centre = rng.uniform(80, 176, 2)
            disc = torch.from_numpy((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 50**2)
            embedding = 0.1 * torch.randn(256, 8, 8, generator=torch.Generator().manual_seed(at))
            embedding[:128] += torch.nn.functional.avg_pool2d(disc[None, None].float(), 32)[0]
            masks = torch.stack([disc, torch.zeros_like(disc)])
            folder, name = ("copies", f"{at:02}@{copy}") if copy else ("embedded", f"{at:02}")
            path = tmp_path / folder / "curvas" / f"{name}.pt"
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"embedding": embedding.half(), "masks": masks, "names": ["disc", "nothing"]}, path)
    return tmp_path


def seeded():
    torch.manual_seed(1)
    return lite_medsam(trial.TEXT_DIM).eval()


def last(run):
    return json.loads((run / "log.jsonl").read_text().splitlines()[-1])


def test_the_log_says_what_was_trained_on_and_how_well_it_did(run):
    arguments = ["tune", "--run", str(run), "--layers", "svd", "--images", "4", "--minutes", "0.000001"]
    assert trial.main(arguments) == 0
    line = last(run)
    assert (line["images"], line["copies"], line["held"], line["steps"]) == (4, 8, 3, 1)
    # Labels that no held-out picture shows have no score.
    assert line["dice"].keys() == {"disc"} and 0 <= line["dice"]["disc"] <= 1


def test_steps_make_it_better(run):
    scores = []
    for minutes in ("0.000001", "0.1"):
        assert trial.main(["tune", "--run", str(run), "--minutes", minutes, "--rate", "0.001"]) == 0
        scores.append(last(run)["dice"]["disc"])
    assert scores[1] > scores[0] + 0.2


def test_what_was_stopped_goes_on_and_is_done_with_at_the_end(run, monkeypatch):
    arguments = ("curvas", "published", "decoder", "focal20", 4, 0.05, 0, 1e-3, 1)
    with monkeypatch.context() as patch:
        patch.setattr(trial, "put_by", stopped_after(3, trial.put_by))
        with pytest.raises(KeyboardInterrupt):
            trial.tune(run, *arguments)
    (state,) = run.glob("tune_*.pt")
    kept = torch.load(state, weights_only=True)
    assert kept["step"] == 3 and kept["spent"] > 0
    seen = []
    monkeypatch.setattr(trial, "put_by", lambda path, adaptation, optimizer, step, spent: seen.append((step, spent)))
    trial.tune(run, *arguments)
    assert not seen or (seen[0][0] == 4 and seen[0][1] > kept["spent"])
    assert last(run)["steps"] >= 4 and not state.exists()


def stopped_after(count, put_by):
    def stop(path, adaptation, optimizer, step, spent):
        put_by(path, adaptation, optimizer, step, spent)
        if step == count:
            raise KeyboardInterrupt

    return stop


def test_a_box_is_the_mask_s_first_and_last_pixel():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 10:21] = True
    assert trial.box(mask).tolist() == [10, 4, 20, 8]


def test_without_embeddings_it_says_what_to_run_first(tmp_path, capsys):
    assert trial.main(["tune", "--run", str(tmp_path)]) == 1
    assert "run embed first" in capsys.readouterr().err
    assert trial.main(["embed", "--run", str(tmp_path)]) == 1
    assert "--data" in capsys.readouterr().err
