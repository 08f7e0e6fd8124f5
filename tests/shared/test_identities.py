"""Tokens as issuers of different make write them, and whom we take them for."""

from typing import Any
from uuid import UUID

import pytest

from shared.auth import Authenticator
from shared.http import Problem
from shared.identities import ClaimSettings, Principal, find_claim
from tests.fixtures.tokens import Tokens

COACH = UUID("7f6dd2a4-6a2f-4f55-9a39-6e2c7a2f4a01")
KEYCLOAK = {"oidc_roles_claim": "realm_access.roles"}
AUTH0 = {
    "oidc_roles_claim": "https://clinic.example/roles",
    "oidc_id_claim": "https://clinic.example/careloop_id",
}


def authenticator(signer: Tokens, **names: Any) -> Authenticator:
    return Authenticator.from_keys(
        signer.jwks, issuer=signer.issuer, audience=signer.audience, names=ClaimSettings(**names)
    )


async def who(claims: dict[str, Any], **names: Any) -> Principal:
    signer = Tokens()
    return await authenticator(signer, **names).verify(signer.sign(**claims))


@pytest.mark.parametrize(
    ("names", "claims"),
    [
        ({}, {"sub": str(COACH), "roles": ["coach", "offline_access"]}),
        ({}, {"sub": str(COACH), "roles": "coach"}),
        (KEYCLOAK, {"sub": str(COACH), "realm_access": {"roles": ["coach", "uma_authorization"]}}),
        (
            {**KEYCLOAK, "oidc_id_claim": "careloop.id"},
            {"sub": "f:ldap:anna", "realm_access": {"roles": ["coach"]}, "careloop": {"id": str(COACH)}},
        ),
        (
            AUTH0,
            {
                "sub": "auth0|64f0c0ffee",
                "https://clinic.example/roles": ["coach"],
                "https://clinic.example/careloop_id": str(COACH),
            },
        ),
    ],
    ids=["ours", "one role", "Keycloak", "Keycloak with an attribute", "Auth0"],
)
async def test_a_clinician_is_known_by_the_claims_that_are_named(names: dict[str, Any], claims: dict[str, Any]) -> None:
    principal = await who(claims, **names)
    assert (principal.person_id, principal.roles) == (COACH, frozenset({"coach"}))


@pytest.mark.parametrize(
    ("names", "claims", "claim"),
    [
        ({}, {"sub": "auth0|64f0c0ffee", "roles": ["coach"]}, "sub"),
        ({}, {"sub": "110169484474386276334", "roles": ["member"]}, "sub"),
        # Nobody is taken for whom the issuer's own id happens to name: only the claim that was chosen counts.
        (AUTH0, {"sub": str(COACH), "https://clinic.example/roles": ["pt"]}, "https://clinic.example/careloop_id"),
    ],
    ids=["Auth0", "Google", "not mapped"],
)
async def test_a_person_who_is_not_mapped_is_told_what_to_map(
    names: dict[str, Any], claims: dict[str, Any], claim: str
) -> None:
    with pytest.raises(Problem) as caught:
        await who(claims, **names)
    problem = caught.value
    assert (problem.status, problem.code) == (403, "identity-not-mapped")
    assert f"the claim {claim}" in problem.detail
    assert str(claims["sub"]) not in problem.detail


@pytest.mark.parametrize("names", [{}, AUTH0])
async def test_operators_and_programs_may_have_any_name(names: dict[str, Any]) -> None:
    roles = ClaimSettings(**names).oidc_roles_claim
    assert (await who({"sub": "careloop-cli", roles: ["operator"]}, **names)).subject == "careloop-cli"


@pytest.mark.parametrize("roles", [None, 7, {"coach": True}, ["astronaut"], [7], [], "coach pt"])
async def test_what_is_no_role_of_ours_gives_no_role(roles: Any) -> None:
    assert (await who({"sub": str(COACH), "roles": roles})).roles == frozenset()


def test_a_whole_name_comes_before_a_path() -> None:
    claims = {"a.b": 1, "a": {"b": 2, "c": {"d": 3}}, "e": "text"}
    assert [find_claim(claims, name) for name in ("a.b", "a.c.d", "a.x", "e.f", "x")] == [1, 3, None, None, None]


def test_the_environment_names_the_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARELOOP_OIDC_ROLES_CLAIM", "realm_access.roles")
    principal = Authenticator("https://issuer.test", "careloop").principal(
        {"sub": str(COACH), "realm_access": {"roles": ["pt"]}}
    )
    assert principal.roles == {"pt"}


@pytest.mark.parametrize(
    ("claims", "language"),
    [
        ({"language": "es"}, "es"),
        ({"locale": "es-MX"}, "es"),
        ({"locale": "EN_us"}, "en"),
        ({"locale": "fr"}, None),
        ({}, None),
    ],
)
async def test_a_language_is_the_issuers_or_left_open(claims: dict[str, Any], language: str | None) -> None:
    assert (await who({"sub": str(COACH), "roles": ["coach"], **claims})).language == language
