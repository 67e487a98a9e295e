# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A run's weights become the bundle's own where the run lies in the bundle, and nothing is lost."""

import pytest
from ignite.engine import Engine

from common.training.publish import PublishWeights


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "bundle" / "models").mkdir(parents=True)
    (tmp_path / "bundle" / "models" / "model.pt").write_bytes(b"first")
    return tmp_path / "bundle"


def train(folder, weights, bundle):
    folder.mkdir(parents=True, exist_ok=True)
    engine = Engine(lambda engine, batch: (folder / "model.pt").write_bytes(weights))
    PublishWeights(folder / "model.pt", bundle).attach(engine)
    engine.run([0], max_epochs=1)


def test_each_round_replaces_the_weights_and_keeps_all_the_earlier_ones(bundle):
    for number, weights in enumerate((b"second", b"third"), start=1):
        train(bundle / "runs" / str(number), weights, bundle)
        assert (bundle / "models" / "model.pt").read_bytes() == weights
    kept = {p.read_bytes() for p in (bundle / "models").glob("model_*.pt")}
    assert kept == {b"first", b"second"}


def test_a_run_elsewhere_changes_nothing(bundle, tmp_path):
    train(tmp_path / "elsewhere", b"other", bundle)
    assert [p.read_bytes() for p in (bundle / "models").iterdir()] == [b"first"]


def test_a_run_without_weights_keeps_the_bundle_s_own(bundle, caplog):
    engine = Engine(lambda engine, batch: None)
    PublishWeights(bundle / "runs" / "1" / "model.pt", bundle).attach(engine)
    engine.run([0], max_epochs=1)
    assert (bundle / "models" / "model.pt").read_bytes() == b"first"
    assert "left no weights" in caplog.text
