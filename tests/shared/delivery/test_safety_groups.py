"""A red flag is never missed: whatever is wrong with an event that can be read, a safety group still looks at it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from shared.clock import wall_now
from shared.database import Connection
from shared.dead_letters import Bench, replay
from shared.events import PainReported
from shared.events.codec import HEADERS, REJECTED_HEADERS, encode
from shared.member_locks import lock_members
from shared.outcomes import Outcomes, Write
from shared.telemetry import BUGS, SAFETY_FAILURES
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Consume, Publish, RunningService, RunService, member_key
from tests.shared.delivery.books import SAFETY, Books, take_one
from tests.shared.delivery.conftest import RED_FLAG, held
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, ProbeBug, build, pain, paused, raise_red_flags


async def flagged(consume: Consume, count: int = 1) -> list[str]:
    """Members of the first red flags that were published."""
    read = await consume("careloop.plans", count=count, within=15)
    return [event["subject"] for event in read if event["type"] == "org.careloop.safety.flagged.v1"]


@pytest.mark.parametrize("fault", ["identity-conflict", "rejected", "time-ahead", "too-old", "wrong-key"])
async def test_a_red_flag_in_an_event_at_fault(
    probe: RunningService, publish: Publish, consume: Consume, fault: str
) -> None:
    member = uuid4()
    event = pain(member, 1, findings=RED_FLAG)
    shift = {"time-ahead": timedelta(days=1), "too-old": -timedelta(days=40)}.get(fault, timedelta(0))
    raw = {**orjson.loads(encode(event)), "time": (datetime.now(UTC) + shift).isoformat()}
    if fault == "identity-conflict":
        await publish(ACTIVITY, pain(member, 1, event_id=event.id))
        await probe.settled()
    key = member_key(uuid4() if fault == "wrong-key" else member)
    headers = REJECTED_HEADERS if fault == "rejected" else HEADERS
    await publish.raw(ACTIVITY, orjson.dumps(raw), key=key, headers=headers)
    await probe.settled()
    ordinary = fault == "identity-conflict"
    assert str(member) in await flagged(consume, count=2 if ordinary else 1)
    assert [row["reason"] for row in await held(probe)] == [fault], "the ordinary group refuses it"
    assert await held(probe, "probe.safety") == []
    outcomes = await probe.service.database.fetch("select outcome from delivery.inbox where outcome <> 'applied'")
    assert [row["outcome"] for row in outcomes] == ["dead"]


async def test_two_bodies_of_one_identity_raise_two_flags_of_different_identity(
    probe: RunningService, publish: Publish, consume: Consume
) -> None:
    member = uuid4()
    first = pain(member, 1, findings=RED_FLAG)
    await publish(ACTIVITY, first, pain(member, 2, event_id=first.id, findings=("saddle-numbness",)))
    await probe.settled()
    read = await consume("careloop.plans", count=3, within=15)
    flags = [event for event in read if event["type"] == "org.careloop.safety.flagged.v1"]
    assert len({event["id"] for event in flags}) == 2


async def test_a_bug_in_one_flag_does_not_cost_the_members_next(
    run_service: RunService, probe_url: str, publish: Publish, consume: Consume
) -> None:
    async def safety(connection: Connection, events: Sequence[PainReported], /, *, now: datetime) -> Outcomes:
        if any(event.data.score == 5 for event in events):
            raise ProbeBug
        return await raise_red_flags(connection, events, now=now)

    async with run_service(partial(build, safety=safety), name="probe", database_url=probe_url) as probe:
        member = uuid4()
        flags = [pain(member, score, findings=RED_FLAG) for score in (7, 5, 7)]
        await publish(ACTIVITY, *flags)
        await probe.settled()
        read = await consume("careloop.plans", count=3, within=15)
        causes = [event["causationid"] for event in read if event["type"] == "org.careloop.safety.flagged.v1"]
        assert causes == [flags[0].id, flags[2].id]
        (row,) = await held(probe, "probe.safety")
        assert (row["state"], row["blocks"], row["event_id"]) == ("dead", False, flags[1].id)


async def test_a_red_flag_waits_for_nobodys_lock_and_takes_nobodys_queue(
    probe: RunningService, probe_url: str, publish: Publish, consume: Consume
) -> None:
    """Whoever holds the member, and has touched what waits, holds up neither the flag nor lets it run the queue."""
    member = uuid4()
    await publish(ACTIVITY, pain(member, 8), pain(member, 2))
    await probe.settled()
    other = await asyncpg.connect(probe_url)
    try:
        async with other.transaction():
            await lock_members(other, [member])
            await other.execute("update delivery.held_events set replays = replays + 1 where member_id = $1", member)
            await probe.service.database.execute("insert into known_members values ($1)", member)
            await publish(ACTIVITY, pain(member, 1, findings=RED_FLAG))
            assert await flagged(consume) == [str(member)]
            effects = "select count(*) from effects where member_id = $1"
            assert await probe.service.database.fetchval(effects, member) == 0
    finally:
        await other.close()


async def test_what_waits_takes_effect_once_while_red_flags_come(probe: RunningService, publish: Publish) -> None:
    members = [uuid4() for _ in range(60)]
    await publish(ACTIVITY, *(pain(member, 8) for member in members))
    await probe.settled()
    for start in range(0, len(members), 6):
        some = members[start : start + 6]
        await publish(MEMBERS, *(paused(member) for member in some))
        await publish(ACTIVITY, *(pain(member, 1, findings=RED_FLAG) for member in some))

    async def all_taken() -> bool:
        return await count(probe) == dict.fromkeys(members, 2)

    await eventually(all_taken)
    await probe.settled()
    assert await probe.service.database.fetchval("select count(*) from delivery.inbox where outcome <> 'applied'") == 0


async def count(probe: RunningService) -> dict[UUID, int]:
    rows = await probe.service.database.fetch("select member_id, count(*) from effects group by 1")
    return {row["member_id"]: row["count"] for row in rows}


async def test_a_record_in_which_nobody_looked_is_told_though_no_handler_failed(books: Books) -> None:
    failures = SAFETY_FAILURES.labels(SAFETY)._value
    before = failures.get()
    await take_one(books.taker(SAFETY), books.write_raw(b"{", key=uuid4()))
    assert failures.get() == before + 1


async def test_the_flag_of_a_second_body_is_urgent_too(books: Books) -> None:
    member = uuid4()
    one = books.write(pain(member, 1, event_id="e", findings=RED_FLAG))
    two = books.write(pain(member, 2, event_id="e", findings=("saddle-numbness",)))
    await books.take(one, two, group=SAFETY)
    assert [row["urgent"] for row in await books.pool.fetch("select urgent from delivery.outbox")] == [True, True]


async def test_the_flag_of_a_second_body_comes_behind_those_of_its_chunk_and_may_see_what_they_left(
    books: Books,
) -> None:
    """Given a handler that leaves what it decided to be written, then a second body finds it written."""

    async def remember(connection: Connection, events: Sequence[PainReported], /, *, now: datetime) -> Outcomes:
        outcomes = await raise_red_flags(connection, events, now=now)
        seen.append(await connection.fetchval("select count(*) from known_members"))
        outcomes.writes += [Write("insert into known_members values ($1)", [event.subject]) for event in events]
        return outcomes

    seen = list[int]()
    subscription = replace(books.subscription(SAFETY), run=remember)
    books.readers = {**books.readers, SAFETY: replace(books.readers[SAFETY], subscription=subscription)}
    one = books.write(pain(uuid4(), 1, event_id="e", findings=RED_FLAG))
    two = books.write(pain(uuid4(), 2, event_id="e", findings=("saddle-numbness",)))
    await books.take(one, two, group=SAFETY)
    assert seen == [0, 1]
    findings = [event["data"]["findings"] for event in await books.published()]
    assert findings == [list(RED_FLAG), ["saddle-numbness"]]


async def test_a_flag_that_a_replay_raises_is_urgent(books: Books) -> None:
    async def fail(connection: Any, events: Sequence[Any], /, *, now: datetime) -> Outcomes:
        raise ProbeBug

    mended = books.readers
    broken = replace(mended[SAFETY], subscription=replace(mended[SAFETY].subscription, run=fail))
    books.readers = {**mended, SAFETY: broken}
    await books.take(books.write(pain(uuid4(), 1, findings=RED_FLAG)), group=SAFETY, isolated=True)
    (held,) = await books.held(SAFETY)
    async with books.transaction() as connection:
        step = await replay(connection, held["held_id"], Bench(readers=mended, service="probe", now=wall_now()))
    assert step.result == "done"
    assert [row["urgent"] for row in await books.pool.fetch("select urgent from delivery.outbox")] == [True]


async def test_the_bug_that_a_second_body_meets_is_told_like_any_other(books: Books) -> None:
    """The alarm counts bugs; it does not ask whether the first body of that identity went well."""

    async def fail_at_five(connection: Connection, events: Sequence[PainReported], /, *, now: datetime) -> Outcomes:
        if any(event.data.score == 5 for event in events):
            raise ProbeBug
        return await raise_red_flags(connection, events, now=now)

    reader = books.readers[SAFETY]
    broken = replace(reader, subscription=replace(reader.subscription, run=fail_at_five))
    books.readers = {**books.readers, SAFETY: broken}
    before = BUGS.labels(SAFETY)._value.get()
    one, two = (books.write(pain(uuid4(), score, event_id="e")) for score in (1, 5))
    await books.take_as_the_runtime(one, two, group=SAFETY)
    assert [row["reason"] for row in await books.held(SAFETY)] == ["bug"]
    assert BUGS.labels(SAFETY)._value.get() == before + 1


async def test_the_flag_of_what_was_rejected_is_another_than_that_of_what_was_published_rightly(books: Books) -> None:
    member = uuid4()
    rejected = books.write(pain(member, 1, event_id="e", findings=RED_FLAG))
    await books.take(replace(rejected, headers=REJECTED_HEADERS), group=SAFETY)
    await books.take(books.write(pain(member, 2, event_id="e", findings=("saddle-numbness",))), group=SAFETY)
    flags = {event["id"]: event["data"]["findings"] for event in await books.published()}
    assert list(flags.values()) == [list(RED_FLAG), ["saddle-numbness"]]
