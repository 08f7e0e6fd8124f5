"""What `careloop status` says of the events and timers of a service."""

from typing import Any

import httpx
import pytest

from deploy.cli.status import Part, ask_held

WELL = {"settled": True, "dead": 0, "parked": 0, "waiting": 0, "given_up_timers": 0, "outbox_oldest_s": 0.4}


async def told(answer: dict[str, Any]) -> Part:
    service = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    async with httpx.AsyncClient(transport=service) as client:
        return await ask_held(client, "plans", "http://plans")


@pytest.mark.parametrize("quiet", [WELL, {**WELL, "waiting": 3}, {**WELL, "outbox_oldest_s": 59.9}])
async def test_what_goes_on_by_itself_is_no_alarm(quiet: dict[str, Any]) -> None:
    part = await told(quiet)
    assert part.ok
    assert "timers" not in part.detail


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({**WELL, "dead": 1, "parked": 2}, "1 dead letters, 2 parked"),
        ({**WELL, "given_up_timers": 2}, "2 timers failed too often"),
        ({**WELL, "outbox_oldest_s": 61.2}, "an event has waited 61 s to be handed over to Kafka"),
        ({"settled": False, "why": "starting"}, "cannot be told (starting)"),
        ({"settled": False, "why": "database: ConnectionRefusedError"}, "cannot be told (database: Connection"),
        ({**WELL, "settled": False, "why": "kafka: KafkaConnectionError", "dead": 1}, "1 dead letters"),
    ],
)
async def test_what_waits_for_an_operator_is_one(answer: dict[str, Any], said: str) -> None:
    part = await told(answer)
    assert not part.ok
    assert said in part.detail
