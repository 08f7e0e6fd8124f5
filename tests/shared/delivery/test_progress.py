"""What a service says of its progress where a server does not answer."""

import asyncio
from typing import Any

import asyncpg
import pytest
from aiokafka.errors import KafkaConnectionError

from shared import health
from tests.fixtures.services import RunningService


async def ask(probe: RunningService) -> dict[str, Any]:
    answer = await probe.client.get("/health/progress")
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    return told


async def test_without_kafka_only_the_lag_is_missing(probe: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise KafkaConnectionError

    monkeypatch.setattr(probe.service, "find_unread", fail)
    told = await ask(probe)
    assert (told["settled"], told["why"], told["lag"]) == (False, "kafka: KafkaConnectionError", None)
    assert (told["dead"], told["parked"], told["given_up_timers"]) == (0, 0, 0)


async def test_a_broker_that_says_nothing_is_not_waited_for(
    probe: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(probe.service, "find_unread", hang)
    monkeypatch.setattr(health, "LOG_ENDS_S", 0.05)
    told = await ask(probe)
    assert (told["settled"], told["why"], told["dead"]) == (False, "kafka: TimeoutError", 0)


async def test_without_its_database_it_says_why(probe: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise asyncpg.CannotConnectNowError

    monkeypatch.setattr(health, "count_due", fail)
    assert await ask(probe) == {"settled": False, "why": "database: CannotConnectNowError"}
