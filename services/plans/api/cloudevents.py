"""A request's body as CloudEvents: one in structured or binary mode, or a batch."""

import asyncio
import json
from contextlib import ExitStack
from math import isfinite
from typing import Any, Final
from urllib.parse import unquote

import orjson
from fastapi import Request

from shared.events.envelope import EVENT_SIZE_MAX
from shared.http import BODY_SIZE_MAX, Problem

SINGLE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
EVENTS_MAX: Final = 500
"""Events of one batch."""
BATCH_SIZE_MAX: Final = 8 * 1024 * 1024
"""Bytes of one batch."""
READ_S: Final = 60.0
"""How long a body may take: a thousand bytes a second are enough for a day of sessions. What has come of one is kept as
long as it comes."""
LARGE_MAX: Final = 8
"""Bodies at once that are larger than any other request's may be, from when one is known to be so until it is answered.
A phone's are smaller: whoever sends large ones slowly keeps none of them waiting."""
ROOM_WAIT_S: Final = 10.0
"""How long one more large body is read no further until there is room."""

_large = asyncio.Semaphore(LARGE_MAX)


async def read_events(request: Request, held: ExitStack) -> tuple[bool, list[Any]]:
    """Whether the body is a batch, and its events as JSON values, not checked yet. Problem 408, 413, 415, 422 or 503
    where the body as a whole cannot be read. What is `held` is to be given back when nothing of the body is kept."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == BATCH:
        events = _json(await _read(request, limit=BATCH_SIZE_MAX, held=held))
        if not isinstance(events, list):
            raise Problem(422, "malformed", "A batch is a JSON array of events.")
        if not 0 < len(events) <= EVENTS_MAX:
            raise Problem(422, "batch-size", f"A batch holds 1 to {EVENTS_MAX} events.")
        return True, events
    if media_type == SINGLE:
        return False, [_json(await _read(request, limit=EVENT_SIZE_MAX, held=held))]
    if "ce-specversion" in request.headers and media_type in ("application/json", ""):
        return False, [_from_binary(request, _json(await _read(request, limit=EVENT_SIZE_MAX, held=held)))]
    raise Problem(
        415,
        "unsupported-media-type",
        f"Send {SINGLE}, {BATCH}, or application/json with ce- headers.",
        headers={"Accept-Post": f"{SINGLE}, {BATCH}, application/json"},
    )


def _from_binary(request: Request, data: Any) -> dict[str, Any]:
    """Binary mode: attributes are headers with the prefix `ce-`, percent-encoded as the HTTP binding says."""
    attributes = {name[3:]: unquote(value) for name, value in request.headers.items() if name.startswith("ce-")}
    return {**attributes, "datacontenttype": "application/json", "data": data}


async def _read(request: Request, *, limit: int, held: ExitStack) -> bytes:
    """The body, read no further than the limit, whatever its length claims to be, and no longer than it may take."""
    body = bytearray()
    try:
        async with asyncio.timeout(READ_S):
            async for chunk in request.stream():
                size = len(body) + len(chunk)
                if size > limit:
                    raise Problem(413, "too-large", f"The body is larger than {limit} bytes.")
                if len(body) <= BODY_SIZE_MAX < size:
                    await _enter_large(held)
                body += chunk
    except TimeoutError:
        raise Problem(408, "too-slow", f"The body did not come within {READ_S:.0f} seconds.") from None
    return bytes(body)


async def _enter_large(held: ExitStack) -> None:
    try:
        async with asyncio.timeout(ROOM_WAIT_S):
            await _large.acquire()
    except TimeoutError:
        raise Problem(
            503, "busy", "Other large batches are being taken in; try again.", headers={"Retry-After": "5"}
        ) from None
    held.callback(_large.release)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        pass  # its message quotes what was sent
    try:
        # Half of a sign, as of a text that was cut, is the fault of its one event, which cannot be written again.
        return json.loads(body.decode(), parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        pass
    raise Problem(422, "malformed", "The body is not JSON in UTF-8.")


def _finite(number: str) -> float:
    if not isfinite(found := float(number)):
        raise ValueError
    return found
