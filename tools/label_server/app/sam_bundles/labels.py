# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Models by label name, whose training may bring other names."""

from __future__ import annotations

from pathlib import Path

from monailabel.tasks.infer.bundle import BundleInferTask


def with_current_labels(task: BundleInferTask, bundle: str, conf: dict[str, str]) -> BundleInferTask:
    """``task``, or a new one where a training published other names: the network has one output for each name."""
    names = Path(bundle) / "models" / "model.labels.json"
    published = names.read_text() if names.is_file() else None
    if getattr(task, "published_names", published) != published:
        task = BundleInferTask(bundle, conf)
    task.published_names = published
    return task


def check_trained(name: str, task: BundleInferTask) -> None:
    """Raise a ValueError where a model by label name does not know the labels that it is served with."""
    known = [label.lower() for label in getattr(task.network, "labels", ())]
    missing = [label for label in task.labels if label not in known]
    if known and missing:
        raise ValueError(
            f"{name} was not trained on {', '.join(missing)} yet: label some images by hand, submit them and start its "
            f"training; now it knows {', '.join(known)}"
        )
