"""The issuer's HTTP: discovery, keys, a page that asks who you are, and tokens."""

import base64
import binascii
import re
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from fastapi import FastAPI, Form, Header, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, select_autoescape

from deploy.local.issuer.client import EXCHANGE, MEMBER_ID, STAFF_ID
from deploy.local.issuer.grants import GrantError, Grants
from deploy.local.issuer.keys import load_client_secret, load_signing_key
from deploy.local.issuer.people import Person, load_people
from deploy.local.issuer.settings import IssuerSettings

CONSOLE = "careloop-console"
PROGRAMS: dict[str, tuple[str, ...]] = {"careloop-cli": ("operator",), "careloop-app": ("app",)}
"""Clients with a secret, and what they may do."""
FOLDER = Path(__file__).parent
CHALLENGE = re.compile(r"^[A-Za-z0-9_-]{43}$")
ORDER = ("coach", "pt", "oncall", "operator", "sponsor-admin")
HEADINGS = {
    "coach": "Health coaches",
    "pt": "Physical therapists",
    "oncall": "On-call clinicians",
    "operator": "Operators",
    "sponsor-admin": "Sponsors",
}


class BadRequest(Exception):
    """An authorization request that must not be redirected, because its client or address is not trusted."""


def require_local_redirect(client_id: str, redirect_uri: str) -> None:
    """Only the console, only on this machine: a code is never sent anywhere else. Raises BadRequest."""
    if client_id != CONSOLE:
        raise BadRequest("The client is not known here.")
    parts = urlsplit(redirect_uri)
    trusted = parts.scheme == "http" and parts.hostname == "127.0.0.1" and not parts.username and not parts.fragment
    if not trusted or "\\" in redirect_uri:
        raise BadRequest("The address to return to is not on this machine (http://127.0.0.1).")


def grouped(people: tuple[Person, ...]) -> list[tuple[str, list[Person]]]:
    """People under the heading of their first role, in a fixed order, by name."""
    groups: list[tuple[str, list[Person]]] = []
    for role in ORDER:
        members = [person for person in people if next((r for r in ORDER if r in person.roles), None) == role]
        if members:
            groups.append((HEADINGS[role], sorted(members, key=lambda person: person.name)))
    return groups


def program_of(authorization: str | None, client_id: str, client_secret: str, *, secret: str) -> str:
    """The program that proved its secret (HTTP Basic or form). Raises GrantError invalid_client."""
    if authorization and authorization.lower().startswith("basic "):
        try:
            client_id, _, client_secret = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            client_id = ""
    if client_id not in PROGRAMS or not secrets.compare_digest(client_secret.encode(), secret.encode()):
        raise GrantError("invalid_client", "The client or its secret is wrong.", 401)
    return client_id


def build_app(settings: IssuerSettings) -> FastAPI:
    """The issuer over its data directory. Makes key and secret when they are missing."""
    key = load_signing_key(settings.data)
    secret = settings.secret.get_secret_value() if settings.secret else load_client_secret(settings.data)
    grants = Grants(settings=settings, key=key)
    templates = Environment(loader=FileSystemLoader(FOLDER), autoescape=select_autoescape(["html"]))
    app = FastAPI(title="Careloop local issuer", docs_url=None, redoc_url=None, openapi_url=None)
    _add_errors(app, templates)
    _add_discovery(app, settings, key.jwks)
    _add_authorize(app, settings, grants, templates)
    _add_token(app, settings, grants, secret)
    return app


def _add_errors(app: FastAPI, templates: Environment) -> None:
    async def of_grant(_: Request, error: Exception) -> Response:
        assert isinstance(error, GrantError)
        headers = {"Cache-Control": "no-store"} | ({"WWW-Authenticate": "Basic"} if error.status == 401 else {})
        body = {"error": error.error, "error_description": error.description}
        return JSONResponse(body, status_code=error.status, headers=headers)

    async def of_request(_: Request, error: Exception) -> Response:
        page = templates.get_template("refused.html").render(why=str(error))
        return HTMLResponse(page, status_code=400)

    app.add_exception_handler(GrantError, of_grant)
    app.add_exception_handler(BadRequest, of_request)

    @app.middleware("http")
    async def protect(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        # form-action also governs where a form's answer may redirect: the console's port is a setting.
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; form-action 'self' http://127.0.0.1:*; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def _add_discovery(app: FastAPI, settings: IssuerSettings, jwks: dict[str, Any]) -> None:
    @app.get("/.well-known/openid-configuration")
    async def discovery() -> dict[str, Any]:
        return {
            "issuer": settings.url,
            "authorization_endpoint": f"{settings.url}/authorize",
            "token_endpoint": f"{settings.url}/token",
            "jwks_uri": f"{settings.url}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "grant_types_supported": ["authorization_code", "client_credentials", EXCHANGE],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "scopes_supported": ["openid", "profile"],
            "claims_supported": ["sub", "name", "roles", "language"],
        }

    @app.get("/jwks")
    async def keys() -> dict[str, Any]:
        return jwks

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "up"}

    @app.get("/issuer.css")
    async def style() -> Response:
        return Response((FOLDER / "issuer.css").read_text(), media_type="text/css")


