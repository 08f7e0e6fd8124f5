"""A red flag is told of whatever else is the matter with its member, whoever tells of it."""

from typing import Any

import httpx
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


async def test_words_under_a_key_that_other_words_used_are_looked_at_all_the_same(clinic: Clinic) -> None:
    """An app that numbers what it sends begins again once installed anew. What tells of no red flag is refused."""
    path = f"/v1/members/{MEMBER}/messages"

    async def send(text: str) -> httpx.Response:
        return await clinic.ask("POST", path, token=clinic.member, json={"text": text}, **{"Idempotency-Key": "1"})

    assert (await send("Hello")).status_code == 201
    assert (await send("Hello again")).status_code == 409
    first, again = [await send("I have chest pain and cannot breathe") for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "911" in first.json()["instruction"]
    assert await raised(clinic) == [("safety", "emergency", "open", 0)]
    read = await clinic.ask("GET", path, token=clinic.coach)
    assert [message["text"] for message in read.json()["messages"]] == ["Hello", "I have chest pain and cannot breathe"]
