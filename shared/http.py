"""HTTP manners: RFC 9457 problem details for every refusal, a limit on every body."""

import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, unbind_contextvars

from shared.trace_context import TRACEPARENT, trace_id_of, traceparent_of

BODY_SIZE_MAX = 128 * 1024
"""Bytes of a request body: several times the longest text that anybody may send. The framework reads a body whole, and
as JSON, before it asks who sends it."""
READ_BY_ROUTE = re.compile(r"/v1/(?:events|sponsors/[^/]+/imports)")
"""Paths whose routes read the body themselves, in pieces, to a limit of their own, and only from whom they know."""
REQUESTS_MAX = 2_000
"""Under way at once, streams among them. Whether the process lives is answered beside them."""
TRACEPARENT_HEADER = TRACEPARENT.encode()


class Problem(Exception):
    """A refusal told to the caller. `code` is stable and machine-readable; `detail` holds no member data."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.detail = status, code, detail
        self.errors, self.headers, self.extra = errors or [], dict(headers or {}), extra

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": f"urn:careloop:problem:{self.code}",
            "title": self.code.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }
        if self.errors:
            body["errors"] = self.errors
        return body

    def response(self) -> Response:
        return JSONResponse(
            self.body(), status_code=self.status, headers=self.headers, media_type="application/problem+json"
        )


def unavailable(**extra: Any) -> Problem:
    """Of whatever was asked for while a data service did not answer."""
    return Problem(
        503,
        "unavailable",
        "A data service did not answer, so it is not known whether this was carried out."
        " Repeating it with the same Idempotency-Key is safe.",
        headers={"Retry-After": "1"},
        **extra,
    )


def field_errors(errors: Any) -> list[dict[str, str]]:
    """Pydantic's errors as field and message, without the value: what was sent may be health data."""
    return [{"field": ".".join(str(part) for part in error["loc"]), "message": error["msg"]} for error in errors]


def install_problems(app: FastAPI) -> None:
    """Answer every refusal of this app as a problem detail."""

    async def of_problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    async def of_validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return Problem(
            422, "invalid-request", "Some fields are not valid.", errors=field_errors(error.errors())
        ).response()

    async def of_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        code = {404: "not-found", 405: "method-not-allowed", 401: "unauthenticated", 403: "forbidden"}.get(
            error.status_code, "http-error"
        )
        return Problem(error.status_code, code, str(error.detail), headers=error.headers).response()

    async def of_bug(_: Request, error: Exception) -> Response:
        return Problem(500, "internal-error", "The service failed; nothing was changed.").response()

    app.add_exception_handler(Problem, of_problem)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(StarletteHTTPException, of_http)
    app.add_exception_handler(Exception, of_bug)
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestLimit)
    app.add_middleware(TraceInLogs)


class TraceInLogs:
    """Log lines of a request name the trace that its caller is in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not taken back at the end: the server gives each request a task of its own, and logs a bug after this.
        unbind_contextvars("trace_id")
        is_traced = scope["type"] == "http" and any(name == TRACEPARENT_HEADER for name, _ in scope["headers"])
        traceparent = traceparent_of(Headers(scope=scope)) if is_traced else None
        if traceparent is not None:
            bind_contextvars(trace_id=trace_id_of(traceparent))
        await self._app(scope, receive, send)


class RequestLimit:
    """Answers 503 while too many requests are under way. The server's own limit counts connections that ask for
    nothing, and would say of the process, too, that it does not live: whoever opens enough of them has it restarted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._under_way = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health/live":
            await self._app(scope, receive, send)
        elif self._under_way >= REQUESTS_MAX:
            busy = Problem(503, "busy", "Too many requests are under way; try again.", headers={"Retry-After": "1"})
            await busy.response()(scope, receive, send)
        else:
            self._under_way += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._under_way -= 1


class BodyLimit:
    """Refuses a body larger than the limit, whether its length was told or it comes in pieces."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or READ_BY_ROUTE.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        told = headers.get(b"content-length", b"0")
        if not told.isdigit() or int(told) > BODY_SIZE_MAX:
            await _too_large()(scope, receive, send)
            return
        if b"transfer-encoding" not in headers:  # the server reads as much as was told and no more
            await self._app(scope, receive, send)
            return
        read, answered = 0, False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            return {"type": "http.disconnect"} if read > BODY_SIZE_MAX else message

        async def refuse_instead(message: Message) -> None:
            nonlocal answered
            if read <= BODY_SIZE_MAX:
                await send(message)
            elif not answered:
                answered = True
                await _too_large()(scope, receive, send)

        try:
            await self._app(scope, counted, refuse_instead)
        except ClientDisconnect:
            if read <= BODY_SIZE_MAX:
                raise
        if read > BODY_SIZE_MAX and not answered:
            await _too_large()(scope, receive, send)


def _too_large() -> Response:
    return Problem(413, "too-large", f"The body is larger than {BODY_SIZE_MAX} bytes.").response()
