"""Given a member whose events are parked, when an operator replays or discards, then all take effect in order, once."""

import asyncio
import signal
import sys
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shared.replaying import Fate
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunningService, member_key
from tests.shared.delivery.conftest import effects_are, effects_of, held
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
from tests.shared.delivery.probe import ACTIVITY, MEMBERS, pain, paused

ACTIVITY_GROUP = Filters(group="probe.activity")


@pytest.fixture
def operator(probe: RunningService) -> Operator:
    return Operator(probe.database_url)


@pytest.fixture
async def parked(probe: RunningService, publish: Publish) -> UUID:
    """A member whose second event is a dead letter, with three behind it; another member's events flow."""
    member, other = uuid4(), uuid4()
    await publish(ACTIVITY, *(pain(member, score) for score in (1, 9, 2, 7, 3)), pain(other, 4))
    await probe.settled()
    assert await effects_of(probe, other) == [4]
    assert await effects_of(probe, member) == [1]
    return member


async def test_a_mended_handler_takes_the_whole_queue_in_order_and_the_member_flows_again(
    probe: RunningService, publish: Publish, operator: Operator, parked: UUID
) -> None:
    head = (await held(probe))[0]["held_id"]
    await fix(probe)
    (done,) = await operator("replay", head)
    assert [(fate.outcome, fate.reason) for fate in done.step.fates] == [
        ("applied", None), ("applied", None), ("refused", "seven"), ("applied", None),
    ]  # fmt: skip
    assert not done.failed
    assert await effects_of(probe, parked) == [1, 9, 2, 3]
    assert await held(probe) == []
    assert await outcomes(probe) == {"applied": 11, "refused": 1}, "both groups of the topic"
    await publish(ACTIVITY, pain(parked, 5))
    await eventually(partial(effects_are, probe, parked, [1, 9, 2, 3, 5]))
    audit = await probe.service.database.fetch("select * from delivery.operations")
    assert [(row["done_by"], row["action"], row["reason"]) for row in audit] == [
        ("operator", "dead-letters replay", "a test")
    ]
    told = audit[0]["details"]
    assert (told["held_id"], told["group"], told["held_for"], told["result"]) == (
        head, "probe.activity", "bug", "replayed"
    )  # fmt: skip
    assert str(parked) not in str(told)


async def test_a_replay_that_fails_again_changes_the_count_of_replays_alone(
    probe: RunningService, operator: Operator, parked: UUID
) -> None:
    head = (await held(probe))[0]["held_id"]
    before = await snapshot(probe)
    (done,) = await operator("replay", head)
    assert done.failed
    assert done.step.fates[0].outcome == "dead"
    assert "ProbeBug at probe.py" in str(done.step.fates[0].detail)
    after = await snapshot(probe)
    assert [dict(row) for row in after.pop("delivery.held_events")] == [
        {**row, "replays": row["replays"] + (row["held_id"] == head)} for row in before.pop("delivery.held_events")
    ]
    assert len(after.pop("delivery.operations")) == len(before.pop("delivery.operations")) + 1
    assert after == before


async def test_a_dry_run_says_what_would_become_of_each_and_changes_nothing(
    probe: RunningService, operator: Operator, parked: UUID
) -> None:
    head = (await held(probe))[0]["held_id"]
    before = await snapshot(probe)
    (failing,) = await operator("replay", head, dry_run=True)
    assert failing.failed
    assert await snapshot(probe) == before
    await fix(probe)
    (done,) = await operator("replay", head, dry_run=True)
    assert [fate.outcome for fate in done.step.fates] == ["applied", "applied", "refused", "applied"]
    assert await snapshot(probe) == before
    assert done.step.published == 3


