"""A request's body as CloudEvents: one in structured or binary mode, or a batch."""

import asyncio
from typing import Any, Final
from urllib.parse import unquote

import orjson
from fastapi import Request

from shared.events.envelope import EVENT_SIZE_MAX
from shared.http import Problem

SINGLE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
EVENTS_MAX: Final = 500
"""Events of one batch."""
BATCH_SIZE_MAX: Final = 8 * 1024 * 1024
"""Bytes of one batch."""
READ_S: Final = 60.0
"""How long a body may take: a thousand bytes a second are enough for a day of sessions. What has come of one is kept as
long as it comes."""


async def read_events(request: Request) -> tuple[bool, list[Any]]:
    """Whether the body is a batch, and its events as JSON values, not checked yet. Problem 408, 413, 415 or 422 where
    the body as a whole cannot be read."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == BATCH:
        events = _json(await _read(request, limit=BATCH_SIZE_MAX))
        if not isinstance(events, list):
            raise Problem(422, "malformed", "A batch is a JSON array of events.")
        if not 0 < len(events) <= EVENTS_MAX:
            raise Problem(422, "batch-size", f"A batch holds 1 to {EVENTS_MAX} events.")
        return True, events
    if media_type == SINGLE:
        return False, [_json(await _read(request, limit=EVENT_SIZE_MAX))]
    if "ce-specversion" in request.headers and media_type in ("application/json", ""):
        return False, [_from_binary(request, _json(await _read(request, limit=EVENT_SIZE_MAX)))]
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


async def _read(request: Request, *, limit: int) -> bytes:
    """The body, read no further than the limit, whatever its length claims to be, and no longer than it may take."""
    body = bytearray()
    try:
        async with asyncio.timeout(READ_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise Problem(413, "too-large", f"The body is larger than {limit} bytes.")
    except TimeoutError:
        raise Problem(408, "too-slow", f"The body did not come within {READ_S:.0f} seconds.") from None
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        pass  # its message quotes what was sent
    raise Problem(422, "malformed", "The body is not JSON in UTF-8.")
