"""Callers are let in only with a token that the configured issuer signed for us, now."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Depends, FastAPI

from shared import auth
from shared.auth import Authenticator, Principal, require
from shared.http import Problem, install_problems
from tests.fixtures.eventually import eventually
from tests.fixtures.tokens import AUDIENCE, ISSUER, Tokens

COACH = UUID("7f6dd2a4-6a2f-4f55-9a39-6e2c7a2f4a01")


@pytest.fixture
def signer() -> Tokens:
    return Tokens()


class FakeIssuer:
    """An issuer behind httpx: counts what it was asked and can be down."""

    def __init__(self, jwks: dict[str, Any], *, names_itself: str = ISSUER) -> None:
        self.jwks, self.names_itself, self.down, self.key_requests = jwks, names_itself, False, 0
        self.silent, self.keys_at = False, f"{ISSUER}/jwks"

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if self.silent:
            await asyncio.sleep(3_600)
        if self.down:
            raise httpx.ConnectError("refused", request=request)
        if request.url.path == "/.well-known/openid-configuration":
            return httpx.Response(
                200,
                json={
                    "issuer": self.names_itself,
                    "jwks_uri": self.keys_at,
                    "authorization_endpoint": f"{ISSUER}/authorize",
                    "token_endpoint": f"{ISSUER}/token",
                },
            )
        self.key_requests += 1
        return httpx.Response(200, json=self.jwks)

    def authenticator(self) -> Authenticator:
        return Authenticator(ISSUER, AUDIENCE, client=httpx.AsyncClient(transport=httpx.MockTransport(self.answer)))


class _Later:
    """The clock by which the library judges a token."""

    def __init__(self, time: datetime) -> None:
        self._time = time

    def now(self, tz: Any = None) -> datetime:
        return self._time


@pytest.fixture
def machine_time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [1_000.0]
    monkeypatch.setattr(auth, "monotonic", lambda: seconds[0])
    return seconds


async def refusal(authenticator: Authenticator, token: str) -> Problem:
    with pytest.raises(Problem) as caught:
        await authenticator.verify(token)
    return caught.value


async def test_a_valid_token_names_its_person(signer: Tokens) -> None:
    token = signer.person(COACH, "coach", "astronaut", name="Ana Ruiz", language="es")
    principal = await signer.authenticator().verify(token)
    assert principal == Principal(subject=COACH, roles=frozenset({"coach"}), name="Ana Ruiz", language="es")
    assert principal.person_id == COACH


async def test_a_program_has_a_name_that_is_no_uuid_and_is_no_person(signer: Tokens) -> None:
    principal = await signer.authenticator().verify(signer.operator)
    assert principal.subject == "careloop-cli"
    with pytest.raises(Problem) as caught:
        _ = principal.person_id
    assert caught.value.status == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"nbf": int(time.time()) + 86_400},
        {"aud": "another-product"},
        {"aud": None},
        {"iss": "https://evil.test"},
        {"iss": None},
        {"sub": None},
    ],
)
async def test_wrong_claims_are_refused(signer: Tokens, claims: dict[str, object]) -> None:
    token = signer.sign(**{"sub": str(COACH), "roles": ["coach"], **claims})
    assert (await refusal(signer.authenticator(), token)).status == 401


async def test_a_clock_that_is_a_little_off_is_forgiven(signer: Tokens) -> None:
    token = signer.sign(sub=str(COACH), roles=["coach"], exp=int(time.time()) - auth.LEEWAY_S + 4)
    assert (await signer.authenticator().verify(token)).subject == COACH


def unsigned(claims: dict[str, object], kid: str) -> str:
    parts = [{"alg": "none", "kid": kid, "typ": "JWT"}, claims]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


async def test_forged_signatures_are_refused(signer: Tokens) -> None:
    claims: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(COACH),
        "roles": ["operator"],
        "exp": int(time.time()) + 60,
    }
    stranger = Tokens(kid=signer.kid)
    changed = signer.coach(COACH).split(".")
    changed[1] = stranger.sign(sub=str(COACH), roles=["operator"]).split(".")[1]
    by_public_key = jwt.encode(
        claims, json.dumps(signer.jwks["keys"][0]) * 2, algorithm="HS256", headers={"kid": signer.kid}
    )
    other_kind = jwt.encode(
        claims, rsa.generate_private_key(65537, 2048), algorithm="RS256", headers={"kid": signer.kid}
    )
    forged = [
        unsigned(claims, signer.kid),
        stranger.coach(COACH),
        ".".join(changed),
        by_public_key,
        other_kind,
        "x",
        "a.b.c",
    ]
    for token in forged:
        assert (await refusal(signer.authenticator(), token)).status == 401, token


async def test_rsa_and_ed25519_issuers_work_and_shared_secrets_do_not() -> None:
    rsa_key, ed_key = rsa.generate_private_key(65537, 2048), Ed25519PrivateKey.generate()
    p521 = ec.generate_private_key(ec.SECP521R1())
    jwks = {
        "keys": [
            {**jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True), "kid": "r"},
            {**jwt.algorithms.OKPAlgorithm.to_jwk(ed_key.public_key(), as_dict=True), "kid": "e"},
            {**jwt.algorithms.ECAlgorithm.to_jwk(p521.public_key(), as_dict=True), "kid": "p521"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"},
            {"kty": "from-the-future", "kid": "f"},
        ]
    }
    authenticator = Authenticator.from_keys(jwks, issuer=ISSUER, audience=AUDIENCE)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "careloop-app", "roles": ["app"], "exp": int(time.time()) + 60}
    for token in [
        jwt.encode(claims, rsa_key, algorithm="RS256", headers={"kid": "r"}),
        jwt.encode(claims, ed_key, algorithm="EdDSA", headers={"kid": "e"}),
    ]:
        assert (await authenticator.verify(token)).roles == {"app"}
    for refused in [
        jwt.encode(claims, "secret" * 8, algorithm="HS256", headers={"kid": "s"}),
        jwt.encode(claims, p521, algorithm="ES512", headers={"kid": "p521"}),
        jwt.encode(claims, rsa_key, algorithm="PS256", headers={"kid": "r"}),
    ]:
        assert (await refusal(authenticator, refused)).status == 401


async def test_keys_are_found_by_discovery_and_kept(signer: Tokens) -> None:
    issuer = FakeIssuer(signer.jwks)
    authenticator = issuer.authenticator()
    for _ in range(3):
        await authenticator.verify(signer.coach(COACH))
    assert issuer.key_requests == 1
    assert (await authenticator.provider()).token_endpoint == f"{ISSUER}/token"


async def test_a_new_key_is_fetched_once_it_is_used(signer: Tokens, machine_time: list[float]) -> None:
    issuer = FakeIssuer(signer.jwks)
    authenticator = issuer.authenticator()
    await authenticator.verify(signer.coach(COACH))
    rotated = Tokens(kid="next")
    issuer.jwks = {"keys": [*signer.jwks["keys"], *rotated.jwks["keys"]]}
    machine_time[0] += auth.ASK_INTERVAL_S + 1
    assert (await authenticator.verify(rotated.coach(COACH))).subject == COACH
    assert (await authenticator.verify(signer.coach(COACH))).subject == COACH
    assert issuer.key_requests == 2


async def test_invented_key_names_do_not_flood_the_issuer(signer: Tokens, machine_time: list[float]) -> None:
    issuer = FakeIssuer(signer.jwks)
    authenticator = issuer.authenticator()
    for n in range(50):
        assert (await refusal(authenticator, Tokens(kid=f"invented-{n}").coach(COACH))).status == 401
    assert issuer.key_requests == 1
    assert (await authenticator.verify(signer.coach(COACH))).subject == COACH


async def test_a_withdrawn_key_stops_working(signer: Tokens, machine_time: list[float]) -> None:
    issuer = FakeIssuer(signer.jwks)
    authenticator = issuer.authenticator()
    await authenticator.verify(signer.coach(COACH))
    issuer.jwks = Tokens(kid="other").jwks
    machine_time[0] += auth.KEYS_FRESH_S + 1
    assert (await refusal(authenticator, signer.coach(COACH))).status == 401


async def test_a_token_that_was_verified_before_stops_with_its_key(signer: Tokens, machine_time: list[float]) -> None:
    issuer, token = FakeIssuer(signer.jwks), signer.coach(COACH)
    authenticator = issuer.authenticator()
    for _ in range(2):
        assert (await authenticator.verify(token)).subject == COACH
    issuer.jwks = Tokens(kid="test-key").jwks  # another key under the same name
    machine_time[0] += auth.KEYS_FRESH_S + 1
    assert (await refusal(authenticator, token)).status == 401


async def test_a_token_that_was_verified_before_expires(signer: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator, token = signer.authenticator(), signer.coach(COACH)
    assert (await authenticator.verify(token)).subject == COACH
    later = datetime.now(UTC) + timedelta(minutes=10)
    monkeypatch.setattr("jwt.api_jwt.datetime", _Later(later))
    monkeypatch.setattr(auth, "wall_now", lambda: later)
    assert (await refusal(authenticator, token)).status == 401


async def test_a_token_is_verified_once(signer: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = signer.authenticator()
    verified: list[str] = []
    decode = jwt.decode

    def counted(token: str, *given: Any, **more: Any) -> Any:
        verified.append(token)
        return decode(token, *given, **more)

    monkeypatch.setattr("shared.auth.jwt.decode", counted)
    for token in [signer.coach(COACH), signer.member(uuid4())] * 3:
        await authenticator.verify(token)
    assert len(verified) == 2
    assert (await refusal(authenticator, signer.coach(COACH)[:-4] + "AAAA")).status == 401


async def test_what_a_caller_changes_in_its_claims_is_its_own(signer: Tokens) -> None:
    authenticator, token = signer.authenticator(), signer.coach(COACH)
    (await authenticator.claims(token))["roles"] = ["operator"]
    (await authenticator.claims(token)).clear()
    assert (await authenticator.verify(token)).roles == {"coach"}


async def test_an_issuer_that_is_down_is_503_until_it_answers(signer: Tokens, machine_time: list[float]) -> None:
    issuer = FakeIssuer(signer.jwks)
    authenticator = issuer.authenticator()
    issuer.down = True
    problem = await refusal(authenticator, signer.coach(COACH))
    assert (problem.status, problem.code) == (503, "issuer-unavailable")
    assert problem.headers["Retry-After"]
    issuer.down = False
    machine_time[0] += 1
    assert (await authenticator.verify(signer.coach(COACH))).subject == COACH


async def test_known_keys_serve_for_a_while_when_the_issuer_goes_down(
    signer: Tokens, machine_time: list[float]
) -> None:
    issuer = FakeIssuer(signer.jwks)
    authenticator = issuer.authenticator()
    await authenticator.verify(signer.coach(COACH))
    issuer.down = True
    machine_time[0] += auth.KEYS_FRESH_S + 1
    assert (await authenticator.verify(signer.coach(COACH))).subject == COACH
    machine_time[0] += auth.KEYS_STALE_MAX_S
    assert (await refusal(authenticator, signer.coach(COACH))).status == 503


async def test_an_issuer_that_says_nothing_holds_up_nobody_whose_key_is_known(
    signer: Tokens, machine_time: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each caller asked in turn, for as long as a caller may wait: a red flag that many others came before never came
    to its answer."""
    monkeypatch.setattr(auth, "PATIENCE_S", 0.1)
    monkeypatch.setattr(auth, "TIMEOUT_S", 1.0)
    issuer = FakeIssuer(signer.jwks)
    authenticator = issuer.authenticator()
    await authenticator.verify(signer.coach(COACH))
    issuer.silent = True
    machine_time[0] += auth.KEYS_FRESH_S + 1
    for _ in range(2):
        async with asyncio.timeout(0.5):
            together = await asyncio.gather(*(authenticator.verify(signer.coach(uuid4())) for _ in range(20)))
        assert len(together) == 20
    async with asyncio.timeout(2.0):
        assert (await refusal(authenticator, Tokens(kid="new").coach(COACH))).status == 401
    issuer.silent = False
    issuer.jwks = Tokens(kid="other").jwks
    machine_time[0] += auth.ASK_INTERVAL_S + 1
    await eventually(lambda: is_refused(authenticator, signer.coach(COACH)), within=5)
    await authenticator.close()