async def test_a_replay_goes_on_up_to_the_next_dead_letter_and_all_goes_on_behind_that(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    await publish(ACTIVITY, *(pain(member, score) for score in (9, 1, 9, 2)))
    await publish.raw(ACTIVITY, b"{", key=str(member).encode())
    await publish(ACTIVITY, pain(member, 3))
    await probe.settled()
    await fix(probe)
    first, *_, broken, last = [row["held_id"] for row in await held(probe)]
    (done,) = await operator("replay", broken)
    assert done.step.answer == f"It stands behind {first} in its member's queue: replay or discard that one first."
    (done,) = await operator("replay", last)
    assert (
        done.step.answer == f"It is parked behind {first} and takes effect after that one: replay or discard that one."
    )
    assert [one.failed for one in await operator("replay", filters=ACTIVITY_GROUP)] == [False, True]
    assert await effects_of(probe, member) == [9, 1, 9, 2]
    assert [row["state"] for row in await held(probe)] == ["dead", "parked"]
    (done,) = await operator("discard", broken)
    assert done.step.fates == [Fate(held_id=last, outcome="applied")]
    assert await effects_of(probe, member) == [9, 1, 9, 2, 3]
    assert await held(probe) == []
    assert (await outcomes(probe))["discarded"] == 1
    assert await books_agree(probe)


async def test_new_events_stream_in_while_their_member_is_replayed(
    probe: RunningService, publish: Publish, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.replaying.QUEUE_PAGE", 25)
    member = uuid4()
    scores = [9, *(number % 7 for number in range(400))]
    await publish(ACTIVITY, *(pain(member, score) for score in scores[:200]))
    await probe.settled()
    await fix(probe)

    async def stream() -> None:
        for start in range(200, len(scores), 10):
            await publish(ACTIVITY, *(pain(member, score) for score in scores[start : start + 10]))

    (done,), _ = await asyncio.gather(operator("replay", (await held(probe))[0]["held_id"]), stream())
    assert not done.failed
    await eventually(partial(effects_are, probe, member, scores))
    await probe.settled()
    assert await held(probe) == []
    assert set(await outcomes(probe)) == {"applied"}


async def test_a_rate_is_kept_and_what_is_left_in_the_middle_is_a_queue_still(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    await publish(ACTIVITY, *(pain(member, score) for score in (9, 1, 2, 3, 4, 5)))
    await probe.settled()
    await fix(probe)
    asking = asyncio.create_task(operator("replay", rate=2.0))

    async def in_the_middle() -> bool:
        rows = await held(probe)
        return 0 < len(rows) < 6 and rows[0]["reason"] == "long-queue"

    await eventually(in_the_middle)
    await publish(ACTIVITY, pain(member, 6))
    (done,) = await asking
    assert not done.failed
    await eventually(partial(effects_are, probe, member, [9, 1, 2, 3, 4, 5, 6]))
    assert await held(probe) == []


async def test_a_queue_that_an_operator_replays_at_a_rate_is_left_to_them(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    """Or the service would take what is left of it at once, at no rate."""
    member = uuid4()
    await publish(ACTIVITY, *(pain(member, score) for score in (9, 1, 2)))
    await probe.settled()
    await fix(probe)
    (done,) = await operator("replay", rate=1.0)
    assert [fate.outcome for fate in done.step.fates] == ["applied"] * 3
    assert await effects_of(probe, member) == [9, 1, 2]


async def test_a_dead_letter_at_the_end_of_a_page_stays_one(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    await publish(ACTIVITY, pain(member, 9), pain(member, 1))
    await publish.raw(ACTIVITY, b"{", key=str(member).encode())
    await publish(ACTIVITY, pain(member, 2))
    await probe.settled()
    await fix(probe)
    (done,) = await operator("replay", (await held(probe))[0]["held_id"], rate=2.0)
    assert not done.failed
    assert [(row["state"], row["reason"]) for row in await held(probe)] == [("dead", "malformed"), ("parked", "behind")]
    assert await effects_of(probe, member) == [9, 1]
    assert await books_agree(probe)


async def test_two_operators_at_once_take_each_event_once(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    members = [uuid4() for _ in range(12)]
    await publish(ACTIVITY, *(pain(member, score) for member in members for score in (9, 1, 2)))
    await probe.settled()
    await fix(probe)
    both = await asyncio.gather(operator("replay"), operator("replay"))
    assert not any(one.failed for done in both for one in done)
    results = [one.step.result for done in both for one in done]
    assert results.count("done") == len(members)
    for member in members:
        assert await effects_of(probe, member) == [9, 1, 2]
    assert await probe.service.database.fetchval("select count(*) from delivery.operations") == len(members)


async def test_filters_and_a_limit_choose_which(probe: RunningService, publish: Publish, operator: Operator) -> None:
    members = [uuid4() for _ in range(4)]
    await publish(ACTIVITY, *(pain(member, 9) for member in members))
    await publish.raw(ACTIVITY, None, key=b"nobody")
    await probe.settled()
    await fix(probe)
    assert len(await operator("replay", filters=Filters(member=members[2]))) == 1
    assert await effects_of(probe, members[2]) == [9]
    assert len(await operator("replay", filters=Filters(reason="bug"), limit=2)) == 2
    assert len(await operator("replay", filters=Filters(group="probe.members"))) == 0
    left = await operator("replay")
    assert sorted(one.failed for one in left) == [False, True, True], "each group holds the record without a value"
    assert {one.step.answer for one in left if one.failed} == {
        "It has no value, so nobody can ever apply it: discard it."
    }
    assert await books_agree(probe)


async def test_what_waited_for_a_replayed_effect_is_settled_with_it(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    await publish.raw(MEMBERS, b"{", key=str(member).encode())
    await publish(MEMBERS, paused(member))
    await publish(ACTIVITY, pain(member, 8), pain(member, 1))
    await probe.settled()
    assert [row["state"] for row in await held(probe)] == ["waiting", "parked"]
    (broken, _) = await held(probe, "probe.members")
    (done,) = await operator("discard", broken["held_id"])
    assert not done.failed
    assert await effects_of(probe, member) == [8, 1]
    assert await held(probe) == []
    assert await books_agree(probe)


async def test_one_that_waited_too_long_and_still_must_stays_with_its_queue(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    await publish(ACTIVITY, pain(member, 8), pain(member, 1))
    await probe.settled()
    await probe.service.database.execute(
        "update delivery.held_events set expires_at = now() - interval '1 day' where state = 'waiting'"
    )

    async def expired() -> bool:
        return [row["reason"] for row in await held(probe)] == ["waited-too-long", "behind"]

    await eventually(expired)
    (done,) = await operator("replay")
    assert done.failed
    assert done.step.answer == "It still needs member, and is tried again whenever its member has something new."
    assert [row["state"] for row in await held(probe)] == ["dead", "parked"]
    await probe.service.database.execute("insert into known_members values ($1)", member)
    (done,) = await operator("replay")
    assert not done.failed
    assert await effects_of(probe, member) == [8, 1]


async def run_operator(url: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.shared.delivery.operator_process", url, *arguments, cwd=Path(__file__).parents[3]
    )


async def test_a_replay_that_is_killed_between_two_pages_is_gone_on_with(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    scores = [9, *(number % 6 for number in range(60))]
    await publish(ACTIVITY, *(pain(member, score) for score in scores))
    await probe.settled()
    await fix(probe)
    process = await run_operator(probe.database_url, "10")

    async def in_the_middle() -> bool:
        return 10 <= len(await effects_of(probe, member)) < 50

    await eventually(in_the_middle)
    process.kill()
    await process.wait()
    await publish(ACTIVITY, pain(member, 0))
    left = await held(probe)
    assert left[0]["reason"] == "long-queue", "the service takes it in a minute, if nobody does"
    await operator("replay")
    await eventually(partial(effects_are, probe, member, [*scores, 0]))
    assert await held(probe) == []
    assert set(await outcomes(probe)) == {"applied"}


async def test_a_replay_that_is_killed_within_a_transaction_has_changed_nothing(
    probe: RunningService, publish: Publish, operator: Operator
) -> None:
    member = uuid4()
    await publish(ACTIVITY, *(pain(member, score) for score in (9, 1, 6, 2)))
    await probe.settled()
    await fix(probe)
    before = await snapshot(probe)
    process = await run_operator(probe.database_url)
    assert await process.wait() == -signal.SIGKILL
    assert await snapshot(probe) == before
    (done,) = await operator("replay")
    assert not done.failed
    assert await effects_of(probe, member) == [9, 1, 6, 2]


@pytest.mark.parametrize(("score", "outcome"), [(9, "dead"), (8, "waiting")])
async def test_a_replay_that_makes_a_dead_letter_of_what_is_behind_has_failed(
    probe: RunningService, publish: Publish, operator: Operator, score: int, outcome: str
) -> None:
    """Given a dead letter that is mended and a bug in the event behind it, then whoever replays hears of that. What
    stays, such as that one or one that must wait, is not told as taken."""
    member = uuid4()
    await publish.raw(ACTIVITY, old_pain(member, 1), key=member_key(member))
    await publish(ACTIVITY, pain(member, score))
    await probe.settled()
    operator.readers = readers({OLD_PAIN: upcast_pain})
    (done,) = await operator("replay", (await held(probe))[0]["held_id"])
    assert [fate.outcome for fate in done.step.fates] == ["applied", outcome]
    assert done.step.result == "done"
    assert done.failed == (outcome == "dead")
    assert done.step.taken == 1
    (audit,) = await probe.service.database.fetch("select details from delivery.operations")
    assert audit["details"]["taken"] == 1
