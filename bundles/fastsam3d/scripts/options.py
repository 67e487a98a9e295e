# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The options of this bundle's configurations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from .common.distillation.distances import DISTANCES
from .common.distillation.schedule import UNITS
from .common.intensity import NORMALISATIONS
from .common.label_volume import EXTENSIONS
from .common.options.kinds import (
    Box,
    Bytes,
    Count,
    FromZero,
    Image,
    Irregular,
    Names,
    Number,
    Objects,
    Path,
    Positive,
    Rate,
    Seed,
    Series,
    Share,
    Switch,
    Text,
    Whole,
)
from .common.options.shared import Clicks, Results, Run, Workflow
from .common.options.words import Said
from .evaluation.protocol import FIRST, PROTOCOLS
from .inference.speed.fast_path import PRECISIONS


def _rising(numbers: list[int]) -> list[int]:
    if not numbers or numbers != sorted(set(numbers)):
        raise PydanticCustomError("rising", "not rising")
    return numbers


CubeSize = Annotated[Whole, Field(ge=16, le=512, multiple_of=16)]
Spacing = Annotated[Number, Field(gt=0, le=1000)]
Amp = Switch | Literal[("auto", *PRECISIONS)]
Rising = Annotated[list[Count], AfterValidator(_rising), Said("rising numbers from 1 on, such as [1, 3, 5, 10]")]
Layer = Annotated[int | str, Said("a block's number or embedding")]


class _Workflow(Workflow):
    """What every configuration of this bundle has."""

    cube_size: CubeSize = Field(description="voxels a side of the cube that the network sees")
    spacing: Spacing = Field(description="mm between the voxels of the cube")
    irregular: Irregular = Field(description="DICOM slices that lack some or lie at uneven distances")
    slice_thickness: Positive | None = Field(description="mm, of a single DICOM slice that does not say it")
    max_voxels: Count = Field(description="of a volume; more are refused before memory is taken")
    rounds: Annotated[Whole, Field(ge=1, le=100)] = Field(description="how often the first prompts are asked")


class _Inferer(_Workflow):
    """What concerns the way from prompts to masks."""

    amp: Amp = Field(description="precision of the networks; mixed changes no mask visibly")
    small_cube_size: CubeSize | None = Field(description="of a finer cube for a small object; null for cube_size")
    one_way: Switch = Field(description="a further click changes the mask in its own direction alone")
    temperature: Positive = Field(description="of the weights: makes probabilities of their logits")
    rounds: Annotated[Whole, Field(ge=1)] = Field(
        description="how often the first prompts are asked, at most max_rounds"
    )
    max_rounds: Count = Field(description="the most rounds that are accepted, each of which takes as long as the first")
    max_objects: Count = Field(description="the most objects of a request")
    max_clicks: Count = Field(description="the most clicks of an object")
    volume_cache_bytes: Bytes = Field(description="of volumes that are kept for the next request")
    embedding_cache_bytes: Bytes = Field(description="of embeddings that are kept for the next click")
    ckpt_path: Path = Field(description="the weights")


class Inference(_Inferer, Clicks, Results):
    """inference.json."""

    image: Image | None = Field(description="what is segmented; several get the same prompts, or each its own")
    series: Series | None = Field(description="which stack of a DICOM folder that holds several")
    box: Box | None = Field(description="[[i, j, k], [i, j, k]]: lowest and highest voxel")
    scribble: Path | None = Field(description="file on the image's grid: strokes, 1 on the object, 2 beside it")
    lasso: Path | None = Field(
        description="file on the image's grid: in a slice, 1 inside an outline around the object"
    )
    previous_mask: Path | None = Field(description="file on the image's grid: the last mask, to be corrected")
    objects: Objects | None = Field(description="several objects at once")
    output_ext: Literal[tuple(EXTENSIONS)] = Field(description="the masks' format")
    preview: Switch = Field(description="write a picture beside the mask")
    probabilities: Switch = Field(description="write those of every voxel beside the mask")


