# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DICOM series that lack something, or are written as few scanners write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from odd_input import Draw, OddInput
from scenes import SHAPE, Scene, affine_of, check_ball, refused, scene, seen
from volumes import rotation

try:
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid
except ImportError:
    pydicom = None

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
Edit = Callable[["Dataset", int], None]


def ct_scene(draw: Draw, axes: np.ndarray | None = None, shape: Sequence[int] = SHAPE) -> Scene:
    """A scene whose voxel (0, 0, 0) is the first pixel of the lowest slice."""
    axes = np.diag([-2.0, -2.0, 3.0]) if axes is None else axes
    return scene(draw.rng, affine_of(axes, shape), shape)


def slice_of(made: Scene, k: int, series: str, at: np.ndarray | None = None) -> Dataset:
    """One slice as CT; ``at``: its first pixel in mm (RAS), where it lies elsewhere than the scene says."""
    lps = LPS @ made.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = f"{series}.{k + 1}"
    ds.PatientID, ds.PatientName, ds.Modality = "p", "A^B", "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.77", series
    ds.InstanceNumber, ds.SeriesNumber = k + 1, 1
    position = lps[:3] @ [0, 0, k, 1] if at is None else LPS[:3, :3] @ at
    ds.ImagePositionPatient = [f"{v:.8g}" for v in position]
    ds.ImageOrientationPatient = [f"{v:.8g}" for v in (*lps[:3, 0] / spacing[0], *lps[:3, 1] / spacing[1])]
    ds.PixelSpacing = [f"{spacing[1]:.8g}", f"{spacing[0]:.8g}"]
    normal = np.cross(lps[:3, 0] / spacing[0], lps[:3, 1] / spacing[1])
    ds.SliceThickness = f"{abs(normal @ lps[:3, 2]):.8g}"
    put_pixels(ds, np.round(made.values[:, :, k].T + 1024).clip(0, 4095).astype("<u2"))
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
    return ds


def put_pixels(ds: Dataset, pixels: np.ndarray) -> None:
    """12-bit grey pixels (rows, columns)."""
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = pixels.tobytes()


