# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The options of this bundle's configurations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .common.label_volume import EXTENSIONS
from .common.options import Options
from .common.options.kinds import Bytes, Device, Number, Path, Points, Postfix, Switch, Whole, Window
from .common.options.words import Said
from .inference.fast_path import PRECISIONS

CubeSize = Annotated[Whole, Field(ge=16, le=512, multiple_of=16)]
Spacing = Annotated[Number, Field(gt=0, le=1000)]
Amp = Switch | Literal[("auto", *PRECISIONS)]
Image = (
    Path
    | Annotated[dict[str, Any], Said("{image: path, ...} with prompts of its own")]
    | Annotated[list[Path | dict[str, Any]], Field(min_length=1), Said("a list of these")]
)


class Inference(Options):
    """inference.json."""

    bundle_root: Path = Field(description="the bundle's folder")
    debug: Switch = Field(description="end with Python's traceback where something fails, instead of one sentence")
    image: Image | None = Field(description="what is segmented; several get the same prompts, or each its own")
    foreground: Points | None = Field(description="clicks on the object, [[i, j, k], ...]: voxel indices as stored")
    background: Points | None = Field(description="clicks beside the object")
    points: Points | None = Field(description="clicks of both kinds, with point_labels")
    point_labels: Points | None = Field(description="1 on the object, 0 beside it, for each of points")
    box: Points | None = Field(description="[[i, j, k], [i, j, k]]: lowest and highest voxel")
    scribble: Path | None = Field(description="file on the image's grid: 1 strokes on the object, 2 beside it")
    previous_mask: Path | None = Field(description="file on the image's grid: the last mask, to be corrected")
    objects: Annotated[dict[str, Any], Said("{name: prompts}")] | None = Field(description="several objects at once")
    output_dir: Path = Field(description="folder of the masks, made where it does not exist")
    output_ext: Literal[tuple(EXTENSIONS)] = Field(description="the masks' format")
    output_postfix: Postfix = Field(description="added to the image's name")
    separate_folder: Switch = Field(description="a folder for each image")
    preview: Switch = Field(description="write a picture beside the mask")
    device: Device = Field(description="where to compute; auto takes a GPU where there is one")
    amp: Amp = Field(description="precision of the networks; mixed changes no mask visibly")
    cube_size: CubeSize = Field(description="voxels a side of the cube that the network sees")
    spacing: Spacing = Field(description="mm between the voxels of the cube")
    small_cube_size: CubeSize | None = Field(description="of a finer cube for a small object; null for cube_size")
    rounds: Annotated[Whole, Field(ge=1, le=100)] = Field(description="how often the first prompts are asked")
    one_way: Switch = Field(description="a further click changes the mask in its own direction alone")
    window: Window = Field(description="intensities that count")
    volume_cache_bytes: Bytes = Field(description="of volumes kept for the next request, in a server")
    embedding_cache_bytes: Bytes = Field(description="of embeddings kept for the next click, in a server")
    dataset_dir: Path = Field(description="not used: MONAI's name for a folder of images")
    ckpt_path: Path = Field(description="the weights")
