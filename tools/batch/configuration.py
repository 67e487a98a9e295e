# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a bundle can be asked for: its options and requests, without its weights."""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from pydoc import locate
from typing import Any

from monai.bundle import ConfigParser
from sam_bundles.common.config_names import in_package
from sam_bundles.common.options.schema import Options
from sam_bundles.common.options.words import takes
from sam_bundles.common.parsed import parsed_content

import sam_bundles

# Pictures are drawn of the worst results alone; volumes are not kept for a next click, which does not come.
OTHERWISE = {"preview": False, "overlay": False, "volume_cache_bytes": 0, "embedding_cache_bytes": 1 << 27}
HERE = Path(sam_bundles.__file__).resolve().parent
# The clone's bundles, and those that are installed.
PLACES = (HERE.parent / "bundles", HERE)


class Configurations:
    """Of the bundles of a run, each read once.

    Args:
        bundle: the name or folder of the one of jobs that name none.
        settings: options of the run, for each bundle that has them.
    """

    def __init__(self, bundle: str, settings: Mapping[str, Any]) -> None:
        self.bundle, self.settings = bundle, dict(settings)
        self._known: dict[Path, Configuration] = {}

    def __call__(self, name: str | None = None) -> Configuration:
        """The one of a name or folder. Raises ValueError where there is none."""
        root = find_bundle(name or self.bundle)
        if root not in self._known:
            self._known[root] = Configuration(root)
        return self._known[root]

    def of(self, job: Any) -> tuple[Configuration, dict[str, Any]]:
        """The configuration of a job (:class:`.jobs.Job`, or as it is told to others), and its options."""
        bundle, own = (job["bundle"], job["settings"]) if isinstance(job, Mapping) else (job.bundle, job.settings)
        configuration = self(bundle)
        fields = configuration.model.model_fields
        return configuration, {**{k: v for k, v in self.settings.items() if k in fields}, **own}


def find_bundle(name: str) -> Path:
    """The folder of a bundle, by its name or as it is given.

    Raises:
        ValueError: no such bundle.
    """
    for place in (*(place / name for place in PLACES), Path(name).expanduser()):
        if (place / "configs" / "inference.json").is_file():
            return place.resolve()
    there = sorted({file.parents[1].name for place in PLACES for file in place.glob("*/configs/inference.json")})
    raise ValueError(f"bundle {name!r}: no such bundle; expected {', '.join(there)}, or the folder of one")


class Configuration:
    """``configs/inference.json`` of a bundle.

    Args:
        root: the bundle's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = ConfigParser.load_config_file(str(root / "configs" / "inference.json"))
        self.package = "scripts"
        if root.parent in PLACES:
            self.package = f"{sam_bundles.__name__}.{root.name}.scripts"
        elif str(root) not in sys.path:
            sys.path.insert(0, str(root))

    @property
    def request_keys(self) -> list[str]:
        """What may be asked of each image: prompts, names of labels."""
        return [key for key in self.config["items"] if key not in ("_target_", "image")]

    @cached_property
    def model(self) -> type[Options]:
        """Types and ranges of all options."""
        return locate(in_package(self.config["options"]["_target_"], self.package).rpartition(".")[0])

    def parser(self, settings: Mapping[str, Any]) -> ConfigParser:
        """The configuration with options of its own."""
        otherwise = {name: value for name, value in OTHERWISE.items() if name in self.config}
        own = {"bundle_root": str(self.root), "debug": True}
        return ConfigParser({**in_package(self.config, self.package), **otherwise, **settings, **own})

    def check(self, settings: Mapping[str, Any]) -> Options:
        """All options. Raises ValueError for one that there is not, or out of its range."""
        return parsed_content(self.parser(settings), "options")

    def network_key(self, settings: Mapping[str, Any]) -> str:
        """Of the options on which the network and its weights depend: where it is the same, the network is."""
        config = {**self.config, "bundle_root": str(self.root), **settings}
        reached, left = set(), ["network", "checkpointloader"]
        while left:
            name = left.pop()
            if name in config and name not in reached:
                reached.add(name)
                left += re.findall(r"@(\w+)", " ".join(leaf for leaf in _leaves(config[name]) if isinstance(leaf, str)))
        options = {name: config[name] for name in reached if name in self.model.model_fields}
        return json.dumps([str(self.root), options], sort_keys=True, default=str)

    def value(self, name: str, given: Any) -> Any:
        """The value of an option or request; a text is read as JSON or Python, unless the option is a text itself.

        Raises:
            ValueError: no such option, or a value that it cannot have.
        """
        fields = self.model.model_fields
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            raise ValueError(f"{name}: there is no such option; {f'did you mean {near[0]}?' if near else 'see --help'}")
        if isinstance(given, str):
            read = _read(given)
            if isinstance(read, (list, dict)) or not takes(fields[name], str):
                given = read
        return self.model.check_value(name, given)

    def fingerprint(self, settings: Mapping[str, Any]) -> str:
        """Of the bundle's version, the options and the content of every file that they name, the weights among them."""
        options = self.check(settings).model_dump()
        files = {str(v): sha256(Path(v)) for v in _leaves(options) if isinstance(v, str) and _is_file(v)}
        version = ConfigParser.load_config_file(str(self.root / "configs" / "metadata.json"))["version"]
        # Where a bundle lies, and where results go, changes no result.
        aside = {key: None for key in ("bundle_root", "output_dir", "device", *self.request_keys)}
        inside = {str(Path(k).name): v for k, v in files.items()}
        text = json.dumps([self.root.name, version, {**options, **aside}, inside], sort_keys=True, default=str)
        return hashlib.sha256(text.replace(str(self.root), "").encode()).hexdigest()


def sha256(file: Path) -> str:
    """Of a file's content, which may be larger than the memory."""
    digest = hashlib.sha256()
    with open(file, "rb") as opened:
        while part := opened.read(1 << 22):
            digest.update(part)
    return digest.hexdigest()


def _read(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for v in value.values() for leaf in _leaves(v)]
    if isinstance(value, (list, tuple)):
        return [leaf for v in value for leaf in _leaves(v)]
    return [value]
