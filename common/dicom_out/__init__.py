# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Masks of DICOM images as DICOM: segmentations and structure sets that refer to the images."""

# What can be written: a segmentation, a structure set.
FORMS = ("seg", "rtstruct")
