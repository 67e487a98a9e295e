# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Names and places of results, and what would be overwritten."""

import json

import pytest

from common.image_items import check_names, image_items
from common.result_files import ResultFiles, case_name, is_result

SUFFIXES = (".nii.gz", ".json", ".png")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b/case.nii.gz", "case"),
        ("case.v2.NII", "case.v2"),
        ("a/scan.mha", "scan"),
        ("dicom/folder/", "folder"),
        ("a/..", ""),
        # What was exported from it is slice.png.
        ("slice.dcm", "slice.dcm"),
        ("photo.JPEG", "photo"),
        ("no_ending", "no_ending"),
    ],
)
def test_case_names(path, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert case_name(path) == (name or tmp_path.name)


def test_the_folder_itself_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "series").mkdir()
    monkeypatch.chdir(tmp_path / "series")
    assert case_name(".") == "series"


def test_a_link_has_its_own_name(tmp_path):
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "9f86d081").write_bytes(b"")
    for name in ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"):
        (tmp_path / name).symlink_to("objects/9f86d081")
    links = [str(tmp_path / name) for name in ("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz")]
    assert [case_name(link) for link in links] == ["sub-01_T1w", "sub-02_T1w"]
    # Two links to one file have a result each.
    check_names(image_items(links, {}, "a volume"))
    ResultFiles(tmp_path / "out").check(links, lambda source: SUFFIXES)


def test_forms_of_images():
    assert image_items(None, {"box": None}, "") == []
    assert image_items("a.nii", {"box": None}, "") == [{"image": "a.nii", "box": None}]
    two = image_items(["a.nii", {"image": "b.nii", "box": 2}], {"box": 1}, "")
    assert two == [{"image": "a.nii", "box": 1}, {"image": "b.nii", "box": 2}]
    for wrong, reason in (("", "no image was given"), (3, "image is 3"), ([{"box": 1}], "image is None"), ([3], "3")):
        with pytest.raises(ValueError, match=reason):
            image_items(wrong, {}, "a volume")
    with pytest.raises(ValueError, match=r"several images are named a \(x/a.nii, y/a.nii.gz\).*overwrite"):
        check_names([{"image": "x/a.nii"}, {"image": "y/a.nii.gz"}])


def test_the_longest_name_is_checked_before_the_work(tmp_path):
    files = ResultFiles(tmp_path / "out")
    # NAME_seg.nii.gz has 255 bytes, no more.
    files.check([f"{'x' * 244}.nii"], lambda source: SUFFIXES)
    with pytest.raises(ValueError, match="has 256 bytes, a file system takes 255"):
        files.check([f"{'x' * 245}.nii"], lambda source: SUFFIXES)
    with pytest.raises(ValueError, match="has 256 bytes"):
        files.check([f"{'x' * 240}.png"], lambda source: (".png", "_overlay.png", ".json"))
    with pytest.raises(ValueError, match="bytes; expected a path of less than"):
        deep = tmp_path / "/".join(["d" * 200] * 18) / ("d" * 200)
        ResultFiles(deep, separate_folder=True).check([f"{'x' * 200}.nii"], lambda source: SUFFIXES)


def test_nothing_is_overwritten_but_earlier_results(tmp_path):
    image, other = tmp_path / "a.nii.gz", tmp_path / "a_seg.nii.gz"
    image.write_bytes(b"image")
    same = ResultFiles(tmp_path)
    same.check([str(image)], lambda source: SUFFIXES)
    other.write_bytes(b"drawn by hand")
    for call in (lambda: same.check([str(image)], lambda source: SUFFIXES), lambda: same.place(image, ".nii.gz")):
        with pytest.raises(ValueError, match=r"a_seg.nii.gz: is there already and is no result .* not overwritten"):
            call()
    (tmp_path / "a_seg.json").write_text(json.dumps({"image": "", "mask": "a_seg.nii.gz", "bundle_version": "1"}))
    assert is_result(other) and is_result(tmp_path / "a_seg.png") and not is_result(image)
    assert same.place(image, ".nii.gz") == (tmp_path, "a_seg")
    # Nor other images of the same call, which here is a result that was named as an image.
    with pytest.raises(ValueError, match="would overwrite this image"):
        same.check([str(image), str(other)], lambda source: SUFFIXES)
    with pytest.raises(ValueError, match="the index map would overwrite the image"):
        ResultFiles(tmp_path, "").place(image, ".nii.gz")
    # The image is a link to where the result would be written.
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.nii.gz").symlink_to("../b_seg.nii.gz")
    (tmp_path / "b_seg.nii.gz").write_bytes(b"image")
    with pytest.raises(ValueError, match="the index map would overwrite the image"):
        same.place(tmp_path / "in" / "b.nii.gz", ".nii.gz")


def test_the_result_of_another_image_of_the_same_name_is_kept(tmp_path, monkeypatch):
    files = ResultFiles(tmp_path / "out")
    described = {"image": str(tmp_path / "pat1" / "scan.nii.gz"), "mask": "scan_seg.nii.gz", "bundle_version": "1"}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scan_seg.json").write_text(json.dumps(described))
    for extension in (".nii.gz", ".mha"):
        with pytest.raises(ValueError, match=r"describes the result of \S+pat1/scan.nii.gz, .* another output_dir"):
            files.check([str(tmp_path / "pat2" / "scan.nii.gz")], lambda source, e=extension: (e, ".json"))
    # The same image again, wherever it is called from.
    (tmp_path / "pat1").mkdir()
    monkeypatch.chdir(tmp_path / "pat1")
    files.check(["scan.nii.gz"], lambda source: SUFFIXES)


def test_results_that_overwrite_each_other(tmp_path):
    files = ResultFiles(tmp_path, "")
    with pytest.raises(ValueError, match="a_overlay.png: the results of a.jpg and of a_overlay.jpg"):
        files.check(["a.jpg", "a_overlay.jpg"], lambda source: (".png", "_overlay.png", ".json"))


@pytest.mark.parametrize("postfix", ["a/b", "../a", "a/"])
def test_a_postfix_is_no_path(tmp_path, postfix):
    with pytest.raises(ValueError, match="output_postfix .*: expected a part of a file's name"):
        ResultFiles(tmp_path, postfix)


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"image": "a"}', '{"image": "a", "mask": "b.png", "bundle_version": "1"}']
)
def test_what_no_description_names_is_an_image(tmp_path, content):
    for name in ("a_seg.png", "a_seg_overlay.png"):
        (tmp_path / name).write_bytes(b"")
    assert not is_result(tmp_path / "a_seg.png")
    (tmp_path / "a_seg.json").write_text(content)
    assert not is_result(tmp_path / "a_seg_overlay.png")
