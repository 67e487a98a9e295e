# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""2D pictures of every kind and what is asked of them, for ssam_2d."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from odd_input import Draw, OddInput, Wrong
from PIL import Image
from volumes import dice


@dataclass(frozen=True)
class Picture:
    """A grey picture (H, W) uint8 with one bright ellipse: ``truth`` (H, W) bool, ``box`` [x, y, x, y]."""

    grey: np.ndarray
    truth: np.ndarray
    box: list[int]

    @property
    def click(self) -> list[int]:
        """The ellipse's middle, [x, y]."""
        return [(self.box[0] + self.box[2]) // 2, (self.box[1] + self.box[3]) // 2]


def picture(rng: np.random.Generator, height: int = 96, width: int = 120) -> Picture:
    """An ellipse of random place and size."""
    rows, columns = np.mgrid[:height, :width].astype(float)
    y, x = rng.uniform(0.35, 0.65) * height, rng.uniform(0.35, 0.65) * width
    truth = ((columns - x) / (0.15 * width)) ** 2 + ((rows - y) / (0.17 * height)) ** 2 < 1
    body = ((columns - width / 2) / (0.46 * width)) ** 2 + ((rows - height / 2) / (0.46 * height)) ** 2 < 1
    grey = np.where(truth, 210.0, np.where(body, 90.0, 12.0)) + rng.normal(0, 4, truth.shape)
    inside = np.argwhere(truth)
    (y0, x0), (y1, x1) = inside.min(0).tolist(), inside.max(0).tolist()
    return Picture(grey.clip(0, 255).astype(np.uint8), truth, [x0, y0, x1, y1])


def check_picture(made: Picture, least: float = 0.5, note: str | None = None) -> Callable[[Path], None]:
    """A check of the one index map in a folder: its size, its Dice with the ellipse, the pixels that are said."""

    def check(out: Path) -> None:
        maps = sorted(out.rglob("*_seg.png"))
        if len(maps) != 1:
            raise Wrong(f"{len(maps)} index maps, expected one")
        inside = np.array(Image.open(maps[0])) > 0
        if inside.shape != made.truth.shape:
            raise Wrong(f"an index map of {inside.shape}, the picture has {made.truth.shape}")
        if (score := dice(inside, made.truth)) < least:
            raise Wrong(
                f"Dice {score:.3f} with the ellipse: {int(inside.sum())} pixels, the truth has {int(made.truth.sum())}"
            )
        report = json.loads(maps[0].with_suffix(".json").read_text())
        if sum(o["area_px"] for o in report["objects"]) != int(inside.sum()):
            raise Wrong("the JSON's pixels are not those of the map")
        notes = " ".join(report["notes"])
        if note is not None and note not in notes:
            raise Wrong(f"no note says {note!r}: {notes!r}")

    return check


def _seen(said: str, file: Path, made: Picture, **more: Any) -> OddInput:
    more.setdefault("check", check_picture(made))
    more.setdefault("names", file.name)
    options = {"image": str(file), "box": made.box, "device": "cpu", "overlay": False, **more.pop("options", {})}
    return OddInput(f"ssam_2d: {said}", options, run="ssam_2d", **more)


def modes(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    grey = Image.fromarray(made.grey)
    rgb = grey.convert("RGB")
    name, image = draw.one_of(
        ("L.png", grey),
        ("RGB.png", rgb),
        ("RGBA.png", grey.convert("RGBA")),
        ("LA.png", grey.convert("LA")),
        ("P.png", rgb.quantize(64)),
        ("CMYK.jpg", rgb.convert("CMYK")),
        ("YCbCr.jpg", rgb.convert("YCbCr")),
        ("one.png", Image.fromarray(made.grey > 150)),
        ("I16.png", Image.fromarray(made.grey.astype(np.uint16) * 16)),
        ("I.tif", Image.fromarray(made.grey.astype(np.int32) * 100)),
        ("F.tif", Image.fromarray(made.grey.astype(np.float32) / 255)),
        ("L.bmp", grey),
        ("RGB.tiff", rgb),
        ("P.bmp", rgb.quantize(16)),
    )
    file = draw.folder / name
    image.save(file, **({"quality": 95} if name.endswith("jpg") else {}))
    return _seen(f"{image.mode} as {file.suffix}", file, made)


def tiffs(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    file = draw.folder / "p.tif"
    form, pixels, options = draw.one_of(
        ("tiled", made.grey, {"tile": (32, 32), "compression": "zlib"}),
        ("big-endian", made.grey.astype(">u2"), {"byteorder": ">"}),
        ("planar", np.stack([made.grey] * 3), {"planarconfig": "separate", "photometric": "rgb"}),
        ("16-bit RGB", np.stack([made.grey.astype(np.uint16) * 200] * 3, -1), {"photometric": "rgb"}),
        ("packbits", made.grey, {"compression": "packbits"}),
        ("LZW", made.grey, {"compression": "zlib", "predictor": True}),
        ("float64", made.grey.astype(np.float64), {}),
        ("BigTIFF", made.grey, {"bigtiff": True}),
    )
    tifffile.imwrite(file, pixels, **options)
    return _seen(f"a TIFF: {form}", file, made, expect="right" if form not in ("float64",) else "either")


def white_is_zero(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    file = draw.folder / "p.tif"
    tifffile.imwrite(file, 255 - made.grey, photometric="miniswhite")
    return _seen("a TIFF in which 0 is white", file, made)


def several_pages(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    count = draw.one_of(2, 5, 40)
    file = draw.folder / draw.one_of("p.tif", "p.png")
    pages = [Image.fromarray(made.grey)] * count
    pages = [Image.fromarray(np.roll(made.grey, k, 1)) for k in range(count)]
    pages[0].save(file, save_all=True, append_images=pages[1:])
    return _seen(f"{count} pages in one file", file, made, expect="refused")


def turned_by_exif(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    exif = Image.Exif()
    exif[0x0112] = draw.one_of(6, 3, 8, 2)
    file = draw.folder / draw.one_of("p.jpg", "p.png")
    Image.fromarray(made.grey).save(file, exif=exif, **({"quality": 95} if file.suffix == ".jpg" else {}))
    return _seen("an EXIF orientation, which is not applied", file, made, check=check_picture(made, note="EXIF"))


def names_against_content(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    ending, form = draw.one_of((".png", "JPEG"), (".jpg", "PNG"), (".tif", "PNG"), (".bmp", "JPEG"))
    file = draw.folder / f"p{ending}"
    Image.fromarray(made.grey).save(file, form)
    return _seen(f"a {form} named {ending}", file, made)


def damaged(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    file = draw.folder / draw.one_of("p.png", "p.jpg", "p.tif", "p.bmp")
    Image.fromarray(made.grey).save(file)
    content = file.read_bytes()
    said, content = draw.one_of(
        ("cut", content[: len(content) // 2]),
        ("nothing", b""),
        ("text", b"no picture"),
        ("a cut header", content[:20]),
        ("noise", bytes(draw.rng.integers(0, 256, 500).astype(np.uint8))),
    )
    file.write_bytes(content)
    return _seen(f"a {file.suffix} of {said}", file, made, expect="refused")


def garbled_png(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    file = draw.folder / "p.png"
    Image.fromarray(made.grey).save(file)
    content = bytearray(file.read_bytes())
    content[int(draw.rng.integers(60, len(content) - 20))] ^= 1 << int(draw.rng.integers(8))
    file.write_bytes(content)
    return _seen("a PNG with one bit flipped", file, made, expect="refused")


def without_contrast(draw: Draw) -> OddInput:
    value, dtype = draw.one_of(
        (0, np.uint8),
        (255, np.uint8),
        (128, np.uint8),
        (0, np.uint16),
        (65535, np.uint16),
        (7, np.float32),
        (np.nan, np.float32),
    )
    file = draw.folder / ("p.tif" if dtype is np.float32 else "p.png")
    pixels = np.full((60, 80), value, dtype)
    if dtype is np.uint8 and draw.turn % 2:
        pixels = np.stack([pixels] * 3, -1)
    tifffile.imwrite(file, pixels) if dtype is np.float32 else Image.fromarray(pixels).save(file)
    ask = draw.one_of({"labels": ["liver"], "box": None}, {}, {"box": None})
    made = picture(draw.rng, 60, 80)
    return _seen(f"every pixel {value} ({np.dtype(dtype)})", file, made, expect="refused", options=ask)


def not_finite(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    value = draw.one_of(np.nan, np.inf, -np.inf, 1e38)
    pixels = made.grey.astype(np.float32)
    pixels[2, 3] = value
    file = draw.folder / "p.tif"
    tifffile.imwrite(file, pixels)
    return _seen(f"one pixel {value}", file, made, expect="either")


def colours_of_one_grey(draw: Draw) -> OddInput:
    """A picture whose channels differ by a constant, and one coloured without a change."""
    made = picture(draw.rng)
    file = draw.folder / "p.png"
    if draw.one_of(False, True):
        Image.fromarray(np.broadcast_to(np.uint8([200, 10, 30]), (96, 120, 3)).copy()).save(file)
        return _seen("one colour all over", file, made, expect="refused")
    Image.fromarray(np.stack([made.grey, made.grey // 2, made.grey // 3], -1)).save(file)
    return _seen("a tinted picture", file, made)


def small_and_thin(draw: Draw) -> OddInput:
    height, width = draw.one_of((1, 1), (1, 300), (300, 1), (2, 2), (3, 500), (8, 8))
    pixels = draw.rng.integers(0, 255, (height, width)).astype(np.uint8)
    file = draw.folder / "p.png"
    Image.fromarray(pixels).save(file)

    def check(out: Path) -> None:
        (index_map,) = out.rglob("*_seg.png")
        if np.array(Image.open(index_map)).shape != pixels.shape:
            raise Wrong("an index map of another size")

    made = picture(draw.rng)
    return _seen(
        f"{height} x {width} pixels",
        file,
        made,
        expect="refused" if pixels.size == 1 else "either",
        check=check,
        options={"box": None, "labels": ["liver"]},
    )


def enormous(draw: Draw) -> OddInput:
    side = draw.one_of(15_000, 13_500, 60_000)
    file = draw.folder / "p.png"
    if side > 20_000:
        # A header alone.
        Image.new("1", (side, 3)).save(file)
        content = bytearray(file.read_bytes())
        content[20:24] = side.to_bytes(4, "big")
        import zlib

        content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
        file.write_bytes(content)
    else:
        Image.new("1", (side, side)).save(file)
    made = picture(draw.rng)
    return _seen(
        f"{side} x {side} pixels", file, made, expect="refused", apart=True, options={"labels": ["liver"], "box": None}
    )


def prompts_alone(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    Image.fromarray(made.grey).save(draw.folder / "p.png")
    x, y = made.click
    ask = draw.one_of(
        {},
        {"box": None, "foreground": [[x, y]]},
        {"box": None, "points": [[x, y]], "point_labels": [1]},
        {"box": None, "objects": {"thing": {"foreground": [[x, y]]}}},
        {"foreground": [[x, y]], "background": [[2, 2]]},
        {"box": None, "objects": {"thing": {"box": made.box}}},
        {"box": [made.box[:2], made.box[2:]]},
    )
    expect = "either" if isinstance(ask.get("box"), list) else "right"
    return _seen(
        f"prompts {ask} with the default weights", draw.folder / "p.png", made, options=ask, expect=expect, names="box"
    )


def prompts_of_other_forms(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    Image.fromarray(made.grey).save(draw.folder / "p.png")
    x, y = made.click
    ask = draw.one_of(
        {"foreground": [[x, 96]]},
        {"foreground": [[120, y]]},
        {"foreground": [[-1, y]]},
        {"foreground": [[x, y, 7]]},
        {"foreground": "x"},
        {"foreground": [[x, None]]},
        {"box": [60, 50, 20, 10]},
        {"box": [1, 2, 3]},
        {"box": [-5, 0, 20, 20]},
        {"box": [0, 0, 900, 9]},
        {"box": "x"},
        {"points": [[x, y]]},
        {"points": [[x, y]], "point_labels": [7]},
        {"objects": [1]},
        {"objects": {"a": {"clicks": [[x, y]]}}},
        {"scribble": "x.png"},
        {"background": [[x, y]]},
        {"foreground": [[np.nan, y]]},
        {"box": [0, 0, np.nan, 9]},
        {"foreground": [[True, False]]},
    )
    return _seen(
        f"prompts {ask}",
        draw.folder / "p.png",
        made,
        options={"box": None, **ask},
        expect="refused",
        names="foreground|background|box|point|object|scribble",
    )


def box_to_the_size(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    Image.fromarray(made.grey).save(draw.folder / "p.png")
    x0, y0, _, _ = made.box
    box = draw.one_of([x0, y0, 120, 96], [0, 0, 120, 96])
    return _seen(
        "a box whose corner is the size",
        draw.folder / "p.png",
        made,
        options={"box": box},
        check=check_picture(made, 0.0, note="box"),
        names="box",
    )


def prompts_without_end(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    Image.fromarray(made.grey).save(draw.folder / "p.png")
    inside = np.argwhere(made.truth)[:, ::-1]
    ask = draw.one_of(
        {"box": None, "foreground": inside[draw.rng.integers(len(inside), size=10_000)].tolist()},
        {"box": None, "objects": {f"o{k}": [inside[k % len(inside)].tolist()] for k in range(2000)}},
    )
    return _seen(
        f"{next(k for k in ask if ask[k])} without end",
        draw.folder / "p.png",
        made,
        options=ask,
        expect="refused",
        names="click|point|object|foreground",
        apart=True,
    )


def volumes_slice_by_slice(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    count = draw.one_of(1, 5)
    values = np.stack([made.grey.T.astype(np.int16) * 3] * count, -1)
    affine = np.diag([*draw.one_of((1.0, 1.0), (0.001, 0.001), (-0.5, 0.5)), draw.one_of(1.0, 2.5), 1])
    file = draw.folder / "p.nii.gz"
    nib.save(nib.Nifti1Image(values, affine), file)
    x0, y0, x1, y1 = made.box

    def check(out: Path) -> None:
        (mask,) = out.rglob("*_seg.nii.gz")
        mask = nib.load(mask)
        inside = np.asarray(mask.dataobj).reshape(values.shape) > 0
        if not np.allclose(mask.affine, affine):
            raise Wrong("a volume on another grid")
        if (score := dice(inside[..., count // 2], made.truth.T)) < 0.5:
            raise Wrong(f"Dice {score:.3f} in the middle slice")
        said = sum(o["volume_ml"] for o in json.loads(next(out.rglob("*.json")).read_text())["objects"])
        if not np.isclose(said, inside.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000, rtol=0.006, atol=0):
            raise Wrong(f"{said} mL are said")

    return _seen(
        f"a volume of {count} slices",
        file,
        made,
        check=check,
        options={"box": [[x0, y0, 0], [x1, y1, count - 1]], "slice_axis": 2},
    )


def folders(draw: Draw) -> OddInput:
    made = picture(draw.rng)
    folder = draw.folder / "in"
    folder.mkdir()
    said = draw.one_of("nothing", "text alone", "two of one stem", "a damaged one")
    if said == "text alone":
        (folder / "a.txt").write_text("x")
    if said in ("two of one stem", "a damaged one"):
        Image.fromarray(made.grey).save(folder / "a.png")
    if said == "two of one stem":
        Image.fromarray(made.grey).save(folder / "a.bmp")
    if said == "a damaged one":
        (folder / "b.png").write_bytes(b"x")
    return _seen(
        f"a folder of {said}",
        folder,
        made,
        expect="refused",
        names="in|a|b.png",
        options={"labels": ["liver"], "box": None},
    )


KINDS = (
    modes, modes, modes, tiffs, tiffs, white_is_zero, several_pages, turned_by_exif, names_against_content, damaged,
    garbled_png, without_contrast, without_contrast, not_finite, colours_of_one_grey, small_and_thin, enormous,
    prompts_alone, prompts_alone, prompts_of_other_forms, prompts_of_other_forms, box_to_the_size,
    prompts_without_end, volumes_slice_by_slice, folders,
)  # fmt: skip
