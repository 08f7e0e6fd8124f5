"""Given an operator who moves a position by hand, it moves within the log only, and who, why and whence are kept."""

import asyncio
import getpass
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from services.plans.main import build
from services.plans.settings import PlansSettings
from tests.deploy.given_books import ACTIVITY, Books
from tests.deploy.given_stack import careloop, write_stack
from tests.fixtures.databases import connected
from tests.fixtures.eventually import eventually
from tests.fixtures.services import RunService
from tests.fixtures.topics import admin_client

END = 5


@pytest.fixture
def data(books: Books, tmp_path: Path) -> Path:
    write_stack(tmp_path, servers=books.servers, namespace=books.namespace, databases={"plans": books.url})
    return tmp_path


def setting(offset: int, **changes: str) -> list[str]:
    given = {"group": "plans.activity", "topic": ACTIVITY, "partition": "0", "reason": "read it again", **changes}
    return [
        "positions",
        "set",
        "--offset",
        str(offset),
        *(w for name, value in given.items() for w in (f"--{name}", value)),
    ]


async def fetch(books: Books, query: str) -> list[dict[str, Any]]:
    async with connected(books.url) as connection:
        return [dict(row) for row in await connection.fetch(query)]


async def position(books: Books) -> int:
    (row,) = await fetch(books, "select next_offset from delivery.positions where consumer_group = 'plans.activity'")
    return int(row["next_offset"])


HELD = "select held_id, state, record_offset from delivery.held_events order by held_id"
OPERATIONS = "select done_by, action, reason, details from delivery.operations"


async def test_going_back_is_told_kept_and_harmless(books: Books, data: Path, run_service: RunService) -> None:
    told = await careloop(*setting(2), "--json", data=data)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) == {
        "consumer_group": "plans.activity", "topic": ACTIVITY, "partition": 0, "from": END, "to": 2,
    }  # fmt: skip
    assert await position(books) == 2
    (kept,) = await fetch(books, OPERATIONS)
    assert (kept["done_by"], kept["action"], kept["reason"]) == (getpass.getuser(), "positions set", "read it again")
    details = json.loads(kept["details"])
    assert details == {
        "group": "plans.activity", "topic": ACTIVITY, "partition": 0, "from": END, "to": 2, "read": END,
    }  # fmt: skip

    held = await fetch(books, HELD)
    async with run_service(build, PlansSettings, name="plans", database_url=books.url) as running:
        await running.settled()
    (row,) = await fetch(
        books,
        "select next_offset, records_read, records_duplicate from delivery.positions"
        " where consumer_group = 'plans.activity'",
    )
    assert row == {"next_offset": END, "records_read": END + 3, "records_duplicate": 3}
    assert await fetch(books, HELD) == held
    assert await books.check() == []


async def test_a_position_is_never_put_outside_of_the_log(books: Books, data: Path) -> None:
    place = TopicPartition(f"{books.namespace}.{ACTIVITY}", 0)
    async with admin_client(books.servers.kafka_bootstrap) as admin:
        await admin.delete_records({place: RecordsToDelete(before_offset=3)})
    for offset in (0, 2, END + 1):
        told = await careloop(*setting(offset), data=data)
        assert told.exit_code == 1
        assert told.stderr == (
            f"careloop: The log of careloop.activity 0 begins at 3 and ends at 5: {offset} lies outside of it.\n"
        )
    assert await position(books) == END
    assert await fetch(books, OPERATIONS) == []
    for offset in (3, END):
        told = await careloop(*setting(offset), data=data)
        assert told.exit_code == 0, told.output
        assert await position(books) == offset
    assert told.stdout == "plans.activity careloop.activity 0: 3 -> 5\n"


async def test_what_does_not_exist_is_not_moved(books: Books, data: Path) -> None:
    for changes, problem in (
        ({"reason": " "}, "--reason must say why."),
        ({"group": "nobody.activity"}, "No service of this stack has the consumer group nobody.activity."),
        ({"group": "plans.nothing"}, "plans.nothing has no position in careloop.activity 0."),
        ({"topic": "careloop.nothing"}, "There is no topic careloop.nothing."),
        ({"partition": "9"}, "careloop.activity has no partition 9."),
    ):
        told = await careloop(*setting(0, **changes), data=data)
        assert (told.exit_code, told.stderr) == (1, f"careloop: {problem}\n")
    assert await fetch(books, OPERATIONS) == []


async def test_all_positions_are_listed_for_programs(books: Books, data: Path) -> None:
    told = await careloop("positions", "list", "--json", data=data)
    listed = {row["consumer_group"]: row for row in json.loads(told.stdout)}
    assert set(listed) == {"plans.activity", "plans.members", "plans.safety", "plans.visits"}
    found = listed["plans.activity"]
    assert (found["next_offset"], found["records_read"], found["records_new"]) == (END, END, 2)


async def test_of_two_moves_the_last_one_counts(books: Books, data: Path, run_service: RunService) -> None:
    for offset in (2, 1):
        assert (await careloop(*setting(offset), data=data)).exit_code == 0
        async with run_service(build, PlansSettings, name="plans", database_url=books.url) as running:
            await running.settled()
    assert await books.check() == []


WAITING = """
select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
"""


async def test_a_database_that_ends_the_connection_in_between_is_told_in_one_sentence(books: Books, data: Path) -> None:
    """Such as one that fails over while the command waits for whoever reads the partition; nothing has moved then."""
    async with connected(books.url) as reader, connected(books.url) as admin, reader.transaction():
        await reader.execute("select from delivery.positions for update")
        setting_it = asyncio.create_task(careloop(*setting(2), data=data))
        pid = await eventually(lambda: admin.fetchval(WAITING), within=20, what="it waits")
        await admin.execute("select pg_terminate_backend($1)", pid)
        told = await asyncio.wait_for(setting_it, 20)
    assert told.exit_code == 1
    assert told.stderr.startswith("careloop: The database did not answer: "), repr(told.exception)
    assert told.stderr.count("\n") == 1
    assert await position(books) == END
