# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import json

import pytest

from common.data_list import read_data_list


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.nii.gz", "a_seg.nii.gz", "b.png", "b_seg.png"):
        (folder / name).write_bytes(b"")
    return folder


A = {"image": "a.nii.gz", "label": "a_seg.nii.gz"}
B = {"image": "b.png", "label": "./b_seg.png"}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_items_with_names(data, tmp_path):
    content = {
        "labels": {"0": "background", "1": "liver", "2": "spleen"},
        "training": [A],
        "validation": [{**A, "label_names": {"3": "aorta"}, "fold": 2}, B],
    }
    items = read_data_list(write(tmp_path / "list.json", content), data, "validation")
    assert items == [
        {
            "image": str(data / "a.nii.gz"),
            "label": str(data / "a_seg.nii.gz"),
            "label_names": {3: "aorta"},
            "fold": 2,
        },
        {"image": str(data / "b.png"), "label": str(data / "b_seg.png"), "label_names": {1: "liver", 2: "spleen"}},
    ]
    assert len(read_data_list(tmp_path / "list.json", str(data))) == 1


def test_paths_beside_the_list_and_absolute_ones(data, tmp_path):
    absolute = {"image": str(data / "b.png"), "label": "a_seg.nii.gz"}
    file = write(data / "list.json", {"training": [A, absolute]})
    for folder in (None, "", tmp_path):
        first, second = read_data_list(file, folder)
        assert first["image"] == str(data / "a.nii.gz")
        assert second["image"] == str(data / "b.png")
        assert first["label_names"] == {}
    # dataset_dir comes first where both have the file.
    (tmp_path / "a.nii.gz").write_bytes(b"")
    assert read_data_list(file, tmp_path)[0]["image"] == str(tmp_path / "a.nii.gz")


def test_relative_to_the_working_directory(data, monkeypatch):
    write(data / "list.json", {"training": [A]})
    monkeypatch.chdir(data)
    assert read_data_list("list.json")[0]["image"] == str(data / "a.nii.gz")
    assert read_data_list("list.json", ".")[0]["label"] == str(data / "a_seg.nii.gz")


def test_names_as_nnunet_spells_them(data):
    file = write(data / "dataset.json", {"labels": {"background": 0, "kidney": 1}, "training": [A]})
    assert read_data_list(file)[0]["label_names"] == {1: "kidney"}


def test_pictures_with_colours_and_a_mask_for_each_name(data):
    colours = {"liver": [255, 0, 255], "kidney": [255, 255, 0]}
    masks = {"liver": "a_seg.nii.gz", "kidney": "b_seg.png"}
    file = write(data / "list.json", {"labels": colours, "training": [B, {"image": "b.png", "label": masks}]})
    first, second = read_data_list(file)
    assert first["label_names"] == {"liver": (255, 0, 255), "kidney": (255, 255, 0)}
    assert second["label"] == {"liver": str(data / "a_seg.nii.gz"), "kidney": str(data / "b_seg.png")}
    lost = {"image": "b.png", "label": {"liver": "lost.png", "kidney": "b_seg.png"}}
    with pytest.raises(ValueError, match=r"lost.png \(label of training\[0\]\)"):
        read_data_list(write(data / "list.json", {"training": [lost]}))


def test_all_missing_files_in_one_message(data):
    lost = [{"image": f"lost{i}.nii.gz", "label": "a_seg.nii.gz"} for i in range(3)]
    file = write(data / "list.json", {"training": [A, *lost, {"image": "b.png", "label": "gone.png"}]})
    with pytest.raises(ValueError) as caught:
        read_data_list(file)
    message = str(caught.value)
    assert "4 files do not exist" in message and str(data) in message
    for name in ("lost0.nii.gz (image of training[1])", "lost2.nii.gz", "gone.png (label of training[4])"):
        assert name in message


def test_many_missing_files_are_counted(data):
    lost = [{"image": f"lost{i}", "label": "a_seg.nii.gz"} for i in range(50)]
    with pytest.raises(ValueError, match="50 files do not exist(.|\n)*lost19(.|\n)*and 30 more"):
        read_data_list(write(data / "list.json", {"training": lost}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"training": [', "not valid JSON.*line 1 column 15.*expected"),
        ([A], "holds a list; expected"),
        ({"training": []}, "training is an empty list; expected"),
        ({"validation": [A], "name": "x"}, r"no section 'training' \(there: validation\)"),
        ({}, r"no section 'training' \(there: none\)"),
        ({"training": {"image": "a"}}, "training is a dict"),
        ({"training": ["a.nii.gz"]}, r"training\[0\] is 'a.nii.gz'; expected"),
        ({"training": [A, {"image": "a.nii.gz"}]}, r"training\[1\]: label is None; expected the path"),
        ({"training": [{**A, "image": ["a.nii.gz"]}]}, "expected the path of one file"),
        ({"training": [{**A, "label": {}}]}, "label is {}; expected the path of one file or {NAME: FILE}"),
        ({"training": [{**A, "label": {"liver": 3}}]}, "expected the path of one file or {NAME: FILE}"),
        ({"training": [A], "labels": {"liver": [256, 0, 0]}}, "labels: 'liver'"),
        ({"training": [{**A, "label_names": ["liver"]}]}, "label_names: holds .'liver'.; expected"),
        ({"training": [{**A, "label_names": {"one": "liver"}}]}, "'one': 'liver'; expected for values"),
        ({"training": [{**A, "label_names": {"1": ""}}]}, "'1': ''; expected for values"),
        ({"training": [{**A, "label_names": {"1": "liver", "2": "liver"}}]}, "comes twice"),
        ({"training": [A], "labels": {"whole": [1, 2], "liver": 1}}, "labels: 'whole'"),
    ],
)
def test_bad_lists(data, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_data_list(write(data / "list.json", content))
    assert "list.json" in str(caught.value)


def test_no_such_list_or_folder(data, tmp_path):
    with pytest.raises(ValueError, match="none.json: no such file; expected JSON"):
        read_data_list(tmp_path / "none.json")
    with pytest.raises(ValueError, match="dataset_dir .*nowhere: no such folder"):
        read_data_list(write(data / "list.json", {"training": [A]}), tmp_path / "nowhere")
