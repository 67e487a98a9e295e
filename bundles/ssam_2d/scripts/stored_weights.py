# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A file of weights, opened once: its tensors, and what they say of their network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from .checkpoints import PARTS, TEXT_LAYER, load_start
from .common import label_names
from .common.weights import load_weights, read_state
from .lite_medsam import LITE_MEDSAM, found, located

TEXT_DIM = 512
BUNDLE = Path(__file__).resolve().parents[1]


class StoredWeights:
    """Weights in a file that need not be there: whoever loads them says so, and not whoever builds the network.

    Args:
        path: of a state dict; where there is no such file, from the bundle's own folder: ``monai.bundle.load`` does not
            say where that is; ``lite_medsam`` is the file in the user's cache.
        names: of the labels, in their order, for weights that hold none.
    """

    def __init__(self, path: str | Path, names: Sequence[str] | None = None) -> None:
        self.path, self.given = Path(path), names
        if str(path) == LITE_MEDSAM:
            self.path = found() or self.path
        elif not self.path.exists() and (BUNDLE / path).is_file():
            self.path = BUNDLE / path

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The tensors, which stay in the file until they are copied. Raises ValueError as read_state(), located()."""
        return read_state(located(self.path), mapped=True)

    @property
    def labels(self) -> list[str]:
        """The names of the labels, in the order of the network's channels; none of a plain SAM, or of no file.

        Raises:
            ValueError: labels without names, or names given for weights that hold others.
        """
        state = self._state_or_none()
        count, own = len(state.get("label_features", ())), label_names.names_in(state)
        given = None if self.given is None else label_names.checked(self.given)
        if own is not None and given not in (None, own):
            raise ValueError(
                f"{self.path}: its labels are {', '.join(own) or 'none'}, and label_names gives {given}; expected the "
                f"same, or no label_names"
            )
        names = own if own is not None else given or []
        if len(names) != count and state:
            raise ValueError(self._nameless(count, names))
        return names

    @property
    def text_dim(self) -> int:
        """Channels of the text features that its text layer takes; where it has none, CLIP's 512."""
        layer = self._state_or_none().get(TEXT_LAYER)
        return TEXT_DIM if layer is None else layer.shape[1]

    @property
    def knows_names(self) -> bool:
        """Whether it holds more than SAM's three parts. Raises ValueError as read_state()."""
        return not all(key.startswith(PARTS) for key in self.state)

    def load(self, network: nn.Module) -> None:
        """Every tensor into a network that has these labels. Raises ValueError where something does not fit."""
        names = {label_names.KEY: label_names.to_tensor(self.labels)}
        load_weights(network, self.path, {**self.state, **names})

    def load_base(self, network: nn.Module) -> None:
        """SAM's three parts, see :func:`.checkpoints.load_start`."""
        load_start(network, self.path, self.state)

    def _state_or_none(self) -> dict[str, Tensor]:
        try:
            return self.state
        except ValueError:
            return {}

    def _nameless(self, count: int, names: Sequence[str]) -> str:
        beside = [self.path.with_suffix(".labels.json"), self.path.with_name("labels.json")]
        there = next((file for file in beside if file.is_file()), None)
        where = f"{there} beside it may be theirs" if there else "they are in the labels.json of its training"
        return (
            f"{self.path}: {count} labels and {len(names)} names; those of earlier versions hold none ({where})"
            f": write them into it by python -m tools.convert_weights --kind named {self.path.name} NEW.pt --labels "
            f"{there or 'labels.json'}, or give label_names, a list of the {count} names in their order"
        )
