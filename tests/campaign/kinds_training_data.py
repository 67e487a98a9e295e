# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Folders of images and masks as people have them: what ssam_2d's training and ``prepare_data`` make of them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from kinds_pictures import Picture, picture
from odd_input import Draw, OddInput, Wrong
from PIL import Image

Masks = Callable[[Picture, Path, int], None]
COUNT = 3


def _index(made: Picture, file: Path, k: int) -> None:
    Image.fromarray(made.truth.astype(np.uint8)).save(file)


def _folder(
    draw: Draw,
    mask: Masks = _index,
    labels: Any = '{"1": "gland"}',
    name: str = "im{}.png",
    mask_name: str = "im{}.png",
) -> tuple[Path, dict[str, int]]:
    """images/, masks/ and labels.json, and the pixels of the ellipse in each image."""
    folder = draw.folder / "set"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    truth = {}
    for k in range(COUNT):
        made = picture(draw.rng, 40, 48)
        Image.fromarray(made.grey).save(folder / "images" / name.format(k))
        mask(made, folder / "masks" / mask_name.format(k), k)
        truth[name.format(k)] = int(made.truth.sum())
    if isinstance(labels, bytes):
        (folder / "labels.json").write_bytes(labels)
    elif labels is not None:
        (folder / "labels.json").write_text(labels, encoding="utf-8")
    return folder, truth


def _trained(draw: Draw, said: str, folder: Path, truth: Mapping[str, int] | None, **more: Any) -> OddInput:
    """The pixels that training would see, image by image, are in ``pixels.json`` of the output folder."""

    def check(out: Path) -> None:
        seen = json.loads((out / "pixels.json").read_text())
        if truth is not None and {k: v["gland"] for k, v in seen.items()} != dict(truth):
            raise Wrong(f"training would see {seen} pixels, the masks have {dict(truth)}")

    more.setdefault("names", "set")
    return OddInput(
        f"training data: {said}",
        {"dataset_dir": str(folder), **more.pop("options", {})},
        check=check,
        run="train",
        **more,
    )


def label_tables(draw: Draw) -> OddInput:
    """Forms of labels.json that people have."""
    said, content, expect = draw.one_of(
        ("with a byte order mark", b'\xef\xbb\xbf{"1": "gland"}', "right"),
        ("in UTF-16", '{"1": "gland"}'.encode("utf-16"), "either"),
        ("of nnU-Net", '{"background": 0, "gland": 1}', "right"),
        ("with the background", '{"0": "background", "1": "gland"}', "right"),
        ("with a key twice", '{"1": "gland", "1": "tumour"}', "refused"),
        ("with a name twice", '{"1": "gland", "2": "gland"}', "refused"),
        ("empty", "", "refused"),
        ("a list", '["gland"]', "refused"),
        ("no object", "{}", "refused"),
        ("with numbers as names", '{"1": 5}', "refused"),
        ("with an empty name", '{"1": " "}', "refused"),
        ("with a value below 0", '{"-1": "gland"}', "refused"),
        ("of colours and values", '{"1": "gland", "polyp": [1, 2, 3]}', "refused"),
        ("cut short", '{"1": "gl', "refused"),
        ("with a decimal value", '{"1.5": "gland"}', "refused"),
        ("not there", None, "refused"),
        ("with a colour of four", '{"gland": [1, 2, 3, 4]}', "refused"),
        ("with a comma too many", '{"1": "gland",}', "refused"),
    )
    folder, truth = _folder(draw, labels=content)
    return _trained(draw, f"labels.json {said}", folder, truth, expect=expect, names="labels.json")


def masks_of_other_forms(draw: Draw) -> OddInput:
    """Masks whose meaning is plain although they are no index masks."""

    def write(mode: str) -> Masks:
        def mask(made: Picture, file: Path, k: int) -> None:
            white = made.truth * np.uint8(255)
            image = Image.fromarray(white)
            if mode == "palette":
                image = Image.fromarray(made.truth.astype(np.uint8), "L").convert("P")
                image = Image.frombytes("P", image.size, made.truth.astype(np.uint8).tobytes())
                image.putpalette([0, 0, 0, 128, 0, 0] + [224, 224, 192] * 254)
            elif mode == "1 bit":
                image = Image.fromarray(made.truth)
            elif mode == "white RGB":
                image = image.convert("RGB")
            elif mode == "16 bit":
                image = Image.fromarray(made.truth.astype(np.uint16))
            elif mode == "opaque RGBA":
                image = image.convert("RGBA")
            elif mode == "one value":
                image = Image.fromarray(made.truth * np.uint8(1))
            image.save(file)

        return mask

    mode = draw.one_of("0 and 255", "palette", "1 bit", "white RGB", "16 bit", "opaque RGBA", "one value")
    folder, truth = _folder(draw, write(mode))
    return _trained(draw, f"masks: {mode}", folder, truth)


