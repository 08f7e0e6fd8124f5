"""How the simulation reaches a running stack: its public addresses, and tokens of whoever it plays."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import stamina

from deploy.local.issuer.client import fetch_token
from deploy.local.issuer.keys import load_client_secret
from deploy.local.stack import Stack
from shared.clock import monotonic

TOKEN_FRESH_S = 240.0
"""A token is used for so long; the issuer's shortest lifetime is longer."""
PATIENCE_S = 120.0
"""How long a service may be away before the simulation gives up: it is restarted in seconds."""
CONNECTIONS_MAX = 16


class Refused(Exception):
    """A service refused what a simulated person sent. `code` is the problem's own."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code = status, code


class Away(Exception):
    """A service did not answer, or asked to be tried again."""


@dataclass(kw_only=True)
class Access:
    """HTTP to the four services as a program, a member or a clinician."""

    stack: Stack
    client: httpx.AsyncClient
    secret: str
    _tokens: dict[tuple[str, UUID | None], tuple[float, str]] = field(default_factory=dict)

    async def as_operator(self) -> dict[str, str]:
        return await self._headers("operator", None)

    async def as_app(self) -> dict[str, str]:
        return await self._headers("app", None)

    async def as_member(self, member_id: UUID) -> dict[str, str]:
        return await self._headers("member", member_id)

    async def as_staff(self, practitioner_id: UUID) -> dict[str, str]:
        return await self._headers("staff", practitioner_id)

    async def ask(
        self, method: str, service: str, path: str, *, headers: Mapping[str, str], **options: Any
    ) -> httpx.Response:
        """One request, again with backoff while the service is away. Raises Refused, or Away when it stays away."""
        url = f"{self.stack.services[service].url}{path}"
        async for attempt in stamina.retry_context(on=Away, timeout=PATIENCE_S, attempts=None, wait_max=2.0):
            with attempt:
                try:
                    answer = await self.client.request(method, url, headers=dict(headers), **options)
                except httpx.TransportError as error:
                    raise Away(f"{service}: {type(error).__name__}") from error
                if answer.status_code in (429, 502, 503, 504):
                    raise Away(f"{service}: {answer.status_code}")
        if answer.status_code >= httpx.codes.BAD_REQUEST:
            raise _refusal(answer)
        return answer

    async def _headers(self, kind: str, subject: UUID | None) -> dict[str, str]:
        fetched_at, token = self._tokens.get((kind, subject), (float("-inf"), ""))
        if monotonic() - fetched_at > TOKEN_FRESH_S:
            token = await self._fetch(kind, subject)
            self._tokens[kind, subject] = (monotonic(), token)
        return {"Authorization": f"Bearer {token}"}

    async def _fetch(self, kind: str, subject: UUID | None) -> str:
        async for attempt in stamina.retry_context(on=httpx.TransportError, timeout=PATIENCE_S, attempts=None):
            with attempt:
                return await fetch_token(
                    self.stack.issuer_url,
                    client_id="careloop-app" if kind in ("app", "member") else "careloop-cli",
                    client_secret=self.secret,
                    member_id=subject if kind == "member" else None,
                    staff_id=subject if kind == "staff" else None,
                    client=self.client,
                )
        raise AssertionError("stamina either returns or raises")


def _refusal(answer: httpx.Response) -> Refused:
    try:
        body = answer.json()
    except ValueError:
        body = {}
    return Refused(answer.status_code, code_of(body), str(body.get("detail", "")))


def code_of(problem: Mapping[str, Any]) -> str:
    """The stable code at the end of a problem's type."""
    return str(problem.get("type", "unknown")).rpartition(":")[2]


@asynccontextmanager
async def open_access(stack: Stack) -> AsyncIterator[Access]:
    """Access to a stack for as long as the block runs."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stamina.instrumentation.set_on_retry_hooks(())
    limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
    async with httpx.AsyncClient(timeout=30, limits=limits, trust_env=False) as client:
        yield Access(stack=stack, client=client, secret=load_client_secret(stack.issuer_data))
