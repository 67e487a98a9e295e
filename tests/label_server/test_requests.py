# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a request may hold: keys, types and ranges, and nothing that MONAI would evaluate or open."""

import json

import pytest

requests = pytest.importorskip("tools.label_server.app.label_app.requests", reason="needs MONAI Label")
EXPRESSION = "$__import__('os').system('touch evaluated')"
EVIL = [EXPRESSION, {"_target_": "os.system", "command": "touch evaluated"}, "@device", "%train.json#run", ["$1"]]


@pytest.mark.parametrize("value", EVIL)
@pytest.mark.parametrize("kind", [requests.Infer, requests.Train, requests.Batch, requests.Sample, requests.Scoring])
def test_no_key_takes_an_expression(kind, value):
    for key in [*kind.model_fields, "other", "_target_", "displayable_configs", "bundle_path"]:
        if key == "client_id" and isinstance(value, str):
            # Free text, that goes nowhere but into the list of images.
            continue
        for params in ({key: value}, {"objects": {"a": {key: value}}}, {"objects": {"a": value}}):
            with pytest.raises(ValueError, match="expected|should"):
                requests.read(kind, params)


@pytest.mark.parametrize(
    "name", ["$a", "@a", "%a", "../a", "/etc/passwd", "a/b", "a\\b", ".a", "a\0", "a\n", "", "a" * 129]
)
def test_names_are_no_paths_and_no_expressions(name):
    with pytest.raises(ValueError, match="expected"):
        requests.read(requests.Infer, {"labels": [name]})
    with pytest.raises(ValueError, match="expected"):
        requests.read(requests.Infer, {name: [[1, 2, 3]]})


def test_the_name_of_a_file_is_no_label(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.nii.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="not that of a file"):
        requests.read(requests.Infer, {"foreground": [[1, 2, 3]], "label": "secret.nii.gz"})


@pytest.mark.parametrize(
    "params",
    [
        {"label": "liver", "foreground": [[1, 2, 3]], "background": [], "model_filename": "model.pt", "device": "cpu"},
        {"foreground": [[1, 2]], "slice": 4, "reset_state": True, "roi": [1, 2, 3, 4, 5, 6]},
        {"liver": [[1, 2, 3]], "left kidney (cyst)": [], "Leber, groß": [], "background": [], "label": "liver"},
        {"points": [[1.5, 2, 3]], "point_labels": [1], "label_prompt": [1], "restore_label_idx": False},
        {"roi": [], "label_info": [{"name": "foreground_scribbles", "id": 3}], "selected_label_name": "liver"},
        {"objects": {"a": [[1, 2, 3]], "b": {"box": [[1, 2, 3], [4, 5, 6]]}}, "result_extension": ".nrrd"},
        {"result_dtype": "uint16", "result_compress": False, "client_id": "user-xyz", "labels": ["polyp"]},
    ],
)
def test_what_viewers_send_is_taken_as_it_is(params):
    assert requests.read(requests.Infer, json.dumps(params)) == params


@pytest.mark.parametrize(
    "kind, params, sentence",
    [
        ("Infer", {"devise": "cpu"}, "did you mean device?"),
        ("Infer", {"device": ["cpu", "$1"]}, "device '$1' is not there"),
        ("Infer", {"model_filename": "base.pt"}, "model_filename"),
        ("Infer", {"model_filename": "../../other/model.pt"}, "model_filename"),
        ("Infer", {"previous_mask": "/data/mask.nii.gz"}, "opens no file"),
        ("Infer", {"objects": {"a": {"scribble": "/data/mask.nii.gz"}}}, "scribble"),
        ("Infer", {"image": "/etc/passwd"}, "image"),
        ("Infer", {"image_path": [[1, 2, 3]]}, "it is no option"),
        ("Infer", {"save_label": True}, "save_label"),
        ("Infer", {"result_extension": "/../../x.nii.gz"}, "result_extension"),
        ("Infer", {"foreground": [[1, 2, True]]}, "finite numbers"),
        ("Infer", {"foreground": [["1", 2, 3]]}, "finite numbers"),
        ("Infer", '{"foreground": [[NaN, 1, 1]]}', "NaN is no number"),
        ("Infer", '{"foreground": [[1e999, 1, 1]]}', "finite numbers"),
        ("Infer", '{"foreground": ' + "[" * 100_000, "too many lists in lists"),
        ("Infer", {"foreground": [[[[[1]]]]]}, "finite numbers"),
        ("Infer", {"foreground": [[1, 2, 3]] * 10_000}, "at most 30000 numbers"),
        ("Train", {"max_epochs": 0}, "max_epochs"),
        ("Train", {"max_epochs": "1"}, "max_epochs"),
        ("Train", {"epochs": 1}, "did you mean max_epochs?"),
        ("Train", {"run_id": "initialize"}, "run_id"),
        ("Train", {"tracking": "mlflow"}, "tracking"),
        ("Train", {"tracking_uri": "http://evil.example"}, "tracking_uri"),
        ("Train", {"gpus": "0;1"}, "gpus"),
        ("Train", {"val_split": 2}, "val_split"),
        ("Batch", {"label_tag": "../final"}, "label_tag"),
        ("Batch", {"label_tag": "final"}, "expected another tag"),
        ("Batch", {"images": ["/etc/passwd"]}, "images"),
        ("Sample", {"strategy": "x"}, "no option"),
        ("Scoring", {"method": "x"}, "no option"),
        ("Scoring", "[1]", "expected an object"),
    ],
)
def test_what_is_refused_is_named(kind, params, sentence):
    with pytest.raises(ValueError) as refused:
        requests.read(getattr(requests, kind), params)
    assert sentence in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_whole_parameters_of_a_batch_need_no_gpu():
    read = requests.read(requests.Batch, {}, whole=True)
    assert read["multi_gpu"] is requests.torch.cuda.is_available()
    assert read["label_tag"] == "original"
