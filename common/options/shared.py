# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Options that the configurations of both bundles have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..dicom_out import FORMS
from ..surface import MESHES
from .kinds import Count, Device, FromZero, Marks, Path, Points, Postfix, Switch, Text, Window
from .schema import Options
from .words import Said


class Workflow(Options):
    """What every configuration has."""

    bundle_root: Path = Field(description="the bundle's folder")
    debug: Switch = Field(description="where something fails, end with Python's traceback instead of one sentence")
    device: Device = Field(description="where to compute; auto takes a GPU where there is one")
    output_dir: Path = Field(description="folder of the results, made where it does not exist")
    window: Window = Field(description="intensities that count: [low, high], ct, percentile, or auto for one of these")


class Clicks(Options):
    """Clicks on what is segmented."""

    foreground: Points | None = Field(
        description="clicks on the object: [[i, j, k], ...], voxels as stored, or [[x, y], ...], pixels of a picture"
    )
    background: Points | None = Field(description="clicks beside the object")
    points: Points | None = Field(description="clicks of both kinds, with point_labels")
    point_labels: Marks | None = Field(description="1 on the object, 0 beside it, for each of points")


class Results(Options):
    """How the files of an image's result are called."""

    output_postfix: Postfix = Field(description="added to the image's name; may be empty")
    separate_folder: Switch = Field(description="a folder for each image")
    dicom: Literal[FORMS] | Annotated[list[Literal[FORMS]], Field(min_length=1), Said("a list of both")] | None = Field(
        description="of DICOM images, also write DICOM: a segmentation (seg), a structure set (rtstruct)"
    )
    mesh: Literal[MESHES] | None = Field(description="also write the surface of each label of a volume")
    dataset_dir: Path = Field(description="not used; MONAI's name for a folder of images")
    ckpt_path: Path = Field(description="the weights")


class Run(Options):
    """A training that can be stopped and resumed."""

    run_name: Text = Field(description="the run's folder in the bundle's runs, where no output_dir is given")
    resume: Switch = Field(description="go on with the run in output_dir")
    save_every: FromZero = Field(description="iterations between states; 0 for ends of epochs")
    num_workers: FromZero = Field(description="processes that prepare images")
    batch_size: Count = Field(description="images, or cubes of volumes, in a batch")
    max_epochs: Count = Field(description="length of the training")
    val_interval: Count = Field(description="epochs between validations")
    patience: Count | None = Field(description="validations without a better score after which the training ends")
    main_process: Switch = Field(description="set by multi_gpu_train.json: whether this process writes")
