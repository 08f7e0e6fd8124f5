"""The local issuer speaks OpenID Connect well enough that the services trust it like any other issuer."""

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from deploy.local.issuer.app import build_app
from deploy.local.issuer.client import fetch_token
from deploy.local.issuer.grants import challenge_of
from deploy.local.issuer.keys import load_signing_key
from deploy.local.issuer.people import Person, load_people, save_people
from deploy.local.issuer.settings import IssuerSettings
from shared.auth import Authenticator, Principal
from shared.http import Problem

ANA = Person(subject=uuid4(), name="Ana <b>Ruiz</b>", roles=("coach",), language="es", title="31 members")
OMAR = Person(subject=uuid4(), name="Omar Haddad", roles=("pt", "oncall"))
VERIFIER = "v" * 64
BACK = "http://127.0.0.1:8400/console/signed-in"


@pytest.fixture
def settings(tmp_path: Path) -> IssuerSettings:
    save_people(tmp_path, [ANA, OMAR])
    return IssuerSettings(data=tmp_path, port=8404)


@pytest.fixture
async def issuer(settings: IssuerSettings) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=build_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url=settings.url) as client:
        yield client


def request_of(**changes: str) -> dict[str, str]:
    return {
        "client_id": "careloop-console",
        "redirect_uri": BACK,
        "response_type": "code",
        "state": "s1",
        "nonce": "n1",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        **changes,
    }


async def code_for(issuer: httpx.AsyncClient, person: Person) -> str:
    answer = await issuer.post("/authorize", data=request_of() | {"subject": str(person.subject)})
    assert answer.status_code == 303
    address = urlsplit(answer.headers["location"])
    assert f"{address.scheme}://{address.netloc}{address.path}" == BACK
    fields = parse_qs(address.query)
    assert fields["state"] == ["s1"]
    return fields["code"][0]


def redeem(code: str, **changes: str) -> dict[str, str]:
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": BACK,
        "client_id": "careloop-console",
        "code_verifier": VERIFIER,
        **changes,
    }


def services_view(settings: IssuerSettings, issuer: httpx.AsyncClient) -> Authenticator:
    return Authenticator(settings.url, "careloop", client=issuer)


async def test_a_person_signs_in_and_the_services_know_them(
    issuer: httpx.AsyncClient, settings: IssuerSettings
) -> None:
    page = await issuer.get("/authorize", params=request_of())
    assert page.status_code == 200
    assert "Ana &lt;b&gt;Ruiz" in page.text
    assert "Omar Haddad" in page.text
    answer = (await issuer.post("/token", data=redeem(await code_for(issuer, ANA)))).json()
    assert answer["expires_in"] <= 600
    authenticator = services_view(settings, issuer)
    principal = await authenticator.verify(answer["access_token"])
    assert principal == Principal(subject=ANA.subject, roles=frozenset({"coach"}), name=ANA.name, language="es")
    identity = await authenticator.claims(answer["id_token"], audience="careloop-console")
    assert (identity["nonce"], identity["name"]) == ("n1", ANA.name)
    with pytest.raises(Problem):  # an ID token is not an access token
        await authenticator.verify(answer["id_token"])


async def test_a_code_works_once_for_who_asked_for_it(issuer: httpx.AsyncClient) -> None:
    code = await code_for(issuer, ANA)
    assert (await issuer.post("/token", data=redeem(code))).status_code == 200
    assert (await issuer.post("/token", data=redeem(code))).json()["error"] == "invalid_grant"
    for change in [
        {"code_verifier": "w" * 64},
        {"code_verifier": ""},
        {"redirect_uri": f"{BACK}/x"},
        {"client_id": "other"},
    ]:
        stolen = await code_for(issuer, ANA)
        assert (await issuer.post("/token", data=redeem(stolen, **change))).status_code == 400, change
        assert (await issuer.post("/token", data=redeem(stolen))).status_code == 400, "a code that was tried is spent"


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/console",
        "http://127.0.0.1.evil.example/",
        "http://127.0.0.1@evil.example/",
        "//evil.example",
        "http://localhost:8400/",
        "http://127.0.0.1:8400\\@evil.example/",
        "javascript:alert(1)",
        "",
    ],
)
async def test_a_code_is_never_sent_off_this_machine(issuer: httpx.AsyncClient, address: str) -> None:
    asked = await issuer.get("/authorize", params=request_of(redirect_uri=address))
    answered = await issuer.post("/authorize", data=request_of(redirect_uri=address) | {"subject": str(ANA.subject)})
    for answer in (asked, answered):
        assert answer.status_code in {400, 422}
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    "change",
    [
        {"response_type": "token"},
        {"code_challenge_method": "plain"},
        {"code_challenge": ""},
        {"code_challenge": "short"},
    ],
)
async def test_only_codes_with_pkce(issuer: httpx.AsyncClient, change: dict[str, str]) -> None:
    answer = await issuer.get("/authorize", params=request_of(**change))
    assert parse_qs(urlsplit(answer.headers["location"]).query)["error"] == ["invalid_request"]


