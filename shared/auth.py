"""Who calls: JSON Web Tokens of any OpenID Connect issuer, verified against its published keys.

The issuer is found by discovery; its keys are cached and asked for again when a token names a key that is not among
them, at most once in a while whoever asks. An issuer that cannot be reached answers 503, never an open door. What
its claims mean is in shared/identities.py.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import jwt
from fastapi import Request
from fastapi.security import HTTPBearer

from shared.clock import monotonic, wall_now
from shared.ending import end_tasks
from shared.http import Problem
from shared.identities import CLINICIANS, ROLES, ClaimSettings, Principal, principal_of
from shared.telemetry import describe_bug, logger

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
"""Asymmetric only: a shared secret or `none` is never accepted."""
LEEWAY_S: Final = 10
KEYS_FRESH_S: Final = 600
"""Keys older than this are asked for again, so that a key the issuer withdrew stops working."""
KEYS_STALE_MAX_S: Final = 12 * 3600
"""How long known keys serve while the issuer cannot be reached."""
ASK_INTERVAL_S: Final = 5.0
"""Shortest time between two requests to the issuer, so that forged key names cannot make us flood it."""
RETRY_AFTER_S: Final = 3
TIMEOUT_S: Final = 5.0
"""How long the issuer may take for each of two answers, to their last byte."""
PATIENCE_S: Final = 1.0
"""How long whoever has a known key waits for newer ones; not at all where the issuer did not answer last time."""
VERIFIED_MAX: Final = 2_000
"""Tokens whose signature is remembered to be right."""
log = logger("auth")

__all__ = ["CLINICIANS", "ROLES", "Authenticator", "Caller", "Principal", "Provider", "authenticator_of", "require"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Provider:
    """What the issuer's discovery document says, checked."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str | None
    token_endpoint: str | None


def _unauthenticated(detail: str, error: str = "invalid_token") -> Problem:
    return Problem(
        401, "unauthenticated", detail, headers={"WWW-Authenticate": f'Bearer realm="careloop", error="{error}"'}
    )