def opaque_masks(draw: Draw) -> OddInput:
    """Masks that lie in the alpha channel, or whose every pixel is set."""

    def mask(made: Picture, file: Path, k: int) -> None:
        white = np.full(made.truth.shape, 255, np.uint8)
        if alpha:
            Image.fromarray(np.dstack([white, white, white, made.truth * np.uint8(255)])).save(file)
        else:
            Image.fromarray(np.dstack([made.truth * np.uint8(255), white])).save(file)

    alpha = draw.one_of(True, False)
    folder, truth = _folder(draw, mask)
    said = "the mask is the alpha channel of a white picture" if alpha else "grey with an opaque alpha"
    return _trained(draw, said, folder, truth, expect="either" if alpha else "right", names="masks")


def names_of_masks(draw: Draw) -> OddInput:
    """Suffixes that other tools add."""
    mask_name = draw.one_of("im{}_mask.png", "im{}_segmentation.png", "im{}.bmp", "im{}_gland.png", "im{}.tif")
    folder, truth = _folder(draw, mask_name=mask_name)
    return _trained(draw, f"masks named {mask_name}", folder, truth)


def two_of_one_stem(draw: Draw) -> OddInput:
    folder, _ = _folder(draw)
    kind = draw.one_of("images", "masks")
    made = picture(draw.rng, 40, 48)
    pixels = made.grey if kind == "images" else np.zeros_like(made.grey)
    ending = draw.one_of(".bmp", ".tif", ".bmp")
    Image.fromarray(pixels).save(folder / kind / f"im0{ending}")
    return _trained(draw, f"{kind}/im0.png and im0{ending}", folder, None, expect="refused", names="im0")


def jpeg_masks(draw: Draw) -> OddInput:
    def mask(made: Picture, file: Path, k: int) -> None:
        Image.fromarray(made.truth * np.uint8(255)).save(file, quality=60)

    folder, _ = _folder(draw, mask, mask_name="im{}.jpg")
    if draw.one_of(True, False):
        return _trained(draw, "masks as JPEG", folder, None, expect="refused", names="im|jpg")
    arguments = [
        "pairs",
        str(folder),
        str(draw.folder / "out"),
        "--no-progress",
        "--workers",
        "1",
        "--labels",
        '{"255": "gland"}',
    ]
    return OddInput(
        "prepare_data: masks as JPEG", {"arguments": arguments}, "refused", names="jpg|grey|value|label", run="prepare"
    )


def values_without_a_name(draw: Draw) -> OddInput:
    def mask(made: Picture, file: Path, k: int) -> None:
        values = made.truth.astype(np.uint8) * (1 if k else value)
        Image.fromarray(values).save(file)

    value = draw.one_of(2, 7, 200)
    folder, _ = _folder(draw, mask)
    return _trained(
        draw, f"a mask with the value {value}, which has no name", folder, None, expect="refused", names="im0|label"
    )


def labels_in_no_image(draw: Draw) -> OddInput:
    folder, _ = _folder(
        draw, labels=draw.one_of('{"1": "gland", "2": "tumour"}', '{"1": "gland", "2": "tumour", "9": "cyst"}')
    )
    return _trained(draw, "a label that no mask has", folder, None, expect="refused", names="tumour|cyst")


def empty_masks(draw: Draw) -> OddInput:
    def mask(made: Picture, file: Path, k: int) -> None:
        Image.fromarray(np.zeros(made.truth.shape, np.uint8)).save(file)

    folder, _ = _folder(draw, mask)
    return _trained(draw, "no mask has a pixel", folder, None, expect="refused", names="gland")


def masks_that_do_not_fit(draw: Draw) -> OddInput:
    def mask(made: Picture, file: Path, k: int) -> None:
        image = Image.fromarray(made.truth.astype(np.uint8))
        (image.resize((20, 20), 0) if k == 1 else image).save(file)

    folder, _ = _folder(draw, mask)
    return _trained(draw, "a mask of another size", folder, None, expect="refused", names="im1")


def images_without_a_mask(draw: Draw) -> OddInput:
    folder, _ = _folder(draw)
    (folder / "masks" / "im1.png").unlink()
    return _trained(draw, "an image without a mask", folder, None, expect="refused", names="im1")


def masks_without_an_image(draw: Draw) -> OddInput:
    folder, truth = _folder(draw)
    (folder / "images" / "im1.png").unlink()
    truth = {k: v for k, v in truth.items() if k != "im1.png"}
    return _trained(draw, "a mask without an image", folder, truth, expect="either", names="im1")


def damaged_files(draw: Draw) -> OddInput:
    folder, _ = _folder(draw)
    kind = draw.one_of("images", "masks")
    file = folder / kind / "im1.png"
    file.write_bytes(draw.one_of(b"", b"text", file.read_bytes()[:60]))
    return _trained(draw, f"a damaged file of {kind}", folder, None, expect="refused", names="im1")


def empty_folders(draw: Draw) -> OddInput:
    folder, _ = _folder(draw)
    kind = draw.one_of("images", "masks", "set")
    for file in (folder / kind if kind != "set" else folder).rglob("*"):
        if file.is_file():
            file.unlink()
    return _trained(draw, f"{kind} is empty", folder, None, expect="refused", names="image|mask|labels")


