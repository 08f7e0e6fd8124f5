"""Signing in with any OpenID Connect issuer: authorization code with PKCE, then a session of our own."""

import asyncio
import secrets
import ssl
from base64 import urlsafe_b64encode
from datetime import timedelta
from functools import cache
from hashlib import sha256
from typing import Final
from urllib.parse import urlencode

import httpx
from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from services.messaging.pages.page_route import PageRoute, language_of
from services.messaging.pages.rendering import render_plain
from services.messaging.pages.viewer import SESSION_COOKIE, Viewer, console_settings, own_form, set_session_cookie
from services.messaging.pages.wording import Wording
from services.messaging.store.pages_sessions import (
    ConsoleSession,
    SignIn,
    delete_sessions,
    save_session,
    save_sign_in,
    take_sign_in,
)
from shared.auth import CLINICIANS, Principal, authenticator_of
from shared.http import Problem
from shared.service import Service, this_service

SIGN_IN_COOKIE: Final = "careloop_sign_in"
SIGN_IN_LIFETIME: Final = timedelta(minutes=10)
ISSUER_TIMEOUT_S: Final = 5.0

router = APIRouter(route_class=PageRoute, include_in_schema=False)


def inside(return_to: str) -> str:
    """A page of this console; triage for anything else, so that nobody can be sent elsewhere through us."""
    plain = return_to.isprintable() and "\\" not in return_to and "//" not in return_to and ".." not in return_to
    return return_to if plain and return_to.startswith("/console/") and "/sign" not in return_to else "/console/"


def callback_of(request: Request) -> str:
    """Where the issuer sends the person back to."""
    base = console_settings().url or f"{request.url.scheme}://{request.url.netloc}"
    return f"{base.rstrip('/')}/console/signed-in"


@router.get("/console/sign-in")
async def show_sign_in(request: Request, return_to: str = "/console/", ended: str = "", refused: str = "") -> Response:
    language = language_of(request)
    say = Wording(language)
    key = {"role": "sign-in.not-clinician", "1": "sign-in.refused"}.get(refused)
    said = say(key) if key else say("sign-in.ended") if ended and SESSION_COOKIE in request.cookies else None
    return render_plain("sign_in.html", language=language, said=said, return_to=inside(return_to))


@router.get("/console/sign-in/start")
async def start_sign_in(
    request: Request, return_to: str = "/console/", service: Service = Depends(this_service)
) -> Response:
    """Off to the issuer. What must come back is kept here and tied to this browser by a cookie."""
    provider = await authenticator_of(request).provider()
    if provider.authorization_endpoint is None:
        raise Problem(503, "issuer-without-sign-in", "The issuer offers no sign-in.")
    secret, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    sign_in = SignIn(
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        code_verifier=verifier,
        return_to=inside(return_to),
    )
    async with service.requests.acquire() as connection:
        await save_sign_in(connection, secret=secret, sign_in=sign_in, lifetime=SIGN_IN_LIFETIME)
    query = urlencode(
        {
            "response_type": "code",
            "client_id": console_settings().client_id,
            "redirect_uri": callback_of(request),
            "scope": "openid profile",
            "state": sign_in.state,
            "nonce": sign_in.nonce,
            "code_challenge_method": "S256",
            "code_challenge": urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("="),
        }
    )
    response = RedirectResponse(f"{provider.authorization_endpoint}?{query}", status_code=303)
    set_session_cookie(
        response, request, name=SIGN_IN_COOKIE, value=secret, max_age_s=int(SIGN_IN_LIFETIME.total_seconds())
    )
    return response


@router.get("/console/signed-in")
async def finish_sign_in(
    request: Request, code: str = "", state: str = "", service: Service = Depends(this_service)
) -> Response:
    """Back from the issuer: the code becomes an identity, the identity a session."""
    secret = request.cookies.get(SIGN_IN_COOKIE, "")
    async with service.requests.acquire() as connection:
        sign_in = await take_sign_in(connection, secret=secret, lifetime=SIGN_IN_LIFETIME)
    if sign_in is None or not code or not secrets.compare_digest(state.encode(), sign_in.state.encode()):
        return _refused("1")
    principal = await _redeem(request, code=code, sign_in=sign_in)
    if principal is None:
        return _refused("1")
    if not principal.roles & set(CLINICIANS):
        return _refused("role")
    session = ConsoleSession(
        practitioner_id=principal.person_id,
        roles=principal.roles & set(CLINICIANS),
        name=principal.name,
        language=principal.language or language_of(request),
        form_token=secrets.token_urlsafe(24),
    )
    settings, opened = console_settings(), secrets.token_urlsafe(32)
    async with service.requests.acquire() as connection:
        # A session that this browser already had ends: a shared computer never holds two people.
        await delete_sessions(connection, secrets=[request.cookies.get(SESSION_COOKIE, "")])
        await save_session(connection, secret=opened, session=session, lifetime=settings.lifetime)
    response = RedirectResponse(sign_in.return_to, status_code=303)
    set_session_cookie(
        response, request, name=SESSION_COOKIE, value=opened, max_age_s=int(settings.lifetime.total_seconds())
    )
    response.delete_cookie(SIGN_IN_COOKIE, path="/console")
    return response


@cache
def _authorities() -> ssl.SSLContext:
    """Whom to trust as an issuer. To read them stops everything else in this process for longer than an alert may take,
    so once is enough. Each sign-in has a client of its own all the same: a client keeps the cookies it is given."""
    return httpx.create_ssl_context()


async def _redeem(request: Request, *, code: str, sign_in: SignIn) -> Principal | None:
    """Who the issuer says this is; None when it refuses the code or its answer does not hold."""
    authenticator, settings = authenticator_of(request), console_settings()
    provider = await authenticator.provider()
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": callback_of(request),
        "client_id": settings.client_id,
        "code_verifier": sign_in.code_verifier,
    }
    if settings.client_secret:
        form["client_secret"] = settings.client_secret.get_secret_value()
    try:
        # The client's own limit is for each piece that it reads.
        asking = httpx.AsyncClient(timeout=None, verify=_authorities())
        async with asyncio.timeout(ISSUER_TIMEOUT_S), asking as client:
            answer = await client.post(str(provider.token_endpoint), data=form)
        if answer.status_code >= 500:
            raise Problem(503, "issuer-unavailable", "Sign-in cannot be finished right now.")
        tokens = answer.json() if answer.status_code == 200 else {}
        claims = await authenticator.claims(str(tokens.get("id_token", "")), audience=settings.client_id)
    except (httpx.HTTPError, TimeoutError):
        raise Problem(503, "issuer-unavailable", "Sign-in cannot be finished right now.") from None
    except ValueError:
        return None
    except Problem as problem:
        if problem.status == 503:
            raise
        return None
    if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), sign_in.nonce.encode()):
        return None
    return authenticator.principal(claims)


def _refused(why: str) -> Response:
    response = RedirectResponse(f"/console/sign-in?refused={why}", status_code=303)
    response.delete_cookie(SIGN_IN_COOKIE, path="/console")
    return response


@router.post("/console/sign-out")
async def sign_out(viewer: Viewer = Depends(own_form), service: Service = Depends(this_service)) -> Response:
    async with service.requests.acquire() as connection:
        await delete_sessions(connection, secrets=[viewer.secret])
    response = RedirectResponse("/console/sign-in", status_code=303)
    response.delete_cookie(SESSION_COOKIE, path="/console")
    return response
