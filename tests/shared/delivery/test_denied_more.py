"""Failures that no event brings about, beside those of test_denied.py."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from shared.database import Connection
from shared.outcomes import Outcomes
from shared.replaying import Reader
from tests.shared.delivery.books import GROUP, Books
from tests.shared.delivery.probe import follow_activity, pain

FAIL = """
create function fail() returns trigger language plpgsql as $$
begin raise exception 'invalid page in block 0 of relation "effects"' using errcode = '{0}'; end $$;
create trigger fail before insert on effects for each statement execute function fail();
"""
HEAL = "drop trigger fail on effects"


@pytest.mark.parametrize("sqlstate", ["XX001", "XX002", "XX000"])
async def test_no_event_is_blamed_for_a_page_that_cannot_be_read(books: Books, sqlstate: str) -> None:
    """Memory or a disk that errs: healed by a failover or a restart, and no event's fault."""
    member = uuid4()
    await books.pool.execute(FAIL.format(sqlstate))
    taking = asyncio.create_task(books.take_as_the_runtime(books.write(pain(member, 3))))
    await asyncio.sleep(1)
    await books.pool.execute(HEAL)
    await asyncio.wait_for(taking, 30)
    assert [row["reason"] for row in await books.held()] == []
    assert await books.effects(member) == [3]


async def test_no_event_is_blamed_for_memory_that_is_used_up(books: Books) -> None:
    member, short = uuid4(), True

    async def follow(connection: Connection, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        if short:
            raise MemoryError
        return await follow_activity(connection, events, now=now)

    reader = books.readers[GROUP]
    books.readers = {**books.readers, GROUP: Reader(replace(reader.subscription, run=follow), reader.decoder)}
    taking = asyncio.create_task(books.take_as_the_runtime(books.write(pain(member, 3))))
    await asyncio.sleep(1)
    short = False
    await asyncio.wait_for(taking, 30)
    assert [row["reason"] for row in await books.held()] == []
    assert await books.effects(member) == [3]