def _issuer_down() -> Problem:
    return Problem(
        503,
        "issuer-unavailable",
        "Sign-in cannot be checked right now; try again in a moment.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _signing_keys(jwks: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """Key id -> key, for the keys that we can and may use. A key of another kind is left out, not an error."""
    keys: dict[str, jwt.PyJWK] = {}
    for fields in jwks.get("keys", []):
        try:
            key = jwt.PyJWK.from_dict(fields)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if fields.get("use", "sig") == "sig" and key.algorithm_name in ALGORITHMS and key.key_id:
            keys[key.key_id] = key
    return keys


class Authenticator:
    """Verifies tokens of one issuer for one audience. One per process, on `app.state.authenticator`."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        *,
        names: ClaimSettings | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        """`names` says which claims hold what; where not given, the environment does."""
        self._names = names or ClaimSettings()
        self.issuer, self.audience = issuer.rstrip("/"), audience
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT_S)
        self._provider: Provider | None = None
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._answers = True
        self._fixed = False
        self._verified: dict[str, tuple[jwt.PyJWK, dict[str, Any]]] = {}

    @classmethod
    def from_keys(
        cls, jwks: Mapping[str, Any], *, issuer: str, audience: str, names: ClaimSettings | None = None
    ) -> "Authenticator":
        """One that trusts exactly these keys and asks nobody: for tests, and for an issuer without discovery."""
        authenticator = cls(issuer, audience, names=names)
        authenticator._keys, authenticator._fixed = _signing_keys(jwks), True
        return authenticator

    async def close(self) -> None:
        if self._asking is not None:
            await end_tasks((self._asking,), within_s=TIMEOUT_S)
        await self._client.aclose()

    async def verify(self, token: str) -> Principal:
        """Who the token names. Raises Problem 401 (not valid), 403 (of nobody we know) or 503 (the issuer cannot be
        asked)."""
        return self.principal(await self.claims(token))

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """Who verified claims name. Raises Problem 403 where they name a person whose id is not one of ours."""
        return principal_of(claims, names=self._names)

    async def claims(self, token: str, *, audience: str | None = None) -> dict[str, Any]:
        """Verified claims of a token for `audience` (ours unless given). Raises Problem 401 or 503."""
        if audience is None and (known := await self._known(token)) is not None:
            return known
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _unauthenticated("The token is not a JSON Web Token.") from None
        if header.get("alg") not in ALGORITHMS:
            raise _unauthenticated("The token is signed in a way that is not accepted.")
        key = await self._key(str(header.get("kid", "")))
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=audience or self.audience,
                issuer=self._issuers(),
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise _unauthenticated("The token has expired.") from None
        except jwt.PyJWTError:
            raise _unauthenticated("The token is not valid here.") from None
        if audience is None:
            if len(self._verified) >= VERIFIED_MAX:
                self._verified.clear()
            self._verified[token] = (key, claims)
        return dict(claims)

    async def _known(self, token: str) -> dict[str, Any] | None:
        """What the token claims, where it was verified by a key that is still in force and has not expired since: a
        signature takes longer to check than all else that a request costs."""
        key, claims = self._verified.get(token, (None, {}))
        if key is None or wall_now().timestamp() >= float(claims["exp"]) or await self._key(str(key.key_id)) is not key:
            self._verified.pop(token, None)
            return None
        return dict(claims)

    async def provider(self) -> Provider:
        """The issuer's endpoints. Raises Problem 503 when it cannot be asked."""
        if self._provider is None:
            await self._refresh()
        if self._provider is None:
            raise _issuer_down()
        return self._provider

    def _issuers(self) -> list[str]:
        """The issuer as configured and as it names itself: both are equal but for a last slash."""
        return [self.issuer, f"{self.issuer}/"]

    async def _key(self, kid: str) -> jwt.PyJWK:
        fresh = self._fixed or monotonic() - self._fetched_at < KEYS_FRESH_S
        if kid not in self._keys or not fresh:
            # What a caller sends may be a red flag: an issuer that says nothing holds up nobody whose key is known.
            await self._refresh(patience_s=None if kid not in self._keys else PATIENCE_S if self._answers else 0.0)
        if not self._fixed and monotonic() - self._fetched_at > KEYS_STALE_MAX_S:
            raise _issuer_down()
        if kid not in self._keys:
            raise _unauthenticated("The token is signed with a key that the issuer does not publish.")
        return self._keys[kid]

    async def _refresh(self, *, patience_s: float | None = None) -> None:
        """Ask the issuer for its keys, and wait for so long, or until it has answered. Callers share an answer."""
        if self._asking is None or self._asking.done():
            if self._fixed or monotonic() - self._asked_at < ASK_INTERVAL_S:
                return
            self._asking = asyncio.create_task(self._ask())
        await asyncio.wait((self._asking,), timeout=patience_s)

    async def _ask(self) -> None:
        """Keep the known keys where it does not answer, whatever it does instead."""
        self._answers = False
        try:
            self._provider = await self._discover()
            self._keys = _signing_keys(await self._json(self._provider.jwks_uri))
            self._fetched_at, self._answers = monotonic(), True
        except Exception as error:
            log.warning("the issuer does not tell its keys", error=describe_bug(error))
        # An issuer that never answered is asked again soon: a start-up must not wait out the whole interval.
        self._asked_at = monotonic() - (0.0 if self._keys else ASK_INTERVAL_S - 0.5)

    async def _discover(self) -> Provider:
        document = await self._json(f"{self.issuer}/.well-known/openid-configuration")
        if str(document["issuer"]).rstrip("/") != self.issuer:
            raise ValueError("the discovery document names another issuer")
        return Provider(
            issuer=str(document["issuer"]),
            jwks_uri=str(document["jwks_uri"]),
            authorization_endpoint=document.get("authorization_endpoint"),
            token_endpoint=document.get("token_endpoint"),
        )

    async def _json(self, url: str) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_S):  # the client's own limit is for each piece that it reads
            response = await self._client.get(url, headers={"Accept": "application/json"})
        response.raise_for_status()
        document = response.json()
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")
        return document


def authenticator_of(request: Request) -> Authenticator:
    """The process's authenticator, put on the app at start-up. Raises Problem 503 before that."""
    authenticator: Authenticator | None = getattr(request.app.state, "authenticator", None)
    if authenticator is None:
        raise _issuer_down()
    return authenticator


def require(*roles: str) -> "Caller":
    """A route dependency: the caller, who must hold at least one of these roles (any caller if none are named).

    Raises Problem 401 (no or no valid token), 403 (not one of the roles), 503 (issuer cannot be asked).
    """
    unknown = set(roles) - ROLES
    if unknown:
        raise ValueError(f"unknown roles {sorted(unknown)}")
    return Caller(frozenset(roles))


class Caller(HTTPBearer):
    """Reads the token and verifies it in one dependency, as each costs the framework ten microseconds a request."""

    def __init__(self, roles: frozenset[str]) -> None:
        super().__init__(
            auto_error=False,
            scheme_name="HTTPBearer",
            bearerFormat="JWT",
            description="An access token of the configured OIDC issuer.",
        )
        self._roles = roles

    async def __call__(self, request: Request) -> Principal:  # type: ignore[override]
        credentials = await super().__call__(request)
        if credentials is None:
            raise _unauthenticated("A bearer token is needed.", "invalid_request")
        principal = await authenticator_of(request).verify(credentials.credentials)
        if self._roles and not principal.roles & self._roles:
            raise Problem(403, "forbidden", f"This needs one of the roles: {', '.join(sorted(self._roles))}.")
        return principal
