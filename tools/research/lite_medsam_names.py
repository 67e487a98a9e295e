# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Can LiteMedSAM learn names from 16 images, and from which start? One table, from embeddings that are kept.

::

    python -m tools.research.lite_medsam_names embed --data ../shared/data --run runs/lite
    python -m tools.research.lite_medsam_names start --run runs/lite --minutes 25
    python -m tools.research.lite_medsam_names tune --run runs/lite --set curvas --start published mixed

``embed`` encodes the pictures that may train a shipped weight, and those of the sets that the names are tried on.
``start`` tunes the mask decoder on the former by names, clicks and boxes in turn, the encoder frozen. ``tune`` learns
the names of a set from some of its images and scores the others, by start, layers and loss. What was stopped goes on
from where it was; ``log.jsonl`` holds every number.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.losses import DiceFocalLoss
from monai.transforms import Compose, RandAdjustContrastd, RandAffined, RandGaussianNoised, RandScaleIntensityd
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from bundles.ssam_2d.scripts import lite_medsam
from bundles.ssam_2d.scripts.checkpoints import load_start
from bundles.ssam_2d.scripts.data.items import label_list, split
from bundles.ssam_2d.scripts.data.masks import LoadMasksd
from bundles.ssam_2d.scripts.images import LoadImage2Dd
from bundles.ssam_2d.scripts.networks.folded import FoldedTinyViT
from bundles.ssam_2d.scripts.networks.ssam import LABEL_TENSORS, SSAM
from bundles.ssam_2d.scripts.text_features import encode_names
from bundles.ssam_2d.scripts.view import ToSquared, View
from common.clicks import deepest_point, error_click, random_inner_point
from common.files import whole_file
from common.intensity import intensity_bounds
from common.svd_affine import Adaptation, Adapter, adapt
from tools.bundle_network import from_root
from tools.labelled_volumes import labelled_pairs
from tools.prepare_data.run import prepare
from tools.research.compare_tuning import read_items

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "ssam_2d"
CONFIGS = ("inference.json", "lite_medsam.json")
VIEW, TEXT_DIM = View("medsam", 256), 32
# Sets of pictures that may train: their name in tools.prepare_data, or None for a folder that is read as it is.
PICTURES: dict[str, str | None] = {
    "busi_breast_us": "busi",
    "edd2020_endoscopy": "edd2020",
    "dsb2018_nuclei": "dsb2018",
}
PICTURES |= dict.fromkeys(("busi100", "hc18", "chasedb1", "axon_sem"))
# Those that are never trained on here: what names are tried on.
TRIED = {"curvas_abdomen_ct_slices": "curvas", "btcv_ct_slices": "btcv_slices"}
# Of a volume so many axial slices are taken, of a set so many images at most.
SLICES = {"totalseg_ct": 40, "totalseg_slab": 10, "openkbp": 1, "sunnybrook_lv": 1}
MOST = 40
DECODER = [
    "mask_decoder.transformer.*",
    "mask_decoder.output_upscaling.*",
    "mask_decoder.output_hypernetworks_mlps.0.*",
]
NORMS = ["mask_decoder.transformer.*norm*", "mask_decoder.output_upscaling.1.*", "mask_decoder.mask_tokens.weight"]
LOSSES = {"focal1": 1.0, "focal20": 20.0}
FORMS = {"name": 0.4, "click": 0.4, "box": 0.2}
OBJECTS, IMAGES = 6, 3
# The stage of the encoder that is tuned with the decoder; what comes before is kept as numbers.
TAIL = 3
TAIL_LAYERS = [f"image_encoder.layers.{TAIL}.blocks.*.{name}" for name in ("attn.qkv", "attn.proj", "mlp.fc?")]
TAIL_LAYERS += ["image_encoder.neck.0", "image_encoder.neck.2"]
TAIL_NORMS = [f"image_encoder.layers.{TAIL}.*.{name}.*" for name in ("norm", "local_conv.c", "local_conv.bn")]
TAIL_NORMS += ["image_encoder.neck.1.*", "image_encoder.neck.3.*", f"image_encoder.layers.{TAIL}.*.attention_biases"]
# What is tuned: method, layers, tensors trained as they are, learning rate.
LAYERS: dict[str, tuple[str, list[str], list[str], float]] = {
    "decoder": ("selection", [], ["mask_decoder.*", "text_affine.*"], 3e-4),
    "svd": ("svd_affine", DECODER, [*NORMS, "text_affine.*"], 0.02),
    "lora": ("lora", DECODER, [*NORMS, "text_affine.*"], 3e-3),
    "tail": (
        "selection",
        [],
        [f"image_encoder.layers.{TAIL}.*", "image_encoder.neck.*", "mask_decoder.*", "text_affine.*"],
        3e-4,
    ),
    "tail_svd": ("svd_affine", [*TAIL_LAYERS, *DECODER], [*TAIL_NORMS, *NORMS, "text_affine.*"], 0.02),
    "tail_svd_decoder": ("svd_affine", TAIL_LAYERS, [*TAIL_NORMS, "mask_decoder.*", "text_affine.*"], 3e-4),
    "tail_lora": ("lora", [*TAIL_LAYERS, *DECODER], [*TAIL_NORMS, *NORMS, "text_affine.*"], 3e-3),
}
# How a copy differs: as in train.json.
VARIED = Compose(
    [
        RandAffined(
            ("image", "label"),
            prob=1.0,
            rotate_range=0.25,
            scale_range=0.2,
            translate_range=(25.6, 25.6),
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        RandAdjustContrastd("image", gamma=(0.7, 1.5), prob=0.4),
        RandScaleIntensityd("image", factors=0.2, prob=0.4),
        RandGaussianNoised("image", std=8.0, prob=0.2),
    ]
)


class Shown:
    """One encoded picture: its embedding (256, 64, 64), masks (L, 256, 256) and their names; ``before`` as in TAIL."""

    def __init__(self, path: Path) -> None:
        content = torch.load(path, weights_only=True)
        self.name, self.group = path.stem, path.parent.name
        self.embedding, self.masks, self.names = content["embedding"], content["masks"], content["names"]
        self.before = content.get("before")
        self.present = [i for i, mask in enumerate(self.masks) if int(mask.sum()) >= 16]


def network() -> SSAM:
    """LiteMedSAM with a text layer, its weights the published ones."""
    content: dict[str, Any] = {}
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in CONFIGS])
    content = from_root({"network_def": parser.get("network_def")}, BUNDLE.name)
    parser = ConfigParser(content)
    parser.update(
        {"network_def#labels": []} | {f"network_def#{key}": TEXT_DIM for key in ("text_dim", "text_affine#text_dim")}
    )
    made = parser.get_parsed_content("network_def").eval()
    load_start(made, lite_medsam.bring())
    return made


