"""What the issuer hands out: authorization codes that work once, and signed tokens. No HTTP here."""

import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from deploy.local.issuer.keys import SigningKey
from deploy.local.issuer.people import Person
from deploy.local.issuer.settings import IssuerSettings

CODE_LIFETIME_S = 60
CODES_MAX = 1_000
"""Codes waiting at once; the oldest goes first. A person needs one."""


class GrantError(Exception):
    """An OAuth 2.0 error code with one line about it (RFC 6749, 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.error, self.description, self.status = error, description, status


@dataclass(frozen=True, kw_only=True)
class Code:
    """What an authorization code stands for."""

    person: Person
    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str | None
    expires_at: float
    """Machine time, seconds."""


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636, 4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")


@dataclass(kw_only=True)
class Grants:
    settings: IssuerSettings
    key: SigningKey
    _codes: dict[str, Code] = field(default_factory=dict)

    def issue_code(
        self, *, person: Person, client_id: str, redirect_uri: str, challenge: str, nonce: str | None
    ) -> str:
        """A code that works once, within a minute, for the client and address that asked."""
        while len(self._codes) >= CODES_MAX:
            self._codes.pop(next(iter(self._codes)))
        code = secrets.token_urlsafe(24)
        self._codes[code] = Code(
            person=person,
            client_id=client_id,
            redirect_uri=redirect_uri,
            challenge=challenge,
            nonce=nonce,
            expires_at=time.monotonic() + CODE_LIFETIME_S,
        )
        return code

    def redeem(self, *, code: str, client_id: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
        """The token answer for a code. Raises GrantError; a code shown once is spent even when refused."""
        held = self._codes.pop(code, None)
        if held is None or held.expires_at < time.monotonic():
            raise GrantError("invalid_grant", "The code is unknown, used or expired: sign in again.")
        if held.client_id != client_id or held.redirect_uri != redirect_uri:
            raise GrantError("invalid_grant", "The code was given to another client or address.")
        if not verifier or not secrets.compare_digest(challenge_of(verifier), held.challenge):
            raise GrantError("invalid_grant", "The code verifier does not match.")
        answer = self.of_person(held.person)
        identity = self._claims(held.person, lifetime_s=self.settings.staff_token_s) | {"aud": client_id}
        if held.nonce:
            identity["nonce"] = held.nonce
        return answer | {"id_token": self.key.sign(identity)}

    def of_person(self, person: Person) -> dict[str, Any]:
        lifetime_s = self.settings.staff_token_s
        return _answer(self.key.sign(self._claims(person, lifetime_s=lifetime_s)), lifetime_s)

    def of_program(self, subject: str, roles: tuple[str, ...]) -> dict[str, Any]:
        """A token of a program or, with the role `member`, of a simulated member."""
        lifetime_s = self.settings.member_token_s
        claims = self._base(lifetime_s) | {"sub": subject, "roles": list(roles)}
        return _answer(self.key.sign(claims), lifetime_s)

    def _claims(self, person: Person, *, lifetime_s: int) -> dict[str, Any]:
        return self._base(lifetime_s) | {
            "sub": str(person.subject),
            "name": person.name,
            "roles": list(person.roles),
            "language": person.language,
        }

    def _base(self, lifetime_s: int) -> dict[str, Any]:
        now = int(time.time())  # tokens live in machine time, never in clinic time
        return {
            "iss": self.settings.url,
            "aud": self.settings.audience,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime_s,
        }


def _answer(token: str, lifetime_s: int) -> dict[str, Any]:
    return {"access_token": token, "token_type": "Bearer", "expires_in": lifetime_s, "scope": "openid profile"}
