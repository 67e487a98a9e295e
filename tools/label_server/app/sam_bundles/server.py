# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""MONAI Label's web application, whose errors say in a sentence what was wrong.

Without this a client is told "Internal Server Error", whatever it did.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from monailabel.app import app
from monailabel.endpoints import infer
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException

from .studies import SeriesFolders

EXPECTED = 'expected an object such as {"foreground": [[i, j, k]]}'


def describe_errors(app: FastAPI) -> None:
    """Answer 400 for bad input, 404 for what is not there and 500 for the rest, with ``{"detail": a sentence}``."""

    @app.exception_handler(json.JSONDecodeError)
    def malformed(request: Request, error: json.JSONDecodeError) -> JSONResponse:
        return JSONResponse({"detail": f"params is not valid JSON ({error}); {EXPECTED}"}, 400)

    @app.exception_handler(ValueError)
    def bad_input(request: Request, error: ValueError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    @app.exception_handler(MONAILabelException)
    def refused(request: Request, error: MONAILabelException) -> JSONResponse:
        missing = isinstance(error, ImageNotFoundException | LabelNotFoundException)
        return JSONResponse({"detail": error.msg}, 404 if missing else 400)

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> JSONResponse:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:300]
        text = f"the server failed: {type(error).__name__}: {reason}; its log (logs/app.log) says where"
        return JSONResponse({"detail": text}, 500)


def with_object(run: Callable) -> Callable:
    """The endpoint's function, for params that are an object alone: it takes other JSON for granted and fails."""

    @functools.wraps(run)
    def checked(background_tasks: Any, model: str, image: str, session_id: str, params: str, *files: Any) -> Any:
        if params and not isinstance(json.loads(params), dict):
            raise ValueError(f"params is {params[:80]}: {EXPECTED}")
        return run(background_tasks, model, image, session_id, params, *files)

    return checked


describe_errors(app)
infer.run_inference = with_object(infer.run_inference)
# The endpoint writes DICOM SEG for a DICOMweb server alone; a folder that holds the series can do as well.
infer.DICOMWebDatastore = (infer.DICOMWebDatastore, SeriesFolders)
