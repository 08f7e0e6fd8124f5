"""A request that nobody answers is given up, and what came instead is told: who looks for why needs to know."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from deploy.local.ports import choose_port
from tests.chaos import asking
from tests.chaos.asking import Asker
from tests.chaos.world import World


def _world(*ports: int) -> World:
    crew = SimpleNamespace(processes=[SimpleNamespace(port=port) for port in ports])
    return cast(World, SimpleNamespace(crews={"messaging": crew}))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("is_process", [True, False])
async def test_what_is_never_answered_is_given_up_with_what_came_instead(
    is_process: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "READY_S", 0.5)
    asker = Asker(_world(*[choose_port()] if is_process else []))
    with pytest.raises(TimeoutError, match=r"messaging gives no answer to GET: \{'ConnectError': "):
        await asker.ask("messaging", "GET", "/v1/alerts", token="none")
    await asker.close()


@pytest.mark.timeout(30)
async def test_of_hundreds_of_requests_few_are_under_way_at_once() -> None:
    under_way, most, all_came = 0, 0, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        async for line in reader:
            if line == b"\r\n":
                under_way, most = under_way + 1, max(most, under_way + 1)
                if most == asking.IN_FLIGHT:
                    all_came.set()
                await all_came.wait()
                under_way -= 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    asker = Asker(_world(server.sockets[0].getsockname()[1]))
    asks = [asker.ask("messaging", "GET", "/v1/alerts", token="none") for _ in range(300)]
    assert {one.status for one in await asyncio.gather(*asks)} == {200}
    assert most == asking.IN_FLIGHT
    await asker.close()
    server.close()
