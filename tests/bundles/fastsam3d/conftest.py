# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Fixtures of this bundle: a list of labelled volumes, trainings of small networks, a small server."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.transforms import SaveImaged
from small_networks import DISTILL, TRAIN_TEACHER, small_student, small_teacher
from volumes import GRIDS, PAIR, write_nifti
from workflows import run_configs

TRAINING_GRIDS = list(GRIDS.values())


@pytest.fixture
def labelled_list(tmp_path) -> Path:
    """A data list of two volumes to train on and one to validate on, each of another orientation and spacing."""
    items = []
    for i, grid in enumerate(TRAINING_GRIDS):
        labels = PAIR.truth(grid, 0) + 4 * PAIR.truth(grid, 1).astype(np.uint8)
        write_nifti(tmp_path / f"image{i}.nii.gz", PAIR.image(grid), grid)
        write_nifti(tmp_path / f"label{i}.nii.gz", labels.astype(np.uint8), grid)
        items.append({"image": f"image{i}.nii.gz", "label": f"label{i}.nii.gz"})
    path = tmp_path / "list.json"
    content = {"labels": {"1": "organ", "4": "lesion"}, "training": items[:2], "validation": items[2:]}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def train(fastsam3d_path, labelled_list, tmp_path):
    """``train(*DISTILL, "variants/fitnets.json", **overrides) -> output folder``: a run in this process.

    Small networks, cubes of 16 voxels, two epochs of four cubes unless the overrides say otherwise.
    """

    def run(*configs: str, **overrides: Any) -> Path:
        settings = {
            "data_list_file_path": str(labelled_list),
            "dataset_dir": str(tmp_path),
            "output_dir": str(tmp_path / "out"),
            "network_def": small_teacher() if configs[:3] == TRAIN_TEACHER else small_student(),
            "device": "cpu",
            "cube_size": 16,
            "spacing": 3.0,
            "sizes": [16],
            "amp": False,
            "draws": 4,
            "val_draws": 2,
            "max_epochs": 2,
            "progress": False,
        }
        if configs[:3] == DISTILL:
            settings["teacher_def"] = small_teacher()
            if not {"variants/final_only.json", "variants/logits.json"} & set(configs):
                settings["pairs"] = [[2, 1], [4, 2], ["embedding", "embedding"]]
        else:
            settings |= {"clicking#steps": 3, "clicking#promptless": 1, "rehearsed": [0, 1]}
        settings |= overrides
        run_configs(fastsam3d_path, configs, **settings)
        return Path(settings["output_dir"])

    return run


@pytest.fixture
def new_server(fastsam3d_path, tmp_path):
    """``new_server(network, **settings)`` -> ``serve(image, **request) -> data``, with caches of its own.

    The configuration is called as MONAI Label does: transforms one by one, the inferer with two arguments.
    """

    def start(network, **settings):
        parser = ConfigParser()
        parser.read_config(str(fastsam3d_path / "configs" / "inference.json"))
        here = {"bundle_root": str(fastsam3d_path), "cube_size": 32, "output_dir": str(tmp_path / "unused")}
        parser.update({**here, **settings})
        before, after = (parser.get_parsed_content(f"{step}processing").transforms for step in ("pre", "post"))
        inferer = parser.get_parsed_content("inferer")
        inferer.progress = False

        def serve(image, **request):
            data = {"model": "fastsam3d", "device": "cpu", "result_extension": ".nrrd", **request, "image": str(image)}
            for transform in before:
                data = transform(data)
            data["pred"] = inferer(data["image"][None].to("cpu"), network)[0]
            for transform in after:
                if not isinstance(transform, SaveImaged):
                    data = transform(data)
            return data

        serve.volumes, serve.embeddings = before[0].cache, inferer.segmenter.cache
        return serve

    return start


@pytest.fixture
def serve(new_server, threshold_network):
    """``serve(image, **request) -> data`` of a server with the stand-in network; one server, many requests."""
    return new_server(threshold_network)
