"""Who a verified token names: which claim holds the id, which the roles (docs/decisions/0008)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.http import Problem

ROLES: Final = frozenset({"member", "coach", "pt", "oncall", "operator", "sponsor-admin", "app"})
CLINICIANS: Final = ("coach", "pt", "oncall")
"""The roles that the care-team console is for."""
PERSONS: Final = frozenset({"member", *CLINICIANS})
"""The roles of people whom the services know by a UUID."""


class ClaimSettings(BaseSettings):
    """How the issuer's tokens name things."""

    model_config = SettingsConfigDict(
        env_prefix="CARELOOP_", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    oidc_roles_claim: str = Field(default="roles", min_length=1)
    """Claim that holds the roles: a name, also a URL-like one, or a path such as realm_access.roles."""
    oidc_id_claim: str = Field(default="sub", min_length=1)
    """Claim that holds who it is: the member's or practitioner's UUID; any text for operators and programs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who calls. `subject` is a UUID for members and clinicians, any text for programs."""

    subject: UUID | str
    roles: frozenset[str]
    name: str = ""
    language: Literal["en", "es"] | None = None
    """None where the issuer does not say, or says one that we do not speak."""

    @property
    def person_id(self) -> UUID:
        """The subject of a member or clinician. Raises Problem 403 for a program, which is no person."""
        if not isinstance(self.subject, UUID):
            raise Problem(403, "forbidden", "This is for a person, and the token names a program.")
        return self.subject


def principal_of(claims: Mapping[str, Any], *, names: ClaimSettings) -> Principal:
    """The caller that verified claims name. Raises Problem 403 where a person's id is not one of ours: signing in again
    would not help, the issuer has to be told how to map it."""
    roles = _roles_of(find_claim(claims, names.oidc_roles_claim))
    given = find_claim(claims, names.oidc_id_claim)
    subject: UUID | str = str(given if given is not None else claims["sub"])
    try:
        subject = UUID(str(given))
    except ValueError:
        if roles & PERSONS:
            raise Problem(
                403,
                "identity-not-mapped",
                "The token is valid, but does not name a member or a practitioner: map the identity to the "
                f"practitioner's or member's id, a UUID, in the claim {names.oidc_id_claim}.",
            ) from None
    language = str(claims.get("language") or claims.get("locale") or "")[:2].lower()
    return Principal(
        subject=subject,
        roles=roles,
        name=str(claims.get("name") or "")[:80],
        language="en" if language == "en" else "es" if language == "es" else None,
    )


def find_claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its whole name, dots and all, else by the path that the dots make; None where there is none."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for step in name.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return None
        found = found[step]
    return found


def _roles_of(given: Any) -> frozenset[str]:
    """Those roles that we know; an issuer may give one alone as text."""
    listed = given if isinstance(given, list) else [given]
    return frozenset(role for role in listed if isinstance(role, str) and role in ROLES)
