"""How every page answers: strict headers, refusals as pages (or plain status for the script), sign-in where needed."""

from collections.abc import Callable, Coroutine
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from services.messaging.pages.rendering import render_plain
from services.messaging.pages.viewer import SignInNeeded
from services.messaging.pages.wording import LANGUAGES
from shared.database import is_transient
from shared.http import Problem

SCRIPT_HEADER: Final = "x-console"
"""Sent by the console's own script, which shows refusals itself."""
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
SHOWN: Final = {400: 404, 401: 403, 403: 403, 404: 404, 422: 404, 503: 503}
"""Which page tells a refusal of this status."""


def language_of(request: Request) -> str:
    """The browser's first language that the console speaks."""
    for part in request.headers.get("accept-language", "").split(","):
        if part.strip()[:2].lower() in LANGUAGES:
            return part.strip()[:2].lower()
    return "en"


class PageRoute(APIRoute):
    """A route whose refusals are pages of the console."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_as_page(request: Request) -> Response:
            try:
                response = await answer(request)
            except SignInNeeded:
                response = _to_sign_in(request)
            except Problem as problem:
                response = _refuse(request, problem.status)
            except RequestValidationError:
                response = _refuse(request, 422)
            except Exception as error:
                if not is_transient(error):
                    raise
                response = _refuse(request, 503)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return answer_as_page


def _to_sign_in(request: Request) -> Response:
    if SCRIPT_HEADER in request.headers or request.url.path == "/console/live":
        return Response(status_code=401, headers={"Cache-Control": "no-store"})
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    # A form is not sent again by a redirect: its own page is where to go on.
    return_to = asked if request.method == "GET" else "/console/"
    return RedirectResponse(f"/console/sign-in?ended=1&return_to={quote(return_to, safe='')}", status_code=303)


def _refuse(request: Request, status: int) -> Response:
    if SCRIPT_HEADER in request.headers:
        return Response(status_code=status, headers={"Cache-Control": "no-store"})
    shown = SHOWN.get(status, 500)
    return render_plain("refused.html", language=language_of(request), status_code=status, status=shown)
