"""The console's live stream and its static files."""

from typing import Annotated, Final, Protocol

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import RedirectResponse, Response

from services.messaging.pages.page_route import PageRoute
from services.messaging.pages.rendering import STATIC, static_version
from services.messaging.pages.viewer import SignInNeeded, find_viewer
from shared.http import Problem
from shared.service import Service, this_service

STREAM_S: Final = 300.0
"""A stream ends after this long and the browser opens the next one by itself: so often is the session looked at."""
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

router = APIRouter(route_class=PageRoute, include_in_schema=False)


class Feed(Protocol):
    """The live feed on `app.state.feed_hub`."""

    def respond(
        self, service: Service, *, reader_id: object, oncall: bool, after: int | None, valid_for_s: float
    ) -> Response: ...


@router.get("/")
async def to_console() -> Response:
    return RedirectResponse("/console/", status_code=307)


@router.get("/console")
async def to_triage() -> Response:
    return RedirectResponse("/console/", status_code=307)


@router.get("/console/live")
async def stream(
    request: Request,
    service: Service = Depends(this_service),
    after: Annotated[int | None, Query(ge=0)] = None,
    last_event_id: Annotated[int | None, Header(ge=0)] = None,
) -> Response:
    """What changed for this viewer since the cursor: `Last-Event-ID`, which the browser sends when it connects again,
    else `after`, where the page was rendered. Being connected does not keep a session awake."""
    viewer = await find_viewer(service, request, active=False)
    if viewer is None:
        raise SignInNeeded
    feed: Feed = request.app.state.feed_hub
    return feed.respond(
        service,
        reader_id=viewer.practitioner_id,
        oncall=viewer.oncall,
        after=last_event_id if last_event_id is not None else after,
        valid_for_s=STREAM_S,
    )


@router.get("/console/static/{version}/{name}")
async def static(version: str, name: str) -> Response:
    file = STATIC / name
    if name not in {known.name for known in STATIC.iterdir()} or file.suffix not in TYPES:
        raise Problem(404, "not-found", "No such file.")
    kept = "public, max-age=31536000, immutable" if version == static_version() else "no-cache"
    return Response(file.read_bytes(), media_type=TYPES[file.suffix], headers={"Cache-Control": kept})