def pictures(
    data: Path, run: Path, groups: Sequence[str] | None = None
) -> Iterator[tuple[str, str, Tensor, dict[str, np.ndarray]]]:
    """Set, name, picture (3, H, W) of 0 to 255, masks by name; first those that names are tried on."""
    for folder, prepared in {**TRIED, **PICTURES}.items():
        if not (data / folder).is_dir() or (groups and (prepared or folder) not in groups):
            continue
        if prepared:
            target = run / "sets" / prepared
            if not (target / "data_list.json").is_file():
                prepare(prepared, data / folder, target)
        items = read_items(target / "data_list.json" if prepared else data / folder)
        read = LoadMasksd("label", label_list(items))
        for item in items if folder in TRIED else items[:MOST]:
            shown = read({**LoadImage2Dd("image")(item), "label": item["label"]})
            named = dict(zip(label_list(items), np.asarray(shown["label"]), strict=True))
            yield prepared or folder, Path(item["image"]).stem, shown["image"].as_tensor(), named
    counts: dict[str, int] = {}
    for pair in labelled_pairs(data):
        group = pair.name.split("/")[0]
        counts[group] = counts.get(group, 0) + SLICES.get(group, 0)
        if groups and group not in groups:
            continue
        if pair.validation or group not in SLICES or counts[group] > MOST:
            continue
        volume, labels = (nib.as_closest_canonical(nib.load(file)) for file in (pair.image, pair.label))
        voxels, values = np.asarray(volume.dataobj, np.float32), np.asarray(labels.dataobj).round().astype(int)
        low, high = intensity_bounds(torch.from_numpy(voxels))
        used = np.flatnonzero((values > 0).any((0, 1)))
        for at in used[np.linspace(0, len(used) - 1, SLICES[group] + 2).round().astype(int)[1:-1]]:
            grey = ((voxels[:, :, at] - low) / (high - low)).clip(0, 1) * 255
            picture = torch.from_numpy(np.ascontiguousarray(grey[::-1, ::-1].T)).expand(3, -1, -1)
            plane = np.ascontiguousarray(values[::-1, ::-1, at].T)
            named = {name: plane == value for value, name in pair.names.items() if value}
            yield group, f"{pair.name.replace('/', '_')}_{at}", picture, {n: m for n, m in named.items() if m.any()}


