# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Training and evaluation by two processes, as on a machine with two GPUs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_runs import SETTINGS, SSAM, TINY, make_folder, make_list, run, tiny_base, weights

from common.label_names import names_in


def torchrun(*configs, **overrides):
    """``torchrun -m monai.bundle run`` with two processes on the CPU."""
    names = json.dumps([str(SSAM / "configs" / name) for name in configs])
    command = [str(Path(sys.executable).with_name("torchrun")), "--nproc_per_node", "2", "--master_port", "29611"]
    command += ["-m", "monai.bundle", "run", "--bundle_root", str(SSAM), "--config_file", names]
    settings = {k: v for k, v in {**TINY, **SETTINGS, **overrides}.items() if k not in ("device", "progress")}
    for key, value in settings.items():
        command += [f"--{key}", str(value) if isinstance(value, (str, Path)) else repr(value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=SSAM)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one(tmp_path, ssam_path):
    folder, base = make_folder(tmp_path / "data"), tiny_base(tmp_path / "base.pt")
    listed = make_list(folder)
    settings = {"data_list_file_path": listed, "base_path": base, "max_epochs": 2, "absent_rate": 1.0}
    run("train.json", output_dir=tmp_path / "one", batch_size=4, **settings)
    torchrun("train.json", "multi_gpu_train.json", output_dir=tmp_path / "two", batch_size=2, **settings)
    one, two = (weights(tmp_path / name / "model.pt") for name in ("one", "two"))
    assert one.keys() == two.keys() and names_in(two) == ["disc", "bar"]
    # The loss is a mean over masks: with all labels asked for, two halves of a batch count as the whole.
    assert all(torch.allclose(tensor, two[name], atol=2e-3) for name, tensor in one.items())
    scored = {"data_list_file_path": listed, "ckpt_path": tmp_path / "one" / "model.pt", "section": "training"}
    run("inference.json", "evaluate.json", output_dir=tmp_path / "s1", **scored)
    torchrun("inference.json", "evaluate.json", "mgpu_evaluate.json", output_dir=tmp_path / "s2", **scored)
    reports = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("s1", "s2")]
    assert len(reports[0]["cases"]) == len(reports[1]["cases"]) == 6
    assert reports[0]["mean"]["dice"] == pytest.approx(reports[1]["mean"]["dice"], abs=1e-5)
