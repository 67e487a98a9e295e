# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Adapters in memory on one base. A request chooses one of them, or they are blended."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from ..checkpoints import TEXT_LAYER
from ..common.label_names import matched
from ..common.svd_affine import Adaptation, Adapter, adapt_like, blend
from ..common.svd_affine.adapter import check_tensors
from ..networks.ssam import LABEL_TENSORS
from ..stored_weights import StoredWeights
from .targets import Vocabulary

logger = logging.getLogger(__name__)


class AdapterBank:
    """Adapters of one base, put into the network when a request asks for them.

    Args:
        files: of one adapter, or {name: file}; None for no adapter.

    Raises:
        ValueError: a file that is no adapter, or adapters that were not trained alike on one base.
    """

    def __init__(self, files: str | Path | Mapping[str, str | Path] | None = None) -> None:
        if files and not isinstance(files, (str, Path, Mapping)):
            raise ValueError(f"adapter is {files!r}: expected a path, or {{name: path}}")
        if isinstance(files, (str, Path)) and files:
            files = {Path(files).stem: files}
        self.adapters = {name: load_adapter(file) for name, file in (files or {}).items()}
        self._lock = RLock()
        self._adaptation: Adaptation | None = None
        self._current: Any = None
        for name, adapter in list(self.adapters.items())[1:]:
            check_alike(name, adapter, *next(iter(self.adapters.items())))

    def __bool__(self) -> bool:
        return bool(self.adapters)

    @property
    def text_dim(self) -> int | None:
        """Channels of the text features that their text layer takes; None where they have none of their own."""
        layers = [a.tensors[TEXT_LAYER] for a in self.adapters.values() if TEXT_LAYER in a.tensors]
        return layers[0].shape[1] if layers else None

    def chosen(self, choice: str | Mapping[str, float] | None) -> Adapter:
        """The adapter named, the blend of {name: weight}, or without a choice the only one that there is.

        Raises:
            ValueError: an unknown name, weights that do not add up to 1, or no choice among several.
        """
        if choice is None:
            if len(self.adapters) > 1:
                raise ValueError(
                    f"{len(self.adapters)} adapters are loaded: say which by use_adapter, one of "
                    f"{', '.join(self.adapters)}, or {{name: weight}}; or by labels that one of them knows"
                )
            return next(iter(self.adapters.values()))
        weights = dict(choice) if isinstance(choice, Mapping) else {choice: 1.0}
        unknown = [str(name) for name in weights if name not in self.adapters]
        if unknown:
            raise ValueError(f"use_adapter {', '.join(unknown)}: expected one of {', '.join(self.adapters)}")
        if len(weights) == 1 and not isinstance(choice, Mapping):
            return self.adapters[choice]
        return blend([self.adapters[name] for name in weights], [float(w) for w in weights.values()])

    def by_name(self, choice: Any, names: Sequence[str] | None) -> bool:
        """Whether each name picks its adapter: there are several, names are asked for, and no adapter is."""
        return len(self.adapters) > 1 and choice is None and bool(names)

    def vocabulary(self, names: Sequence[str], prompted: Sequence[str] = ()) -> Vocabulary:
        """The labels of all adapters, one after the other, for names that each one adapter knows.

        Args:
            names: that are asked for.
            prompted: names of what is clicked on or boxed, which may be known to none.

        Raises:
            ValueError: a name that none knows, or several.
        """
        several, unknown = {}, []
        for name in dict.fromkeys([*names, *prompted]):
            knowing = [key for key, one in self.adapters.items() if matched(name, list(one.labels), one.synonyms)]
            if not knowing and name in names:
                unknown.append(name)
            elif len(knowing) > 1:
                several[name] = knowing
        if several or unknown:
            problems = [f"{name!r} is known to {', '.join(who)}" for name, who in several.items()]
            problems += [f"no adapter knows {name!r}" for name in unknown]
            there = "; ".join(f"{key}: {', '.join(one.labels)}" for key, one in self.adapters.items())
            raise ValueError(
                f"labels: {'; '.join(problems)}. The adapters know {there}: give names that one of them knows, or one "
                "adapter by use_adapter"
            )
        labels = [label for one in self.adapters.values() for label in one.labels]
        features = torch.stack([row for one in self.adapters.values() for row in one.labels.values()])
        owners = tuple(key for key, one in self.adapters.items() for _ in one.labels)
        synonyms = {label: other for one in self.adapters.values() for label, other in one.synonyms.items()}
        return Vocabulary(labels, features, owners, synonyms)

    @contextmanager
    def using(self, network: nn.Module, choice: str | Mapping[str, float] | None = None) -> Iterator[nn.Module]:
        """The network with an adapter and its labels, merged; others that want to use it meanwhile wait.

        Raises:
            ValueError: see :meth:`chosen`; a network with another base than that of the adapters.
        """
        with self._lock:
            adapter = self.chosen(choice)
            if self._adaptation is None or self._adaptation.module is not network:
                self._adaptation, self._current = adapt_like(network, adapter, LABEL_TENSORS), choice
                self._adaptation.merge()
                show_labels(network, adapter)
            elif choice != self._current:
                self._adaptation.put(adapter)
                self._current = choice
                show_labels(network, adapter)
            yield network.eval()


def show_labels(network: nn.Module, adapter: Adapter) -> None:
    """The adapter's labels and their features into the network."""
    network.set_labels(list(adapter.labels), torch.stack(list(adapter.labels.values())))


def load_adapter(file: str | Path) -> Adapter:
    """Reads an adapter. Raises ValueError where there is none, or one without labels."""
    try:
        adapter = Adapter.load(Path(file).expanduser())
    except FileNotFoundError as problem:
        raise ValueError(f"{file}: no such file; expected an adapter, as training writes it") from problem
    if not adapter.labels:
        raise ValueError(f"{file}: an adapter without labels; expected one of this bundle")
    return adapter


def check_alike(name: str, adapter: Adapter, first_name: str, first: Adapter) -> None:
    """Raises ValueError unless the two can take each other's place."""
    for what in ("method", "base"):
        if getattr(adapter, what) != getattr(first, what):
            raise ValueError(
                f"the adapters {first_name} and {name} have the {what} {getattr(first, what)} and "
                f"{getattr(adapter, what)}; expected those of one {what}: give the "
                f"others in a call of their own"
            )
    try:
        check_tensors(adapter.tensors, first.tensors)
    except ValueError as problem:
        raise ValueError(f"the adapters {first_name} and {name}: {problem}; give one in a call of its own") from problem


class StartLoader:
    """Handler that loads merged weights; or the base of adapters, which have to fit it; or a plain SAM without names.

    Args:
        weights: merged, or the base of adapters.
        network: see :class:`..networks.ssam.SSAM`.
        adapters: may be empty.
    """

    def __init__(self, weights: StoredWeights, network: nn.Module, adapters: AdapterBank | None = None) -> None:
        self.weights, self.network, self.adapters = weights, network, adapters

    def attach(self, engine: Engine) -> None:
        """Load when the engine starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Raises ValueError where something does not fit."""
        network, path = self.network, self.weights.path
        if self.adapters:
            self.weights.load_base(network)
            with self.adapters.using(network, next(iter(self.adapters.adapters))):
                logger.info("base %s with the adapters %s", path, ", ".join(self.adapters.adapters))
        elif self.weights.knows_names:
            self.weights.load(network)
            logger.info("weights of %s loaded, labels %s", path, ", ".join(network.labels))
        else:
            self.weights.load_base(network)
            network.set_labels([], network.label_features[:0])
            logger.info("%s is a SAM without names: clicks and boxes alone", path)