@torch.no_grad()
def embed(data: Path, run: Path, groups: Sequence[str] | None = None, copies: int = 0) -> None:
    """Writes ``embedded/SET/NAME.pt`` for each picture; those that are there stay.

    Of the sets that names are tried on so many varied ``copies/SET/NAME@K.pt`` too, for training.
    """
    encoder = FoldedTinyViT(network().image_encoder).encoder
    for group, name, picture, named in tqdm(pictures(data, run, groups), desc="encoding", unit="picture"):
        if not named:
            continue
        tried = group in TRIED.values()
        squared = ToSquared(view=VIEW)({"image": picture, "label": np.stack([m != 0 for m in named.values()])})
        for copy in range(1 + copies * tried):
            path = run / "embedded" / group / f"{name}.pt"
            shown = squared
            if copy:
                path = run / "copies" / group / f"{name}@{copy}.pt"
                VARIED.set_random_state(int.from_bytes(path.name.encode(), "big") % 2**31)
                shown = VARIED(squared)
            if path.is_file():
                continue
            shown = {key: torch.as_tensor(np.asarray(value)) for key, value in shown.items()}
            before = encoder.patch_embed(VIEW.normalised(shown["image"].clamp(0, 255))[None].float())
            for stage in encoder.layers[:TAIL]:
                before = stage(before)
            content = {"embedding": encoder.neck(encoder.layers[TAIL](before))[0].half(), "names": list(named)}
            content["masks"] = shown["label"] > 0
            if tried:
                content["before"] = before[0].half()
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as side:
                torch.save(content, side)


