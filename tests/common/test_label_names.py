# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Names of labels inside a state dict."""

import pytest
import torch

from common.label_names import KEY, check_synonyms, checked, from_tensor, matched, names_in, to_tensor


def test_names_of_any_script_come_back_from_a_file_that_runs_no_code(tmp_path):
    names = ["liver", "Drüse", "肝臓", 'a "b", c']
    torch.save({"weight": torch.ones(2), KEY: to_tensor(names)}, tmp_path / "a.pt")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    assert names_in(state) == names and state[KEY].dtype == torch.uint8
    assert names_in({"weight": torch.ones(2)}) is None
    assert names_in({KEY: to_tensor([])}) == []


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe", b"liver", b'{"1": "liver"}', b'["liver", 2]', b'["liver", " "]', b'["a", "a"]', b"null"]
)
def test_a_tensor_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="label_names holds no names"):
        from_tensor(torch.tensor(list(text), dtype=torch.uint8))


@pytest.mark.parametrize("tensor", [torch.ones(3), torch.tensor([300, -1]), torch.ones(2, 2, dtype=torch.uint8)])
def test_a_tensor_of_other_numbers_is_refused(tensor):
    with pytest.raises(ValueError, match="label_names holds no names"):
        from_tensor(tensor)


def test_names_that_come_twice_are_named():
    with pytest.raises(ValueError, match="'liver' come more than once"):
        checked(["liver", "spleen", "liver"])


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("liver", "liver"),
        (" Liver ", "liver"),
        ("livers", "liver"),
        ("fetal_head", "Fetal head"),
        ("FETAL-HEADS", "Fetal head"),
        ("Nuclei", "nucleus"),
        ("cell  nuclei", "nucleus"),
        ("kidney", "kidneys"),
        ("cavity", "cavities"),
        ("live", None),
        ("lens", None),
    ],
)
def test_a_name_is_found_whatever_its_case_number_and_blanks(name, label):
    labels = ["liver", "Fetal head", "nucleus", "kidneys", "cavities", "pancreas"]
    assert matched(name, labels, {"nucleus": ["nuclei", "cell nuclei"]}) == label


def test_a_name_that_may_mean_several_means_none():
    assert matched("Left-kidneys", ["left kidney", "left_kidney"]) is None
    assert matched("left kidney", ["left kidney", "left_kidney"]) == "left kidney"
    assert matched("lesion", ["tumour", "cyst"], {"tumour": ["lesion"], "cyst": ["lesion"]}) is None


@pytest.mark.parametrize(
    "synonyms", [["liver"], {"liver": "hepar"}, {"spleen": ["milt"]}, {"liver": ["a", "a"]}, {"liver": [""]}]
)
def test_synonyms_that_are_none_are_refused(synonyms):
    with pytest.raises(ValueError, match="expected"):
        check_synonyms(synonyms, ["liver"])
