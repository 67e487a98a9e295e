# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""``python -m tools.benchmark classical DATA --output RUNS``: the bundle's masks against what needs no model.

The bundle's evaluate.json on every volume kept out of training, once as it is and once with each classical method in
the inferer's place: the same rule clicks, the same scores on the image's own grid. What is measured already, with the
weights as they are, is taken from RUNS; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.weights import describe_weights
from tools.benchmark.classical_inferers import METHODS
from tools.bundle_workflow import run_configs
from tools.evaluation_sets import SETS, write_sets

BUNDLE = Path(__file__).parents[2] / "bundles" / "fastsam3d"
NETWORK = "fastsam3d"
CLICKS = (1, 3, 5, 10)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    try:
        lists = write_sets(options.data, options.output, options.sets)
    except ValueError as error:
        print(f"python -m tools.benchmark classical: {error}", file=sys.stderr)
        return 1
    reports = {
        name: {
            m: measure(path, options.output / name / m, m, options.ckpt_path, **dict(options.override))
            for m in options.methods
        }
        for name, path in lists.items()
    }
    print(table(reports))
    if options.json:
        means = {name: {m: report["mean"] for m, report in of.items()} for name, of in reports.items()}
        options.json.write_text(json.dumps(means, indent=2) + "\n")
    return 0


def measure(data_list: Path, output: Path, method: str, ckpt_path: Path, **overrides: Any) -> dict[str, Any]:
    """The report of evaluate.json on a list, with ``method`` in the place of its inferer unless it is the network.

    Args:
        data_list: with a section ``validation``.
        output: where the report goes, or is already.
        method: ``fastsam3d`` or one of METHODS.
        ckpt_path: the network's weights.
        overrides: of other ids of evaluate.json.
    """
    done = output / "metrics.json"
    if done.is_file():
        report = json.loads(done.read_text())
        about = report["about"]
        if about["weights"] == describe_weights(ckpt_path) and all(about.get(k, v) == v for k, v in overrides.items()):
            return report
    if method != NETWORK:
        inferer = {"_target_": "tools.benchmark.classical_inferers.ClassicalInferer", "method": method}
        settings = {"clicks": "@clicks", "tolerance": "@tolerance", "inferer": method}
        overrides = {"inferer": inferer, "finished#settings": settings, **overrides}
    run_configs(
        BUNDLE,
        ("inference.json", "evaluate.json"),
        data_list_file_path=data_list,
        output_dir=output,
        ckpt_path=ckpt_path,
        clicks=list(CLICKS),
        **overrides,
    )
    return json.loads(done.read_text())


def table(reports: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Markdown: a row for each set and method, then for each method the mean of the sets and that of all objects."""
    lines = [f"| set | cases | method | {' | '.join(f'Dice@{k}' for k in CLICKS)} | NSD@{CLICKS[-1]} | s a click |"]
    lines.append("|" + "---|" * (5 + len(CLICKS)))
    columns = [*(f"dice@{k}" for k in CLICKS), f"nsd@{CLICKS[-1]}", "seconds_per_click"]
    for name, of in reports.items():
        for method, report in of.items():
            lines.append(_row(name, len(report["cases"]), method, [report["mean"][c] for c in columns]))
    if len(reports) > 1:
        for what in ("sets", "objects"):
            for method in next(iter(reports.values())):
                means = [[of[method]["mean"][c] for c in columns] for of in reports.values()]
                cases = [len(of[method]["cases"]) for of in reports.values()]
                mean = np.average(means, axis=0, weights=cases if what == "objects" else None)
                lines.append(_row(f"mean of the {what}", sum(cases), method, mean))
    return "\n".join(lines)


def _row(name: str, cases: int, method: str, numbers: Sequence[float]) -> str:
    *scores, seconds = numbers
    return f"| {name} | {cases} | {method} | {' | '.join(f'{s:.3f}' for s in scores)} | {seconds:.2f} |"


def _override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r}: expected ID=VALUE, such as rounds=1")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark classical", description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the data sets, see tools.evaluation_sets")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/evaluation"), help="where reports go (default %(default)s)"
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, help="these alone")
    methods = (NETWORK, *METHODS)
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods, help="these alone")
    parser.add_argument("--ckpt-path", type=Path, default=BUNDLE / "models" / "model.pt", help="other weights")
    parser.add_argument(
        "--override",
        type=_override,
        action="append",
        default=[],
        metavar="ID=VALUE",
        help="another value of an id of evaluate.json, such as rounds=1; give each such run an --output of its own",
    )
    parser.add_argument("--json", type=Path, help="where the means go")
    return parser
