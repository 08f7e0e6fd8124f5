"""Given a record that was at fault when it came, when an operator replays it, then each kind has its sensible end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import orjson
import pytest

from shared.clock import wall_now
from shared.dead_letters import Bench, Step, replay
from shared.events.codec import encode
from shared.outcomes import Outcomes
from shared.replaying import Reader
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Consume, Publish, RunningService, RunService, member_key
from tests.shared.delivery.books import SAFETY, Books
from tests.shared.delivery.conftest import RED_FLAG, effects_are, effects_of, held
from tests.shared.delivery.operating import (
    OLD_PAIN,
    Filters,
    Operator,
    books_agree,
    fix,
    old_pain,
    outcomes,
    readers,
    snapshot,
    upcast_pain,
)
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, build, pain, paused, raise_red_flags

ORDINARY = Filters(group="probe.activity")
MENDED = {OLD_PAIN: upcast_pain}


@pytest.fixture
def operator(probe: RunningService) -> Operator:
    return Operator(probe.database_url)


async def test_a_mended_reader_heals_what_could_not_be_read_and_its_queue(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    await publish(ACTIVITY, pain(member, 1))
    await publish.raw(ACTIVITY, old_pain(member, 2), key=member_key(member))
    await publish(ACTIVITY, pain(member, 3))
    await probe.settled()
    (failing,) = await operator("replay", filters=ORDINARY)
    assert failing.step.answer == "It still cannot be read: mend its contract and replay it then, or discard it."
    operator.readers = readers(MENDED)
    (done,) = await operator("replay", filters=ORDINARY)
    assert not done.failed
    assert await effects_of(probe, member) == [1, 2, 3]
    assert await held(probe) == []
    assert await books_agree(probe)


async def test_what_is_healed_but_fails_at_the_next_hurdle_is_not_lost(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    """Its identity is free again: else the next replay would take it for a duplicate of itself."""
    member = uuid4()
    await publish.raw(ACTIVITY, old_pain(member, 1), key=member_key(member))
    await publish.raw(ACTIVITY, old_pain(member, 9), key=member_key(member))
    await publish.raw(ACTIVITY, old_pain(member, 8), key=member_key(member))
    await publish(ACTIVITY, pain(member, 2))
    await probe.settled()
    operator.readers = readers(MENDED)
    assert [one.failed for one in await operator("replay", filters=ORDINARY)] == [False, True, True]
    before = await snapshot(probe)
    assert (await operator("replay", filters=ORDINARY))[0].failed
    assert (await snapshot(probe))["delivery.inbox"] == before["delivery.inbox"]
    await fix(probe)
    assert [one.failed for one in await operator("replay", filters=ORDINARY)] == [False, False]
    assert await effects_of(probe, member) == [1, 9]
    assert [row["state"] for row in await held(probe)] == ["waiting", "parked"]
    await probe.service.database.execute("insert into known_members values ($1)", member)
    operator.readers = readers(MENDED)
    (done,) = await operator("replay", filters=Filters(group="probe.activity", state="waiting"))
    assert not done.failed
    assert await effects_of(probe, member) == [1, 9, 8, 2]
    assert await books_agree(probe)


@pytest.mark.parametrize("fault", ["time-ahead", "too-old", "wrong-key"])
async def test_an_operator_overrules_time_and_key(
    probe: RunningService, publish: Publish, operator: Operator, fault: str
) -> None:
    member = uuid4()
    shift = {"time-ahead": timedelta(days=1), "too-old": -timedelta(days=40)}.get(fault, timedelta(0))
    event = pain(member, 3)
    raw = {**orjson.loads(encode(event)), "time": (datetime.now(UTC) + shift).isoformat()}
    await publish.raw(ACTIVITY, orjson.dumps(raw), key=member_key(uuid4() if fault == "wrong-key" else member))
    await probe.settled()
    assert [row["reason"] for row in await held(probe)] == [fault]
    (done,) = await operator("replay")
    assert not done.failed
    assert await effects_of(probe, member) == [3]
    assert await held(probe) == []
    await publish(ACTIVITY, event, pain(member, 4))
    await eventually(partial(effects_are, probe, member, [3, 4]))
    assert await books_agree(probe)


async def test_one_that_was_published_rightly_meanwhile_is_a_duplicate(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    event = pain(member, 3)
    await publish.raw(ACTIVITY, encode(event), key=member_key(uuid4()))
    await publish(ACTIVITY, event)
    await probe.settled()
    (done,) = await operator("replay")
    assert [fate.outcome for fate in done.step.fates] == ["duplicate"]
    assert await effects_of(probe, member) == [3]
    assert await held(probe) == []
    assert await books_agree(probe)


async def test_one_whose_member_is_parked_does_not_overtake(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    await publish.raw(ACTIVITY, encode(pain(member, 1)), key=member_key(uuid4()))
    await probe.settled()  # its key may have put it in another partition
    await publish(ACTIVITY, pain(member, 9), pain(member, 2))
    await probe.settled()
    misplaced, head, _ = [row["held_id"] for row in await held(probe)]
    (done,) = await operator("replay", misplaced)
    assert done.step.answer == f"It stands behind {head} in its member's queue: replay or discard that one first."
    await fix(probe)
    await operator("replay", head)
    (done,) = await operator("replay", misplaced)
    assert not done.failed
    assert await effects_of(probe, member) == [9, 2, 1]


async def test_one_at_fault_that_must_wait_is_then_the_head_of_a_queue(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    await publish.raw(ACTIVITY, encode(pain(member, 8)), key=member_key(uuid4()))
    await probe.settled()
    (done,) = await operator("replay")
    assert done.step.answer == "It waits for member and goes on by itself."
    assert not done.failed
    await publish(ACTIVITY, pain(member, 1))
    await probe.settled()
    assert [row["state"] for row in await held(probe)] == ["waiting", "parked"]
    assert await books_agree(probe)
    await probe.service.database.execute("insert into known_members values ($1)", member)
    await publish(ACTIVITY, pain(member, 2))
    await eventually(partial(effects_are, probe, member, [8, 1, 2]))
    assert await books_agree(probe)


async def test_one_at_fault_that_waits_comes_before_its_right_copy_behind_others(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    """Replayed first, it stands first: the one published rightly is parked behind another and is a duplicate then."""
    member = uuid4()
    event = pain(member, 8)
    await publish.raw(ACTIVITY, encode(event), key=member_key(uuid4()))
    await probe.settled()
    await operator("replay")
    await publish(ACTIVITY, pain(member, 1), event, pain(member, 2))
    await probe.settled()
    assert [row["state"] for row in await held(probe)] == ["waiting", "parked", "parked", "parked"]
    await publish(MEMBERS, paused(member))
    await eventually(partial(effects_are, probe, member, [8, 1, 2]))
    await probe.settled()
    assert await held(probe) == []
    assert await books_agree(probe)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (None, "It has no value, so nobody can ever apply it: discard it."),
        (b"x" * 70_000, "It is larger than any event may be, so nobody can ever apply it: discard it."),
        (b"{", "It still cannot be read: mend its contract and replay it then, or discard it."),
    ],
)
async def test_what_nobody_can_apply_says_so_and_can_be_discarded(
    probe: RunningService, publish: Publish, operator: Operator, value: bytes | None, answer: str
) -> None:
    await publish.raw(ACTIVITY, value, key=b"nobody")
    await probe.settled()
    done = await operator("replay")
    assert [(one.failed, one.step.answer) for one in done] == [(True, answer)] * 2, "both groups of the topic hold it"
    assert not any(one.failed for one in await operator("discard"))
    assert await held(probe) == await held(probe, "probe.safety") == []
    assert await outcomes(probe) == {"discarded": 2}
    assert await books_agree(probe)


@pytest.mark.parametrize("reads", [None, MEMBERS])
async def test_what_no_handler_reads_any_more_can_be_discarded_wherever_it_stands(
    probe: RunningService, publish: Publish, operator: Operator, reads: str | None
) -> None:
    """A release took the consumer away, or had it read another topic: its queue must still be emptied by somebody."""
    member = uuid4()
    await publish(ACTIVITY, *(pain(member, score) for score in (9, 1, 2)))
    await probe.settled()
    head, second, third = [row["held_id"] for row in await held(probe)]
    known = dict(readers())
    gone = known.pop("probe.activity")
    if reads is not None:
        subscription = replace(gone.subscription, topic=reads)
        known["probe.activity"] = Reader(subscription, known["probe.members"].decoder)
    operator.readers = known
    (kept,) = await operator("replay", head)
    assert (kept.failed, kept.step.answer) == (
        True, "No handler of this service reads probe.activity any more: discard it.",
    )  # fmt: skip
    for held_id in (second, head):
        (done,) = await operator("discard", held_id)
        assert (done.failed, done.step.result, done.step.fates) == (False, "done", [])
    assert [row["held_id"] for row in await held(probe)] == [third]
    assert (await outcomes(probe))["discarded"] == 2
    assert await effects_of(probe, member) == []
    assert await books_agree(probe)


async def test_another_body_under_a_known_identity_stays(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    first = pain(member, 1)
    await publish(ACTIVITY, first, pain(member, 2, event_id=first.id))
    await probe.settled()
    answer = "Another body was taken under its identity, so it can never be applied: discard it."
    (done,) = await operator("replay")
    assert (done.failed, done.step.answer) == (True, answer)
    # Also when the inbox no longer knows the first one.
    await probe.service.database.execute("delete from delivery.inbox where outcome = 'applied'")
    (done,) = await operator("replay")
    assert (done.failed, done.step.answer) == (True, answer)
    assert await effects_of(probe, member) == [1]
    assert await books_agree(probe)


async def test_a_healed_event_of_somebody_else_leaves_the_queue_that_its_key_put_it_in(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member, other = uuid4(), uuid4()
    await publish.raw(ACTIVITY, old_pain(other, 5), key=member_key(member))
    await publish(ACTIVITY, pain(member, 1))
    await probe.settled()
    operator.readers = readers(MENDED)
    await operator("replay", filters=ORDINARY)
    assert await effects_of(probe, member) == [1]
    assert await effects_of(probe, other) == []
    (row,) = await held(probe)
    assert (row["reason"], row["blocks"], row["member_id"]) == ("wrong-key", False, other)
    assert await books_agree(probe)
    (done,) = await operator("replay", row["held_id"])
    assert not done.failed
    assert await effects_of(probe, other) == [5]
    assert await books_agree(probe)


async def test_a_red_flag_that_nobody_could_look_for_is_raised_by_a_replay_without_a_lock(
    probe: RunningService, publish: Publish, consume: Consume, operator: Operator
) -> None:
    member = uuid4()
    flagged = old_pain(member, 1, id="flag")
    raw = orjson.loads(flagged)
    raw["data"]["findings"] = list(RED_FLAG)
    await publish(ACTIVITY, pain(member, 9))
    await publish.raw(ACTIVITY, orjson.dumps(raw), key=member_key(member))
    await probe.settled()
    operator.readers = readers(MENDED)
    async with probe.service.database.acquire() as other, other.transaction():
        await other.execute("select from delivery.member_locks for update")
        (done,) = await operator("replay", filters=Filters(group="probe.safety"))
    assert not done.failed
    (flag,) = await consume("careloop.plans", count=1)
    assert (flag["type"], flag["subject"]) == ("org.careloop.safety.flagged.v1", str(member))
    assert await held(probe, "probe.safety") == []
    assert [row["state"] for row in await held(probe)] == ["dead", "dead"], "the ordinary group's queue is untouched"
    assert await books_agree(probe)


async def test_a_safety_groups_bug_is_replayed_for_a_second_body_too(
    run_service: RunService, probe_url: str, publish: Publish, consume: Consume
) -> None:
    async def safety(connection: Any, events: Any, /, *, now: datetime) -> Outcomes:
        if any(event.data.score == 5 for event in events):
            raise ZeroDivisionError
        return await raise_red_flags(connection, events, now=now)

    async with run_service(partial(build, safety=safety), name="probe", database_url=probe_url) as probe:
        member, operator = uuid4(), Operator(probe_url)
        first = pain(member, 1, findings=RED_FLAG)
        await publish(ACTIVITY, first, pain(member, 5, event_id=first.id, findings=RED_FLAG))
        await probe.settled()
        (row,) = await held(probe, "probe.safety")
        assert row["reason"] == "bug"
        (done,) = await operator("replay", row["held_id"])
        assert not done.failed
        read = await consume("careloop.plans", count=3)
        flags = [event["id"] for event in read if event["type"] == "org.careloop.safety.flagged.v1"]
        assert len(set(flags)) == 2, "what follows from the second body is no copy of what followed from the first"
        assert await held(probe, "probe.safety") == []
        assert await books_agree(probe)


async def replay_one(books: Books, held_id: int) -> Step:
    async with books.transaction() as connection:
        return await replay(connection, held_id, Bench(readers=books.readers, service="probe", now=wall_now()))


@pytest.mark.parametrize("fault", ["wrong-key", "time-ahead"])
async def test_what_stands_alone_keeps_its_reason_when_it_meets_a_bug(books: Books, fault: str) -> None:
    """What was at fault still is: it is found and judged by that."""
    guilty = pain(uuid4(), 9)
    if fault == "time-ahead":
        guilty = guilty.model_copy(update={"time": wall_now() + timedelta(days=1)})
    await books.take(books.write(guilty, key=uuid4() if fault == "wrong-key" else None))
    (before,) = await books.held()
    for replays in (1, 2):
        step = await replay_one(books, before["held_id"])
        (after,) = await books.held()
        assert (after["reason"], after["replays"], after["blocks"]) == (fault, replays, False)
        assert after["detail"].startswith("ProbeBug at ")
        assert (step.result, step.answer) == ("kept", None)
        assert [(fate.reason, fate.detail) for fate in step.fates] == [(fault, after["detail"])]
        told = await books.pool.fetchrow("select outcome, detail from delivery.inbox")
        assert told is not None
        assert tuple(told) == ("dead", fault)
    await books.fix()
    assert [fate.outcome for fate in (await replay_one(books, before["held_id"])).fates] == ["applied"]


async def test_what_stands_alone_keeps_its_reason_when_it_cannot_be_read_any_more(books: Books) -> None:
    """As by the version before the one that took it."""
    older, books.readers = books.readers, readers(MENDED)
    await books.take(books.write_raw(old_pain(uuid4(), 1), key=uuid4()))
    (before,) = await books.held()
    books.readers = older
    step = await replay_one(books, before["held_id"])
    (after,) = await books.held()
    assert (before["reason"], after["reason"]) == ("wrong-key", "wrong-key")
    assert after["detail"].startswith("unknown-type: ")
    assert step.answer is not None
    assert "cannot be read" in step.answer


async def test_what_could_not_be_read_and_then_meets_a_bug_is_held_for_that(books: Books) -> None:
    """Alone, as in a safety group: the version that reads it has found something else."""
    await books.take(books.write_raw(old_pain(uuid4(), 9), key=uuid4()), group=SAFETY)
    (before,) = await books.held(SAFETY)

    async def fail(*_: object, **__: object) -> Outcomes:
        raise ZeroDivisionError

    mended = readers(MENDED)[SAFETY]
    books.readers = {**books.readers, SAFETY: replace(mended, subscription=replace(mended.subscription, run=fail))}
    await replay_one(books, before["held_id"])
    (after,) = await books.held(SAFETY)
    assert (before["reason"], after["reason"]) == ("unknown-type", "bug")


async def test_one_without_a_key_that_waits_once_it_can_be_read_is_its_members(books: Books) -> None:
    member = uuid4()
    await books.take(replace(books.write_raw(old_pain(member, 8), key=member), key=None))
    (alone,) = await books.held()
    async with books.transaction() as connection:
        bench = Bench(readers=readers(MENDED), service="probe", now=wall_now())
        step = await replay(connection, alone["held_id"], bench)
    (row,) = await books.held()
    assert (step.result, row["state"], row["blocks"], row["member_id"]) == ("kept", "waiting", True, member)
