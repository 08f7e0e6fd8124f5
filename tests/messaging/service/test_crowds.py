"""However many ask, and however long that takes: what happens in the clinic is followed all the same."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from shared.clock import monotonic, wall_now
from shared.member_locks import lock_members
from tests.fixtures.eventually import eventually
from tests.messaging.given import MEMBER, enrolled, spiked, team_assigned
from tests.messaging.service.clinic import Clinic

CROWD = 60
PATH = f"/v1/members/{MEMBER}/messages"


async def _alerts_of_others(clinic: Clinic) -> Any:
    return await clinic.running.service.safety.fetch("select 1 from alerts where member_id <> $1", MEMBER)


async def test_a_crowd_that_asks_holds_up_nothing_that_happens(clinic: Clinic) -> None:
    """Given many who write to a member whose lock somebody holds, when somebody else's pain spikes, then there is an
    alert at once; who wrote is told soon that it was not done, and it is when they try again."""
    other = uuid4()
    await clinic.publish("careloop.members", enrolled(other, at=wall_now()), team_assigned(other, at=wall_now()))
    await clinic.running.settled()

    async def write(number: int) -> tuple[httpx.Response, float]:
        asked = monotonic()
        key = {"Idempotency-Key": str(number)}
        answer = await clinic.ask("POST", PATH, token=clinic.member, json={"text": "Hello"}, **key)
        return answer, monotonic() - asked

    holder = await asyncpg.connect(clinic.running.database_url)
    async with holder.transaction():
        await lock_members(holder, [MEMBER])
        crowd = [asyncio.create_task(write(number)) for number in range(CROWD)]
        await asyncio.wait(crowd, timeout=0.5)
        await clinic.publish("careloop.plans", spiked(other, at=wall_now(), episode=uuid4()))
        await eventually(lambda: _alerts_of_others(clinic), within=6, what="the alert")
        answers = await asyncio.gather(*crowd)
    assert {answer.status_code for answer, _ in answers} == {503}
    assert {answer.json()["type"] for answer, _ in answers} == {"urn:careloop:problem:unavailable"}
    assert max(took for _, took in answers) < 15, "three connections and a lock are waited for, each for a while"
    again, _ = await write(0)
    assert again.status_code == 201
    await holder.close()
