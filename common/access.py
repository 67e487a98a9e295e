# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Who may talk to a server of ours, as the options of its command line say; :mod:`.gate` keeps to it."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, field

LOCAL = ("127.0.0.1", "localhost", "[::1]")
DEFAULT_BYTES = 4 * 2**30
TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,512}")
ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?")
HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]")


@dataclass(frozen=True)
class Access:
    """What the person who started the server allows.

    Attributes:
        hosts: names by which clients may call the server, without the port.
        origins: web pages of other origins that may talk to it, such as ``https://viewer.example.org``.
        token: the key that each request has to carry; empty for none.
        max_bytes: of one request.
    """

    hosts: Sequence[str] = LOCAL
    origins: Sequence[str] = ()
    token: str = field(default="", repr=False)
    max_bytes: int = DEFAULT_BYTES


def add_options(parser: ArgumentParser, key: str, variable: str, value: str | None, port: int) -> None:
    """The options that :func:`read_access` reads, from ``--host`` to ``--max-upload``.

    Args:
        parser: gets them.
        key: the option of the key, such as ``--token``; kept as ``token``.
        variable: of the environment that gives the key too, for the help.
        value: of that variable.
        port: where nothing is said.
    """
    parser.add_argument("--port", type=int, default=port, help=f"{port} where nothing is said")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this computer alone)")
    parser.add_argument(
        key,
        dest="token",
        metavar="KEY",
        nargs="?",
        const="",
        default=value,
        help=f"key that every client has to give (the variable {variable}); made where it is not named. Needed to "
        f"listen on another address",
    )
    listed_names = {"action": "append", "default": []}
    parser.add_argument(
        "--allow-host", **listed_names, metavar="NAME", help="further name by which clients call this server"
    )
    parser.add_argument(
        "--allow-origin", **listed_names, metavar="URL", help="web page of another origin that may talk to it"
    )
    parser.add_argument("--max-upload", type=int, default=4096, metavar="MIB", help="of one request (4096)")


def read_access(
    host: str,
    token: str | None,
    allow_host: Sequence[str] = (),
    allow_origin: Sequence[str] = (),
    max_upload: int = 4096,
    key: str = "--token",
) -> Access:
    """What the options say; a token is made where it is empty.

    Raises:
        ValueError: it would listen to other computers without a token, or something that is no token, name or origin.
    """
    if token is None and not is_loopback(host):
        raise ValueError(
            f"--host {host} lets other computers in: expected {key} too (alone, and one is made), so that "
            f"not everybody in the network reads the images; or --host 127.0.0.1"
        )
    if token == "":
        token = secrets.token_urlsafe(24)
    if token is not None and not TOKEN.fullmatch(token):
        raise ValueError(f"{key} is too short or has other characters: expected 16 or more of A-Z a-z 0-9 . _ ~ -")
    for origin in allow_origin:
        if not ORIGIN.fullmatch(origin):
            raise ValueError(f"--allow-origin {origin}: expected an address such as https://viewer.example.org")
    for name in allow_host:
        if not HOST.fullmatch(name):
            raise ValueError(f"--allow-host {name}: expected a name or address without a port")
    if max_upload < 1:
        raise ValueError(f"--max-upload {max_upload}: expected MiB, 1 or more")
    own = [] if host in ("0.0.0.0", "::") else [f"[{host}]" if ":" in host else host]
    hosts = [*LOCAL, *own, *(name.lower() for name in allow_host)]
    origins = [origin.lower() for origin in allow_origin]
    return Access(list(dict.fromkeys(hosts)), origins, token or "", max_upload * 2**20)


def is_loopback(host: str) -> bool:
    """Whether an address is this computer's own, which no other one reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_port(host: str, port: int) -> None:
    """Raise a ValueError for a port that cannot be had."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ValueError(f"{host}:{port}: {error}; is another server running? Give another --port") from error
