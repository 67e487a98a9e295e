# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What requests carry: JSON of a known form, and bodies of a bounded size that arrive while others are answered."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sam_bundles.common.gate import Refusal

from .sessions import Lease

# Of a request that carries no array.
MAX_JSON_BYTES = 1 << 20
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-(2**31), le=2**31)]
Form = TypeVar("Form", bound=BaseModel)


class Strict(BaseModel):
    """Takes the keys that it names, of their very types."""

    model_config = ConfigDict(extra="forbid", strict=True)


def read_json(text: str | bytes | bytearray, form: type[Form]) -> Form:
    """``text`` in its ``form``.

    Raises:
        ValueError: no JSON, or of another form.
    """
    try:
        return form.model_validate_json(text or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the request"
        expected = f"expected {', '.join(form.model_fields)} as docs/click_anywhere.md has them"
        raise ValueError(f"{place}: {first['msg'].lower()}; {expected}") from error


async def read_body(request: Request, lease: Lease | None = None, limit: int = MAX_JSON_BYTES) -> bytearray:
    """The whole body; the client of the ``lease`` does something as long as it arrives.

    Raises:
        Refusal: 413, more than ``limit`` bytes.
    """
    received = bytearray()
    async for part in request.stream():
        if lease is not None:
            lease.active()
        received += part
        if len(received) > limit:
            raise Refusal(413, f"a body of more than {limit} bytes: expected less for {request.url.path}")
    return received
