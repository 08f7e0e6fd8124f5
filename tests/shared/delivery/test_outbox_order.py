"""The numbers of the outbox are the order of what was decided about a member."""

import asyncio
from uuid import uuid4

from shared.events.codec import encode
from shared.member_locks import lock_members
from shared.outbox import OutboxRow, inserting_rows
from shared.partitioning import key_of
from shared.writing import write
from tests.shared.delivery.books import Books
from tests.shared.delivery.probe import ACTIVITY, pain


async def test_a_number_is_drawn_after_the_member_was_locked(books: Books) -> None:
    """Given somebody who holds the member, when a chunk about the member begins and the other one then publishes, then
    what the chunk decides has the later number."""
    member = uuid4()
    first = pain(member, 1)
    async with books.transaction() as connection:
        await lock_members(connection, [member])
        chunk = asyncio.create_task(books.take(books.write(pain(member, 2), partition=1)))
        await books.somebody_waits()
        await write(connection, [inserting_rows([OutboxRow(ACTIVITY, member, encode(first), key_of(member).hash)])])
    await chunk
    told = await books.published()
    assert [event["type"] for event in told] == [first.type, "org.careloop.pain.settled.v1"]


async def test_sessions_draw_numbers_in_turn(books: Books) -> None:
    """No session keeps numbers ready: whoever publishes later has the higher one, whichever connection it uses; so it
    is with the places in a queue."""
    async with books.pool.acquire() as one, books.pool.acquire() as other:
        for number, connection in enumerate((one, other, one, one, other)):
            row = OutboxRow(ACTIVITY, member := uuid4(), str(number).encode(), key_of(member).hash)
            await write(connection, [inserting_rows([row])])
    rows = await books.pool.fetch("select value from delivery.outbox order by outbox_id")
    assert [row["value"] for row in rows] == [b"0", b"1", b"2", b"3", b"4"]
    members = [uuid4() for _ in range(3)]
    async with books.transaction() as one:
        await books.take_in(one, books.write(pain(members[0], 8)))
        async with books.transaction() as other:
            await books.take_in(other, books.write(pain(members[1], 8), partition=1))
        await books.take_in(one, books.write(pain(members[2], 8)))
    assert [row["member_id"] for row in await books.held()] == members