def write_series(
    folder: Path,
    made: Scene,
    keep: Sequence[int] | None = None,
    edit: Edit | None = None,
    name: str = "IM{:04d}.dcm",
    series: str | None = None,
    at: Callable[[int], np.ndarray] | None = None,
) -> Path:
    """The slices ``keep`` of a scene, a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    series = series or generate_uid()
    for k in range(made.shape[2]) if keep is None else keep:
        ds = slice_of(made, k, series, None if at is None else at(k))
        if edit is not None:
            edit(ds, k)
        ds.save_as(folder / name.format(k), enforce_file_format=True)
    return folder


_seen, _refused = (partial(f, apart=True) for f in (seen, refused))


def regular(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    uids = generate_uid()
    edit, said = draw.one_of(
        (None, "as it should be"),
        (lambda ds, k: setattr(ds, "InstanceNumber", 1000 - k), "instance numbers the other way round"),
        (lambda ds, k: setattr(ds, "InstanceNumber", 1), "all of them instance number 1"),
        (lambda ds, k: ds.__delattr__("InstanceNumber"), "no instance numbers"),
        (lambda ds, k: setattr(ds, "SliceThickness", "1"), "slices thinner than their distance"),
    )
    name = draw.one_of("IM{:04d}.dcm", "I{:d}", "x{:d}.ima", "{:d} ü.dcm")
    return _seen(f"dicom: {said}", write_series(draw.folder / "scan", made, edit=edit, name=name, series=uids), made)


def oblique_slices(draw: Draw) -> OddInput:
    made = ct_scene(draw, rotation(*draw.rng.uniform(-50, 50, 3)) @ np.diag([-2.0, -2.0, 3.0]))
    return _seen("dicom: oblique slices", write_series(draw.folder / "scan", made), made)


def sagittal_or_coronal(draw: Draw) -> OddInput:
    axes = draw.one_of(
        np.array([[0, 0, 3.0], [-2.0, 0, 0], [0, -2.0, 0]]), np.array([[-2.0, 0, 0], [0, 0, 3.0], [0, -2.0, 0]])
    )
    made = ct_scene(draw, axes)
    # Slices are read along their normal, which may run against the order in which they were made.
    lps = LPS @ made.affine
    against = np.cross(lps[:3, 0], lps[:3, 1]) @ lps[:3, 2] < 0
    odd = _seen("dicom: sagittal or coronal slices", write_series(draw.folder / "scan", made), made)
    if against:
        last = made.shape[2] - 1
        for key in ("foreground", "background"):
            odd.options[key] = [[i, j, last - k] for i, j, k in odd.options[key]]
    return odd


def slices_missing(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    count = draw.one_of(1, 3, 2, 8)
    first = int(draw.rng.integers(3, made.shape[2] - count - 3))
    keep = [k for k in range(made.shape[2]) if not first <= k < first + count]
    return _refused(
        f"dicom: {count} slices missing",
        write_series(draw.folder / "scan", made, keep),
        made,
        names="missing|spac|gap|apart|regular|distance",
    )


def slice_twice(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    folder = write_series(draw.folder / "scan", made)
    k = int(draw.rng.integers(2, made.shape[2] - 2))
    file = folder / f"IM{k:04d}.dcm"
    if draw.one_of(True, False):
        (folder / f"copy of {file.name}").write_bytes(file.read_bytes())
        return _seen("dicom: one file twice", folder, made, expect="either")
    ds = pydicom.dcmread(file)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(folder / "other.dcm")
    return _refused("dicom: two different slices in one place", folder, made, names="position|place|twice|several")


def uneven(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    n = made.shape[2]
    keep = draw.one_of([*range(n // 2), *range(n // 2, n, 2)], [*range(0, n, 3), *range(n - 4, n)])
    return _refused(
        "dicom: slices at uneven distances",
        write_series(draw.folder / "scan", made, sorted(set(keep))),
        made,
        names="spac|distance|uneven|regular|apart",
    )


def uneven_by_rounding(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    by = draw.one_of(0.001, 0.004)
    shift = draw.rng.uniform(-by, by, made.shape[2])
    return _seen(
        f"dicom: positions rounded, {by} mm off",
        write_series(draw.folder / "scan", made, at=lambda k: (made.affine @ [0, 0, k + shift[k] / 3, 1])[:3]),
        made,
    )


def tilted_gantry(draw: Draw) -> OddInput:
    axes = np.diag([-2.0, -2.0, 3.0])
    axes[1, 2] = draw.one_of(1.0, -1.0, 0.5, 1.6)
    made = ct_scene(draw, axes)
    return _seen(
        f"dicom: each slice {axes[1, 2]} mm further along the rows",
        write_series(draw.folder / "scan", made),
        made,
        expect="either" if draw.turn > 3 else "right",
    )


def two_phases(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    series = generate_uid()
    folder = write_series(draw.folder / "scan", made, name="A{:03d}.dcm", series=series)

    def later(ds: Dataset, k: int) -> None:
        ds.InstanceNumber = 100 + k
        ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") // 2).tobytes()
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{series}.{200 + k}"
        if draw.turn % 2:
            ds.AcquisitionNumber = 2

    write_series(folder, made, name="B{:03d}.dcm", series=series, edit=later)
    return _refused(
        "dicom: two phases under one series UID",
        folder,
        made,
        names="position|place|phase|stack|twice|several",
    )


def two_series(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    folder = write_series(draw.folder / "scan", made, name="A{:03d}.dcm")
    write_series(folder, made, name="B{:03d}.dcm")
    return _refused("dicom: two series in one folder", folder, made, names="series")


def with_a_localizer(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    folder = write_series(draw.folder / "scan", made)
    ds = slice_of(made, 3, draw.one_of(generate_uid(), pydicom.dcmread(folder / "IM0000.dcm").SeriesInstanceUID))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.ImageOrientationPatient = ["0", "1", "0", "0", "0", "-1"]
    ds.save_as(folder / "loc.dcm", enforce_file_format=True)
    return _seen("dicom: a localizer beside the slices", folder, made, expect="either", names="series|localizer|orient")


def other_files_beside(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    folder = write_series(draw.folder / "scan", made)
    name, content = draw.one_of(
        ("README.txt", b"hello"), ("Thumbs.db", bytes(100)), (".DS_Store", bytes(70)), ("a.json", b"{}")
    )
    (folder / name).write_bytes(content)
    return _seen(f"dicom: {name} beside the slices", folder, made)


def damaged_slice(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    folder = write_series(draw.folder / "scan", made)
    file = folder / "IM0012.dcm"
    content = file.read_bytes()
    said, content = draw.one_of(
        ("cut", content[: len(content) // 2]),
        ("empty", b""),
        ("of noise", bytes(draw.rng.integers(0, 256, 3000).astype(np.uint8))),
        ("cut in the header", content[:300]),
        ("of zeros", bytes(len(content))),
    )
    file.write_bytes(content)
    return _refused(
        f"dicom: a slice in the middle is {said}",
        folder,
        made,
        names="IM0012|missing|spac|regular|read",
    )


def first_or_last_damaged(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    folder = write_series(draw.folder / "scan", made)
    file = folder / draw.one_of("IM0000.dcm", f"IM{made.shape[2] - 1:04d}.dcm")
    file.write_bytes(draw.one_of(file.read_bytes()[:2000], bytes(500), b"x" * 1000))
    return _refused("dicom: the first or last slice is damaged", folder, made, names="IM00|read|missing")


def sizes_mixed(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    folder = write_series(
        draw.folder / "scan",
        made,
        edit=lambda ds, k: put_pixels(ds, np.full((20, 22), 900, "<u2")) if k >= draw.one_of(15, 28) else None,
    )
    return _refused("dicom: slices of two sizes", folder, made, names="size|rows|pixels|scan")


def tags_missing(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    tag, part = draw.one_of(
        ("PixelSpacing", False),
        ("ImagePositionPatient", False),
        ("ImageOrientationPatient", False),
        ("ImagePositionPatient", True),
        ("PixelSpacing", True),
        ("ImageOrientationPatient", True),
    )
    folder = write_series(
        draw.folder / "scan", made, edit=lambda ds, k: ds.__delattr__(tag) if not part or k == 7 else None
    )
    return _refused(
        f"dicom: no {tag} in {'one slice' if part else 'any slice'}",
        folder,
        made,
        names=tag + "|spacing|position|orientation|missing",
    )


def tags_of_nonsense(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    tag, value = draw.one_of(
        ("PixelSpacing", ["0", "0"]),
        ("PixelSpacing", ["2", "-2"]),
        ("ImageOrientationPatient", ["0"] * 6),
        ("ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"]),
        ("PixelSpacing", ["2"]),
        ("ImagePositionPatient", ["1", "2"]),
        ("RescaleSlope", "0"),
    )
    folder = write_series(draw.folder / "scan", made, edit=lambda ds, k: setattr(ds, tag, value))
    return _refused(
        f"dicom: {tag} {value}",
        folder,
        made,
        names=f"{tag}|spacing|position|orientation|contrast|slope",
    )


def orientations_mixed(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    folder = write_series(
        draw.folder / "scan",
        made,
        edit=lambda ds, k: (
            setattr(ds, "ImageOrientationPatient", ["0", "1", "0", "0", "0", "-1"])
            if k % draw.one_of(3, 9) == 0
            else None
        ),
    )
    return _refused("dicom: some slices are turned", folder, made, names="orient|stack|series")


def spacings_mixed(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    folder = write_series(
        draw.folder / "scan",
        made,
        edit=lambda ds, k: setattr(ds, "PixelSpacing", ["1", "1"]) if k > draw.one_of(12, 25) else None,
    )
    return _refused("dicom: some slices have another pixel spacing", folder, made, names="spacing|stack|series")


def single_slice(draw: Draw) -> OddInput:
    shape = (SHAPE[0], SHAPE[1], 1)
    made = ct_scene(draw, shape=shape)
    thick = draw.one_of(True, False)
    folder = write_series(
        draw.folder / "scan", made, edit=lambda ds, k: None if thick else ds.__delattr__("SliceThickness")
    )
    return _seen(
        f"dicom: one slice {'with' if thick else 'without'} a thickness",
        folder,
        made,
        expect="either" if thick else "refused",
        names="scan|thickness|slice",
        # One slice is little for a network that sees volumes.
        check=check_ball(made, 0.0),
    )


def byte_orders_and_packing(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    form = draw.one_of("big-endian", "implicit", "rle", "deflated")
    folder = write_series(draw.folder / "scan", made)
    for file in sorted(folder.iterdir()):
        ds = pydicom.dcmread(file)
        if form == "rle":
            ds.compress(RLELossless, generate_instance_uid=False)
            ds.save_as(file, enforce_file_format=True)
            continue
        uid = {
            "big-endian": "1.2.840.10008.1.2.2",
            "implicit": "1.2.840.10008.1.2",
            "deflated": "1.2.840.10008.1.2.1.99",
        }[form]
        ds.file_meta.TransferSyntaxUID = uid
        if form == "big-endian":
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
            ds["PixelData"].VR = "OW"
        pydicom.dcmwrite(
            file, ds, implicit_vr=form == "implicit", little_endian=form != "big-endian", force_encoding=True
        )
    return _seen(f"dicom: {form}", folder, made)


def palette_colour(draw: Draw) -> OddInput:
    made = ct_scene(draw)

    def paint(ds: Dataset, k: int) -> None:
        grey = np.interp(made.values[:, :, k].T, [-300, 250], [0, 255]).astype(np.uint8)
        ds.PixelData = grey.tobytes()
        ds.PhotometricInterpretation = "PALETTE COLOR"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
        del ds.RescaleSlope, ds.RescaleIntercept
        table = (np.arange(256) * 257).astype("<u2").tobytes()
        for name in ("Red", "Green", "Blue"):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(ds, f"{name}PaletteColorLookupTableData", table)

    return _seen("dicom: PALETTE COLOR", write_series(draw.folder / "scan", made, edit=paint), made)


def rescale_by_slice(draw: Draw) -> OddInput:
    made = ct_scene(draw)

    def pet(ds: Dataset, k: int) -> None:
        values = made.values[:, :, k].T + 1024
        slope = float(f"{max(values.max(), 1) / 4000:.8g}")
        ds.PixelData = np.round(values / slope).clip(0, 4095).astype("<u2").tobytes()
        ds.RescaleSlope = f"{slope:.8g}"

    return _seen(
        "dicom: every slice has its own rescale slope", write_series(draw.folder / "scan", made, edit=pet), made
    )


def study_tree(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    inner = draw.one_of("STUDY/SERIES", "A/B/C", "PAT/ST/SE")
    write_series(draw.folder / "scan" / inner, made)
    return _seen(f"dicom: the slices lie in scan/{inner}", draw.folder / "scan", made)


def study_tree_of_two(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    write_series(draw.folder / "scan" / "STUDY" / "S1", made)
    write_series(draw.folder / "scan" / "STUDY" / "S2", made)
    return _refused("dicom: two series in the folders below", draw.folder / "scan", made, names="series|S1|scan")


def multi_frame(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    n = made.shape[2]
    order = draw.one_of(
        list(range(n)), [*range(0, n, 2), *range(1, n, 2)], list(range(n))[::-1], draw.rng.permutation(n).tolist()
    )
    file = write_frames(draw.folder / "scan.dcm", made, order)
    said = "in order" if order == sorted(order) else "out of order"
    return _seen(f"dicom: frames of one file {said}", file, made)


def multi_frame_uneven(draw: Draw) -> OddInput:
    made = ct_scene(draw)
    n = made.shape[2]
    order = draw.one_of([k for k in range(n) if k not in (9, 10)], [*range(n // 2), *range(n // 2, n, 2)])
    return _refused(
        "dicom: frames of one file at uneven distances",
        write_frames(draw.folder / "scan.dcm", made, order),
        made,
        names="spac|distance|uneven|regular|missing|apart",
    )


def write_frames(file: Path, made: Scene, order: Sequence[int]) -> Path:
    """One enhanced CT file whose frames are the slices ``order``."""
    first = slice_of(made, 0, generate_uid())
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = EnhancedCTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.PatientID, ds.PatientName, ds.Modality = "p", "A^B", "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber = "1.2.826.0.1.3680043.8.498.78", generate_uid(), 1
    stored = np.stack([np.round(made.values[:, :, k].T + 1024).clip(0, 4095).astype("<u2") for k in order])
    put_pixels(ds, stored[0])
    ds.NumberOfFrames, ds.PixelData = len(order), stored.tobytes()
    measures, turned, values = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    turned.ImageOrientationPatient = first.ImageOrientationPatient
    values.RescaleIntercept, values.RescaleSlope, values.RescaleType = "-1024", "1", "HU"
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([turned])
    shared.PixelValueTransformationSequence = Items([values])
    ds.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for k in order:
        place, content, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [f"{v:.8g}" for v in (LPS @ made.affine)[:3] @ [0, 0, k, 1]]
        content.StackID, content.InStackPositionNumber = "1", k + 1
        frame.PlanePositionSequence, frame.FrameContentSequence = Items([place]), Items([content])
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Items(frames)
    ds.save_as(file, enforce_file_format=True)
    return file


KINDS = (
    regular, oblique_slices, sagittal_or_coronal, slices_missing, slice_twice, uneven, uneven_by_rounding,
    tilted_gantry, two_phases, two_series, with_a_localizer, other_files_beside, damaged_slice, first_or_last_damaged,
    sizes_mixed, tags_missing, tags_of_nonsense, orientations_mixed, spacings_mixed, single_slice,
    byte_orders_and_packing, palette_colour, rescale_by_slice, study_tree, study_tree_of_two, multi_frame,
    multi_frame, multi_frame_uneven, tags_missing, damaged_slice,
)  # fmt: skip
