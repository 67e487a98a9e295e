# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Who may speak to a server at all: by host, by origin, by token, and how much may be sent. Needs Starlette."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from .access import Access

SAFE = ("GET", "HEAD")
Scope = MutableMapping[str, Any]


class Refusal(HTTPException):
    """A status, the sentence that explains it, and headers."""


class Gate:
    """ASGI middleware that refuses before the application sees a request.

    Args:
        app: the application behind it.
        rules: what is allowed.
        realm: the server's name, shown where a browser asks for the token.
        open_paths: what may be asked without the token.
    """

    def __init__(
        self, app: Callable[..., Awaitable[None]], rules: Access, realm: str, open_paths: Collection[str] = ()
    ) -> None:
        self.app = app
        self.rules = rules
        self.realm = realm
        self.open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        try:
            check_host(headers, self.rules)
            check_origin(scope["method"], headers, self.rules)
            if scope["path"] not in self.open_paths:
                check_token(headers, self.rules, self.realm)
            await self.app(scope, counted(headers, receive, self.rules.max_bytes), send)
        except Refusal as refusal:
            await answer(send, refusal)


def refusal(request: Request, error: HTTPException, page: str) -> JSONResponse:
    """``{"detail": a sentence}`` with the error's status; ``page`` lists the requests that there are."""
    detail = error.detail
    if detail in ("Not Found", "Method Not Allowed"):
        place = f"{request.method} {request.url.path[:80]}"
        detail = f"{place} is no request to this server: expected one of those in {page}"
    return JSONResponse({"detail": detail}, error.status_code, error.headers)


def check_host(headers: dict[str, str], rules: Access) -> None:
    """Refuse a request for another host: a web page whose name was made to point at this computer sends its own."""
    host = headers.get("host", "")
    name = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() not in rules.hosts:
        raise Refusal(
            421, f"host {host!r} is none of this server's ({', '.join(rules.hosts)}): start it with --allow-host NAME"
        )


def check_origin(method: str, headers: dict[str, str], rules: Access) -> None:
    """Refuse what a web page of another origin sends.

    Browsers name the origin with every request that changes something, and with each that a script of another origin
    may read. Where they name none, ``Sec-Fetch-Site`` and ``Referer`` tell. Viewers such as 3D Slicer send none of it.
    """
    own = {f"{scheme}://{headers.get('host', '').lower()}" for scheme in ("http", "https")}
    allowed = own | set(rules.origins)
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in allowed:
        raise Refusal(403, f"origin {origin!r} may not talk to this server: start it with --allow-origin {origin}")
    site = headers.get("sec-fetch-site", "none")
    opens_page = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if origin is None and site not in ("none", "same-origin") and not opens_page:
        raise Refusal(403, "a web page of another origin asks: start the server with --allow-origin ORIGIN")
    referer = headers.get("referer")
    if origin is None and referer is not None and method not in SAFE:
        page = "/".join(referer.split("/")[:3]).lower()
        if page not in allowed:
            raise Refusal(403, f"a web page of {page!r} asks: start the server with --allow-origin {page}")


def check_token(headers: dict[str, str], rules: Access, realm: str) -> None:
    """Refuse a request without the server's token, as ``Bearer TOKEN`` or as the password of a browser's log-in."""
    if not rules.token:
        return
    if not is_token(token_of(headers.get("authorization", "")), rules):
        raise Refusal(
            401,
            "this server wants its token: as the header 'Authorization: Bearer TOKEN', or as the password of a log-in",
            {"WWW-Authenticate": f'Basic realm="{realm}: any name, the token as password"'},
        )


def token_of(authorization: str) -> str:
    """The token in a header; empty where there is none."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def is_token(given: str, rules: Access) -> bool:
    """Compared in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(), rules.token.encode())


def counted(headers: dict[str, str], receive: Callable, limit: int) -> Callable:
    """``receive``, that refuses when more than ``limit`` bytes come, whatever was announced."""
    sentence = f"more than {limit} bytes in one request: start the server with --max-upload MIB"
    announced = headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise Refusal(413, sentence)
    left = limit

    async def limited() -> dict[str, Any]:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise Refusal(413, sentence)
        return message

    return limited


async def answer(send: Callable, refusal: Refusal) -> None:
    """The refusal as clients of FastAPI's servers read it."""
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(refusal.headers or {})}
    raw = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status_code, "headers": raw})
    await send({"type": "http.response.body", "body": body})
