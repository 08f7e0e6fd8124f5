"""Roster files and terms that meet: of two sponsors, in the hands of two replicas, or beside an enrolment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID

import httpx

from services.enrollment.store.imports import take_received
from services.enrollment.store.sponsors import keep_sponsors, lock_sponsors
from tests.enrollment.clinic import Clinic, roster
from tests.enrollment.test_imports import covered
from tests.fixtures.eventually import eventually


async def test_a_full_file_ends_nobody_of_another_sponsor(clinic: Clinic) -> None:
    await clinic.import_roster(roster("O-1"), sponsor_id=await clinic.add_sponsor())
    await clinic.import_roster(roster("E-1"))
    done = await clinic.import_roster(roster("E-2"), mode="full")
    assert done["persons"]["ended"] == 1
    assert await covered(clinic) == {"E-1": "2026-03-02", "E-2": None, "O-1": None}


async def test_a_file_that_is_confirmed_leaves_a_newer_one_that_is_held(clinic: Clinic) -> None:
    await clinic.import_roster(roster(*(f"E-{n}" for n in range(40))))
    older, newer = [
        await clinic.import_roster(roster(*(f"E-{n}" for n in range(left))), mode="full") for left in (20, 10)
    ]
    await clinic.call("POST", f"/v1/imports/{older['import_id']}/confirm")
    assert (await clinic.finished(older["import_id"]))["state"] == "applied"
    assert (await clinic.finished(newer["import_id"]))["state"] == "held"


class Overtaken:
    """A connection of a replica whose look at what is to be applied is out of date when it has its lock."""

    def __init__(self, connection: Any, meanwhile: Callable[[], Awaitable[Any]]) -> None:
        self._connection, self._meanwhile = connection, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetchval(self, *query: Any) -> Any:
        found = await self._connection.fetchval(*query)
        await self._meanwhile()
        return found


async def test_a_file_that_another_replica_has_applied_is_not_applied_again(clinic: Clinic) -> None:
    import_id = (await clinic.import_roster(roster("E-1")))["import_id"]
    state = "update roster_imports set state = $2 where import_id = $1"
    async with clinic.database() as connection, connection.transaction():
        await connection.execute(state, UUID(import_id), "received")
        overtaken = Overtaken(connection, lambda: connection.execute(state, UUID(import_id), "applied"))
        assert await take_received(cast(Any, overtaken)) is None


async def waits(clinic: Clinic, asked: "asyncio.Task[httpx.Response]") -> bool:
    """Whether this waits for a transaction that is open, and is not answered beside it."""

    async def waits_or_is_done() -> bool:
        (blocked,) = await clinic.rows(
            "select exists (select from pg_stat_activity"
            " where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0)"
        )
        return asked.done() or bool(blocked["exists"])

    await eventually(waits_or_is_done, what="it waits, or is answered")
    return not asked.done()


async def test_new_terms_wait_for_the_enrolments_under_way(open_clinic: Clinic) -> None:
    """Who is being enrolled by the old ones must be found, to be told when their coverage ends."""
    clinic = open_clinic
    terms = {"name": "Example Mills", "states": ["NY"], "covers_from": "2026-01-01", "covers_until": "2026-03-31"}
    async with clinic.database() as connection, connection.transaction():
        await keep_sponsors(cast(Any, connection), sponsor_ids=[clinic.sponsor_id])
        changed = asyncio.create_task(clinic.call("PUT", f"/v1/sponsors/{clinic.sponsor_id}", json=terms))
        assert await waits(clinic, changed)
    assert (await changed).status_code == 200


async def test_an_enrolment_waits_for_the_terms_under_way(open_clinic: Clinic) -> None:
    clinic = open_clinic
    async with clinic.database() as connection, connection.transaction():
        await lock_sponsors(cast(Any, connection), sponsor_ids=[clinic.sponsor_id])
        enrolled = asyncio.create_task(clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=clinic.intake()))
        assert await waits(clinic, enrolled)
    assert (await enrolled).status_code == 201
