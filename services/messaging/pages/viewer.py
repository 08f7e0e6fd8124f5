"""Who looks at a page: the clinician of the browser's session."""

import secrets
from dataclasses import dataclass
from functools import cache
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Depends, Form, Request
from fastapi.responses import Response

from services.messaging.pages.settings import ConsoleSettings
from services.messaging.store.pages_queue import load_practitioner_zone
from services.messaging.store.pages_sessions import load_session
from shared.events.vocabulary import Practitioner, PractitionerRole
from shared.http import Problem
from shared.service import Service, this_service

SESSION_COOKIE: Final = "careloop_console"
LIVE_HEADER: Final = "x-console-live"
"""Sent by the console's script when nobody did anything: such a request does not keep a session awake."""


@cache
def console_settings() -> ConsoleSettings:
    return ConsoleSettings()


class SignInNeeded(Exception):
    """Nobody is signed in in this browser, or no longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Viewer:
    practitioner_id: UUID
    roles: frozenset[str]
    name: str
    language: str
    form_token: str
    time_zone: str | None
    secret: str

    @property
    def oncall(self) -> bool:
        return "oncall" in self.roles

    @property
    def role(self) -> PractitionerRole:
        """The role in which they act: the team's before on-call."""
        return "pt" if "pt" in self.roles else "coach" if "coach" in self.roles else "oncall"

    @property
    def practitioner(self) -> Practitioner:
        return Practitioner(practitioner_id=self.practitioner_id, role=self.role, name=self.name or "Unnamed")


async def find_viewer(service: Service, request: Request, *, active: bool) -> Viewer | None:
    """The viewer of this request's cookie, if the session still stands. `active` keeps it awake."""
    secret = request.cookies.get(SESSION_COOKIE, "")
    if not secret:
        return None
    settings = console_settings()
    async with service.requests.acquire() as connection:
        session = await load_session(
            connection, secret=secret, idle=settings.idle, lifetime=settings.lifetime, active=active
        )
        if session is None:
            return None
        zone = await load_practitioner_zone(connection, practitioner_id=session.practitioner_id)
    return Viewer(
        practitioner_id=session.practitioner_id,
        roles=session.roles,
        name=session.name,
        language=session.language,
        form_token=session.form_token,
        time_zone=zone,
        secret=secret,
    )


async def signed_in(request: Request, service: Service = Depends(this_service)) -> Viewer:
    """Route dependency. Raises SignInNeeded."""
    viewer = await find_viewer(service, request, active=LIVE_HEADER not in request.headers)
    if viewer is None:
        raise SignInNeeded
    return viewer


async def own_form(
    request: Request, form_token: str = Form(default="", max_length=100), viewer: Viewer = Depends(signed_in)
) -> Viewer:
    """Route dependency of every form: the viewer, once it is sure that the form came from our own page. Problem 403."""
    origin = request.headers.get("origin")
    own = {request.headers.get("host"), urlsplit(console_settings().url or "").netloc}
    if origin is not None and urlsplit(origin).netloc not in own - {""}:
        raise Problem(403, "foreign-form", "The form was sent from another site.")
    if not secrets.compare_digest(form_token.encode(), viewer.form_token.encode()):
        raise Problem(403, "foreign-form", "The form is too old or was not made here.")
    return viewer


def set_session_cookie(response: Response, request: Request, *, name: str, value: str, max_age_s: int) -> None:
    """A cookie that scripts cannot read and other sites cannot send with a form."""
    response.set_cookie(
        name,
        value,
        max_age=max_age_s,
        path="/console",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https" or (console_settings().url or "").startswith("https:"),
    )
