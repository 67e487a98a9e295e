# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Names and places of files, of results and of objects."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from odd_input import Draw, OddInput, Wrong
from PIL import Image
from scenes import Scene, check_mask, refused, scene, seen


def _saved(draw: Draw, made: Scene, name: str = "scan.nii.gz") -> Path:
    file = draw.folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.round(made.values).astype(np.int16), made.affine), file)
    return file


_seen, _refused = (partial(f, names=".") for f in (seen, refused))


def _there(made: Scene, *places: Path, alone: bool = False) -> Any:
    """Each of these masks is there and right; ``alone``: no other one is."""

    def check(out: Path) -> None:
        missing = [p.name for p in places if not p.is_file()]
        if missing:
            raise Wrong(f"no {', '.join(missing)}; there are {sorted(p.name for p in places[0].parent.glob('*'))}")
        for place in places:
            check_mask(place, made, 0.7, None)
        others = set(places[0].parent.glob("*_seg.nii.gz")) - set(places)
        if alone and others:
            raise Wrong(f"also {sorted(p.name for p in others)}")

    return check


def names_of_files(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    stem = draw.one_of(
        "a b",
        "a#b",
        "a$b$c",
        "ünï 山田",
        "a'b\"c",
        "a;b&c",
        "a,b",
        "[a]",
        "{a}",
        "a%20b",
        "a@b",
        "a..b",
        "A.B.C",
        "-a",
        "~a",
        "a\\b",
        "a=b",
        "(a)",
        "2025_01",
        "a\tb",
        "é",
        "a\nb",
        "*",
        "a?",
        "_seg",
        "x_seg",
        "None",
        "true",
    )
    file = _saved(draw, made, f"{stem}.nii.gz")
    out = draw.folder / "out"
    return _seen(
        f"a file named {file.name!r}",
        file,
        made,
        check=_there(made, out / f"{stem}_seg.nii.gz", alone=True),
        # MONAI's own rule for ids rewrites #: refused. Names that end as results do may be taken for results.
        expect="either" if stem in ("x_seg", "_seg", "a#b") else "right",
        names="image|name",
        options={"output_dir": str(out), "preview": draw.one_of(False, True)},
    )


def names_of_folders(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    name = draw.one_of("out#2", "a$b", "a b", "ü", "2025_01", "a'b", "x@y", "a%d", "{out}", "a/b/c", "1e5", "a#b#c")
    out = draw.folder / name
    return _seen(
        f"output_dir {name!r}",
        _saved(draw, made),
        made,
        check=_there(made, out / "scan_seg.nii.gz"),
        options={"output_dir": str(out)},
        expect="either" if "#" in name else "right",
        names="output_dir",
    )


def numbers_as_paths(draw: Draw) -> OddInput:
    """What fire would take for a number, a list or a comment."""
    made = scene(draw.rng)
    name = draw.one_of("2025_01", "1e5", "0012", "out#2")
    (draw.folder / "work").mkdir()
    _saved(draw, made, "work/scan.nii.gz")
    out = draw.folder / "work" / name
    return _seen(
        f"--output_dir {name}",
        "scan.nii.gz",
        made,
        check=_there(made, out / "scan_seg.nii.gz"),
        command=True,
        folder=draw.folder / "work",
        # What was typed is gone by the time anybody could look: where it is not found again, it is refused.
        expect="either",
        names="output_dir",
        options={"output_dir": name, "preview": "false"},
    )


def long_names(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    letter, count = draw.one_of(("x", 247), ("x", 240), ("ü", 120), ("x", 230), ("山", 80), ("x", 248))
    file = _saved(draw, made, f"{letter * count}.nii.gz")
    return _seen(f"a name of {len(os.fsencode(file.name))} bytes", file, made, expect="either", names="name|long|bytes")


def long_results(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    options = draw.one_of(
        {"output_postfix": "x" * 250},
        {"output_dir": str(draw.folder / ("y" * 300))},
        {"output_dir": str(draw.folder) + "/z" * 2500},
    )
    return _refused(
        f"{next(iter(options))} too long",
        _saved(draw, made),
        made,
        options=options,
        names="output_postfix|output_dir|long",
    )


def postfixes(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    postfix = draw.one_of("../x", "/etc/x", "a/b", "a\0b", "..", 5, None, ["a"])
    expect = "either" if postfix in ("..", 5, None) else "refused"
    return _seen(
        f"output_postfix {postfix!r}",
        _saved(draw, made),
        made,
        expect=expect,
        options={"output_postfix": postfix},
        names="output_postfix",
        check=None,
    )


def images_that_are_no_files(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    name = draw.one_of(
        "x\0y.nii.gz",
        "a/" * 2500 + "x.nii.gz",
        "x" * 300 + ".nii.gz",
        "missing.nii.gz",
        "empty/",
        "link.nii.gz",
        "loop.nii.gz",
    )
    (draw.folder / "empty").mkdir()
    (draw.folder / "link.nii.gz").symlink_to(draw.folder / "gone.nii.gz")
    (draw.folder / "loop.nii.gz").symlink_to(draw.folder / "loop.nii.gz")
    return _refused(
        f"image {name[:40]!r}",
        draw.folder / name,
        made,
        apart=True,
        names="no such|image|file|long|NUL|null|empty|link|loop|\\.nii",
    )


def pipes_and_devices(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    name = draw.one_of("pipe.nii.gz", "pipe.nrrd", "pipe.mha", "zero.nii.gz", "zero.mha", "folder_of_a_pipe")
    file = draw.folder / name
    if name == "folder_of_a_pipe":
        file.mkdir()
        os.mkfifo(file / "a.dcm")
    elif name.startswith("pipe"):
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    return _refused(f"{name}: a pipe or a device", file, made, apart=True, names=name)


def pipes_as_masks(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    file = draw.folder / "last.nii.gz"
    os.mkfifo(file)
    key = draw.one_of("previous_mask", "scribble", "ckpt_path")
    return _refused(
        f"{key} is a pipe",
        _saved(draw, made),
        made,
        apart=True,
        options={key: str(file)},
        names="last.nii.gz",
    )


def symbolic_links(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    target = _saved(draw, made, "store/0a1b2c.nii.gz")
    if draw.one_of(True, False):
        # As git-annex and caches of hubs store files: by a hash, without an extension.
        target = target.rename(target.with_name("0a1b2c"))
    link = draw.folder / "sub-01_T1w.nii.gz"
    link.symlink_to(target)
    out = draw.folder / "out"
    return _seen(
        "a symbolic link: results take its name",
        link,
        made,
        check=_there(made, out / "sub-01_T1w_seg.nii.gz", alone=True),
        options={"output_dir": str(out)},
    )


def two_links_to_one_file(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    target = _saved(draw, made, "store/volume.nii.gz")
    links = [draw.folder / "a.nii.gz", draw.folder / "b.nii.gz"]
    for link in links:
        link.symlink_to(target)
    out = draw.folder / "out"
    odd = _seen(
        "two links to one file",
        links[0],
        made,
        options={"output_dir": str(out)},
        check=_there(made, out / "a_seg.nii.gz", out / "b_seg.nii.gz"),
    )
    odd.options["image"] = [str(link) for link in links]
    return odd


def one_name_twice(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    first, second = draw.one_of(("a.nii.gz", "b/a.nii.gz"), ("a.nii.gz", "a.nii"), ("A.nii.gz", "c/A.nii.gz"))
    odd = _refused(f"{first} and {second}", _saved(draw, made, first), made, names="name|several|overwrite")
    odd.options["image"] = [str(_saved(draw, made, first)), str(_saved(draw, made, second))]
    return odd


def places_that_take_no_results(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    file = _saved(draw, made)
    (draw.folder / "a.txt").write_text("no folder")
    place = draw.one_of(
        str(draw.folder / "a.txt"), str(draw.folder / "a.txt" / "b"), "/proc/odd", "/dev/null", "/sys/odd/x"
    )
    return _refused(
        f"output_dir {place.replace(str(draw.folder), '')}",
        file,
        made,
        names="output_dir",
        options={"output_dir": place},
    )


def result_over_the_image(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    file = _saved(draw, made)
    before = file.read_bytes()

    def check(out: Path) -> None:
        if file.read_bytes() != before:
            raise Wrong("the image was overwritten")

    return _seen(
        "no postfix, results into the image's folder",
        file,
        made,
        expect="either",
        check=check,
        options={"output_postfix": "", "output_dir": str(draw.folder)},
        names="output_postfix",
    )


def names_of_objects(draw: Draw) -> OddInput:
    made = scene(draw.rng)
    name = draw.one_of(
        "$$",
        "$x",
        "$x^2$ and $",
        "#",
        "a#b",
        "\\frac",
        "ü 山",
        "a\nb",
        "x" * 300,
        " ",
        "1",
        "0",
        "background",
        "_target_",
        "@image",
        "%s",
        "{0}",
        "'\"",
        "foreground",
        "None",
        "<b>",
    )
    expect = (
        "either" if name in (" ", "foreground", "x" * 300, "0", "background", "$x", "_target_", "@image") else "right"
    )
    options = {"objects": {name: made.clicks}, "foreground": None, "background": None, "preview": True}
    return _seen(
        f"an object named {name[:30]!r}", _saved(draw, made), made, expect=expect, options=options, names="object|name"
    )


def own_results_again(draw: Draw) -> OddInput:
    """2D: a folder is segmented into itself, and once more."""
    pictures = draw.folder / "pictures"
    pictures.mkdir()
    rows, columns = np.mgrid[:60, :70]
    for k in range(2):
        grey = np.where((rows - 30) ** 2 + (columns - 30 - 5 * k) ** 2 < 200, 200, 80) + draw.rng.normal(
            0, 4, rows.shape
        )
        Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(pictures / f"p{k}.png")
    for k in range(2):
        # What an earlier run has left.
        Image.fromarray((rows % 3).astype(np.uint8)).save(pictures / f"p{k}_seg.png")
        (pictures / f"p{k}_seg.json").write_text(json_of(f"p{k}.png"))
        Image.fromarray(np.stack([rows % 251] * 3, -1).astype(np.uint8)).save(pictures / f"p{k}_seg_overlay.png")

    def check(out: Path) -> None:
        found = sorted(p.name for p in pictures.glob("*"))
        again = [n for n in found if "_seg_seg" in n or "overlay_seg" in n]
        if again:
            raise Wrong(f"results of an earlier run were segmented: {again}")

    options = {
        "image": str(pictures),
        "output_dir": str(pictures),
        "labels": ["liver"],
        "overlay": True,
        "device": "cpu",
    }
    return OddInput("results in the folder of the images", options, "either", check, names="_seg", run="ssam_2d")


def json_of(image: str) -> str:
    """The beginning of a result's JSON."""
    return f'{{"image": "{image}", "label_names": {{"1": "liver"}}, "objects": [], "notes": []}}'


KINDS = (
    names_of_files, names_of_files, names_of_files, names_of_folders, names_of_folders, long_names, long_results,
    postfixes, images_that_are_no_files, pipes_and_devices, pipes_as_masks, symbolic_links, two_links_to_one_file,
    one_name_twice, places_that_take_no_results, result_over_the_image, names_of_objects, names_of_objects,
    names_of_objects, own_results_again,
)  # fmt: skip
