# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Checks of what a run asks for against its network, before the first image is segmented."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from ..name_features import name_features
from .adapters import AdapterBank
from .request import read_names
from .targets import Vocabulary


class RequestCheck:
    """A handler that follows the loading of the weights.

    Args:
        items: see :func:`.items.list_items`.
        network, adapters, text_model: see :class:`.named_inferer.NamedInferer`.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        network: nn.Module,
        adapters: AdapterBank | None = None,
        text_model: str | None = None,
    ) -> None:
        self.items = items
        self.network = network
        self.adapters = adapters
        self.text_model = text_model

    def attach(self, engine: Engine) -> None:
        """Check when the engine starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Raises ValueError for a name or an adapter that is not known."""
        asked = {json.dumps([item.get("use_adapter"), read_names(item.get("labels"))]) for item in self.items}
        for text in sorted(asked):
            choice, names = json.loads(text)
            if self.adapters and self.adapters.by_name(choice, names):
                self.adapters.vocabulary(names)
                continue
            with self.adapters.using(self.network, choice) if self.adapters else nullcontext():
                known = Vocabulary.of(self.network, self.adapters.chosen(choice).synonyms if self.adapters else None)
                name_features(
                    [known.matched(n) or n for n in names or []],
                    self.network.labels,
                    self.network.label_features,
                    self.text_model,
                )