async def is_refused(authenticator: Authenticator, token: str) -> bool:
    return (await refusal(authenticator, token)).status == 401


async def test_a_discovery_document_that_names_no_address_holds_up_nobody_either(
    signer: Tokens, machine_time: list[float]
) -> None:
    issuer = FakeIssuer(signer.jwks)
    authenticator = issuer.authenticator()
    await authenticator.verify(signer.coach(COACH))
    issuer.keys_at = "https://issuer.test:port/keys"
    machine_time[0] += auth.KEYS_FRESH_S + 1
    assert (await authenticator.verify(signer.coach(COACH))).subject == COACH


async def test_a_discovery_document_of_another_issuer_is_not_believed(signer: Tokens) -> None:
    issuer = FakeIssuer(signer.jwks, names_itself="https://evil.test")
    assert (await refusal(issuer.authenticator(), signer.coach(COACH))).status == 503


@pytest.fixture
async def client(signer: Tokens) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_problems(app)
    app.state.authenticator = signer.authenticator()

    @app.get("/who")
    async def who(principal: Principal = Depends(require("coach", "pt"))) -> dict[str, str]:
        return {"subject": str(principal.subject)}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as opened:
        yield opened


async def test_a_route_asks_for_a_role(client: httpx.AsyncClient, signer: Tokens) -> None:
    allowed = await client.get("/who", headers=signer.bearer(signer.pt(COACH)))
    assert (allowed.status_code, allowed.json()) == (200, {"subject": str(COACH)})
    missing = await client.get("/who")
    assert (missing.status_code, missing.headers["content-type"]) == (401, "application/problem+json")
    assert missing.headers["www-authenticate"].startswith("Bearer")
    other = await client.get("/who", headers=signer.bearer(signer.member(uuid4())))
    assert (other.status_code, other.json()["type"]) == (403, "urn:careloop:problem:forbidden")
    basic = await client.get("/who", headers={"Authorization": "Basic YTpi"})
    assert basic.status_code == 401


def test_a_misspelt_role_is_noticed_when_the_route_is_made() -> None:
    with pytest.raises(ValueError, match="coahc"):
        require("coahc")
