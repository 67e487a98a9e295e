# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A bundle's configurations as one workflow in this process, without a log file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow


def started(bundle: Path, configs: Sequence[str], **settings: Any) -> ConfigWorkflow:
    """The workflow, initialised and not run.

    Args:
        bundle: its folder.
        configs: names below ``configs``, each laid over those before it.
        settings: what overrides the configurations, by id; may be ``Path``.
    """
    workflow = ConfigWorkflow(
        config_file=[str(bundle / "configs" / name) for name in configs],
        logging_file=False,
        workflow_type=None,
        bundle_root=str(bundle),
        **{k: str(v) if isinstance(v, Path) else v for k, v in settings.items()},
    )
    workflow.initialize()
    return workflow


def run_configs(bundle: Path, configs: Sequence[str], **settings: Any) -> ConfigWorkflow:
    """The same from start to end."""
    workflow = started(bundle, configs, **settings)
    workflow.run()
    workflow.finalize()
    return workflow
