# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One check of a bundle's workflows, in a process that knows the bundle and nothing of this repository.

It is run as text (``python -c``) with the bundle alone on the path, as the Zoo does. Arguments: the bundle, the name of
the check, JSON of what overrides its configuration.
"""

import json
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigParser, ConfigWorkflow, load, verify_net_in_out


def check_properties(bundle: Path, kind: str, config: Path, overrides: dict) -> str:
    """The properties that MONAI wants of a workflow of this kind."""
    workflow = ConfigWorkflow(
        config_file=str(config),
        meta_file=str(bundle / "configs/metadata.json"),
        logging_file=str(bundle / "configs/logging.conf"),
        workflow_type=kind,
        bundle_root=str(bundle),
        **overrides,
    )
    workflow.initialize()
    missing = workflow.check_properties()
    if missing:
        raise ValueError(f"{config.name} lacks {', '.join(missing)}")
    return "all properties there"


def properties_infer(bundle: Path, overrides: dict) -> str:
    """Those of inference.json."""
    return check_properties(bundle, "infer", config_file(bundle, "inference"), overrides)


def properties_train(bundle: Path, overrides: dict) -> str:
    """Those of train.json."""
    return check_properties(bundle, "train", config_file(bundle, "train"), overrides)


def net_in_out(bundle: Path, overrides: dict) -> str:
    """The network takes and gives what the metadata says."""
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs/metadata.json"),
        config_file=str(config_file(bundle, "inference")),
        device="cpu",
        bundle_root=str(bundle),
        **overrides,
    )
    return "as in network_data_format"


def torchscript(bundle: Path, overrides: dict) -> str:
    """Export by scripting, or the model card says that it is not supported."""
    parser = ConfigParser()
    parser.read_config(str(config_file(bundle, "inference")))
    parser.update({"bundle_root": str(bundle), **overrides})
    try:
        torch.jit.script(parser.get_parsed_content("network_def").eval())
    except Exception as error:
        card = bundle / "docs/README.md"
        if not card.is_file() or "torchscript" not in card.read_text().lower():
            raise ValueError(f"cannot be scripted, and docs/README.md does not say so: {str(error)[:300]}") from error
        return "not supported, as docs/README.md says: to be listed in the Zoo's exclude_verify_torchscript_list"
    return "exported by torch.jit.script"


def load_network(bundle: Path, overrides: dict) -> str:
    """``monai.bundle.load`` gives the network with its weights, by the training's configuration and by the other."""
    kinds = overrides["kinds"]
    for kind in kinds:
        network = load(bundle.name, bundle_dir=str(bundle.parent), workflow_type=kind)
        if not isinstance(network, torch.nn.Module):
            raise ValueError(f"configs/{kind}.json: gave {type(network).__name__} instead of a network")
    return f"network of {sum(p.numel() for p in network.parameters()):,} parameters, by {' and '.join(kinds)}"


def config_file(bundle: Path, name: str) -> Path:
    """configs/NAME.json, or .yaml, or .yml."""
    for ending in (".json", ".yaml", ".yml"):
        path = (bundle / "configs" / name).with_suffix(ending)
        if path.is_file():
            return path
    raise ValueError(f"no configs/{name}.json")


if __name__ == "__main__":
    folder, check, given = sys.argv[1:4]
    try:
        print("said:", globals()[check](Path(folder), json.loads(given)))
    except Exception as error:
        print("said:", " ".join(str(error).split())[:800] or type(error).__name__)
        sys.exit(1)
