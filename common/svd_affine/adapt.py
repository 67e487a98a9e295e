# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A network adapted in place: which layers get trained numbers, and which tensors are trained as they are."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from .adapter import Adapter, check_tensors, content_hash
from .layer import SVDAffine
from .low_rank import SALT, LoRA
from .operators import ADAPTABLE

# Training moves these even where nothing else of their layer is trained, so that they always belong to the adapter; but
# for those of a norm that says that its statistics are frozen.
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def adapt(
    module: nn.Module,
    method: str,
    targets: Sequence[str] = (),
    *,
    trainable: Sequence[str] = (),
    apart: Sequence[str] = (),
    values: int | float | None = None,
    rank: int = 4,
) -> Adaptation:
    """Freezes a network but for what is named here.

    Load the base's weights first and cast to another dtype afterwards: the adapter is bound to the frozen tensors as
    they are now. Names are patterns such as ``image_encoder.blocks.*.attn.qkv``, where * stands for any text.

    Args:
        module: the network; its target layers are replaced.
        method: ``svd_affine``, ``lora``, ``salt``, or ``selection`` where no layer is replaced (full tuning is the
            selection ``["*"]``, the decoder alone ``["mask_decoder.*"]``, and so on).
        targets: the linear layers and convolutions to replace.
        trainable: the parameters to train as they are: norms, positions, the text layer.
        apart: names of tensors that belong neither to the base nor to the adapter, such as the features of the labels,
            which the adapter carries by name.
        values: see SVDAffine; for svd_affine and salt.
        rank: see LoRA; for lora and salt.

    Raises:
        ValueError: an unknown method; a pattern that matches nothing; a target that cannot be adapted (then the
            network is left as it was).
    """
    methods: dict[str, tuple[str, Callable[[nn.Module], nn.Module]]] = {
        "svd_affine": (f"values={values}", lambda layer: SVDAffine(layer, values)),
        "lora": (f"rank={rank}", lambda layer: LoRA(layer, rank)),
        "salt": (f"values={values}, rank={rank}", lambda layer: SALT(layer, values, rank)),
    }
    if method not in (*methods, "selection"):
        raise ValueError(f"method {method!r}; expected svd_affine, lora, salt or selection")
    if (method == "selection") == bool(targets):
        raise ValueError(
            f"method {method} with the targets {list(targets)}; selection takes none, the others need some"
        )
    plain = {n: m for n, m in module.named_modules() if n and isinstance(m, ADAPTABLE)}
    replaced = matching(targets, plain, "layer")
    parameters = [name for name, _ in module.named_parameters() if name.removesuffix(".weight") not in replaced]
    names = matching(trainable, [name for name in parameters if name not in apart], "parameter")
    base = {name: tensor for name, tensor in module.state_dict().items() if name not in apart}
    names += [name for name in base if moves_in_training(module, name)]
    tuned = set(names)
    base_hash = content_hash({name: tensor for name, tensor in base.items() if name not in tuned})
    layers = {}
    for name in replaced:
        try:
            layers[name] = methods[method][1](plain[name])
        except ValueError as problem:
            raise ValueError(f"{name}: {problem}") from problem
    module.requires_grad_(False)
    for name, layer in layers.items():
        own = dict(layer.named_parameters()).keys() - {"weight", "bias"}
        names += [f"{name}.{leaf}" for leaf in sorted(own)]
        module.set_submodule(name, layer)
    settings = f" ({methods[method][0]})" if layers else ""
    return Adaptation(module, method + settings, base_hash, layers, names)


def adapt_like(module: nn.Module, adapter: Adapter, apart: Sequence[str] = ()) -> Adaptation:
    """Adapts a network as that of an adapter was, which is then put in: what its tensors and its method say.

    Args:
        module: the network, with the base's weights; see adapt().
        adapter: one that was trained on this base.
        apart: see adapt().

    Raises:
        ValueError: an adapter of another base or of another network (then the network is left as it was).
    """
    method, _, options = adapter.method.removesuffix(")").partition(" (")
    settings = dict(setting.split("=") for setting in options.split(", ") if setting)
    own, parameters = module.state_dict(), dict(module.named_parameters())
    targets = {name.rpartition(".")[0] for name in adapter.tensors if name not in own}
    plain = {name: layer for name, layer in module.named_modules() if name in targets}
    missing = sorted(targets - plain.keys())
    if missing:
        raise ValueError(
            f"an adapter of another network: {len(missing)} of its {len(targets)} parts are not in this one, such as "
            f"{missing[0]}: give the configuration and the base that it was trained with, or train it again on this one"
        )
    trained = {name: parameter.requires_grad for name, parameter in parameters.items()}
    try:
        adaptation = adapt(
            module,
            method,
            sorted(targets),
            trainable=[name for name in adapter.tensors if name in parameters],
            apart=apart,
            **{name: literal_eval(value) for name, value in settings.items()},
        )
        adaptation.put(adapter)
    except ValueError:
        for name, layer in plain.items():
            module.set_submodule(name, layer)
        for name, requires in trained.items():
            module.get_parameter(name).requires_grad_(requires)
        raise
    return adaptation


