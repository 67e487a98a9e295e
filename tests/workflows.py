# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A bundle's configurations run in this process."""

import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow


def in_own_process(function: Callable[..., None], *arguments: Any, **options: Any) -> multiprocessing.Process:
    """``function`` in a fork that may be killed."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments, kwargs=options)
    process.start()
    return process


def run_configs(bundle: Path, configs: Sequence[str], **settings: Any) -> ConfigWorkflow:
    """``configs`` of the bundle, one on top of the other, from start to end; settings may be ``Path``."""
    workflow = ConfigWorkflow(
        config_file=[str(bundle / "configs" / name) for name in configs],
        logging_file=False,
        workflow_type=None,
        bundle_root=str(bundle),
        **{k: str(v) if isinstance(v, Path) else v for k, v in settings.items()},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow
