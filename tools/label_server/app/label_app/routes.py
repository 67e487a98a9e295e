# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Every request that the server answers. What is not here does not exist, whatever MONAI Label offers.

The functions are no coroutines, so each runs in a thread: a long one keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Form, Request, UploadFile
from fastapi import Path as InPath
from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse, Response
from monailabel.datastore.utils.convert import nifti_to_dicom_seg
from monailabel.endpoints import activelearning, batch_infer, datastore, infer, model, proxy, scoring, session, train
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import ImageNotFoundException
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file
from pydantic import AfterValidator, StringConstraints

from . import requests as given
from .common.gate import Refusal, is_token
from .uploads import checked, stored

OHIF = Path(proxy.__file__).parent / "static" / "ohif"
# What a viewer asks a DICOMweb server for: studies, series, instances, by UIDs and words, never a way upwards.
DICOM_PATH = re.compile(r"((qido|wado|stow)/)?(studies|series|instances)(/[A-Za-z0-9_-][A-Za-z0-9_.,-]*)*/?")
STORE_PATH = re.compile(r"(stow/)?studies(/[0-9.]+)?/?")
TEXT_LIMIT = 2**16


def declared_alone(request: Request) -> None:
    """Refuse what a request has beside the parameters of its route."""
    route = request.scope["route"]
    known = sorted(p.alias for p in route.dependant.query_params)
    unknown = [key for key in request.query_params if key not in known]
    if unknown:
        expected = f"expected {', '.join(known)}" if known else "expected none"
        raise ValueError(f"unknown parameter {unknown[0][:60]!r} of {route.path}: {expected}")


router = APIRouter(dependencies=[Depends(declared_alone)])
# OHIF's, whose addresses carry what it searches for.
pages = APIRouter()

Id = Annotated[str, AfterValidator(lambda value: value if not value else given.is_name(value))]
Known = Annotated[str, InPath(max_length=128)]
SessionId = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$")]
Params = Annotated[str, Form(max_length=2**20)]


def one_of(names: Any, name: str, what: str) -> str:
    """``name``.

    Raises:
        Refusal: there is none of this name.
    """
    if name not in names:
        raise Refusal(404, f"there is no {what} {name!r}: expected one of {', '.join(sorted(names)) or 'none'}")
    return name


def known_image(name: str) -> str:
    """The path or folder of an image of the studies.

    Raises:
        ImageNotFoundException: there is none.
    """
    path = app_instance().datastore().get_image_uri(name) if name else ""
    if not path:
        raise ImageNotFoundException(f"there is no image {name!r}")
    return path


@router.get("/")
def start_page() -> dict[str, str]:
    """What is here, for whoever opens the address in a browser."""
    return {"server": "MONAI Label", "info": "/info/", "viewer": "/ohif/"}


@router.get("/info/")
def info() -> dict[str, Any]:
    """Models, labels, strategies and images, as viewers show them."""
    return app_instance().info()


@router.post("/infer/{model}")
def run_infer(
    background: BackgroundTasks,
    model: Known,
    image: Id = "",
    session_id: SessionId = "",
    params: Params = "{}",
    file: UploadFile | None = None,
    label: UploadFile | None = None,
    output: infer.ResultType | None = None,
) -> Any:
    """A mask, for an image of the studies, of a session, or that comes with the request."""
    app = app_instance()
    one_of(app.infers, model, "model")
    request: dict[str, Any] = {"model": model, **given.read(given.Infer, params)}
    found = app.sessions().get_session(session_id) if session_id else None
    with stored(*(checked(f) if f else None for f in (file, label))) as (uploaded, strokes):
        request["image"] = uploaded or (found.image if found else known_image(image))
        if strokes:
            request["label"] = strokes
        result = app.infer(request)
        if output == infer.ResultType.dicom_seg:
            return dicom_seg(background, request["image"], result, request.get("label_info"))
        return infer.send_response(app.datastore(), result, output, background)


def dicom_seg(background: BackgroundTasks, image: str, result: dict[str, Any], segments: Any) -> Response:
    """The mask as DICOM SEG of the series that ``image`` was made from.

    Raises:
        ValueError: no names of segments, or no series.
    """
    mask = result["file"]
    background.add_task(remove_file, mask)
    series = next((image.removesuffix(end) for end in (".nii.gz", ".nii", ".nrrd") if image.endswith(end)), image)
    try:
        if not segments:
            raise ValueError('label_info is missing: expected names of segments, such as [{"name": "liver"}]')
        if not os.path.isdir(series):
            raise ValueError(f"{Path(image).name} was not made from a DICOM series: expected output=all")
        written = nifti_to_dicom_seg(series, mask, segments, use_itk=True)
        if not written or not os.path.exists(written):
            raise ValueError("the mask is empty: expected clicks on an object before it is written as DICOM SEG")
    except ValueError:
        remove_file(mask)
        raise
    background.add_task(remove_file, written)
    return FileResponse(written, media_type="application/dicom", filename=os.path.basename(written))


@router.get("/train/")
def train_status(all: bool = False, check_if_running: bool = False) -> Any:
    """How the training goes."""
    return train.status(all, check_if_running)


@router.post("/train/")
def train_all(params: Annotated[dict | None, Body()] = None) -> Any:
    """Train each model, one after the other, with the parameters under its name."""
    trainers = app_instance().trainers
    for name in params or {}:
        one_of(trainers, name, "model to train")
    read = {name: given.read(given.Train, (params or {}).get(name, {})) for name in trainers}
    return {name: train.run_model(name, values, False, True) for name, values in read.items()}


@router.post("/train/{model}")
def train_one(model: Known, params: Annotated[dict | None, Body()] = None, enqueue: bool = False) -> Any:
    """Train one model, in a process of its own."""
    one_of(app_instance().trainers, model, "model to train")
    return train.run_model(model, given.read(given.Train, params or {}), False, enqueue)


@router.delete("/train/")
def train_stop() -> Any:
    """Stop the training."""
    return train.stop()


@router.get("/batch/infer")
def batch_status(all: bool = False, check_if_running: bool = False) -> Any:
    """How the inference for all images goes."""
    return batch_infer.status(all, check_if_running)


@router.post("/batch/infer/{model}")
def batch_run(
    model: Known,
    images: batch_infer.BatchInferImageType = batch_infer.BatchInferImageType.IMAGES_ALL,
    params: Annotated[dict | None, Body()] = None,
) -> Any:
    """Masks of all images, kept as labels under a tag, in a process of its own."""
    one_of(app_instance().infers, model, "model")
    return batch_infer.run(model, images, given.read(given.Batch, params or {}, whole=True), False)


@router.delete("/batch/infer")
def batch_stop() -> Any:
    """Stop the inference for all images."""
    return batch_infer.stop()


@router.get("/scoring/")
def scoring_status(all: bool = False, check_if_running: bool = False) -> Any:
    """How the scoring goes."""
    return scoring.status(all, check_if_running)


@router.post("/scoring/{method}")
def scoring_run(method: Known, params: Annotated[dict | None, Body()] = None) -> Any:
    """Score the images without a label, in a process of its own."""
    one_of(app_instance().scoring_methods, method, "scoring method")
    return scoring.run_method(method, given.read(given.Scoring, params or {}), False)


@router.delete("/scoring/")
def scoring_stop() -> Any:
    """Stop the scoring."""
    return scoring.stop()


@router.post("/activelearning/{strategy}")
def next_sample(strategy: Known, params: Annotated[dict | None, Body()] = None) -> Any:
    """The image to label next."""
    one_of(app_instance().strategies, strategy, "strategy")
    return activelearning.sample(strategy, given.read(given.Sample, params or {}), "client")


@router.get("/datastore/")
def images(output: Literal["all", "stats"] = "stats") -> Any:
    """Images with their labels, or how many there are."""
    return datastore.datastore(datastore.ResultType(output))


@router.put("/datastore/")
@router.put("/datastore/image")
def add_image(background: BackgroundTasks, file: UploadFile, image: Id = "", params: Params = "{}") -> Any:
    """A further image. One that is there already is not replaced."""
    sent = Path(file.filename or "").name
    file = checked(file)
    name = image or given.is_name(sent[: len(sent) - len(file.filename.removeprefix("upload"))])
    return stored_by(background, datastore.add_image, background, name, as_object(params), file)


@router.get("/datastore/image")
@router.head("/datastore/image")
def image_file(image: Id) -> FileResponse:
    """An image's file."""
    path = known_image(image)
    if not os.path.isfile(path):
        raise ImageNotFoundException(f"{image!r} is no single file")
    return FileResponse(path, filename=os.path.basename(path))


@router.get("/datastore/image/info")
def image_info(image: Id) -> Any:
    """What is known of an image."""
    known_image(image)
    return datastore.get_image_info(image)


@router.put("/datastore/label")
def save_label(
    background: BackgroundTasks, image: Id, label: UploadFile, params: Params = "{}", tag: given.Tag | Literal[""] = ""
) -> Any:
    """A label for an image."""
    known_image(image)
    return stored_by(background, datastore.save_label, background, image, as_object(params), tag, checked(label))


@router.get("/datastore/label")
@router.head("/datastore/label")
def label_file(tag: given.Tag, label: Id = "", image: Id = "") -> FileResponse:
    """A label's file. Clients name it by ``label`` or by ``image``, which are the same."""
    path = known_label(label or image, tag)
    return FileResponse(path, filename=os.path.basename(path))


@router.delete("/datastore/label")
def remove_label(id: Id, tag: given.Tag) -> Any:
    """Take a label away."""
    known_label(id, tag)
    return datastore.remove_label(id, tag)


@router.get("/datastore/label/info")
def label_info(label: Id, tag: given.Tag) -> Any:
    """What is known of a label."""
    known_label(label, tag)
    return datastore.get_label_info(label, tag)


@router.put("/datastore/label/info")
def note_label(label: Id, tag: given.Tag, info: Params = "{}") -> Any:
    """Note something beside a label."""
    known_label(label, tag)
    return datastore.update_label_info(label, tag, as_object(info))


@router.put("/datastore/updatelabelinfo")
def note_label_as_before(label: Id, tag: given.Tag, params: Params = "{}") -> Any:
    """The same under the name that MONAI Label's reviewer uses."""
    return note_label(label, tag, params)


def known_label(name: str, tag: str) -> str:
    """The path of a label.

    Raises:
        Refusal: there is none.
    """
    store: Datastore = app_instance().datastore()
    path = store.get_label_uri(name, tag)
    if not path or not os.path.isfile(path):
        raise Refusal(404, f"there is no label {name!r} with the tag {tag!r}: expected one of /datastore/?output=all")
    return path


def as_object(text: str) -> str:
    """The text of an object that is kept beside a file.

    Raises:
        ValueError: no object, or a long one.
    """
    if len(text) > TEXT_LIMIT or not isinstance(given.parse(text), dict):
        raise ValueError(f"expected an object as JSON of at most {TEXT_LIMIT} characters")
    return text or "{}"


def stored_by(background: BackgroundTasks, keep: Callable, *what: Any) -> Any:
    """``keep(*what)``, and the temporary files are gone where it fails too."""
    try:
        return keep(*what)
    except Exception:
        for task in background.tasks:
            task.func(*task.args)
        raise


@router.put("/session/")
def create_session(background: BackgroundTasks, files: list[UploadFile], expiry: int = 0) -> Any:
    """An image for some minutes, that does not become one of the studies."""
    if len(files) != 1:
        raise ValueError(f"{len(files)} files: expected one image; archives and folders are not unpacked")
    return stored_by(background, session.create_session, background, False, expiry, [checked(files[0])])


@router.get("/session/{session_id}")
def get_session(session_id: SessionId, update_ts: bool = False, image: bool = False) -> Any:
    """What is known of a session, or its image."""
    return session.get_session(session_id, update_ts, image)


@router.delete("/session/{session_id}")
def remove_session(session_id: SessionId) -> Any:
    """End a session."""
    return session.remove_session(session_id)


@router.get("/model/{model_name}")
def weights(model_name: Known) -> Any:
    """The weights of a model. They change by training, or by the hands of the server's owner."""
    one_of(app_instance().models, model_name, "model")
    return model.download_model(model_name)


@router.get("/model/info/{model_name}")
def weights_info(model_name: Known) -> Any:
    """Checksum and time of the weights."""
    one_of(app_instance().models, model_name, "model")
    return model.model_info(model_name)


@router.get("/auth/")
def log_in_wanted(request: Request) -> dict[str, Any]:
    """Whether a token is wanted, as 3D Slicer asks."""
    return {"enabled": bool(request.app.state.rules.token), "client_id": "", "realm": ""}


@router.post("/auth/token")
def log_in(
    request: Request,
    password: Annotated[str, Form(max_length=1024)] = "",
    username: Annotated[str, Form(max_length=256)] = "",
    grant_type: Annotated[Literal["password"], Form()] = "password",
) -> dict[str, Any]:
    """The token for the token, given as the password: 3D Slicer asks for both in one window."""
    rules = request.app.state.rules
    if rules.token and not is_token(password, rules):
        raise Refusal(401, "expected the server's token as the password; the name is free")
    return {"access_token": rules.token or None, "token_type": "bearer"}


@router.get("/auth/token/valid")
def log_in_valid() -> dict[str, Any]:
    """Answered where the token was right."""
    return {"username": "client"}


async def read_body(request: Request) -> bytes:
    """The body, read before the thread takes over."""
    return await request.body()


@pages.get("/proxy/dicom/{path:path}", dependencies=[Depends(read_body)])
@pages.post("/proxy/dicom/{path:path}", dependencies=[Depends(read_body)])
def dicom(request: Request, path: str) -> Response:
    """OHIF's way to the DICOMweb server that the studies come from."""
    studies = app_instance().studies
    if not studies.startswith(("http://", "https://")):
        raise Refusal(404, "the studies are a folder: start the server with the http:// address of a DICOMweb server")
    allowed = STORE_PATH if request.method == "POST" else DICOM_PATH
    if not allowed.fullmatch(path):
        raise Refusal(403, f"{path[:80]!r} is nothing that a viewer asks of DICOMweb: expected studies/UID/...")
    operation, _, rest = path.partition("/") if path.split("/")[0] in ("qido", "wado", "stow") else ("", "", path)
    # The client's host, cookies and token are not for the other server.
    kept = [(k, v) for k, v in request.scope["headers"] if k in (b"content-type", b"accept")]
    forwarded = Request({**request.scope, "headers": kept}, request.receive)
    forwarded._body = getattr(request, "_body", b"")
    return asyncio.run(proxy.proxy_dicom(forwarded, operation, rest))


@pages.get("/ohif/{path:path}")
def ohif(path: str) -> FileResponse:
    """OHIF's files; every other address below is one of its pages."""
    file = (OHIF / path.replace("\0", "")).resolve()
    inside = file.is_file() and file.is_relative_to(OHIF.resolve())
    return FileResponse(file if inside else OHIF / "index.html")
