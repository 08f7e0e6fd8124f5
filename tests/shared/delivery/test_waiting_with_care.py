"""What waits while what it needs is taken with care: a record whose attempts are counted, a chunk that takes long."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg

from shared import housekeeping
from shared.clock import wall_now
from shared.replaying import Reader
from tests.shared.delivery.books import JOINING, Books, take_one
from tests.shared.delivery.probe import MEMBERS, pain, paused


@dataclass(frozen=True)
class Later:
    """A service as its rounds see it, some time from now."""

    database: "asyncpg.Pool[asyncpg.Record]"
    readers: Mapping[str, Reader]
    ahead: timedelta
    name: str = "probe"
    committed: Callable[[int], None] = lambda _: None

    @property
    def clock(self) -> Any:
        return self

    def now(self) -> Any:
        return wall_now() + self.ahead


async def one_round(books: Books, *, hours: float = 0.0) -> None:
    later = cast(Any, Later(books.pool, books.readers, timedelta(hours=hours)))
    assert await housekeeping._expire_round(later, {}, lambda: False) is None


async def head_of(books: Books) -> tuple[str, str, str | None]:
    row = (await books.held())[0]
    return row["state"], row["reason"], row["detail"]


async def waited_too_long(books: Books, member: UUID, score: int) -> None:
    await books.take(books.write(pain(member, score)))
    await one_round(books, hours=25)
    assert await head_of(books) == ("dead", "waited-too-long", "member")


async def test_what_waited_too_long_is_taken_after_its_need_was_taken_with_care(books: Books) -> None:
    member = uuid4()
    await waited_too_long(books, member, 8)
    await books.take(books.write(pain(member, 1)))
    await take_one(books.taker(JOINING), books.write(paused(member), topic=MEMBERS), counted=True)
    assert await books.effects(member) == [], "what kills may be in there"
    await one_round(books)
    assert await books.effects(member) == [8, 1]
    assert await books.held() == []


async def test_what_waited_too_long_and_still_lacks_its_need_stays_an_operators(books: Books) -> None:
    """Whatever else its member had with care."""
    member = uuid4()
    await waited_too_long(books, member, 8)
    async with books.transaction() as connection:
        await books.settle(connection, [member], wall_now(), with_care=True)
    await one_round(books)
    assert await head_of(books) == ("dead", "waited-too-long", "member")
    outcome = "select outcome, detail from delivery.inbox"
    assert [tuple(row) for row in await books.pool.fetch(outcome)] == [("dead", "waited-too-long")]


async def test_what_waits_under_a_topic_that_its_group_no_longer_reads_is_left_alone_with_care(books: Books) -> None:
    member = uuid4()
    await books.take(books.write(pain(member, 8)))
    await books.pool.execute("update delivery.held_events set topic = 'careloop.before'")
    before = await head_of(books)
    await take_one(books.taker(JOINING), books.write(paused(member), topic=MEMBERS), counted=True)
    assert await head_of(books) == before == ("waiting", "member", None)


async def test_what_waits_for_something_in_the_rest_of_a_queue_is_taken_behind_it(books: Books) -> None:
    """Given a queue that was too long for one transaction, whoever takes the rest of it."""
    member = uuid4()
    await books.take(books.write(pain(member, 8)))
    unreadable = books.write_raw(b"{", key=member, topic=MEMBERS)
    await books.take(unreadable, books.write(paused(member), topic=MEMBERS), group=JOINING)
    await books.pool.execute("delete from delivery.held_events where reason = 'malformed'")
    await books.pool.execute(
        "update delivery.held_events set state = 'waiting', reason = 'long-queue', expires_at = now()"
        " where state = 'parked'"
    )
    await one_round(books)
    assert await books.effects(member) == [], "what kills may be in there, and would pass for what it waited for"
    await one_round(books)
    assert await books.effects(member) == [8]
    assert await books.held() == []
