# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The options of this bundle's configurations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common.label_volume import EXTENSIONS
from .common.options import Options
from .common.options.kinds import (
    Box,
    Bytes,
    Count,
    Device,
    Image,
    Marks,
    Names,
    Number,
    Objects,
    Path,
    Points,
    Postfix,
    Switch,
    Text,
    Whole,
    Window,
)
from .common.options.words import Said

Between = Annotated[Number, Field(gt=0, lt=1), Said("a number between 0 and 1")]
Axis = Annotated[Whole, Field(ge=0, le=2), Said("a stored axis 0, 1 or 2")]


class _Workflow(Options):
    """What every configuration has."""

    # A network_def laid over this one need not ask for these.
    others = (*Options.others, "text_dim", "prompt_path")

    bundle_root: Path = Field(description="the bundle's folder")
    debug: Switch = Field(description="where something fails, end with Python's traceback instead of one sentence")
    device: Device = Field(description="where to compute; auto takes a GPU where there is one")
    output_dir: Path = Field(description="folder of the results, made where it does not exist")
    image_size: Annotated[Whole, Field(ge=16, le=4096, multiple_of=16)] = Field(
        description="pixels a side of what the network is shown"
    )
    window: Window = Field(description="intensities that count: [low, high], ct, percentile, or auto for one of these")


class Inference(_Workflow):
    """inference.json."""

    image: Image | None = Field(description="what is segmented: a picture or volume, a folder of these, or several")
    labels: Names | Text | None = Field(description="names of what is looked for; null for all that the weights know")
    foreground: Points | None = Field(description="clicks on the object: [[x, y], ...] pixels, [[i, j, k], ...] voxels")
    background: Points | None = Field(description="clicks beside the object")
    points: Points | None = Field(description="clicks of both kinds, with point_labels")
    point_labels: Marks | None = Field(description="1 on the object, 0 beside it, for each of points")
    box: Box | None = Field(description="[[x, y], [x, y]] or with three indices: lowest and highest pixel")
    objects: Objects | None = Field(description="several objects at once")
    adapter: Path | Annotated[dict[str, Path], Said("{name: path}")] | None = Field(
        description="what training wrote, put on models/bases/small.pt"
    )
    use_adapter: Text | Annotated[dict[str, Number], Said("{name: weight}")] | None = Field(
        description="which of several adapters, or a blend of them"
    )
    text_model: Path | None = Field(description="encodes names that the weights do not know; a folder")
    output_ext: Literal[tuple(EXTENSIONS)] = Field(description="the format of volumes' masks")
    output_postfix: Postfix = Field(description="added to the image's name; may be empty")
    separate_folder: Switch = Field(description="a folder for each image")
    overlay: Switch = Field(description="write a picture beside the mask")
    probabilities: Switch = Field(description="write the probability of every label")
    threshold: Between = Field(description="probability above which a pixel belongs to a label")
    slice_axis: Literal["auto", "axial", "coronal", "sagittal"] | Axis = Field(description="of volumes: which slices")
    label_names: Names | None = Field(description="of the labels in their order, for weights that hold none")
    max_pixels: Count = Field(description="of a picture; more are refused before memory is taken")
    max_voxels: Count = Field(description="of a volume; more are refused before memory is taken")
    amp: Switch = Field(description="half precision")
    embedding_cache_bytes: Bytes = Field(description="of embeddings that are kept for the next request")
    dataset_dir: Path = Field(description="not used; MONAI's name for a folder of images")
    ckpt_path: Path = Field(description="the weights")
    prompt_path: Path | None = Field(
        description="the SAM that answers clicks and boxes without a name; null for the weights themselves"
    )
