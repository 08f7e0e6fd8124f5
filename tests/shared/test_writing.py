"""Writes in one statement do what each of them would have done alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from shared.outcomes import Write
from shared.writing import AFTER_OTHERS, write
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.statements.counting import counting

ADD = "insert into kept (name, at) select * from unnest($1::text[], $2::int[])"
MOVE = "update kept set at = $2 where name = $1"
DROP = "delete from kept where name = any($1::text[])"

BLOCKED = """
select exists (
    select from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0
)
"""


@pytest.fixture
async def url(database: DatabaseFactory) -> str:
    return await database(None)


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    await connection.execute("create table kept (name text primary key, at int)")
    await connection.execute("insert into kept values ('a', 1), ('b', 2)")
    yield connection
    await connection.close()


async def kept(connection: Any) -> dict[str, int]:
    return {row["name"]: row["at"] for row in await connection.fetch("select * from kept")}


async def test_all_are_written_with_their_own_arguments_in_one_statement(connection: Any) -> None:
    added = {f"n{n}": n for n in range(12)}
    writes = [Write(MOVE, ["a", 7]), None, Write(DROP, [["b"]]), Write(ADD, [list(added), list(added.values())])]
    async with counting(connection) as counted:
        await write(connection, writes)
    assert counted.total == 1
    assert await kept(connection) == {"a": 7} | added


async def test_parts_of_a_write_come_before_it_and_have_its_arguments(connection: Any) -> None:
    top = "top as (update kept set at = at + $2 where name = $1 returning at)"
    counted_up = Write("insert into kept select $3::text, at from top", ["a", 10, "c"], top)
    await write(connection, [Write(MOVE, ["b", 6]), counted_up, Write(ADD, [["d"], [4]])])
    assert await kept(connection) == {"a": 11, "b": 6, "c": 11, "d": 4}
    await write(connection, [counted_up._replace(arguments=["a", 10, "e"])])
    assert await kept(connection) == {"a": 21, "b": 6, "c": 11, "d": 4, "e": 21}


async def test_placeholders_of_two_digits_keep_their_numbers(connection: Any) -> None:
    numbers = " + ".join(f"${number}::int" for number in range(1, 11))
    many = f"insert into kept select 'm' || $11::text, {numbers}"
    await write(connection, [Write(MOVE, ["a", 5]), Write(many, [*range(1, 11), "x"]), Write(MOVE, ["b", 6])])
    assert await kept(connection) == {"a": 5, "b": 6, "mx": 55}


async def test_the_rows_of_the_one_that_answers_are_answered_wherever_it_stands(connection: Any) -> None:
    top = "top as (update kept set at = at + $2 where name = $1 returning at)"
    asked = Write("select at, $3::int as own from top", ["a", 10, 7], top, answers=True)
    assert [tuple(row) for row in await write(connection, [asked, Write(MOVE, ["b", 6])])] == [(11, 7)]
    assert await kept(connection) == {"a": 11, "b": 6}
    assert not await write(connection, [Write(MOVE, ["a", 5])])


async def test_a_lock_that_everybody_waits_for_is_taken_when_the_others_are_written(connection: Any, url: str) -> None:
    top = f"top as (update kept set at = at + $1 where name = 'a' and {AFTER_OTHERS} returning at)"
    asked = Write("select at from top", [10], top, answers=True)
    other = await asyncpg.connect(url)
    holding = connection.transaction()
    await holding.start()
    await connection.execute("update kept set at = 5 where name = 'b'")
    waits = asyncio.create_task(write(other, [asked, Write(ADD, [["c"], [3]]), Write(MOVE, ["b", 6])]))

    async def is_waiting() -> bool:
        return bool(await connection.fetchval(BLOCKED))

    await eventually(is_waiting, what="it waits for the row")
    await connection.execute("set local lock_timeout = '2s'")
    await connection.execute("update kept set at = 2 where name = 'a'")
    await holding.commit()
    assert [row["at"] for row in await waits] == [12]
    assert await kept(connection) == {"a": 12, "b": 6, "c": 3}
    await other.close()
    assert [row["at"] for row in await write(connection, [asked])] == [22]


async def test_one_alone_is_sent_as_it_is_and_nothing_is_not_sent(connection: Any) -> None:
    async with counting(connection) as counted:
        await write(connection, [None, Write(MOVE, ["a", 3])])
        await write(connection, [None])
        await write(connection, [])
    assert counted.texts == {MOVE: 1}
    assert await kept(connection) == {"a": 3, "b": 2}


async def test_where_one_fails_none_is_written(connection: Any) -> None:
    with pytest.raises(asyncpg.NotNullViolationError):
        await write(connection, [Write(MOVE, ["a", 9]), Write(ADD, [["c", None], [1, 2]])])
    assert await kept(connection) == {"a": 1, "b": 2}
