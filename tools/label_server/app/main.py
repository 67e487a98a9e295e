# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The stock app for bundles (stock_app.py, as MONAI Label ships it), and what it lacks for ours.

MONAI Label looks here for the one class that names ``MONAILabelApp`` among its bases.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import requests

# As a module, because the class in it names MONAILabelApp too.
import stock_app
from label_app.rules import TASK, Rules
from label_app.served_bundle import ServedBundle
from label_app.served_labels import check_trained, with_current_labels
from label_app.studies import SeriesFolders
from label_app.tools import ClickTool
from label_app.uncertainty import Uncertain, Uncertainty
from label_app.worker import Worker
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import strtobool

logger = logging.getLogger(__name__)


class SamBundlesApp(stock_app.MyApp, MONAILabelApp):
    """Serves each bundle as the stock app does, and with all the tools that a viewer has for it."""

    @property
    def infers(self) -> dict[str, InferTask]:
        """Models by name."""
        return self._infers

    @property
    def trainers(self) -> dict[str, TrainTask]:
        """Models that can be trained."""
        return self._trainers

    @property
    def strategies(self) -> dict[str, Strategy]:
        """Ways to choose the next image."""
        return self._strategies

    @property
    def scoring_methods(self) -> dict[str, ScoringMethod]:
        """Ways to score images."""
        return self._scoring_methods

    def init_datastore(self) -> Datastore:
        """A folder of images and DICOM series, or whatever the stock app makes of an address."""
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        return SeriesFolders(
            self.studies,
            Rules.from_environment().folders,
            TASK not in os.environ,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """A model of clicks also takes clicks by label name, and scribbles: viewers ask for these by its type."""
        infers: dict[str, InferTask] = {}
        for name, bundle in self.models.items():
            task = with_current_labels(ServedBundle(bundle, self.conf), bundle, self.conf)
            infers[name] = task
            if task.type == InferType.DEEPGROW:
                plain = name.replace("_deepgrow", "")
                infers[name] = ClickTool(task, InferType.DEEPGROW)
                infers[f"{plain}_deepedit"] = ClickTool(task, InferType.DEEPEDIT)
                infers[f"{plain}_scribbles"] = ClickTool(task, InferType.SCRIBBLES)
        return infers

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """How sure each model is of the images without a label, where it was asked for."""
        if not strtobool(self.conf.get("scoring", "false")):
            return {}
        return {f"{name}_uncertainty": Uncertainty(name, self._infers[name]) for name in self.models}

    def init_strategies(self) -> dict[str, Strategy]:
        """The stock ones, and the image that the models are least sure of."""
        return {**super().init_strategies(), "uncertain": Uncertain()}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """A mask; in the server by another process, in a background task by this one.

        Args:
            request: ``model``, ``image`` (an absolute path, or the name of an image of the studies), and the options.
            datastore: where the mask is kept as a label, if ``save_label`` is among the options.
        """
        store = datastore or self.datastore()
        image = request["image"]
        path = image if os.path.isabs(image) else store.get_image_uri(image)
        asked = {**request, "image": path}
        if self._server_mode:
            answer = self.worker.ask(asked)
            file, params = answer["file"], answer["params"]
        else:
            file, params = self.run_task(asked)
        label = file
        if request.get("save_label"):
            label = store.save_label(image, file, request["label_tag"], {"model": request["model"], "params": params})
        return {"label": label, "tag": request.get("label_tag"), "file": file, "params": params}

    def run_task(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """The mask's file and what is said of it, by the network in this process."""
        name = request["model"]
        if name in self.models:
            self._infers[name] = with_current_labels(self._infers[name], self.models[name], self.conf)
            check_trained(name, self._infers[name])
        return self._infers[name](request)

    def server_mode(self, mode: bool) -> None:
        """Whether this is the server: then images are read by a process of their own, which starts at once."""
        super().server_mode(mode)
        if mode:
            self.worker = Worker(settings.MONAI_LABEL_INFER_TIMEOUT)
            self.worker.start()

    def _local_request(self, url: str, params: dict[str, Any] | None, action: str) -> Any:
        """From a background task to the server; that it does not answer must not spoil what the task did."""
        token = Rules.from_environment().token
        address = f"http://127.0.0.1:{settings.MONAI_LABEL_SERVER_PORT}{url}"
        try:
            answer = requests.post(address, json=params or {}, headers={"Authorization": f"Bearer {token}"}, timeout=60)
            answer.raise_for_status()
            return answer.json()
        except requests.RequestException as error:
            logger.warning("%s was not started: %s", action, error)
            return None

    def on_init_complete(self) -> None:
        """Tell the person at the keyboard what to do next."""
        super().on_init_complete()
        address = f"http://127.0.0.1:{settings.MONAI_LABEL_SERVER_PORT}"
        refusals = getattr(self.datastore(), "refusals", dict)()
        for name, reason in refusals.items():
            print(f"\n{name} is left out: {reason}")
        print(
            f"\nReady: {len(self.datastore().list_images())} images, models {', '.join(self._infers)}.\n"
            f"3D Slicer: module MONAI Label, server {address}, Next Sample; under SmartEdit choose a model,\n"
            f"  place a green point in the object: its mask comes back. Red points take away.\n"
            f"Browser, for DICOMweb: {address}/ohif/\n"
            f"Without a viewer: python -m tools.click_client --server {address} --list\n"
            f"Stop with Ctrl-C. The walk-through with pictures: docs/monailabel.md",
            flush=True,
        )
