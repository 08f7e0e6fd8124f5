"""What an operator does meets what others do about the same member: it waits for them, and overtakes nothing."""

import asyncio
from uuid import UUID, uuid4

from shared.clock import wall_now
from shared.dead_letters import Bench, Step, discard, replay
from shared.replaying import QUEUE_PAGE
from tests.shared.delivery.books import Books
from tests.shared.delivery.operating import old_pain
from tests.shared.delivery.probe import pain


def bench(books: Books, *, page: int = QUEUE_PAGE) -> Bench:
    return Bench(readers=books.readers, service="probe", now=wall_now(), page=page)


async def queue_with_another_letter(books: Books, member: UUID) -> list[int]:
    """One whose fault has been mended, one behind it, one that still cannot be read, and one behind that."""
    await books.take(
        books.write(pain(member, 9)),
        books.write(pain(member, 1)),
        books.write_raw(old_pain(member, 2), key=member),
        books.write(pain(member, 3)),
        isolated=True,
    )
    await books.fix()
    return [row["held_id"] for row in await books.held()]


async def test_who_discards_a_letter_in_the_middle_waits_for_who_replays_before_it(books: Books) -> None:
    """Or what is behind it would stay, behind nobody."""
    member = uuid4()
    head, _, letter, _ = await queue_with_another_letter(books, member)

    async def discard_letter() -> Step:
        async with books.transaction() as connection:
            return await discard(connection, letter, bench(books))

    async with books.transaction() as connection:
        await replay(connection, head, bench(books))
        discarding = asyncio.create_task(discard_letter())
        await books.somebody_waits()
    await discarding
    assert await books.held() == []
    assert await books.effects(member) == [9, 1, 3]


async def test_what_lies_behind_a_letter_within_a_page_is_no_rest_to_go_on_with(books: Books) -> None:
    member = uuid4()
    head, *_ = await queue_with_another_letter(books, member)
    async with books.transaction() as connection:
        step = await replay(connection, head, bench(books, page=3))
    assert step.rest is None
    assert [row["state"] for row in await books.held()] == ["dead", "parked"]


async def test_one_that_stands_alone_does_not_overtake_what_is_being_parked(books: Books) -> None:
    member = uuid4()
    await books.take(books.write(pain(member, 1), key=uuid4()))
    (alone,) = await books.held()

    async def replay_alone() -> Step:
        async with books.transaction() as connection:
            return await replay(connection, alone["held_id"], bench(books))

    async with books.transaction() as connection:
        await books.take_in(connection, books.write(pain(member, 9)), isolated=True)
        replaying = asyncio.create_task(replay_alone())
        await books.somebody_waits()
    assert (await replaying).result == "kept"
    assert await books.effects(member) == []
