# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A quick score of weights of ``fastsam3d``, to choose by while they are trained.

::

    python -m tools.research.development ../shared/data runs/development --weights models/model.pt runs/new/model.pt

A fixed list of objects of volumes that train nothing and that no table of the model card is about, clicked by
evaluate.json, and beside them a few of volumes that do train: what should not be forgotten. Prints the mean Dice of
each kind, and how many objects lose more than LOSS from the third click to the last.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from common.files import whole_files
from tools.benchmark.classical import BUNDLE, CLICKS, NETWORK, measure
from tools.prepare_data.case import Choices
from tools.prepare_data.catalogue import DATA_SETS

LOSS = 0.03
SEEN = "seen in training"


class Objects(NamedTuple):
    """Objects of one volume.

    Attributes:
        kind: under which they are averaged.
        folder: of the data set.
        data_set: its name in ``tools.prepare_data``.
        case: the volume.
        names: of the labels; ``largest 2`` for the two largest pieces of all labels.
    """

    kind: str
    folder: str
    data_set: str
    case: str
    names: tuple[str, ...]


def _brain(kind: str, *names: str) -> Objects:
    return Objects(kind, "mricron_brains", "mricron_brains", "colin27", names)


def _neck(kind: str, patient: int, *names: str) -> Objects:
    return Objects(kind, "openkbp", "openkbp", f"pt_{patient}", names)


OBJECTS = (
    _brain("deep brain", "Thalamus_L", "Caudate_R", "Putamen_L", "Pallidum_R", "Hippocampus_R", "Amygdala_L"),
    _brain("cortex", "Precentral_L", "Insula_R", "Frontal_Mid_L", "Fusiform_R", "Cerebelum_Crus1_L"),
    _neck("cord and brainstem", 187, "spinal_cord", "brainstem"),
    _neck("cord and brainstem", 193, "spinal_cord"),
    _neck("cord and brainstem", 200, "spinal_cord", "brainstem"),
    _neck("glands and gullet", 187, "parotid_left"),
    _neck("glands and gullet", 193, "parotid_right"),
    _neck("glands and gullet", 200, "parotid_left", "oesophagus"),
    _neck("mandible and larynx", 187, "mandible"),
    _neck("mandible and larynx", 193, "mandible", "larynx"),
    _neck("mandible and larynx", 200, "mandible"),
    *(
        Objects("left ventricle", "sunnybrook_lv", "sunnybrook_lv", case, ("left ventricle",))
        for case in ("N-02_ed", "N-07_es", "N-40_ed", "HYP-40_es")
    ),
    Objects("lesions", "open_ms_mni", "open_ms", "patient26_flair", ("largest 2",)),
    Objects("lesions", "open_ms_mni", "open_ms", "patient26_t1", ("largest 2",)),
    Objects(SEEN, "sts_sarcoma", "sts_sarcoma", "STS_002_CT", ("soft-tissue sarcoma",)),
    Objects(SEEN, "sts_sarcoma", "sts_sarcoma", "STS_003_MR_T1", ("soft-tissue sarcoma",)),
    Objects(SEEN, "totalseg_example", "totalseg_example", "example_ct", ("liver", "vertebrae_T12", "aorta", "stomach")),
)


def write_list(data: Path, output: Path) -> tuple[Path, dict[str, str]]:
    """Write label maps of the objects alone, and the list of them; what lies there already is used as it is.

    Returns:
        the list, and the kind of each class.

    Raises:
        ValueError: a set, a volume or a label that is not there.
    """
    content: dict[str, Any] = {"validation": []}
    kinds = {}
    for objects in OBJECTS:
        found = DATA_SETS[objects.data_set].find(data / objects.folder, Choices())
        case = next((c for c in found.cases if c.name == objects.case), None)
        if case is None:
            raise ValueError(f"{data / objects.folder}: no {objects.case}; expected the data sets' folder, complete")
        label = nib.load(case.label.path)
        values = np.asarray(label.dataobj).round().astype(np.int16)
        chosen = np.zeros(values.shape, np.uint8)
        classes = {}
        for number, (name, mask) in enumerate(_masks(objects, case, values, found.labels), 1):
            chosen[mask] = number
            classes[str(number)] = f"{objects.case} {name}"
            kinds[classes[str(number)]] = objects.kind
        file = output / "labels" / f"{objects.case}_{len(content['validation'])}.nii.gz"
        if not file.exists():
            with whole_files(file.parent) as side:
                nib.save(nib.Nifti1Image(chosen, label.affine), side / file.name)
        content["validation"].append(
            {"image": str(case.image.absolute()), "label": str(file.absolute()), "label_names": classes}
        )
    with whole_files(output) as side:
        (side / "data_list.json").write_text(json.dumps(content, indent=1) + "\n")
    return output / "data_list.json", kinds


def _masks(objects: Objects, case: Any, values: np.ndarray, labels: Mapping[int, str]) -> list[tuple[str, np.ndarray]]:
    names = {name: value for value, name in (case.label_names or labels).items()}
    masks = []
    for name in objects.names:
        if name == "largest 2":
            pieces, count = ndimage.label(values > 0)
            sizes = np.bincount(pieces.reshape(-1), minlength=count + 1)
            sizes[0] = 0
            masks += [(f"piece {i}", pieces == k) for i, k in enumerate(np.argsort(-sizes)[:2], 1)]
        elif name not in names or not (values == names[name]).any():
            raise ValueError(f"{case.label.path}: no {name} in it; expected what the list of objects names")
        else:
            masks.append((name, values == names[name]))
    return masks


def table(reports: Mapping[str, Mapping[str, Any]], kinds: Mapping[str, str]) -> str:
    """Markdown: a row for each kind and the weights, and the mean of all objects that are not ``seen in training``."""
    lines = [f"| kind | objects | weights | {' | '.join(f'Dice@{k}' for k in CLICKS)} | lose > {LOSS} |"]
    lines.append("|" + "---|" * (4 + len(CLICKS)))
    for kind in [*dict.fromkeys(kinds.values()), "all but seen"]:
        for name, report in reports.items():
            rows = [c for c in report["cases"] if kinds[c["class"]] in (kind, *_all_but_seen(kind, kinds))]
            dice = [float(np.mean([row[f"dice@{k}"] for row in rows])) for k in CLICKS]
            lose = float(np.mean([row["dice@3"] - row[f"dice@{CLICKS[-1]}"] > LOSS for row in rows]))
            lines.append(
                f"| {kind} | {len(rows)} | {name} | {' | '.join(f'{d:.3f}' for d in dice)} | {100 * lose:.0f} % |"
            )
    return "\n".join(lines)


def _all_but_seen(kind: str, kinds: Mapping[str, str]) -> set[str]:
    return set(kinds.values()) - {SEEN} if kind == "all but seen" else set()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.research.development", description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("output", type=Path, help="where the objects and the reports go, or are already")
    parser.add_argument("--weights", type=Path, nargs="+", default=[BUNDLE / "models" / "model.pt"])
    options = parser.parse_args(arguments)
    reports = {}
    try:
        path, kinds = write_list(options.data, options.output)
        for weights in options.weights:
            name = "_".join(weights.parts[-2:]).removesuffix(".pt")
            reports[name] = measure(path, options.output / name, NETWORK, weights, previews=0, progress=False)
    except ValueError as error:
        print(f"python -m tools.research.development: {error}", file=sys.stderr)
        return 1
    print(table(reports, kinds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
