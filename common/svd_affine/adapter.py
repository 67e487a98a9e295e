# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What training changed in a network, as a small file that is read, written and blended."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .. import label_names
from ..files import whole_file
from ..weights import check_finite

FORMAT, VERSION = "svd_affine.adapter", 1
# What adapt() calls its methods, with their options.
METHOD = re.compile(r"(svd_affine|lora|salt|selection)( \((values|rank)=[\w.]+(, (values|rank)=[\w.]+)*\))?")
# No tensor of a network has a name with a slash.
LABELS = "labels/features"


@dataclass(frozen=True)
class Adapter:
    """The tuned tensors of one network by name, and what they belong to.

    Attributes:
        method: how the network was adapted, as adapt() words it.
        base: the hash of the tensors that stayed frozen.
        tensors: the tuned ones.
        labels: the names it was trained on, in order, each with its text features (channels,); may be empty.
        synonyms: other names of some of the labels, by label.
    """

    method: str
    base: str
    tensors: dict[str, Tensor]
    labels: dict[str, Tensor] = field(default_factory=dict)
    synonyms: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {tuple(features.shape) for features in self.labels.values()}
        if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
            raise ValueError(
                f"label features of shapes {sorted(shapes)}; expected one vector (channels,) for each label"
            )
        label_names.check_synonyms(self.synonyms, list(self.labels))

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file; one that is there already is replaced only by a whole one."""
        path = Path(path)
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.tensors.items()}
        if self.labels:
            tensors[LABELS] = torch.stack([features.detach().cpu() for features in self.labels.values()])
        metadata = {
            "format": FORMAT,
            "version": str(VERSION),
            "method": self.method,
            "base": self.base,
            "labels": json.dumps(list(self.labels), ensure_ascii=False),
        }
        if self.synonyms:
            metadata["synonyms"] = json.dumps(self.synonyms, ensure_ascii=False)
        # Written here: save_file makes files that nobody but their owner may read.
        with whole_file(path) as side:
            side.write_bytes(save(tensors, metadata))

    @classmethod
    def load(cls, path: str | Path) -> Adapter:
        """Reads an adapter, onto the CPU.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no safetensors file, no adapter, one of a newer version, or NaN or infinite numbers in it.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        except SafetensorError as problem:
            raise ValueError(f"{path}: no sound safetensors file ({problem}); give an adapter's file") from problem
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{path}: safetensors, but no adapter; expected the metadata format={FORMAT}")
        if metadata.get("version") != str(VERSION):
            raise ValueError(
                f"{path}: an adapter of version {metadata.get('version')}; this code reads {VERSION}: train it again"
            )
        names, synonyms = _checked_metadata(path, metadata)
        check_finite(tensors, path)
        features = tensors.pop(LABELS, torch.empty(0, 0))
        if len(features) != len(names):
            raise ValueError(
                f"{path}: {len(names)} label names, but the features of {len(features)}; copy or train it again"
            )
        labels = dict(zip(names, features, strict=True))
        return cls(metadata["method"], metadata["base"], tensors, labels, synonyms)


def _checked_metadata(path: str | Path, metadata: Mapping[str, str]) -> tuple[list[str], dict[str, list[str]]]:
    """The labels' names and their synonyms. Raises ValueError for metadata that :meth:`Adapter.save` did not write."""
    lacking = [key for key in ("method", "base", "labels") if not metadata.get(key)]
    if lacking:
        raise ValueError(f"{path}: an adapter whose metadata lacks {', '.join(lacking)}; copy or train it again")
    if not METHOD.fullmatch(metadata["method"]):
        raise ValueError(
            f"{path}: an adapter of the method {metadata['method']!r}; expected one as in svd_affine (values=None) or "
            "lora (rank=4)"
        )
    try:
        names = label_names.checked(json.loads(metadata["labels"]))
        return names, label_names.check_synonyms(json.loads(metadata.get("synonyms", "{}")), names)
    except (ValueError, RecursionError) as problem:
        raise ValueError(
            f"{path}: an adapter whose labels are no list of names, with synonyms ({problem}); copy or train it again"
        ) from problem


def blend(adapters: Sequence[Adapter], weights: Sequence[float]) -> Adapter:
    """The weighted mean of adapters of one base: of every tensor, and of a label's features where several know it.

    Tensors of whole numbers (a count of batches) are the first adapter's. The blend of two sets of singular values is
    the blend of the two weights, as long as no value is cut off at zero.

    Raises:
        ValueError: weights that are negative, do not add up to 1 or are not one for each adapter; adapters of
            different methods, bases or tensors.
    """
    if len(adapters) != len(weights) or not adapters:
        raise ValueError(f"{len(adapters)} adapters and {len(weights)} weights; give one weight for each adapter")
    if min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise ValueError(f"weights {list(weights)}; expected none below 0 and a sum of 1")
    first = adapters[0]
    for other in adapters[1:]:
        for what in "method", "base":
            if getattr(other, what) != getattr(first, what):
                raise ValueError(
                    f"adapters with {what} {getattr(first, what)} and {getattr(other, what)}; only those of one "
                    f"{what} can be blended"
                )
        check_tensors(other.tensors, first.tensors)
    tensors = {
        name: mean([adapter.tensors[name] for adapter in adapters], weights) if tensor.is_floating_point() else tensor
        for name, tensor in first.tensors.items()
    }
    labels = {}
    for name in dict.fromkeys(name for adapter in adapters for name in adapter.labels):
        knowing = [(a.labels[name], w) for a, w in zip(adapters, weights, strict=True) if name in a.labels and w > 0]
        if knowing:
            labels[name] = mean(*zip(*knowing, strict=True))
    synonyms = {name: other for adapter in adapters for name, other in adapter.synonyms.items() if name in labels}
    return Adapter(first.method, first.base, tensors, labels, synonyms)


def mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean, in double precision and back."""
    total = sum(tensor.double() * weight for tensor, weight in zip(tensors, weights, strict=True))
    return (total / sum(weights)).to(tensors[0].dtype)


def check_tensors(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless both have the same names with the same shapes."""
    problems = [
        *(f"{name} is missing" for name in sorted(expected.keys() - given.keys())),
        *(f"{name} is not expected" for name in sorted(given.keys() - expected.keys())),
        *(
            f"{name} has shape {tuple(given[name].shape)}, expected {tuple(expected[name].shape)}"
            for name in sorted(given.keys() & expected.keys())
            if given[name].shape != expected[name].shape
        ),
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(
            f"the adapter's tensors do not fit: {'; '.join(problems[:4])}{more}; use it with the network, targets and "
            "options that it was trained with"
        )


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes, dtypes and values, the same on every device and in every order: 64 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
