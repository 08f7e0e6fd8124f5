"""The pages of the sink: a list with search, one message, the list as JSON, readiness."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.templating import Jinja2Templates
from starlette.middleware.base import RequestResponseEndpoint

from deploy.local.mail_sink.mailbox import Mailbox

HERE = Path(__file__).parent
PAGE_SIZE = 50
SECURITY_HEADERS = {
    # A message is shown inside a sandboxed frame of its own; nothing in it may run or load.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self' 'unsafe-inline'; frame-src 'self'; img-src data:; base-uri 'none'; "
        "frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
PageNumber = Annotated[int, Query(ge=1, le=100_000)]
Search = Annotated[str, Query(max_length=200)]


def build_pages(mailbox: Mailbox, *, is_ready: Callable[[], bool]) -> FastAPI:
    """The HTTP application over one mailbox. `is_ready` tells whether mail is being accepted."""
    app = FastAPI(title="Careloop mail sink", docs_url=None, redoc_url=None)
    templates = Jinja2Templates(directory=HERE / "templates")
    templates.env.filters["moment"] = _moment

    @app.middleware("http")
    async def secure(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.get("/", response_class=HTMLResponse)
    async def show_list(request: Request, q: Search = "", page: PageNumber = 1) -> Response:
        found = mailbox.count(search=q)
        messages = mailbox.latest(search=q, limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE)
        context = {"messages": messages, "q": q, "page": page, "found": found, "pages": max(1, -(-found // PAGE_SIZE))}
        return templates.TemplateResponse(request, "list.html", context)

    @app.get("/messages/{number}", response_class=HTMLResponse)
    async def show_message(request: Request, number: int) -> Response:
        opened = mailbox.open(number)
        if opened is None:
            return templates.TemplateResponse(request, "gone.html", {"number": number}, status_code=404)
        return templates.TemplateResponse(request, "message.html", {"opened": opened, "message": opened.summary})

    @app.get("/messages/{number}/source")
    async def show_source(number: int) -> Response:
        opened = mailbox.open(number)
        if opened is None:
            return Response("No such message.", status_code=404, media_type="text/plain")
        return Response(opened.raw, media_type="text/plain; charset=utf-8")

    @app.get("/messages.json")
    async def list_messages(
        q: Search = "",
        to: Search = "",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """Newest first: {"total": all that match, "messages": [...]}."""
        messages = mailbox.latest(search=q, to=to, limit=limit, offset=offset)
        return {"total": mailbox.count(search=q, to=to), "messages": [asdict(message) for message in messages]}

    @app.get("/health/ready")
    async def ready() -> Response:
        serving = is_ready()
        return JSONResponse({"ready": serving, "messages": mailbox.count()}, status_code=200 if serving else 503)

    @app.get("/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/style.css")
    async def style() -> Response:
        return FileResponse(HERE / "style.css", media_type="text/css")

    return app


def _moment(iso: str | None) -> str:
    """`Mon 23 Nov 2026 15:04 UTC` of an ISO time."""
    if iso is None:
        return "no date"
    at = datetime.fromisoformat(iso)
    return f"{at:%a %d %b %Y %H:%M} {at.tzname() or 'without zone'}"