class _Data(_Workflow):
    """Labelled volumes."""

    data_list_file_path: Path | None = Field(description="list of labelled volumes, JSON")
    dataset_dir: Path | None = Field(description="where the paths of the list start; null for the list's folder")
    progress: Switch = Field(description="show progress bars")


class Evaluation(_Inferer, _Data):
    """evaluate.json on inference.json."""

    below = Inference

    section: Text = Field(description="which list of the file")
    protocol: Literal[PROTOCOLS] = Field(description="cvpr25: a box, five clicks, areas under the curves")
    first: Literal[FIRST] = Field(description="the first prompt; all but click are scored alone too")
    clicks: Rising = Field(description="after how many clicks masks are scored")
    tolerance: Positive = Field(description="mm, of the surface Dice")
    previews: FromZero = Field(description="pictures of the best and of the worst cases")
    threads: Count = Field(description="processor threads of torch")


class Training(_Data, Run):
    """train.json; train_teacher.json on it too."""

    ckpt_path: Path | None = Field(description="weights to start from; null for random ones")
    seed: Seed = Field(description="of everything that is drawn")
    amp: Switch | Literal["auto"] = Field(description="compute in bfloat16; auto where the processor does")
    one_way: Switch = Field(description="a further click changes the mask in its own direction alone, in validation")
    normalisation: Literal[tuple(NORMALISATIONS)] = Field(description="of intensities; above_zero as SAM-Med3D")
    cache_dir: Path | None = Field(description="folder for prepared volumes; null keeps them in memory")
    draws: Count | None = Field(description="cubes in an epoch; null for one of each volume, 8 or more")
    sizes: list[Annotated[Whole, Field(ge=8, le=512, multiple_of=8)]] = Field(
        description="voxels a side of the cubes of a step, in turns"
    )
    shares: Annotated[dict[str, Number], Said("{data set: share}")] | None = Field(
        description="how often each data set is drawn, whatever the number of its volumes"
    )
    joined: Switch = Field(description="kidney_left and kidney_right are an object together too")
    objects: Count = Field(description="asked for in each cube")
    augment: Switch = Field(description="random pose, scale and intensities")
    upright: Share = Field(description="how many of the augmented cubes keep the axes of the body")
    accumulation: Count = Field(description="batches in a step")
    rehearsed: Annotated[list[FromZero], Field(min_length=1)] | FromZero = Field(
        description="clicks before the step that is learnt from, one of these numbers"
    )
    candidates: Switch = Field(description="teach weights to offer several masks for a first click")
    max_minutes: Positive | None = Field(description="after which the training ends, whatever the epoch")
    learning_rate: Rate = Field(description="of all but the encoder")
    encoder_rate: Rate | None = Field(description="learning rate of the image encoder")
    frozen: Names | None = Field(description="parts of the network, or of its parts, that do not learn")
    frozen_epochs: FromZero | None = Field(description="for how many epochs; null for all")
    average: Annotated[Number, Field(ge=0, lt=1)] | None = Field(
        description="how much of the averaged weights each step keeps; null for no average"
    )
    val_clicks: Count = Field(description="clicks on each object in validation")
    val_draws: Count | None = Field(description="cubes of a validation; null for one of each volume, 8 or more")


class Distillation(Training):
    """distill.json on train.json and teacher.json."""

    teacher_path: Path | None = Field(description="the teacher's weights")
    method: Literal["features", "logits"] = Field(description="what of the teacher the student learns")
    pairs: list[tuple[Layer, Layer]] = Field(description="[teacher layer, student layer], in the order of their coming")
    distance: Literal[tuple(DISTANCES)] = Field(description="between two layers")
    widths: list[tuple[Count, Count]] | None = Field(description="[teacher, student] channels that are projected")
    k_every: Count = Field(description="k_unit between two further pairs")
    k_unit: Literal[tuple(UNITS)] = Field(description="what k_every counts")
    k_start: Count = Field(description="pairs at the start")
    feature_cache_dir: Path | None = Field(description="folder for the teacher's features")
