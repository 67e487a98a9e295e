# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Files fetched by URL, which go on where they were cut off and are kept only if their hash is right.

MONAI's download_url and torch.hub start anew every time, and huggingface_hub resumes what lies on its own hub alone.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from monai.apps.utils import SUPPORTED_HASH_TYPES, check_hash
from tqdm import tqdm

CHUNK = 1 << 20
# How often a transfer that broke off is taken up again within one call, and seconds before the first time.
ATTEMPTS, PAUSE = 5, 1.0
TIMEOUT = 60


def fetch(
    url: str,
    path: Path,
    hash_val: str | None = None,
    hash_type: str = "sha256",
    pause: float = PAUSE,
    progress: bool = True,
) -> str:
    """Bring ``url`` to ``path``; until it is whole it is called ``path.part``, with which a later call goes on.

    Args:
        url: http or https.
        path: a file that is there already is checked and not fetched again.
        hash_val, hash_type: what the file must have; None where nobody published it.
        pause: seconds before a transfer that broke off is taken up again; doubled each time.
        progress: show a progress bar.

    Returns:
        the file's SHA-256.

    Raises:
        ValueError: a hash that differs (what was fetched is deleted), or a server that does not deliver.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url}: expected a URL that starts with https:// or http://")
    if hash_type not in SUPPORTED_HASH_TYPES:
        raise ValueError(f"hash type {hash_type!r}: expected one of {', '.join(SUPPORTED_HASH_TYPES)}")
    if path.exists():
        if hash_val and not check_hash(path, hash_val, hash_type):
            raise ValueError(f"{path} is there already, and its {hash_type} is not {hash_val}; move it away")
        return sha256(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for attempt in range(ATTEMPTS):
        try:
            transfer(url, part, bool(hash_val), progress)
            break
        except (URLError, http.client.HTTPException, OSError) as problem:
            # What the server refuses it will refuse again.
            refused = isinstance(problem, HTTPError) and problem.code < 500
            if refused or attempt == ATTEMPTS - 1:
                kept = part.stat().st_size if part.exists() else 0
                raise ValueError(f"{url}: {problem}; {kept:,} bytes are kept: the same command goes on") from problem
            time.sleep(pause * 2**attempt)
    if hash_val and not check_hash(part, hash_val, hash_type):
        found = digest(part, hash_type)
        part.unlink()
        tag_of(part).unlink(missing_ok=True)
        raise ValueError(
            f"{url}: its {hash_type} is {found}, expected {hash_val}; the file was changed or damaged, and is deleted"
        )
    tag_of(part).unlink(missing_ok=True)
    part.replace(path)
    return sha256(path)


def transfer(url: str, part: Path, checked: bool, progress: bool) -> None:
    """Fetch what is missing of ``part``; all of it where the server's file is another one by now.

    Args:
        url, progress: see :func:`fetch`.
        part: what was fetched so far, if anything.
        checked: whether a hash tells in the end that the rest belongs to the beginning.

    Raises:
        OSError: a transfer that ended before the file did.
    """
    have, tag = part.stat().st_size if part.exists() else 0, tag_of(part)
    headers = {"User-Agent": "sam-bundles"}
    if have and (checked or tag.exists()):
        headers["Range"] = f"bytes={have}-"
        if tag.exists():
            headers["If-Range"] = tag.read_text()
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as problem:
        if problem.code != 416:
            raise
        # Nothing follows what we have: it is the whole file, or more than that.
        if problem.headers.get("Content-Range") != f"bytes */{have}":
            part.unlink()
            raise OSError(f"the server's file is not the one of which {have:,} bytes were fetched") from problem
        return
    with response:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        goes_on = response.status == 206 and span is not None and int(span[1]) == have
        have = have if goes_on else 0
        total = int(span[2]) if goes_on else int(response.headers.get("Content-Length", 0))
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        # A weak tag promises no equal bytes.
        if validator and not validator.startswith("W/"):
            tag.write_text(validator)
        else:
            tag.unlink(missing_ok=True)
        with (
            open(part, "ab" if goes_on else "wb") as file,
            tqdm(
                total=total or None, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=not progress
            ) as bar,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total and part.stat().st_size != total:
        raise OSError(f"broken off after {part.stat().st_size:,} of {total:,} bytes")


def tag_of(part: Path) -> Path:
    """Where the server's name for the version of a file is kept beside it."""
    return part.with_name(part.name + ".tag")


def digest(path: Path, hash_type: str) -> str:
    """A file's hash in hex digits."""
    found = hashlib.new(hash_type)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def sha256(path: Path) -> str:
    """A file's SHA-256 in hex digits."""
    return digest(path, "sha256")
