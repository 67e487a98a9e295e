# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The labels of served models. A training may publish weights with other label names."""

from __future__ import annotations

from pathlib import Path

import torch

from .common.label_names import names_in
from .served_bundle import WEIGHTS, ServedBundle


def published_names(bundle: Path) -> list[str] | None:
    """The names of labels inside the weights of a bundle's folder; None where they hold none."""
    state = torch.load(bundle / "models" / WEIGHTS, map_location="cpu", weights_only=True, mmap=True)
    return names_in(state.get("model", state))


def with_current_labels(task: ServedBundle, bundle: str, conf: dict[str, str]) -> ServedBundle:
    """``task``, or a new one where a training published other names: the network has one output for each name."""
    published = published_names(Path(bundle))
    if getattr(task, "published_names", published) != published:
        task = ServedBundle(bundle, conf)
    task.published_names = published
    return task


def check_trained(name: str, task: ServedBundle) -> None:
    """Raise a ValueError where a model by label name does not know the labels that it is served with."""
    known = [label.lower() for label in getattr(task.network, "labels", ())]
    missing = [label for label in task.labels if label not in known]
    if known and missing:
        raise ValueError(
            f"{name} was not trained on {', '.join(missing)} yet: label some images by hand, submit them and start its "
            f"training; now it knows {', '.join(known)}"
        )