class Adaptation:
    """An adapted network: its tuned tensors, put in and taken out as adapters, and its merged form.

    Made by adapt().

    Attributes:
        module: the network.
        method: how it was adapted, with the options.
        base: the hash of the tensors that stay frozen.
        layers: the adapted layers by name, whether merged or not.
        merged: whether the network now holds plain layers in their place.
    """

    def __init__(
        self, module: nn.Module, method: str, base: str, layers: Mapping[str, nn.Module], names: Sequence[str]
    ) -> None:
        self.module, self.method, self.base = module, method, base
        self.layers, self.merged = dict(layers), False
        self._names = tuple(names)
        for parameter in self.trainable().values():
            parameter.requires_grad_(True)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name, for the optimiser."""
        return {name: tensor for name, tensor in self._tensors().items() if isinstance(tensor, nn.Parameter)}

    def count(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.trainable().values())

    def regularisation(self, layers: str = "*") -> Tensor:
        """The sum of SVDAffine.regularisation() over the layers whose name matches: a scalar."""
        chosen = [self.layers[name] for name in matching([layers], self.layers, "layer")]
        return torch.stack([layer.regularisation() for layer in chosen]).sum()

    def take(
        self, labels: Mapping[str, Tensor] | None = None, synonyms: Mapping[str, list[str]] | None = None
    ) -> Adapter:
        """The tuned tensors as they are now, copied to the CPU, with the labels that they were trained on."""
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in self._tensors().items()}
        return Adapter(self.method, self.base, tensors, dict(labels or {}), dict(synonyms or {}))

    @torch.no_grad()
    def put(self, adapter: Adapter) -> None:
        """The adapter's tensors into the network; a merged network is merged anew.

        Raises:
            ValueError: an adapter of another method, base or set of tensors (then the network is left as it was).
        """
        if adapter.method != self.method:
            raise ValueError(
                f"an adapter of the method {adapter.method}; this network is adapted by {self.method}; "
                "expected an adapter of this method"
            )
        tensors = self._tensors()
        check_tensors(adapter.tensors, tensors)
        if adapter.base != self.base:
            raise ValueError(
                f"an adapter of the base {adapter.base[:12]}; this network's is {self.base[:12]}: load the checkpoint "
                "that the adapter was trained on"
            )
        for name, tensor in tensors.items():
            tensor.copy_(adapter.tensors[name])
        if self.merged:
            self.unmerge()
            self.merge()

    @contextmanager
    def using(self, adapter: Adapter) -> Iterator[nn.Module]:
        """The network with this adapter, for one call; afterwards it is as before. Raises ValueError as put() does."""
        before = self.take()
        self.put(adapter)
        try:
            yield self.module
        finally:
            self.put(before)

    def merge(self) -> None:
        """Plain layers in the place of the adapted ones: the cost and the state dict of the network before adapt()."""
        for name, layer in self.layers.items():
            self.module.set_submodule(name, layer.merge())
        self.merged = True

    def unmerge(self) -> None:
        """The adapted layers back, as they were, on the device and in the dtype that the network has now."""
        for name, layer in self.layers.items():
            self.module.set_submodule(name, layer.to(self.module.get_submodule(name).weight))
        self.merged = False

    def _tensors(self) -> dict[str, Tensor]:
        """The tuned tensors; looked up each time, because moving a network replaces its buffers."""
        tensors = {}
        for name in self._names:
            owner, _, leaf = name.rpartition(".")
            holder = self.layers[owner] if owner in self.layers else self.module.get_submodule(owner)
            tensors[name] = getattr(holder, leaf)
        return tensors


def moves_in_training(module: nn.Module, name: str) -> bool:
    """Whether a tensor is a norm's running statistic that training changes."""
    owner, _, leaf = name.rpartition(".")
    return leaf in RUNNING and not getattr(module.get_submodule(owner), "frozen_statistics", False)


def matching(patterns: Sequence[str], names: Sequence[str] | Mapping[str, object], what: str) -> list[str]:
    """The names that match any pattern, in their own order. Raises ValueError where a pattern matches none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, n=5, cutoff=0.3) or list(names)[:5]
            raise ValueError(f"no {what} matches {pattern!r}; there are {len(names)}, such as {', '.join(near)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
