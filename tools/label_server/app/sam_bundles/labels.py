# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Models by label name, whose training may bring other names."""

from __future__ import annotations

from pathlib import Path

import torch

from .served_bundle import ServedBundle


def names_in(weights: Path) -> str | None:
    """JSON, the names of labels that ``common/label_names.py`` puts into weights; None where they hold none."""
    state = torch.load(weights, map_location="cpu", weights_only=True, mmap=True)
    text = state.get("model", state).get("label_names")
    return None if text is None else bytes(text.tolist()).decode()


def with_current_labels(task: ServedBundle, bundle: str, conf: dict[str, str]) -> ServedBundle:
    """``task``, or a new one where a training published other names: the network has one output for each name."""
    published = names_in(Path(bundle) / "models" / "model.pt")
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
