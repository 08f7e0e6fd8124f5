"""A request that nobody answers is given up, and what came instead is told: who looks for why needs to know."""

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
    port = choose_port()
    asker = Asker(_world(*[port] if is_process else []))
    expected = f"ConnectError from {port}" if is_process else "no process"
    with pytest.raises(TimeoutError, match=expected):
        await asker.ask("messaging", "GET", "/v1/alerts", token="none")
    await asker.close()
