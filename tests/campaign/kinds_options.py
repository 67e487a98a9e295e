# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Options that do not exist, of another type, or beyond what makes sense."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from kinds_pictures import Picture, check_picture, picture
from odd_input import Draw, OddInput
from PIL import Image
from scenes import CHEAP, Scene, check_ball, scene


def _volume(draw: Draw, said: str, options: dict[str, Any], **more: Any) -> OddInput:
    made: Scene = scene(draw.rng)
    nib.save(nib.Nifti1Image(np.round(made.values).astype(np.int16), made.affine), draw.folder / "scan.nii.gz")
    more.setdefault("check", check_ball(made))
    more.setdefault("names", next(iter(options)))
    return OddInput(said, {"image": str(draw.folder / "scan.nii.gz"), **made.clicks, **CHEAP, **options}, **more)


def _picture(draw: Draw, said: str, options: dict[str, Any], **more: Any) -> OddInput:
    made: Picture = picture(draw.rng)
    Image.fromarray(made.grey).save(draw.folder / "p.png")
    more.setdefault("check", check_picture(made))
    more.setdefault("names", next(iter(options)))
    given = {"image": str(draw.folder / "p.png"), "box": made.box, "device": "cpu", "overlay": False, **options}
    return OddInput(said, given, run="ssam_2d", **more)


def misspelt(draw: Draw) -> OddInput:
    wrong, right = draw.one_of(
        ("backgroud", "background"),
        ("ouput_dir", "output_dir"),
        ("cubesize", "cube_size"),
        ("previous_masks", "previous_mask"),
        ("forground", "foreground"),
        ("winow", "window"),
        ("ckpt", "ckpt_path"),
        ("scribbel", "scribble"),
        ("Rounds", "rounds"),
    )
    value = [[1, 1, 1]] if "ground" in right or "groud" in wrong else "x"
    return _volume(draw, f"--{wrong}", {wrong: value}, expect="refused", names=f"{wrong}.*{right}")


def misspelt_2d(draw: Draw) -> OddInput:
    wrong, right = draw.one_of(
        ("label", "labels"),
        ("treshold", "threshold"),
        ("image_sise", "image_size"),
        ("overlays", "overlay"),
        ("adaptor", "adapter"),
    )
    return _picture(
        draw,
        f"ssam_2d: --{wrong}",
        {wrong: ["liver"] if wrong == "label" else 1},
        expect="refused",
        names=f"{wrong}.*{right}",
    )


def misspelt_on_the_command_line(draw: Draw) -> OddInput:
    odd = _volume(
        draw,
        "--backgroud in a terminal",
        {"backgroud": [[1, 1, 1]]},
        expect="refused",
        names="backgroud.*background",
        command=True,
    )
    return odd


def sentence_in_a_terminal(draw: Draw) -> OddInput:
    options = draw.one_of({"cube_size": 24}, {"box": [[1, 2, 3]]}, {"foreground": [[400, 1, 1]]})
    return _volume(draw, f"{options} in a terminal", options, expect="refused", command=True)


def cube_sizes(draw: Draw) -> OddInput:
    value = draw.one_of(24, 40, 72, 0, -64, 1.5, "x", None, [64], 100_000, np.nan, True, {"a": 1}, 16.5, 1e9)
    key = draw.one_of("cube_size", "small_cube_size")
    return _volume(draw, f"{key} {value!r}", {key: value}, expect="refused")


def numbers_as_text(draw: Draw) -> OddInput:
    key, value = draw.one_of(
        ("cube_size", "64"),
        ("rounds", "3"),
        ("spacing", "1.5"),
        ("preview", "true"),
        ("rounds", 3.0),
        ("one_way", "False"),
        ("small_cube_size", "64"),
        ("volume_cache_bytes", "0"),
    )
    return _volume(draw, f"{key} as {value!r}", {key: value}, expect="either")


def spacings(draw: Draw) -> OddInput:
    value = draw.one_of(0, -1.5, "x", None, [1.5], np.nan, np.inf, True, [1, 1, 1])
    return _volume(draw, f"spacing {value!r}", {"spacing": value}, expect="refused")


def far_off_spacings(draw: Draw) -> OddInput:
    return _volume(
        draw,
        "a spacing far from the object's size",
        {"spacing": draw.one_of(1e-9, 1e9, 1e-3, 400)},
        expect="either",
        check=None,
    )


def rounds(draw: Draw) -> OddInput:
    value = draw.one_of(0, -1, 10**6, 1.5, "x", None, [3], np.nan, 10**12, True)
    return _volume(draw, f"rounds {value!r}", {"rounds": value}, expect="refused", apart=True)


def switches(draw: Draw) -> OddInput:
    key = draw.one_of("preview", "one_way", "separate_folder")
    value = draw.one_of("maybe", 2, None, [True], "", {}, -1)
    return _volume(draw, f"{key} {value!r}", {key: value}, expect="refused")


def words(draw: Draw) -> OddInput:
    key, value = draw.one_of(
        ("amp", "perhaps"),
        ("amp", 5),
        ("amp", None),
        ("window", "bone"),
        ("window", [1]),
        ("window", [1, 2, 3]),
        ("window", None),
        ("window", ["a", "b"]),
        ("window", 5),
        ("device", "tpu"),
        ("device", "cuda:9"),
        ("device", 5),
        ("device", None),
        ("device", ""),
        ("output_ext", ".png"),
        ("output_ext", "nii"),
        ("output_ext", ""),
        ("output_ext", None),
        ("output_ext", 5),
        ("output_ext", ".nii.gz.nii"),
    )
    # "nii" without its dot may well be understood.
    return _volume(draw, f"{key} {value!r}", {key: value}, expect="either" if value == "nii" else "refused", check=None)


