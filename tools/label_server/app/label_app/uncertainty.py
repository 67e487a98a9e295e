# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Active learning: the next image is the one whose masks the models are least sure of."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import SimpleITK
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.infer.basic_infer import BasicInferTask

from .served_labels import check_trained

logger = logging.getLogger(__name__)
# An image that was handed to somebody is not handed to somebody else for so long.
SERVED_SECONDS = 3600


class Uncertainty(ScoringMethod):
    """One minus the mean predicted IoU of a model's masks, for each image without a final label.

    A model by labels is asked for all its labels. A model of clicks is asked for what lies at the middle of the volume
    and half-way from there to each of its faces, as nobody has clicked yet.
    """

    def __init__(self, name: str, task: BasicInferTask) -> None:
        super().__init__(f"how little {name} trusts its own masks")
        self.name = name
        self.task = task

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, float]:
        """Scores of the images that have none yet from these weights; images that are not for the model have none."""
        weights = Path(self.task.get_path()).stat().st_mtime
        scores = {}
        for image in datastore.get_unlabeled_images():
            key = f"{self.name}_uncertainty"
            known = datastore.get_image_info(image).get(key, {})
            if known.get("weights") == weights:
                continue
            score = self.score(datastore.get_image_uri(image))
            datastore.update_image_info(image, {key: {"score": score, "weights": weights}})
            if score is not None:
                scores[image] = score
        return scores

    def score(self, path: str) -> float | None:
        """Of one image; None where the model does not take it."""
        asked = {"image": path, "result_write_to_file": False}
        try:
            check_trained(self.name, self.task)
            if self.task.type == InferType.DEEPGROW:
                asked["objects"] = spread_clicks(path)
            result = self.task(asked)[1]
        except (ValueError, RuntimeError) as error:
            logger.info("%s: not for %s (%s)", path, self.name, error)
            return None
        found = [o["predicted_iou"] for o in result["objects"]]
        return round(1 - sum(found) / len(found), 4) if found else 1.0


def spread_clicks(path: str) -> dict[str, list[list[int]]]:
    """A click at the middle of a volume and half-way to each face, each for an object of its own.

    Raises:
        RuntimeError: a file that SimpleITK cannot read.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    size = reader.GetSize()
    middle = [n // 2 for n in size]
    places = [middle]
    for axis, n in enumerate(size):
        places += [[*middle[:axis], place, *middle[axis + 1 :]] for place in (n // 4, n - 1 - n // 4)]
    return {f"place {i}": [place] for i, place in enumerate(places, start=1)}


class Uncertain(Strategy):
    """The image with the largest uncertainty that nobody was given lately, then those without a score."""

    def __init__(self) -> None:
        super().__init__("The image whose masks the models are least sure of")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The image's id, None where every image has a label."""
        images = datastore.get_unlabeled_images()
        if not images:
            return None

        def rank(image: str) -> tuple[bool, float, str]:
            info = datastore.get_image_info(image)
            served = info.get("strategy", {}).get(request["strategy"], {}).get("ts", 0)
            scores = [v["score"] for k, v in info.items() if k.endswith("_uncertainty") and v["score"] is not None]
            return time.time() - served < SERVED_SECONDS, -max(scores, default=-1.0), image

        return {"id": min(images, key=rank)}