def _add_authorize(app: FastAPI, settings: IssuerSettings, grants: Grants, templates: Environment) -> None:
    @app.get("/authorize")
    async def ask(
        client_id: str = "",
        redirect_uri: str = "",
        response_type: str = "",
        state: str = "",
        nonce: str = "",
        code_challenge: str = "",
        code_challenge_method: str = "",
    ) -> Response:
        require_local_redirect(client_id, redirect_uri)
        problem = _request_problem(response_type, code_challenge, code_challenge_method)
        if problem:
            return _back(redirect_uri, error="invalid_request", error_description=problem, state=state)
        page = templates.get_template("who.html").render(
            groups=grouped(load_people(settings.data)),
            fields={
                "client_id": client_id,
                "redirect_uri": redirect_uri,
                "state": state,
                "nonce": nonce,
                "code_challenge": code_challenge,
            },
        )
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    @app.post("/authorize")
    async def answer(
        subject: Annotated[UUID, Form()],
        client_id: Annotated[str, Form()],
        redirect_uri: Annotated[str, Form()],
        code_challenge: Annotated[str, Form()],
        state: Annotated[str, Form()] = "",
        nonce: Annotated[str, Form()] = "",
    ) -> Response:
        require_local_redirect(client_id, redirect_uri)
        person = next((person for person in load_people(settings.data) if person.subject == subject), None)
        if person is None or not CHALLENGE.match(code_challenge):
            return _back(
                redirect_uri, error="access_denied", error_description="Nobody of that name is here.", state=state
            )
        code = grants.issue_code(
            person=person,
            client_id=client_id,
            redirect_uri=redirect_uri,
            challenge=code_challenge,
            nonce=nonce or None,
        )
        return _back(redirect_uri, code=code, state=state)


def _request_problem(response_type: str, challenge: str, method: str) -> str | None:
    if response_type != "code":
        return "Only the authorization code flow is offered."
    if method != "S256" or not CHALLENGE.match(challenge):
        return "PKCE with S256 is required."
    return None


def _back(redirect_uri: str, **fields: str) -> RedirectResponse:
    joint = "&" if urlsplit(redirect_uri).query else "?"
    return RedirectResponse(
        f"{redirect_uri}{joint}{urlencode({k: v for k, v in fields.items() if v})}", status_code=303
    )


def _add_token(app: FastAPI, settings: IssuerSettings, grants: Grants, secret: str) -> None:
    @app.post("/token")
    async def token(
        grant_type: Annotated[str, Form()] = "",
        code: Annotated[str, Form()] = "",
        redirect_uri: Annotated[str, Form()] = "",
        code_verifier: Annotated[str, Form()] = "",
        client_id: Annotated[str, Form()] = "",
        client_secret: Annotated[str, Form()] = "",
        subject_token: Annotated[str, Form()] = "",
        subject_token_type: Annotated[str, Form()] = "",
        authorization: Annotated[str | None, Header()] = None,
    ) -> Response:
        if grant_type == "authorization_code":
            answer = grants.redeem(code=code, client_id=client_id, redirect_uri=redirect_uri, verifier=code_verifier)
        elif grant_type in {"client_credentials", EXCHANGE}:
            program = program_of(authorization, client_id, client_secret, secret=secret)
            answer = (
                grants.of_program(program, PROGRAMS[program])
                if grant_type == "client_credentials"
                else exchange(grants, settings, subject_token, subject_token_type)
            )
        else:
            raise GrantError(
                "unsupported_grant_type", "This issuer knows codes, client credentials and token exchange."
            )
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})


def exchange(grants: Grants, settings: IssuerSettings, subject: str, kind: str) -> dict[str, Any]:
    """A token of the simulated member or clinician that a program acts for (RFC 8693 in spirit: the subject token is
    only their id, because nobody real stands behind it). Raises GrantError."""
    try:
        subject_id = UUID(subject)
    except ValueError:
        raise GrantError("invalid_request", "subject_token must be the UUID of the member or clinician.") from None
    if kind == MEMBER_ID:
        return grants.of_program(str(subject_id), ("member",))
    person = next((person for person in load_people(settings.data) if person.subject == subject_id), None)
    if kind != STAFF_ID or person is None:
        raise GrantError("invalid_request", "Only simulated members and the people of people.json can be acted for.")
    return grants.of_person(person)