def memories(draw: Draw) -> OddInput:
    key = draw.one_of("volume_cache_bytes", "embedding_cache_bytes")
    value = draw.one_of(-1, "x", None, [1], 1.5, np.nan, True)
    return _volume(draw, f"{key} {value!r}", {key: value}, expect="refused")


def no_memory_at_all(draw: Draw) -> OddInput:
    return _volume(draw, "caches of no bytes", {"volume_cache_bytes": 0, "embedding_cache_bytes": draw.one_of(0, 1)})


def weights_that_are_none(draw: Draw) -> OddInput:
    value = draw.one_of("missing.pt", ".", "a.txt", 5, None, [], "x\0y", True)
    (draw.folder / "a.txt").write_text("no weights")
    path = str(draw.folder / value) if isinstance(value, str) and "\0" not in value else value
    return _volume(
        draw,
        f"ckpt_path {value!r}",
        {"ckpt_path": path},
        expect="refused",
        names="ckpt_path|missing.pt|a.txt|weights|folder",
    )


def images_that_are_none(draw: Draw) -> OddInput:
    value = draw.one_of(None, 5, "", [], {}, [5], [None], {"picture": "x"}, True, [["a"]])
    return _volume(draw, f"image {value!r}", {"image": value}, expect="refused")


def places_that_are_none(draw: Draw) -> OddInput:
    value = draw.one_of(5, [], True, {"a": 1}, 2025)
    return _volume(draw, f"output_dir {value!r}", {"output_dir": value}, expect="refused")


def thresholds(draw: Draw) -> OddInput:
    value = draw.one_of(2, -1, "x", None, [0.5], np.nan, np.inf, True, "0.5")
    return _picture(
        draw, f"ssam_2d: threshold {value!r}", {"threshold": value}, expect="either" if value == "0.5" else "refused"
    )


def picture_sizes(draw: Draw) -> OddInput:
    value = draw.one_of(100, 0, -256, "x", None, [256], 1.5, 10**6, np.nan, 255, True, [256, 256])
    return _picture(draw, f"ssam_2d: image_size {value!r}", {"image_size": value}, expect="refused", apart=True)


def words_2d(draw: Draw) -> OddInput:
    key, value = draw.one_of(
        ("slice_axis", "top"),
        ("slice_axis", 5),
        ("slice_axis", None),
        ("overlay", "maybe"),
        ("probabilities", "x"),
        ("window", "bone"),
        ("amp", "x"),
        ("device", "tpu"),
        ("output_ext", ".jpg"),
        ("use_adapter", "mine"),
        ("adapter", "missing.safetensors"),
        ("text_model", "/no/such/model"),
        ("embedding_cache_bytes", -1),
        ("output_postfix", "a/b"),
        ("adapter", 5),
        ("separate_folder", 3),
        ("probabilities", None),
        ("use_adapter", 5),
    )
    return _picture(draw, f"ssam_2d: {key} {value!r}", {key: value}, expect="refused", names=key, check=None)


def labels(draw: Draw) -> OddInput:
    value = draw.one_of(
        5,
        [None],
        ["livre"],
        ["liver", "liver"],
        {"liver": 1},
        [["liver"]],
        [5],
        True,
        ["Liver"],
        "liver,spleen",
        [""],
        " ",
    )
    expect = "either" if value in (["liver", "liver"], ["Liver"]) else "refused"
    return _picture(
        draw,
        f"ssam_2d: labels {value!r}",
        {"labels": value, "box": None},
        expect=expect,
        names="label|name",
        check=None,
    )


def adapters_of_other_forms(draw: Draw) -> OddInput:
    """Files that are no adapter, or one whose metadata say nothing."""
    from safetensors.torch import save_file
    from torch import zeros

    said, metadata = draw.one_of(
        ("no metadata", None),
        ("empty metadata", {}),
        ("labels that are no JSON", {"labels": "x", "base": "y", "format": "z"}),
        ("another base", {"base": "0" * 64, "labels": '["a"]'}),
        ("a list of numbers", {"labels": "[1, 2]"}),
    )
    file = draw.folder / "odd.safetensors"
    save_file({"a": zeros(3)}, file, metadata)
    if draw.turn % 7 == 6:
        file.write_bytes(b"text")
    return _picture(
        draw,
        f"ssam_2d: an adapter with {said}",
        {"adapter": str(file), "labels": ["a"], "box": None},
        expect="refused",
        names="odd.safetensors",
        check=None,
    )


def labels_beside_weights(draw: Draw) -> OddInput:
    """A labels.json of another form beside weights that are there already."""
    from shutil import copy

    from verdicts import ROOT

    copy(ROOT / "bundles" / "ssam_2d" / "models" / "model.pt", draw.folder / "model.pt")
    content = draw.one_of("{", "[1, 2]", '{"1": 5}', '{"1": "a"}', '["a"]', "null", '{"background": 0}')
    Path(draw.folder / "labels.json").write_text(content)
    value = json.dumps(content)
    # The weights know their names themselves, and may leave the file alone.
    return _picture(
        draw,
        f"ssam_2d: a labels.json of {value} beside the weights",
        {"ckpt_path": str(draw.folder / "model.pt")},
        expect="either",
        names="labels.json|label|name",
        check=None,
    )


KINDS = (
    misspelt, misspelt_2d, cube_sizes, cube_sizes, numbers_as_text, spacings, far_off_spacings, rounds, switches,
    words, words, memories, no_memory_at_all, weights_that_are_none, images_that_are_none, places_that_are_none,
    thresholds, picture_sizes, words_2d, words_2d, labels, adapters_of_other_forms, labels_beside_weights,
)  # fmt: skip
