# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The web application: the protocols behind the gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from sam_bundles.common.gate import Gate, refusal
from starlette.exceptions import HTTPException

from sam_bundles import Engine

from . import itksnap, nninteractive
from .page import Page, page_router
from .sessions import Leases, log
from .settings import Settings

# What a client asks to learn whether a server is there.
OPEN_PATHS = ("/healthz",)


def create_app(settings: Settings, engine: Engine | None = None, page: Page | None = None) -> FastAPI:
    """The application; ``app.state.leases`` holds the sessions.

    Args:
        settings: who may talk to it, and how many at once.
        engine: what all sessions predict with; None for the default one, loaded here.
        page: for the browser; None for none.

    Raises:
        ValueError: weights that do not load.
    """
    leases = Leases(settings, engine or Engine.load())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """Free the places of clients that died, as long as the server runs."""
        sweeping = asyncio.create_task(sweep(leases))
        yield
        sweeping.cancel()
        leases.close()

    # Pages of documentation would load scripts from elsewhere.
    app = FastAPI(title="SAM bundles", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.settings, app.state.leases = settings, leases
    app.include_router(nninteractive.router)
    app.include_router(itksnap.router)
    if page is not None:
        app.include_router(page_router(page))
    describe_errors(app)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    # Added last, asked first.
    app.add_middleware(Gate, rules=settings, realm="SAM bundles", open_paths=OPEN_PATHS)
    return app


async def sweep(leases: Leases) -> None:
    """Look for clients that died, again and again."""
    while True:
        await asyncio.sleep(min(5.0, leases.settings.liveness_timeout / 4))
        leases.sweep()


def describe_errors(app: FastAPI) -> None:
    """Answer every refusal with ``{"detail": a sentence}``."""

    @app.exception_handler(ValueError)
    async def bad_input(request: Request, error: ValueError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    @app.exception_handler(RequestValidationError)
    async def bad_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = next((str(part) for part in reversed(first["loc"]) if isinstance(part, str)), "the request")
        sentence = f"{place}: {first['msg'].lower()}; docs/click_anywhere.md says what this request carries"
        return JSONResponse({"detail": sentence}, 400)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return refusal(request, error, "docs/click_anywhere.md")

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse({"detail": f"the server failed: {type(error).__name__}; its log says where"}, 500)