def batch_of(shown: Sequence[Shown], form: str, rng: np.random.Generator, model: SSAM) -> dict[str, Any]:
    """Objects of some pictures, asked for in one way: embeddings, targets (N, 1, 256, 256) and prompts."""
    chosen, rows, targets, names = [shown[i] for i in rng.integers(len(shown), size=IMAGES)], [], [], []
    for at, one in enumerate(chosen):
        wanted = rng.permutation(one.present)[: OBJECTS // IMAGES]
        absent = [i for i in range(len(one.names)) if i not in one.present]
        if form == "name" and absent and rng.random() < 0.3:
            wanted = [*wanted[:-1], int(rng.choice(absent))]
        rows += [at] * len(wanted)
        targets += [one.masks[i] for i in wanted]
        names += [one.names[i] for i in wanted]
    kept = torch.stack(targets)
    batch = {"embedding": embeddings(model, chosen)[rows], "target": kept[:, None].float()}
    if form == "name":
        return batch | {"features": encode_names(names, text_dim=TEXT_DIM)}
    arrays = [mask.numpy() for mask in kept]
    if form == "box":
        return batch | {"boxes": torch.tensor(np.stack([box(mask, rng) for mask in arrays]), dtype=torch.float32)}
    first = [random_inner_point(mask, rng) if rng.random() < 0.5 else deepest_point(mask) for mask in arrays]
    points = torch.tensor(first, dtype=torch.float32).flip(-1)[:, None]
    return batch | {"points": points, "point_labels": torch.ones(len(points), 1, dtype=torch.long), "arrays": arrays}


def box(mask: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """x and y of the first and the last pixel, off by up to 3 pixels where it is drawn."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    exact = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
    return exact if rng is None else (exact + rng.integers(-3, 4, 4)).clip(0, VIEW.size - 1)


def corrected(model: SSAM, batch: dict[str, Any], rng: np.random.Generator | None, clicks: int) -> dict[str, Any]:
    """The batch with more clicks, each where the answer so far is wrong."""
    for _ in range(clicks):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = answer(model, batch)[:, 0] > 0
        more, labels = [], []
        for mask, truth, last in zip(found.numpy(), batch["arrays"], batch["points"][:, -1], strict=True):
            click = error_click(mask, truth, "random" if rng is not None and rng.random() < 0.5 else "deepest", rng)
            more.append(last.tolist() if click is None else [click.voxel[1], click.voxel[0]])
            labels.append(-1 if click is None else int(click.label))
        batch["points"] = torch.cat([batch["points"], torch.tensor(more, dtype=torch.float32)[:, None]], 1)
        batch["point_labels"] = torch.cat([batch["point_labels"], torch.tensor(labels)[:, None]], 1)
    return batch


def answer(model: SSAM, batch: dict[str, Any]) -> Tensor:
    """Logits (N, 1, 256, 256)."""
    keys = ("features", "points", "point_labels", "boxes")
    logits, _ = model.decode(batch["embedding"], **{k: batch[k] for k in keys if k in batch}, paired=True)
    return F.interpolate(logits.float(), (VIEW.size, VIEW.size), mode="bilinear", align_corners=False)


def adapted(layers: str, start: Path | None) -> Adaptation:
    """The network, tuned by a start where one is given, ready for what is tuned."""
    model = network()
    if start:
        first = adapted(LAYERS_OF_START, None)
        first.put(Adapter.load(start))
        first.merge()
        model = first.module
    else:
        model.text_affine.calibrate(encode_names([f"name {i}" for i in range(100)], text_dim=TEXT_DIM))
    method, targets, trainable, _ = LAYERS[layers]
    return adapt(model, method, targets, trainable=trainable, apart=LABEL_TENSORS, rank=8)


LAYERS_OF_START = "lora"


def begun(run: Path, begin: str) -> Path | None:
    """The file of a start by its name, None for the published weights."""
    return run / "start.safetensors" if begin == "mixed" else None


def loss_of(focal: float) -> nn.Module:
    """Dice and focal loss as train.json has them."""
    return DiceFocalLoss(sigmoid=True, alpha=0.75, gamma=3.0, lambda_focal=focal, smooth_nr=1.0, smooth_dr=1.0)


def log(run: Path, **numbers: Any) -> None:
    """A line of the log."""
    with open(run / "log.jsonl", "a") as file:
        file.write(json.dumps(numbers) + "\n")


def put_by(path: Path, adaptation: Adaptation, optimizer: torch.optim.Optimizer, step: int, spent: float) -> None:
    """The state of a training, to go on from; ``spent`` in seconds of the processor."""
    state = {"tensors": adaptation.take().tensors, "optimizer": optimizer.state_dict(), "step": step, "spent": spent}
    with whole_file(path) as side:
        torch.save(state, side)


def taken_up(path: Path, adaptation: Adaptation, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Step and seconds of a training that was stopped, its state put in place; nothing where there is no file."""
    if not path.is_file():
        return 0, 0.0
    kept = torch.load(path, weights_only=True)
    adaptation.put(Adapter(adaptation.method, adaptation.base, kept["tensors"]))
    optimizer.load_state_dict(kept["optimizer"])
    return kept["step"], kept["spent"]


def start(run: Path, minutes: float, every: int = 50) -> None:
    """Tunes the decoder by names, clicks and boxes; ``start.safetensors`` and ``start.pt`` are its state."""
    shown = [s for s in read(run) if s.group not in TRIED.values() and s.present]
    adaptation = adapted(LAYERS_OF_START, None)
    model, parameters = adaptation.module, list(adaptation.trainable().values())
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.01)
    step, spent = taken_up(run / "start.pt", adaptation, optimizer)
    criterion, losses, began = loss_of(20.0), {form: [] for form in FORMS}, time.process_time()
    groups = sorted({s.group for s in shown})
    while spent + time.process_time() - began < 60 * minutes:
        rng = np.random.default_rng((7, step))
        form = str(rng.choice(list(FORMS), p=list(FORMS.values())))
        # Each set as often as its images' square root says.
        sizes = np.sqrt([sum(s.group == g for s in shown) for g in groups])
        group = str(rng.choice(groups, p=sizes / sizes.sum()))
        batch = batch_of([s for s in shown if s.group == group], form, rng, model)
        if form == "click":
            corrected(model, batch, rng, int(rng.integers(0, 3)))
        for options in optimizer.param_groups:
            options["lr"] = 1e-3 * min(1.0, (step + 1) / 50)
        with torch.autocast("cpu", torch.bfloat16):
            logits = answer(model, batch)
        loss = criterion(logits, batch["target"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[form].append(float(loss.detach()))
        step += 1
        if step % every == 0:
            means = {form: round(float(np.mean(v)), 4) for form, v in losses.items() if v}
            log(run, what="start", step=step, cpu_s=round(spent + time.process_time() - began), **means)
            losses = {form: [] for form in FORMS}
            adaptation.take().save(run / "start.safetensors")
            put_by(run / "start.pt", adaptation, optimizer, step, spent + time.process_time() - began)
            prompts(run, adaptation.module, f"start {step}", few=12)


@torch.no_grad()
def prompts(run: Path, model: SSAM, what: str, few: int | None = None) -> None:
    """Dice of a box and after 1, 3 and 5 clicks on the sets that are tried, into the log."""
    for group in (g for g in TRIED.values() if (run / "embedded" / g).is_dir()):
        shown = [s for s in read(run, group) if s.present][:few]
        scores: dict[str, list[float]] = {"box": [], "1": [], "3": [], "5": []}
        for one in shown:
            masks = one.masks[one.present]
            arrays = [mask.numpy() for mask in masks]
            embedding = one.embedding.float()[None].expand(len(masks), -1, -1, -1)
            boxes = torch.tensor(np.stack([box(mask) for mask in arrays]))
            with torch.autocast("cpu", torch.bfloat16):
                scores["box"] += dice(answer(model, {"embedding": embedding, "boxes": boxes}), masks)
                points = torch.tensor([deepest_point(m) for m in arrays], dtype=torch.float32).flip(-1)[:, None]
                batch = {"embedding": embedding, "points": points, "arrays": arrays}
                batch["point_labels"] = torch.ones(len(points), 1, dtype=torch.long)
                for count in ("1", "3", "5") if few is None else ("1",):
                    corrected(model, batch, None, int(count) - batch["points"].shape[1])
                    scores[count] += dice(answer(model, batch), masks)
        log(run, what=f"prompts, {what}", set=group, **{k: round(float(np.mean(v)), 3) for k, v in scores.items() if v})


def dice(logits: Tensor, truth: Tensor) -> list[float]:
    """Of each object, in the square that the network sees."""
    found, true = logits[:, 0] > 0, truth.bool()
    return (2 * (found & true).sum((1, 2)) / (found.sum((1, 2)) + true.sum((1, 2)))).tolist()


def embeddings(model: SSAM, shown: Sequence[Shown]) -> Tensor:
    """(B, 256, 64, 64), by the tail of the encoder where that may be tuned."""
    if shown[0].before is None:
        return torch.stack([one.embedding.float() for one in shown])
    encoder = model.image_encoder
    before = torch.stack([one.before.float() for one in shown]).contiguous(memory_format=torch.channels_last)
    return encoder.neck(encoder.layers[TAIL](before)).float()


def tune(
    run: Path,
    group: str,
    begin: str,
    layers: str,
    loss: str,
    images: int,
    minutes: float,
    seed: int,
    rate: float | None,
    every: int = 20,
) -> None:
    """Learns the names of a set from some of its images; the scores of the held-out ones go to the log."""
    shown = read(run, group)
    training, held = split(shown, 0.25, seed)
    drawn = np.random.default_rng((seed, 1)).permutation(len(training))[:images]
    training = [training[i] for i in sorted(drawn)]
    copies = [path for one in training for path in sorted((run / "copies" / group).glob(f"{one.name}@*.pt"))]
    training += [Shown(path) for path in copies]
    if not layers.startswith("tail"):
        for one in training + held:
            one.before = None
    names = sorted({name for s in shown for name in s.names})
    adaptation = adapted(layers, begun(run, begin))
    rate = rate or LAYERS[layers][3]
    optimizer = torch.optim.AdamW(list(adaptation.trainable().values()), rate, weight_decay=0.01)
    state = run / f"tune_{group}_{begin}_{layers}_{loss}_{images}_{minutes:g}_{rate:g}_{seed}.pt"
    step, spent = taken_up(state, adaptation, optimizer)
    criterion, began, share = loss_of(LOSSES[loss]), time.process_time() - spent, 0.0
    while share < 1:
        rng = np.random.default_rng((seed, 2, step))
        share = (time.process_time() - began) / (60 * minutes)
        for options in optimizer.param_groups:
            options["lr"] = rate * min(1.0, 20 * share + 0.05) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        with torch.autocast("cpu", torch.bfloat16):
            batch = batch_of(training, "name", rng, adaptation.module)
            logits = answer(adaptation.module, batch)
        loss_value = criterion(logits, batch["target"])
        optimizer.zero_grad()
        loss_value.backward()
        optimizer.step()
        step += 1
        if step % every == 0:
            put_by(state, adaptation, optimizer, step, time.process_time() - began)
    scores: dict[str, list[float]] = {name: [] for name in names}
    features = encode_names(names, text_dim=TEXT_DIM)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for one in held:
            logits, _ = adaptation.module.decode(embeddings(adaptation.module, [one]), features)
            found = F.interpolate(logits.float(), (VIEW.size, VIEW.size), mode="bilinear", align_corners=False)[0]
            found = (found > 0) & (found == found.max(0, keepdim=True).values)
            for name, mask in zip(names, found, strict=True):
                if name in one.names and one.names.index(name) in one.present:
                    truth = one.masks[one.names.index(name)]
                    scores[name].append(float(2 * (mask & truth).sum() / (mask.sum() + truth.sum())))
    means = {name: round(float(np.mean(v)), 3) for name, v in scores.items() if v}
    log(
        run,
        what="tune",
        **{
            "set": group,
            "start": begin,
            "layers": layers,
            "loss": loss,
            "images": images,
            "copies": len(copies),
            "held": len(held),
        },
        **{"minutes": minutes, "steps": step, "seed": seed, "rate": rate, "trained": adaptation.count()},
        dice=means,
        mean=round(float(np.mean(list(means.values()))), 3),
    )
    state.unlink(missing_ok=True)


def read(run: Path, group: str = "*") -> list[Shown]:
    """The encoded pictures of a set, in order."""
    found = [Shown(path) for path in sorted((run / "embedded").glob(f"{group}/*.pt"))]
    if not found:
        raise ValueError(f"{run / 'embedded' / group}: nothing there; run embed first")
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.research.lite_medsam_names", description=__doc__.splitlines()[0]
    )
    parser.add_argument("what", choices=("embed", "start", "prompts", "tune"))
    parser.add_argument("--run", type=Path, required=True, help="folder of everything that is kept")
    parser.add_argument("--data", type=Path, help="embed: folder of the data sets")
    parser.add_argument("--minutes", type=float, default=15, help="start, tune: of one processor core (15)")
    parser.add_argument("--set", nargs="+", help="embed: of these sets alone; tune: whose names (curvas)")
    parser.add_argument("--start", nargs="+", default=["published"], choices=("published", "mixed"))
    parser.add_argument("--layers", nargs="+", default=["decoder"], choices=LAYERS)
    parser.add_argument("--loss", nargs="+", default=["focal20"], choices=LOSSES)
    parser.add_argument("--images", type=int, default=16, help="tune: to learn from (16)")
    parser.add_argument(
        "--copies", type=int, default=0, help="embed: varied copies of a picture to learn names from (0)"
    )
    parser.add_argument("--rate", type=float, help="tune: of learning, the layers' own by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args(arguments)
    given.run.mkdir(parents=True, exist_ok=True)
    try:
        if given.what == "embed":
            if given.data is None:
                raise ValueError("embed without --data: expected the folder of the data sets")
            embed(given.data, given.run, given.set, given.copies)
        elif given.what == "start":
            start(given.run, given.minutes)
        elif given.what == "prompts":
            for begin in given.start:
                prompts(given.run, adapted("lora", begun(given.run, begin)).module, begin)
        else:
            for seed in given.seeds:
                for begin in given.start:
                    for layers in given.layers:
                        for loss in given.loss:
                            chosen = (given.set or ["curvas"])[0], begin, layers, loss
                            tune(given.run, *chosen, given.images, given.minutes, seed, given.rate)
    except ValueError as problem:
        print(f"python -m tools.research.lite_medsam_names: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
