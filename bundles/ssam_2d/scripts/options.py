# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The options of this bundle's configurations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common.label_volume import EXTENSIONS
from .common.options.kinds import (
    Box,
    Bytes,
    Count,
    FromZero,
    Image,
    Names,
    Number,
    Objects,
    Path,
    Positive,
    Seed,
    Share,
    Switch,
    Text,
    Whole,
)
from .common.options.shared import Clicks, Results, Run, Workflow
from .common.options.words import Said
from .view import VIEWS

Between = Annotated[Number, Field(gt=0, lt=1), Said("a number between 0 and 1")]
Axis = Annotated[Whole, Field(ge=0, le=2), Said("a stored axis 0, 1 or 2")]


class _Workflow(Workflow):
    """What every configuration of this bundle has."""

    # A network_def laid over this one need not ask for the first two, nor labels given by hand for the last.
    others = (*Workflow.others, "text_dim", "prompt_path", "box_path", "view", "metadata")

    image_size: Annotated[Whole, Field(ge=16, le=4096, multiple_of=16)] = Field(
        description="pixels a side of what the network is shown"
    )


class Inference(_Workflow, Clicks, Results):
    """inference.json."""

    image: Image | None = Field(description="what is segmented: a picture or volume, a folder of these, or several")
    labels: Names | Text | None = Field(description="names of what is looked for; null for all that the weights know")
    box: Box | None = Field(description="[[x, y], [x, y]] or with three indices: lowest and highest pixel")
    objects: Objects | None = Field(description="several objects at once")
    adapter: Path | Annotated[dict[str, Path], Said("{name: path}")] | None = Field(
        description="what training wrote, put on models/bases/small.pt"
    )
    use_adapter: Text | Annotated[dict[str, Number], Said("{name: weight}")] | None = Field(
        description="which of several adapters, or a blend of them; null: the one that knows each name"
    )
    text_model: Path | None = Field(description="encodes names that the weights do not know; a folder")
    output_ext: Literal[tuple(EXTENSIONS)] = Field(description="the format of volumes' masks")
    overlay: Switch = Field(description="write a picture beside the mask")
    probabilities: Switch = Field(description="write the probability of every label")
    threshold: Between = Field(description="probability above which a pixel belongs to a label")
    slice_axis: Literal["auto", "axial", "coronal", "sagittal"] | Axis = Field(description="of volumes: which slices")
    label_names: Names | None = Field(description="of the labels in their order, for weights that hold none")
    max_pixels: Count = Field(description="of a picture; more are refused before memory is taken")
    max_voxels: Count = Field(description="of a volume; more are refused before memory is taken")
    max_objects: Count = Field(description="the most objects of a request")
    max_clicks: Count = Field(description="the most clicks of an object")
    amp: Switch = Field(description="half precision")
    embedding_cache_bytes: Bytes = Field(description="of embeddings that are kept for the next request")
    view: Literal[VIEWS] = Field(description="how a picture is made a square: stretched, or padded as SAM or MedSAM do")
    box_path: Path | None = Field(
        description="LiteMedSAM's weights, which answer boxes without a name; lite_medsam: those in the user's cache, "
        "where they are; null for prompt_path"
    )
    prompt_path: Path | None = Field(
        description="the SAM that answers clicks and boxes without a name; null for the weights themselves"
    )


class _Data(_Workflow):
    """Labelled images."""

    data_list_file_path: Path | None = Field(description="list of labelled images, JSON")
    dataset_dir: Path | None = Field(description="folder with images, masks and labels.json, or of the list's paths")
    labels: Names | None = Field(description="which of the data's labels; null for all")
    validation_share: Share = Field(description="of the images that are held out, where the data does not say which")
    seed: Seed = Field(description="of everything that is drawn, the images held out among it")
    max_pixels: Count = Field(description="of a picture; more are refused before memory is taken")
    progress: Switch = Field(description="show progress bars")


class Evaluation(_Data):
    """evaluate.json on inference.json."""

    below = Inference

    # Of experiments that say how to train and how to score; without effect here.
    others = (
        *_Data.others,
        *(
            "batch_size",
            "learning_rate",
            "weight_decay",
            "step_epochs",
            "step_gamma",
            "max_epochs",
            "absent_rate",
            "flip",
        ),
    )

    section: Text = Field(description="which list of the file, or all")
    threshold: Between = Field(description="probability above which a pixel belongs to a label")
    overlaps: Switch = Field(description="a pixel may have several labels")
    tolerance: Positive = Field(description="pixels, of the surface Dice")
    previews: FromZero = Field(description="pictures of the best and of the worst images")
    label_names: Names | None = Field(description="of the labels in their order, for weights that hold none")
    amp: Switch = Field(description="half precision")
    ckpt_path: Path = Field(description="the weights")


class Training(_Data, Run):
    """train.json."""

    view: Literal[VIEWS] = Field(description="how a picture is made a square: stretched, or padded as SAM or MedSAM do")

    # Of experiments, which say how to score too.
    others = (*_Data.others, "overlaps")

    base_path: Path | None = Field(description="weights to start from")
    amp: Switch | Literal["auto"] = Field(description="compute in bfloat16; auto where the processor does")
    text_model: Path = Field(description="what makes features of names: table, clip, or a text encoder")
    text_dim: Count = Field(description="channels of these features")
    cache_num: FromZero = Field(description="images that are kept in memory")
    learning_rate: Annotated[Number, Field(ge=0, le=1)] = Field(description="the highest one of the training")
    weight_decay: Annotated[Number, Field(ge=0)] = Field(description="of AdamW")
    step_epochs: Count | None = Field(description="between two steps of the rate; null for one that falls slowly")
    step_gamma: Annotated[Number, Field(gt=0, le=1)] = Field(description="by which the rate is multiplied at a step")
    absent_rate: Share = Field(description="how often a label is asked for that an image does not show")
    focal_weight: Annotated[Number, Field(ge=0)] = Field(description="of the focal loss, beside Dice")
    flip: Share = Field(description="how often an image is mirrored")
    previews: FromZero = Field(description="validation images in the picture at the end")
    synonyms: Annotated[dict[str, Names], Said("{label: [other names]}")] | None = Field(
        description="other names by which inference finds the labels"
    )


class TailTraining(Training):
    """lite_medsam_train.json on train.json and lite_medsam.json."""

    frozen_stages: Annotated[Whole, Field(ge=0, le=4)] = Field(
        description="of the encoder's four stages so many are passed once, at the beginning"
    )
    copies: Count = Field(description="how often each image is drawn anew, before the draws come again")
    images_seen: Count = Field(description="draws of images in the whole training, where max_epochs is not given")


class BaseTraining(Training):
    """train_base.json on train.json."""

    view: Literal["stretch"] = Field(description="how a picture is made a square: parts of it, stretched")

    read_size: Count = Field(description="pixels a side of what the part that is shown is cut from")
    zoom: Annotated[tuple[Positive, Positive], Said("[least, most]")] = Field(
        description="share of an image's side that is shown"
    )
    warm_up: Share = Field(description="of the training, in which the rate comes up")
    objects: Count = Field(description="asked for in each image")
    rounds: Count = Field(description="how often each object is asked for, corrected in between")
    validation_section: Text = Field(description="which list of the file is validated on")
    validation_prompt: Literal["points", "box"] = Field(description="what validation begins with")
