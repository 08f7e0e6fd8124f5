"""Signing in asks the issuer, which may never come to the end of its answer."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.messaging.pages import sign_in
from services.messaging.store.pages_sessions import SignIn
from shared.http import Problem


async def test_an_issuer_that_answers_byte_by_byte_holds_up_nobody_for_longer_than_it_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.05)

    async def provider() -> Any:
        return SimpleNamespace(token_endpoint=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token")

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    monkeypatch.setattr(sign_in, "ISSUER_TIMEOUT_S", 0.3)
    monkeypatch.setattr(sign_in, "authenticator_of", lambda _: SimpleNamespace(provider=provider))
    monkeypatch.setattr(sign_in, "console_settings", lambda: SimpleNamespace(client_id="console", client_secret=None))
    monkeypatch.setattr(sign_in, "callback_of", lambda _: "http://127.0.0.1/console/signed-in")
    begun = cast(SignIn, SimpleNamespace(code_verifier="verifier"))
    async with asyncio.timeout(5):
        with pytest.raises(Problem) as problem:
            await sign_in._redeem(cast(Any, None), code="code", sign_in=begun)
    assert (problem.value.status, problem.value.code) == (503, "issuer-unavailable")
    server.close()
