"""Signing in asks the issuer, which may never come to the end of its answer, and holds up nobody else meanwhile."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.messaging.pages import sign_in
from services.messaging.store.pages_sessions import SignIn
from shared.http import Problem

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _refused_by(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """What signing in is refused with where the issuer answers so."""

    async def provider() -> Any:
        return SimpleNamespace(token_endpoint=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    monkeypatch.setattr(sign_in, "authenticator_of", lambda _: SimpleNamespace(provider=provider))
    monkeypatch.setattr(sign_in, "console_settings", lambda: SimpleNamespace(client_id="console", client_secret=None))
    monkeypatch.setattr(sign_in, "callback_of", lambda _: "http://127.0.0.1/console/signed-in")
    begun = cast(SignIn, SimpleNamespace(code_verifier="verifier"))
    async with asyncio.timeout(5):
        with pytest.raises(Problem) as problem:
            await sign_in._redeem(cast(Any, None), code="code", sign_in=begun)
    server.close()
    return problem.value.status, problem.value.code


async def test_an_issuer_that_answers_byte_by_byte_holds_up_nobody_for_longer_than_it_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.05)

    monkeypatch.setattr(sign_in, "ISSUER_TIMEOUT_S", 0.3)
    assert await _refused_by(trickle, monkeypatch) == (503, "issuer-unavailable")


async def test_whom_to_trust_is_read_once_and_not_for_each_who_signs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops the whole process, whose alerts wait, for as long as it takes."""
    read = list[Any]()
    original = ssl.SSLContext.load_verify_locations

    def count(context: ssl.SSLContext, *args: Any, **kwargs: Any) -> None:
        read.append(context)
        original(context, *args, **kwargs)

    async def fail(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", count)
    sign_in._authorities.cache_clear()
    for _ in range(2):
        assert await _refused_by(fail, monkeypatch) == (503, "issuer-unavailable")
    assert len(read) == 1
