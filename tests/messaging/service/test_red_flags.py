"""A red flag is told of whatever else is the matter with its member, whoever tells of it."""

from typing import Any

import orjson
import pytest

from shared.clock import wall_now
from shared.events import CloudEvent
from shared.events.codec import encode
from shared.member_locks import lock_members
from tests.fixtures.eventually import eventually
from tests.messaging.given import MEMBER, enrolled, flagged, screened
from tests.messaging.service.clinic import Clinic

WAYS = pytest.mark.parametrize("topic", ["careloop.plans", "careloop.members"])


def red_flag(topic: str) -> CloudEvent:
    flag = (flagged if topic == "careloop.plans" else screened)("emergency", "chest-pain-breathless")
    return flag.model_copy(update={"time": wall_now()})


async def raised(clinic: Clinic) -> list[tuple[Any, ...]]:
    rows = await clinic.running.service.database.fetch("select kind, priority, status, repeats from alerts")
    return [tuple(row) for row in rows]


async def held(clinic: Clinic) -> set[tuple[str, str]]:
    rows = await clinic.running.service.database.fetch("select consumer_group, reason from delivery.held_events")
    return {(row["consumer_group"], row["reason"]) for row in rows}


@WAYS
async def test_a_red_flag_passes_a_bad_event_of_its_member(clinic: Clinic, topic: str) -> None:
    next_release = orjson.loads(encode(enrolled(at=wall_now()))) | {"type": "org.careloop.member.moved.v1"}
    await clinic.publish.raw(topic, orjson.dumps(next_release), key=str(MEMBER).encode())
    await clinic.publish(topic, red_flag(topic))
    await eventually(lambda: raised(clinic), within=15, what="the alert")
    await clinic.running.settled()
    group = "messaging.plans" if topic == "careloop.plans" else "messaging.members"
    assert (group, "behind") in await held(clinic), "all else about it waits"
    assert await raised(clinic) == [("safety", "emergency", "open", 0)]


@WAYS
async def test_a_red_flag_waits_for_nobodys_lock(clinic: Clinic, topic: str) -> None:
    async with clinic.running.service.database.acquire() as connection, connection.transaction():
        await lock_members(connection, [MEMBER])
        await clinic.publish(topic, red_flag(topic))
        await eventually(lambda: raised(clinic), within=8, what="the alert")
    await clinic.running.settled()
    assert await raised(clinic) == [("safety", "emergency", "open", 0)]
    assert await held(clinic) == set()
