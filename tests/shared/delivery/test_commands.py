"""A command is one transaction about its member: dated once it holds them, and whole before what follows from it."""

import asyncio
from uuid import uuid4

from shared.clock import wall_now
from shared.member_locks import lock_members
from shared.outcomes import Outcomes, Write
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService
from tests.shared.delivery.books import WAITING_FOR_A_LOCK
from tests.shared.delivery.conftest import effects_of, held
from tests.shared.delivery.probe import ACTIVITY, pain


async def test_a_command_is_dated_after_what_it_waited_for(probe: RunningService) -> None:
    """Whatever was decided about its member before is committed, and earlier."""
    member, database = uuid4(), probe.service.database

    async def command() -> None:
        async with probe.service.command("look", member_ids=[member]) as work:
            assert work.now >= released

    async def waits() -> bool:
        return bool(await database.fetchval(WAITING_FOR_A_LOCK))

    async with database.acquire() as holder, holder.transaction():
        await lock_members(holder, [member])
        commanding = asyncio.create_task(command())
        await eventually(waits, within=10)
        released = wall_now()
    await commanding


async def test_a_command_decides_by_what_it_waited_for(probe: RunningService) -> None:
    member, database = uuid4(), probe.service.database

    async def command() -> list[int]:
        async with probe.service.command("look", member_ids=[member]) as work:
            rows = await work.connection.fetch("select score from effects where member_id = $1", member)
            return [row["score"] for row in rows]

    async def waits() -> bool:
        return bool(await database.fetchval(WAITING_FOR_A_LOCK))

    async with database.acquire() as holder, holder.transaction():
        await lock_members(holder, [member])
        await holder.execute("insert into effects (member_id, score) values ($1, 3)", member)
        commanding = asyncio.create_task(command())
        await eventually(waits, within=10)
    assert await commanding == [3]


async def test_what_a_command_leaves_to_be_written_is_there_for_what_waits_for_it(
    probe: RunningService, publish: Publish
) -> None:
    member = uuid4()
    await publish(ACTIVITY, pain(member, 8))
    await probe.settled()
    assert [row["state"] for row in await held(probe)] == ["waiting"]
    async with probe.service.command("enrol", member_ids=[member]) as work:
        work.take(Outcomes(writes=[Write("insert into known_members values ($1)", [member])]))
    assert await effects_of(probe, member) == [8]
    assert await held(probe) == []
