# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM's own parts from the package segment-anything, also where torchvision is broken or missing.

The package's top imports torchvision, for automatic masks and a transform that nothing here uses.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType


def sam_modeling() -> ModuleType:
    """The package's networks.

    Raises:
        ImportError: the package is not installed, or fails for another reason than torchvision.
    """
    try:
        return importlib.import_module("segment_anything.modeling")
    # A missing torchvision raises ImportError, one built for another torch RuntimeError.
    except (ImportError, RuntimeError) as problem:
        spec = importlib.util.find_spec("segment_anything")
        if spec is None:
            raise ImportError("segment-anything is not installed; run `pip install segment-anything==1.0`") from problem
    bare = ModuleType("segment_anything")
    bare.__path__ = list(spec.submodule_search_locations or [])
    sys.modules["segment_anything"] = bare
    try:
        return importlib.import_module("segment_anything.modeling")
    finally:
        # Whoever imports the whole package later shall be told what is wrong, and not find it empty.
        del sys.modules["segment_anything"]


modeling = sam_modeling()
ImageEncoderViT = modeling.ImageEncoderViT
MaskDecoder = modeling.MaskDecoder
PromptEncoder = modeling.PromptEncoder
TwoWayTransformer = modeling.TwoWayTransformer
LayerNorm2d = importlib.import_module(f"{modeling.__name__}.common").LayerNorm2d
_image_encoder = importlib.import_module(f"{modeling.__name__}.image_encoder")
SamBlock = _image_encoder.Block
get_rel_pos = _image_encoder.get_rel_pos