async def test_an_unknown_client_or_person_gets_no_code(issuer: httpx.AsyncClient) -> None:
    assert (await issuer.get("/authorize", params=request_of(client_id="other"))).status_code == 400
    stranger = await issuer.post("/authorize", data=request_of() | {"subject": str(uuid4())})
    assert "error=access_denied" in stranger.headers["location"]


async def test_programs_prove_their_secret(issuer: httpx.AsyncClient, settings: IssuerSettings) -> None:
    secret = (settings.data / "client-secret").read_text()
    authenticator = services_view(settings, issuer)
    token = await fetch_token(settings.url, client_id="careloop-cli", client_secret=secret, client=issuer)
    assert (await authenticator.verify(token)).roles == {"operator"}
    member_id = uuid4()
    token = await fetch_token(
        settings.url,
        client_id="careloop-app",
        client_secret=secret,
        member_id=member_id,
        client=issuer,
    )
    principal = await authenticator.verify(token)
    assert principal == Principal(subject=member_id, roles=frozenset({"member"}))
    token = await fetch_token(
        settings.url,
        client_id="careloop-app",
        client_secret=secret,
        staff_id=OMAR.subject,
        client=issuer,
    )
    assert (await authenticator.verify(token)).roles == {"pt", "oncall"}


@pytest.mark.parametrize(
    ("client_id", "secret", "status"),
    [
        ("careloop-app", "wrong", 401),
        ("careloop-app", "", 401),
        ("nobody", "the-secret", 401),
        ("careloop-console", "the-secret", 401),
        ("careloop-app", "the-secret", 200),
    ],
)
async def test_a_wrong_secret_gets_nothing(tmp_path: Path, client_id: str, secret: str, status: int) -> None:
    settings = IssuerSettings(data=tmp_path, secret="the-secret")
    transport = httpx.ASGITransport(app=build_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url=settings.url) as issuer:
        for form in (
            {"grant_type": "client_credentials"},
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token": str(uuid4()),
                "subject_token_type": "urn:careloop:token-type:member-id",
            },
        ):
            by_header = await issuer.post("/token", data=form, auth=(client_id, secret))
            by_form = await issuer.post("/token", data=form | {"client_id": client_id, "client_secret": secret})
            assert (by_header.status_code, by_form.status_code) == (status, status)


async def test_nobody_is_invented_by_token_exchange(issuer: httpx.AsyncClient, settings: IssuerSettings) -> None:
    secret = (settings.data / "client-secret").read_text()
    with pytest.raises(httpx.HTTPStatusError):
        await fetch_token(settings.url, client_id="careloop-app", client_secret=secret, staff_id=uuid4(), client=issuer)
    nothing = await issuer.post("/token", data={"grant_type": "password"}, auth=("careloop-app", secret))
    assert nothing.json()["error"] == "unsupported_grant_type"


async def test_before_a_seed_the_page_says_that_nobody_is_here_yet(tmp_path: Path) -> None:
    settings = IssuerSettings(data=tmp_path)
    transport = httpx.ASGITransport(app=build_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url=settings.url) as issuer:
        assert "Nobody can sign in yet" in (await issuer.get("/authorize", params=request_of())).text


def test_key_and_secret_are_private_and_survive_a_restart(tmp_path: Path) -> None:
    build_app(IssuerSettings(data=tmp_path))
    first = load_signing_key(tmp_path)
    build_app(IssuerSettings(data=tmp_path))
    assert load_signing_key(tmp_path).kid == first.kid
    for name in ("signing-key.pem", "client-secret"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert set(first.jwks["keys"][0]) == {"kty", "crv", "x", "y", "kid", "use", "alg"}, "the private part stays here"


def test_people_of_a_torn_file_are_an_error_not_nobody(tmp_path: Path) -> None:
    (tmp_path / "people.json").write_text(json.dumps([{"name": "no id"}]))
    with pytest.raises(ValueError, match="subject"):
        load_people(tmp_path)
