# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Switches as a configuration and as a command line write them."""

import pytest

from common.flags import flag


@pytest.mark.parametrize(("value", "expected"), [(True, True), (False, False), ("true", True), ("False", False)])
def test_words_are_understood(value, expected):
    assert flag("overlay", value) is expected


@pytest.mark.parametrize("value", ["yes", 1, None, ""])
def test_others_are_refused(value):
    with pytest.raises(ValueError, match=r"overlay .*expected true or false"):
        flag("overlay", value)