def data_lists(draw: Draw) -> OddInput:
    folder, _ = _folder(draw)
    items = [{"image": f"images/im{k}.png", "label": f"masks/im{k}.png"} for k in range(COUNT)]
    listed = {"training": items, "validation": items[:1], "labels": {"1": "gland"}}
    said, content = draw.one_of(
        ("cut short", json.dumps(listed)[:50]),
        ("a list", json.dumps(items)),
        ("no training", json.dumps({"validation": items})),
        ("an item without a label", json.dumps({**listed, "training": [{"image": "images/im0.png"}]})),
        ("a missing file", json.dumps({**listed, "training": [{"image": "images/no.png", "label": "masks/im0.png"}]})),
        ("an empty section", json.dumps({**listed, "training": []})),
        ("text as items", json.dumps({**listed, "training": "x"})),
        ("a number as image", json.dumps({**listed, "training": [{"image": 5, "label": "masks/im0.png"}]})),
    )
    (folder / "list.json").write_text(content)
    return _trained(
        draw,
        f"a data list: {said}",
        folder,
        None,
        expect="refused",
        names="list.json|no.png|training|label|image",
        options={"data_list_file_path": str(folder / "list.json")},
    )


def lists_with_a_byte_order_mark(draw: Draw) -> OddInput:
    folder, truth = _folder(draw)
    items = [{"image": f"images/im{k}.png", "label": f"masks/im{k}.png"} for k in range(COUNT)]
    content = json.dumps({"training": items, "validation": items[:1], "labels": {"1": "gland"}})
    (folder / "list.json").write_bytes(b"\xef\xbb\xbf" + content.encode())
    return _trained(
        draw,
        "a data list with a byte order mark",
        folder,
        truth,
        options={"data_list_file_path": str(folder / "list.json")},
    )


def options_of_training(draw: Draw) -> OddInput:
    folder, _ = _folder(draw)
    key, value = draw.one_of(
        ("validation_share", 1.5),
        ("validation_share", "x"),
        ("labels", ["tumour"]),
        ("validation_share", -0.1),
        ("image_size", 100),
        ("batch_size", 0),
        ("max_epochs", -1),
        ("max_epochs", "x"),
        ("learning_rate", -1),
        ("learning_rate", "fast"),
        ("seed", "x"),
        ("absent_rate", 3),
        ("backgroud", 1),
        ("max_epoch", 3),
        ("step_epochs", "x"),
        ("batch_size", 1.5),
        ("cache_num", "x"),
        ("dataset_dir", 5),
        ("save_every", -1),
        ("focal_weight", None),
    )
    names = {"labels": "tumour", "backgroud": "backgroud", "max_epoch": "max_epoch.*max_epochs"}.get(key, key)
    return _trained(draw, f"{key} {value!r}", folder, None, expect="refused", options={key: value}, names=names)


def prepared(draw: Draw) -> OddInput:
    """The same folders through prepare_data."""

    def mask(made: Picture, file: Path, k: int) -> None:
        Image.fromarray(made.truth * np.uint8(value)).save(file)

    value, labels = draw.one_of(
        (255, '{"255": "gland"}'), (1, '{"1": "gland"}'), (255, '{"1": "gland"}'), (1, "{"), (1, '{"2": "gland"}')
    )
    folder, truth = _folder(draw, mask, labels=None)
    out = draw.folder / "out"

    def check(_: Path) -> None:
        listed = json.loads((out / "data_list.json").read_text())
        items = [i for section in listed.values() if isinstance(section, list) for i in section]
        if len(items) != COUNT:
            raise Wrong(f"{len(items)} of {COUNT} images are listed")
        for item in items:
            label = Path(item["label"])
            file = label if label.is_absolute() else next(p for p in (out / label, folder / label) if p.exists())
            image = Path(item["image"]).name
            count = int((np.array(Image.open(file)) > 0).sum())
            if count != truth[image]:
                raise Wrong(f"{image}: {count} pixels, the mask has {truth[image]}")

    bad = labels in ("{", '{"2": "gland"}')
    arguments = ["pairs", str(folder), str(out), "--no-progress", "--workers", "1", "--labels", labels]
    return OddInput(
        f"prepare_data: values {value}, labels {labels}",
        {"arguments": arguments},
        "refused" if bad else "right",
        check,
        names="labels|label|value|JSON",
        run="prepare",
    )


KINDS = (
    label_tables, label_tables, label_tables, masks_of_other_forms, masks_of_other_forms, opaque_masks,
    names_of_masks, names_of_masks, two_of_one_stem, jpeg_masks, values_without_a_name, labels_in_no_image,
    empty_masks, masks_that_do_not_fit, images_without_a_mask, masks_without_an_image, damaged_files, empty_folders,
    data_lists, data_lists, lists_with_a_byte_order_mark, options_of_training, options_of_training, prepared,
)  # fmt: skip
