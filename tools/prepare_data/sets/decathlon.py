# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Any task of the Medical Segmentation Decathlon, and whatever has its form."""

from __future__ import annotations

from pathlib import Path

from tools.prepare_data.case import Case, Choices, Found, Problem, read_object, stem
from tools.prepare_data.labels import Values
from tools.prepare_data.sets.nnunet import choose_channel, label_names


def find(source: Path, choices: Choices) -> Found:
    """The cases that the task's dataset.json lists."""
    content = read_object(source / "dataset.json")
    listed, channels = content.get("training"), content.get("modality")
    if not isinstance(listed, list) or not isinstance(channels, dict) or not content.get("labels"):
        return Found({})
    names, ignored, problems = label_names(choices.labels or content["labels"])
    channel = choose_channel(channels, choices.contrast) if len(channels) > 1 else None
    found = Found(names, problems=problems)
    if channel is not None and choices.contrast is None:
        text = f"the images hold {', '.join(channels.values())}; {channels[str(channel)]} was taken"
        found.problems.append(Problem("several contrasts", text))
    modality = channels[str(channel)] if channel is not None else next(iter(channels.values()))
    for item in listed:
        if not isinstance(item, dict) or not {"image", "label"} <= item.keys():
            found.problems.append(Problem("unusable row", f"dataset.json: {item}: expected image and label"))
            continue
        image, path = source / item["image"], source / item["label"]
        label = Values(path, {v: v for v in names}, (0, *ignored))
        found.add(Case(stem(image), stem(image), image, label, str(modality), channel=channel))
    return found
