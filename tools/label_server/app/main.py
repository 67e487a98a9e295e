# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The stock app for bundles (stock_app.py, as MONAI Label ships it), and what it lacks for ours.

MONAI Label looks here for the one class that names ``MONAILabelApp`` among its bases.
"""

from __future__ import annotations

from typing import Any

# As a module, because the class in it names MONAILabelApp too.
import stock_app
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.utils.others.generic import strtobool
from sam_bundles.labels import check_trained, with_current_labels
from sam_bundles.requests import check_device
from sam_bundles.studies import SeriesFolders
from sam_bundles.tools import ClickTool
from sam_bundles.uncertainty import Uncertain, Uncertainty


class SamBundlesApp(stock_app.MyApp, MONAILabelApp):
    """Serves each bundle as the stock app does, and with all the tools that a viewer has for it."""

    def init_datastore(self) -> Datastore:
        """A folder of images and DICOM series, or whatever the stock app makes of an address."""
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        return SeriesFolders(
            self.studies,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """A model of clicks also takes clicks by label name, and scribbles: viewers ask for these by its type."""
        infers = super().init_infers()
        for name, bundle in self.models.items():
            infers[name] = with_current_labels(infers[name], bundle, self.conf)
        for name, task in list(infers.items()):
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
        """Whatever is wrong with a request is said before any work starts."""
        check_device(request.get("device"))
        name = request.get("model")
        if name in self.models:
            self._infers[name] = with_current_labels(self._infers[name], self.models[name], self.conf)
            check_trained(name, self._infers[name])
        return super().infer(request, datastore)

    def on_init_complete(self) -> None:
        """Tell the person at the keyboard what to do next."""
        super().on_init_complete()
        address = f"http://127.0.0.1:{settings.MONAI_LABEL_SERVER_PORT}"
        print(
            f"\nReady: {len(self.datastore().list_images())} images, models {', '.join(self._infers)}.\n"
            f"3D Slicer: module MONAI Label, server {address}, Next Sample; under SmartEdit choose a model,\n"
            f"  place a green point in the object: its mask comes back. Red points take away.\n"
            f"Browser, for DICOMweb: {address}/ohif/\n"
            f"Without a viewer: python -m tools.click_client --server {address} --list\n"
            f"Stop with Ctrl-C. The walk-through with pictures: docs/monailabel.md",
            flush=True,
        )
