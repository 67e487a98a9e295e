# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Checks of ``configs/metadata.json``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from packaging.requirements import InvalidRequirement, Requirement

from common.json_files import read_json

# Written from MONAI's specification of bundles; the Zoo's own schema is an asset of a release of theirs.
SCHEMA = Path(__file__).with_name("metadata_schema.json")
EXPECTED = "MONAI's metadata, a JSON object"
PACKAGES = ("required_packages_version", "optional_packages_version")
CORE = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}


def read_metadata(bundle: Path) -> dict[str, Any]:
    """Raises ValueError where there is none, or no JSON object."""
    content = read_json(bundle / "configs/metadata.json", EXPECTED)
    if not isinstance(content, dict):
        raise ValueError(f"configs/metadata.json holds a {type(content).__name__}; expected {EXPECTED}")
    return content


def check_version(bundle: Path, model_info: Path | None = None) -> str:
    """Raises ValueError for a version without a changelog entry, or one that ``model_info.json`` has already."""
    metadata = read_metadata(bundle)
    version, changelog = metadata.get("version"), metadata.get("changelog")
    if not isinstance(version, str) or not isinstance(changelog, dict):
        raise ValueError("no version or no changelog; expected both")
    if version not in changelog:
        raise ValueError(f"version {version} is not in the changelog ({', '.join(changelog)})")
    key = f"{bundle.name}_v{version}"
    if model_info is not None and key in read_json(model_info, "the Model Zoo's model_info.json"):
        raise ValueError(f"{key} is in {model_info} already; raise the version")
    return f"{version}: {changelog[version]}"


def check_schema(bundle: Path, schema: Path = SCHEMA) -> str:
    """Raises ValueError that names each place where the metadata does not follow the schema."""
    validator = Draft202012Validator(json.loads(schema.read_text()))
    problems = sorted(validator.iter_errors(read_metadata(bundle)), key=lambda e: list(map(str, e.path)))
    if problems:
        raise ValueError("; ".join(f"{'/'.join(map(str, p.path)) or 'top'}: {p.message[:200]}" for p in problems[:5]))
    return schema.name


def requirements(bundle: Path) -> list[str]:
    """What has to be installed, as pip takes it: exact versions.

    Raises:
        ValueError: a name or version that pip does not take.
    """
    metadata = read_metadata(bundle)
    missing = [key for key in CORE.values() if key not in metadata]
    if missing:
        raise ValueError(f"configs/metadata.json has no {', '.join(missing)}; expected exact versions")
    wanted = {name: metadata[key] for name, key in CORE.items()}
    for key in PACKAGES:
        packages = metadata.get(key, {})
        if not isinstance(packages, dict):
            raise ValueError(f"configs/metadata.json: {key} is {packages!r:.100}; expected {{package: version}}")
        wanted |= packages
    lines = [f"{name}=={version}" for name, version in wanted.items()]
    for line in lines:
        try:
            Requirement(line)
        except InvalidRequirement as error:
            raise ValueError(f"{line!r}: {error}; expected pip's name of a package and an exact version") from error
        if not re.search(r"==\d[\w.+!]*$", line):
            raise ValueError(f"{line!r}: expected an exact version")
    return lines


def check_requirements(bundle: Path) -> str:
    """Raises ValueError as :func:`requirements` does."""
    return " ".join(requirements(bundle))
