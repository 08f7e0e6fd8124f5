"""Sets the database of a service back to how it was some seconds ago, as from a backup."""

import asyncio

import asyncpg

from tests.chaos.patience import connected, patient
from tests.chaos.world import READY_S, Crew, World
from tests.fixtures.eventually import eventually

COPIED_S = 30.0
POSITIONS = "select consumer_group, topic, partition, next_offset from delivery.positions"
EVICT = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()"


async def restore(world: World, crew: Crew, *, after_s: float, servers: asyncio.Lock) -> None:
    """The process ends, its database is copied, another goes on for a while; then that one ends, the copy takes the
    place of the database, and the next reads the log again from there. `servers`: nobody hurts a server meanwhile. No
    command comes until it has read as far as before: it would be decided on what others know to have passed."""
    name = crew.database_url.rpartition("/")[2]
    copy = f"{name}_backup"
    keep = f'create database "{copy}" owner "{name}" template "{name}"'
    put_back = f'alter database "{copy}" rename to "{name}"'
    async with crew.commanded:
        async with servers:
            await _end(crew)
            await _as_operator(world, name, f'drop database if exists "{copy}"', keep)
        await world.ready(await world.start(crew.service))
        await asyncio.sleep(after_s)
        async with servers:
            await _end(crew)
            before = await _positions(crew)
            await _as_operator(world, name, f'drop database "{name}" with (force)', put_back)
        world.restored.add(crew.service)
        await world.start(crew.service)

        async def is_as_far() -> bool:
            now = await _positions(crew)
            return all(now.get(place, -1) >= offset for place, offset in before.items())

        await eventually(patient(is_as_far), within=READY_S, what=f"{crew.service} has read as far as before")


async def _positions(crew: Crew) -> dict[tuple[str, str, int], int]:
    async with connected(crew.database_url) as connection:
        return {tuple(row)[:3]: row["next_offset"] for row in await connection.fetch(POSITIONS)}


async def _end(crew: Crew) -> None:
    (process,) = crew.processes
    await process.kill()
    crew.processes.remove(process)


async def _as_operator(world: World, name: str, *statements: str) -> None:
    """Each statement until nobody is connected who could hinder it."""
    async with connected(world.stage.urls.postgres_url) as connection:
        for statement in statements:

            async def done(statement: str = statement) -> bool:
                await connection.execute(EVICT, name)
                try:
                    await connection.execute(statement)
                except asyncpg.ObjectInUseError as error:
                    raise AssertionError(str(error)) from error
                return True

            await eventually(done, within=COPIED_S, what="a database is copied")
