"""How the CLI and the simulator get tokens from the local issuer."""

from typing import Any
from uuid import UUID

import httpx

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
MEMBER_ID = "urn:careloop:token-type:member-id"
STAFF_ID = "urn:careloop:token-type:staff-id"


async def fetch_token(
    issuer: str,
    *,
    client_id: str,
    client_secret: str,
    member_id: UUID | None = None,
    staff_id: UUID | None = None,
    client: httpx.AsyncClient | None = None,
) -> str:
    """An access token: of the program itself, or of the simulated member or clinician that it acts for.

    `client_id` is `careloop-cli` (operator) or `careloop-app` (app). Raises httpx.HTTPError; an HTTPStatusError
    when the issuer refuses.
    """
    form: dict[str, Any] = {"grant_type": "client_credentials"}
    if member_id is not None:
        form = {"grant_type": EXCHANGE, "subject_token": str(member_id), "subject_token_type": MEMBER_ID}
    elif staff_id is not None:
        form = {"grant_type": EXCHANGE, "subject_token": str(staff_id), "subject_token_type": STAFF_ID}
    if client is None:
        async with httpx.AsyncClient(timeout=10) as own:
            return await _ask(own, issuer, form, (client_id, client_secret))
    return await _ask(client, issuer, form, (client_id, client_secret))


async def _ask(client: httpx.AsyncClient, issuer: str, form: dict[str, Any], auth: tuple[str, str]) -> str:
    response = await client.post(f"{issuer.rstrip('/')}/token", data=form, auth=auth)
    response.raise_for_status()
    return str(response.json()["access_token"])
