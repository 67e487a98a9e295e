# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The web application: our routes before MONAI Label's functions, behind the gate.

MONAI Label's own application answers any web page, hands requests on unread, and computes while others wait.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from starlette.exceptions import HTTPException

from .common.gate import Gate, refusal
from .requests import describe
from .routes import pages, router
from .rules import TASK, Rules

# What a client asks to learn whether and how to log in.
OPEN_PATHS = ("/auth/", "/auth/token")
# More than may wait for a mask, so that others are always answered.
THREADS = 96


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start MONAI Label's app, and end what it started."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    instance = app_instance()
    os.environ[TASK] = "true"
    instance.server_mode(True)
    instance.on_init_complete()
    yield
    instance.worker.stop()


def describe_errors(app: FastAPI) -> None:
    """Answer 4xx for bad input and 500 for the rest, with ``{"detail": a sentence}``."""

    @app.exception_handler(ValueError)
    def bad_input(request: Request, error: ValueError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    @app.exception_handler(FileExistsError)
    def there_already(request: Request, error: FileExistsError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    @app.exception_handler(RequestValidationError)
    def bad_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{**item, "loc": item["loc"][1:]} for item in error.errors()]
        return JSONResponse({"detail": describe(errors, [])}, 422)

    @app.exception_handler(MONAILabelException)
    def refused(request: Request, error: MONAILabelException) -> JSONResponse:
        missing = isinstance(error, ImageNotFoundException | LabelNotFoundException)
        return JSONResponse({"detail": error.msg}, 404 if missing else 400)

    @app.exception_handler(HTTPException)
    def refused_with_status(request: Request, error: HTTPException) -> JSONResponse:
        return refusal(request, error, "docs/monailabel.md")

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> JSONResponse:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:300]
        text = f"the server failed: {type(error).__name__}: {reason}; its log (logs/app.log) says where"
        return JSONResponse({"detail": text}, 500)


def make_app(rules: Rules) -> Gate:
    """The application behind its gate."""
    # Pages of documentation would load scripts from elsewhere.
    app = FastAPI(title="MONAI Label", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.rules = rules
    if rules.origins:
        methods = ["GET", "HEAD", "POST", "PUT", "DELETE"]
        app.add_middleware(CORSMiddleware, allow_origins=rules.origins, allow_methods=methods, allow_headers=["*"])
    app.include_router(router)
    app.include_router(pages)
    describe_errors(app)
    return Gate(app, rules, "MONAI Label", OPEN_PATHS)


app = make_app(Rules.from_environment())
