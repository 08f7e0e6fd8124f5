"""Given queues of large events, when they are taken, then a transaction reads as many bytes as it may and the rest is
taken in the next ones: nobody's memory is filled, and nothing is lost or overtaken."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import orjson
import pytest

from shared.clock import wall_now
from shared.database import Connection
from shared.dead_letters import Bench, go_on, replay
from shared.events.codec import HEADERS, encode
from shared.held_events import load_queues
from shared.replaying import PAGE_BYTES
from tests.shared.delivery.books import GROUP, JOINING, Books, Record
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, pain, paused

LARGE = 60_000


def large(books: Books, member: UUID, score: int) -> Record:
    padded = {**orjson.loads(encode(pain(member, score))), "padding": "x" * LARGE}
    return books.write_raw(orjson.dumps(padded), key=member)


def with_large_headers(books: Books, member: UUID, score: int) -> Record:
    return replace(books.write(pain(member, score)), headers=[*HEADERS, ("more", b"x" * LARGE)])


async def bytes_of_a_page(connection: Connection, member: UUID, size: int) -> int:
    found = await load_queues(connection, member_ids=[member], group=GROUP, topic=ACTIVITY, limit=1_000, size=size)
    return sum(row.size for row in found[member])


@pytest.mark.parametrize("write", [large, with_large_headers])
async def test_a_page_of_a_queue_is_bounded_by_its_bytes(
    books: Books, monkeypatch: pytest.MonkeyPatch, write: Callable[[Books, UUID, int], Record]
) -> None:
    monkeypatch.setattr("shared.replaying.PAGE_BYTES", 10 * LARGE)
    member, scores = uuid4(), [1, 2, 3, 4, 5, 6] * 5
    await books.take(books.write(pain(member, 9)), *(write(books, member, score) for score in scores), isolated=True)
    await books.fix()
    head = (await books.held())[0]["held_id"]
    bench = Bench(readers=books.readers, service="probe", now=wall_now())
    async with books.transaction() as connection:
        assert await bytes_of_a_page(connection, member, 10 * LARGE) < 15 * LARGE
        step = await replay(connection, head, bench)
    pages, rest = 1, step.rest
    assert len(await books.effects(member)) < 12
    while rest is not None:
        async with books.transaction() as connection:
            rest = (await go_on(connection, rest, bench)).rest
        pages += 1
    assert await books.effects(member) == [9, *scores]
    assert await books.held() == []
    assert pages in (3, 4)


async def test_the_queues_of_many_members_share_the_bytes_of_a_transaction(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of each at least: whatever brought what they waited for is taken with it."""
    monkeypatch.setattr("shared.replaying.PAGE_BYTES", 12 * LARGE)
    members = [uuid4() for _ in range(4)]
    for member in members:
        await books.take(books.write(pain(member, 8)), *(large(books, member, score) for score in range(7)))
    await books.take(*(books.write(paused(member), topic=MEMBERS) for member in members), group=JOINING)
    taken = [await books.effects(member) for member in members]
    assert [scores[:1] for scores in taken] == [[8]] * 4
    assert all(len(scores) <= 5 for scores in taken)
    heads = {row["member_id"]: row["reason"] for row in reversed(await books.held())}
    assert heads == dict.fromkeys(members, "long-queue")
    assert PAGE_BYTES >= 4 << 20  # a thousand plain events are no large queue
