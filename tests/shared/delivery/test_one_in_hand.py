"""Records whose attempts are counted are taken one at a time in a process, and a red flag waits for no ordinary one."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import pytest

from shared.database import open_database
from shared.member_locks import lock_members
from shared.one_in_hand import OneInHand
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.services import RunningService
from tests.shared.delivery.books import SAFETY, Books, take_one
from tests.shared.delivery.conftest import RED_FLAG
from tests.shared.delivery.probe import pain

SOON_S = 3.0
"""Less than an ordinary record waits for a lock."""
ATTEMPTS = "select sum(attempts) from delivery.attempts where consumer_group = 'probe.activity'"


async def test_a_counted_red_flag_waits_for_no_ordinary_record_that_waits_for_its_member(books: Books) -> None:
    """Given a process that was begun too often without progress, and somebody who holds a member, when an ordinary
    record of that member is in hand, then a red flag is raised at once, and the record is taken later, blamed for
    nothing."""
    member, one_in_hand = uuid4(), OneInHand()
    record = books.write(pain(member, 4))
    flag = books.write(pain(uuid4(), 8, findings=RED_FLAG), partition=1)
    async with books.transaction() as holder:
        await lock_members(holder, [member])
        taking = asyncio.create_task(take_one(books.taker(one_in_hand=one_in_hand), record, counted=True))
        await books.somebody_waits()
        async with asyncio.timeout(SOON_S):
            await take_one(books.taker(SAFETY, one_in_hand=one_in_hand), flag, counted=True)
        assert not taking.done()
    await taking
    assert "safety.flagged" in (await books.published())[0]["type"]
    assert await books.effects(member) == [4]
    assert await books.pool.fetchval(ATTEMPTS) == 1, "what was given up was taken back"


async def test_a_counted_red_flag_waits_for_no_connection_that_an_ordinary_record_waits_for(
    books: Books, database: DatabaseFactory
) -> None:
    """Given an ordinary pool of which every connection is held, when an ordinary record waits for one, then a red flag
    is raised at once."""
    one_in_hand, record = OneInHand(), books.write(pain(uuid4(), 4))
    flag = books.write(pain(uuid4(), 8, findings=RED_FLAG), partition=1)
    async with await open_database(await database(None), connections=2, application="test") as full:
        async with full.acquire(), full.acquire():
            taker = books.taker(one_in_hand=one_in_hand)
            taker.database = full
            taking = asyncio.create_task(take_one(taker, record, counted=True))
            await eventually(lambda: one_in_hand._giving_way is not None)
            async with asyncio.timeout(SOON_S):
                await take_one(books.taker(SAFETY, one_in_hand=one_in_hand), flag, counted=True)
        taking.cancel()
        await asyncio.wait([taking])


async def test_no_two_counted_records_are_in_hand_at_once_whoever_hurries() -> None:
    flags_are_raised = asyncio.Event()
    one_in_hand, in_hand, most, order = OneInHand(), 0, 0, list[str]()

    async def hold(name: str, *, hurries: bool) -> None:
        nonlocal in_hand, most
        while True:
            try:
                async with one_in_hand.take(hurries=hurries) as may_end:
                    in_hand += 1
                    most = max(most, in_hand)
                    try:
                        async with may_end:
                            await (asyncio.sleep(0) if hurries else flags_are_raised.wait())
                        order.append(name)
                    finally:
                        await asyncio.sleep(0)  # it is taken back
                        in_hand -= 1
                return
            except TimeoutError:
                assert not hurries
                await asyncio.sleep(0)

    ordinary = [asyncio.create_task(hold(f"ordinary {n}", hurries=False)) for n in range(3)]
    await eventually(lambda: in_hand == 1)
    await asyncio.gather(*(hold(f"flag {n}", hurries=True) for n in range(3)))
    flags_are_raised.set()
    await asyncio.gather(*ordinary)
    assert most == 1
    assert [name.split()[0] for name in order] == ["flag"] * 3 + ["ordinary"] * 3


async def wait_for(one_in_hand: OneInHand) -> None:
    async with one_in_hand.take(hurries=True):
        raise AssertionError("it was given up")


async def test_a_red_flag_that_is_no_longer_wanted_leaves_the_turn_to_others() -> None:
    one_in_hand = OneInHand()
    async with one_in_hand.take(hurries=True):
        given_up = asyncio.create_task(wait_for(one_in_hand))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
    async with asyncio.timeout(1), one_in_hand.take(hurries=False) as may_end, may_end:
        await asyncio.sleep(0)


async def test_a_red_flag_comes_while_what_gave_way_to_another_is_taken_back() -> None:
    one_in_hand, raised = OneInHand(), list[str]()
    is_given_up, may_go_on = asyncio.Event(), asyncio.Event()

    async def give_way() -> None:
        async with one_in_hand.take(hurries=False) as may_end:
            try:
                async with may_end:
                    await asyncio.Event().wait()
            except TimeoutError:
                is_given_up.set()
                await may_go_on.wait()

    async def hurry(name: str) -> None:
        async with one_in_hand.take(hurries=True):
            raised.append(name)

    ordinary = asyncio.create_task(give_way())
    await asyncio.sleep(0)
    first = asyncio.create_task(hurry("first"))
    await is_given_up.wait()
    second = asyncio.create_task(hurry("second"))
    await asyncio.sleep(0)
    may_go_on.set()
    async with asyncio.timeout(SOON_S):
        await asyncio.gather(ordinary, first, second)
    assert raised == ["first", "second"]


async def test_what_has_its_turn_while_a_red_flag_waits_is_given_up_at_once() -> None:
    """Given an ordinary record that waits behind a red flag, when another flag comes behind it, then it is given up as
    it has its turn: it may take for ever."""
    one_in_hand, may_end, raised = OneInHand(), asyncio.Event(), list[str]()

    async def hurry(name: str) -> None:
        async with one_in_hand.take(hurries=True):
            raised.append(name)
            await may_end.wait()

    async def take_for_ever() -> None:
        async with one_in_hand.take(hurries=False) as giving_way, giving_way:
            await asyncio.Event().wait()

    first = asyncio.create_task(hurry("first"))
    await asyncio.sleep(0)
    ordinary = asyncio.create_task(take_for_ever())
    await asyncio.sleep(0)
    second = asyncio.create_task(hurry("second"))
    await asyncio.sleep(0)
    may_end.set()
    async with asyncio.timeout(SOON_S):
        await asyncio.gather(first, second)
        with pytest.raises(TimeoutError):
            await ordinary
    assert raised == ["first", "second"]


def test_there_is_one_for_all_groups_of_a_process(probe: RunningService) -> None:
    """Or a record in one group, beside what kills in another, would be blamed for the same deaths."""
    assert len(probe.service.intakes) > 1
    assert len({id(intake._taker.one_in_hand) for intake in probe.service.intakes}) == 1


async def test_a_red_flag_waits_for_no_more_than_one_ordinary_record_however_many_wait_before_it() -> None:
    """Each would have to be taken back before the next one has its turn."""
    one_in_hand, is_raised, turns = OneInHand(), asyncio.Event(), list[str]()

    async def take_until_raised(name: str) -> None:
        async with one_in_hand.take(hurries=False) as may_end:
            turns.append(name)
            with suppress(TimeoutError):
                async with may_end:
                    await is_raised.wait()

    ordinary = [asyncio.create_task(take_until_raised(f"ordinary {n}")) for n in range(4)]
    await eventually(lambda: len(turns) == 1)
    async with asyncio.timeout(SOON_S):
        async with one_in_hand.take(hurries=True):
            turns.append("flag")
            is_raised.set()
        await asyncio.gather(*ordinary)
    assert turns.index("flag") == 1
