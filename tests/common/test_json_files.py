# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""JSON that people write."""

import codecs

import pytest

from common.json_files import parse_json, read_json

TEXT = '{"1": "Drüse"}'


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
    ],
)
def test_any_unicode_encoding(tmp_path, content):
    (tmp_path / "labels.json").write_bytes(content)
    assert read_json(tmp_path / "labels.json", "names") == {"1": "Drüse"}
    assert parse_json(content, "--labels", "names") == {"1": "Drüse"}
    assert parse_json("\ufeff" + TEXT, "--labels", "names") == {"1": "Drüse"}


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "not valid JSON"),
        (b'{"1": }', "not valid JSON"),
        (b'{"1": "Dr\xfcse"}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"1": "gland", "2": "duct", "1": "stroma"}', "the key '1' comes twice"),
        (b'{"labels": {"1": "gland", "1": "stroma"}}', "the key '1' comes twice"),
    ],
)
def test_what_is_no_strict_json(tmp_path, content, reason):
    (tmp_path / "labels.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"labels.json: .*{reason}.*; expected names"):
        read_json(tmp_path / "labels.json", "names")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"labels\.json: no such file; expected names"):
        read_json(tmp_path / "labels.json", "names")
