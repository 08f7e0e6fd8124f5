"""Two transactions about one alert at the same time: the safety group, which holds no member's lock, and whoever else
changes alerts. Nothing is slowed down: one transaction has done its work and not committed when the other begins."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.messaging.domain.alert import Alert
from services.messaging.domain.alert_raising import raise_alerts
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.triggers import on_member_screened, on_safety_flagged
from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.handle_alerts import acknowledge, hand_over, resolve, snooze
from services.messaging.handlers.raise_safety_alerts import raise_safety_alerts, raise_screening_alerts
from services.messaging.handlers.send_message import Sender, send_message
from services.messaging.store.alerts import (
    RAISED_BY_SAFETY_GROUPS,
    load_alert_book,
    load_member_alerts,
    saving_alert_changes,
)
from services.messaging.store.feed import save_feed_entries
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from services.messaging.subscriptions import SUBSCRIPTIONS
from shared.database import Connection
from shared.events.vocabulary import Practitioner
from shared.outcomes import Outcomes, Refusal
from shared.writing import write
from tests.fixtures.carrying_out import carry_out
from tests.fixtures.eventually import eventually
from tests.messaging.conftest import Clinic
from tests.messaging.given import (
    COACH,
    DAY,
    HOUR,
    MEMBER,
    NOW,
    OTHER_MEMBER,
    PT,
    enrolled,
    flagged,
    screened,
    team_assigned,
)

RULES = load_alert_rules()
TOO_LONG_S = 8.0
"""Less than the server's lock timeout: what waits longer than this waits for something that it must not wait for."""
NEW_PT = Practitioner(practitioner_id=UUID("00000000-0000-4000-8000-0000000000aa"), role="pt", name="Nia New")


@asynccontextmanager
async def no_member_lock(clinic: Clinic) -> AsyncIterator[Connection]:
    """A transaction as the safety group has it."""
    async with clinic.database.acquire() as connection, connection.transaction():
        yield connection


async def meanwhile(clinic: Clinic, work: Awaitable[Any]) -> asyncio.Task[Any]:
    """Begin this beside the transaction that is open; go on as soon as it waits for that one, or is done."""
    task = asyncio.ensure_future(work)

    async def waits() -> bool:
        return task.done() or await clinic.database.fetchval(
            "select exists (select from pg_stat_activity"
            " where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0)"
        )

    await eventually(waits, within=TOO_LONG_S, what="the other transaction waits, or is done")
    return task


async def flag(clinic: Clinic, *events: Any) -> None:
    async with no_member_lock(clinic) as connection:
        await carry_out(raise_safety_alerts, connection, events, now=clinic.now)


async def alerts(clinic: Clinic, member_id: UUID = MEMBER) -> Sequence[Alert]:
    async with clinic.database.acquire() as connection:
        return await load_member_alerts(connection, member_ids=[member_id])


async def the_alert(clinic: Clinic) -> Alert:
    (alert,) = await alerts(clinic)
    return alert


async def assert_it_asks(clinic: Clinic, *, repeats: int) -> None:
    """One alert: an emergency that nobody has taken, and whose escalation is due in time."""
    alert = await the_alert(clinic)
    assert (alert.status, alert.priority, alert.repeats) == ("open", "emergency", repeats)
    assert (alert.owner.role, alert.resolved_at, alert.acknowledged_by) == ("oncall", None, None)
    assert alert.respond_by == clinic.now + RULES.respond_within["emergency"]
    assert await alert_timers(clinic) == {"alert.escalation": alert.respond_by}


async def alert_timers(clinic: Clinic) -> dict[str, datetime]:
    return {kind: due_at for kind, due_at in (await clinic.due_timers()).items() if kind.startswith("alert.")}


Command = Callable[[Clinic, UUID, int | None], Awaitable[Any]]


async def to_acknowledge(clinic: Clinic, alert_id: UUID, seen: int | None) -> Any:
    return await clinic.command(acknowledge, alert_id=alert_id, by=PT, seen=seen)


async def to_snooze(clinic: Clinic, alert_id: UUID, seen: int | None) -> Any:
    return await clinic.command(snooze, alert_id=alert_id, by=PT, until=clinic.now + HOUR, seen=seen)


async def to_hand_over(clinic: Clinic, alert_id: UUID, seen: int | None) -> Any:
    return await clinic.command(hand_over, alert_id=alert_id, by=PT, to_role="coach", seen=seen)


async def to_resolve(clinic: Clinic, alert_id: UUID, seen: int | None) -> Any:
    return await clinic.command(
        resolve, alert_id=alert_id, by=PT, outcome="no-action-needed", note="stiff only", seen=seen
    )


COMMANDS: tuple[Command, ...] = (to_acknowledge, to_snooze, to_hand_over, to_resolve)


@pytest.mark.parametrize("command", COMMANDS)
async def test_an_emergency_that_joins_while_somebody_acts_is_not_lost(clinic: Clinic, command: Command) -> None:
    await flag(clinic, flagged("clinician-72h", "night-pain"))
    alert = await the_alert(clinic)
    async with no_member_lock(clinic) as safety:
        await carry_out(raise_safety_alerts, safety, [flagged("emergency", "chest-pain-breathless")], now=clinic.now)
        late = await meanwhile(clinic, command(clinic, alert.alert_id, alert.repeats))
    answer = await late
    assert isinstance(answer, Refusal)
    assert answer.reason == "asked-again"
    await assert_it_asks(clinic, repeats=1)


@pytest.mark.parametrize("command", [to_snooze, to_hand_over, to_resolve])
async def test_who_does_not_say_what_they_saw_cannot_close_it_either(clinic: Clinic, command: Command) -> None:
    await flag(clinic, flagged("clinician-72h", "night-pain"))
    alert = await the_alert(clinic)
    await to_acknowledge(clinic, alert.alert_id, None)
    async with no_member_lock(clinic) as safety:
        await carry_out(raise_safety_alerts, safety, [flagged("emergency", "chest-pain-breathless")], now=clinic.now)
        late = await meanwhile(clinic, command(clinic, alert.alert_id, None))
    assert (await late).reason == "not-seen"
    await assert_it_asks(clinic, repeats=1)


async def test_who_acknowledges_without_saying_what_they_saw_takes_it_on_as_it_is(clinic: Clinic) -> None:
    await flag(clinic, flagged("clinician-72h", "night-pain"))
    alert = await the_alert(clinic)
    async with no_member_lock(clinic) as safety:
        await carry_out(raise_safety_alerts, safety, [flagged("emergency", "chest-pain-breathless")], now=clinic.now)
        late = await meanwhile(clinic, to_acknowledge(clinic, alert.alert_id, None))
    await late
    alert = await the_alert(clinic)
    assert (alert.status, alert.priority, alert.repeats) == ("acknowledged", "emergency", 1)


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_red_flag_that_comes_while_a_command_commits_asks_on_top_of_it(
    clinic: Clinic, command: Command
) -> None:
    await flag(clinic, flagged("clinician-72h", "night-pain"))
    alert = await the_alert(clinic)
    async with clinic.transaction(MEMBER) as connection:
        handled = await _in(connection, clinic, command, alert)
        late = await meanwhile(clinic, flag(clinic, flagged("emergency", "chest-pain-breathless")))
        assert not late.done()
    await late
    assert not isinstance(handled, Refusal)
    found = await alerts(clinic)
    if command is to_resolve:  # it was closed before the flag came: the flag is an episode of its own
        assert {a.status for a in found} == {"open", "resolved"}
    (asks,) = [a for a in found if a.status == "open"]
    assert (asks.priority, asks.owner.role, asks.acknowledged_by, asks.snoozed_until) == (
        "emergency", "oncall", None, None,
    )  # fmt: skip
    assert (await clinic.due_timers()) == {"alert.escalation": asks.respond_by}


async def _in(connection: Connection, clinic: Clinic, command: Command, alert: Alert) -> Any:
    """A command's handler in this transaction, which stays open."""

    class Within:
        now = clinic.now

        async def command(self, handler: Callable[..., Awaitable[Any]], **values: Any) -> Any:
            answer = await handler(connection, command=clinic.new_command(handler.__name__), now=self.now, **values)
            await write(connection, getattr(answer, "outcomes", Outcomes()).writes)
            return answer

    return await command(Within(), alert.alert_id, alert.repeats)  # type: ignore[arg-type]


def phrase(clinic: Clinic) -> Awaitable[Any]:
    member = Sender(role="member", sender_id=MEMBER, name="Marta Muster")
    return clinic.command(
        send_message, sender=member, message_id=uuid4(), body="My knee is hot, red and swollen", alert_id=None
    )


@pytest.mark.parametrize("is_open_before", [False, True])
async def test_words_and_a_red_flag_at_once_are_one_alert_that_counts_both(
    clinic: Clinic, is_open_before: bool
) -> None:
    if is_open_before:
        await flag(clinic, flagged("clinician-72h", "night-pain"))
    async with no_member_lock(clinic) as safety:
        await carry_out(raise_safety_alerts, safety, [flagged("same-day", "locked-knee")], now=clinic.now)
        late = await meanwhile(clinic, phrase(clinic))
        assert not late.done()
    assert (await late).screening.disposition == "emergency"
    await assert_it_asks(clinic, repeats=1 + is_open_before)


async def test_a_red_flag_waits_for_the_words_that_raise_the_same_alert(clinic: Clinic) -> None:
    member = Sender(role="member", sender_id=MEMBER, name="Marta Muster")
    async with clinic.transaction(MEMBER) as connection:
        said = await send_message(
            connection, sender=member, message_id=uuid4(), body="My chest hurts", alert_id=None,
            command=clinic.new_command("send-message"), now=clinic.now,
        )  # fmt: skip
        assert not isinstance(said, Refusal)
        await write(connection, said.outcomes.writes)
        late = await meanwhile(clinic, flag(clinic, flagged("clinician-72h", "night-pain")))
        assert not late.done()
    await late
    await assert_it_asks(clinic, repeats=1)


@pytest.mark.parametrize("dispositions", [("emergency", "clinician-72h"), ("clinician-72h", "emergency")])
async def test_the_same_alert_inserted_twice_at_once_keeps_both_triggers(
    clinic: Clinic, dispositions: tuple[str, str]
) -> None:
    first, second = (flagged(disposition, "night-pain") for disposition in dispositions)
    second = second.model_copy(update={"id": first.id})
    async with no_member_lock(clinic) as one:
        await carry_out(raise_safety_alerts, one, [first], now=clinic.now)
        late = await meanwhile(clinic, flag(clinic, second))
        assert not late.done()
    await late
    await assert_it_asks(clinic, repeats=1)
    summaries = await clinic.fetch("select action from alert_actions order by action_id")
    assert [row["action"] for row in summaries] == ["raised", "repeated"]


@pytest.mark.parametrize("kind", ["alert.escalation", "alert.snooze", "alert.follow-up"])
async def test_a_timer_does_not_wait_for_a_red_flag_and_neither_is_lost(clinic: Clinic, kind: str) -> None:
    """The timer's row is taken before the alert, the red flag takes them the other way round."""
    await flag(clinic, flagged("clinician-72h", "night-pain"))
    alert = await the_alert(clinic)
    if kind == "alert.snooze":
        await to_snooze(clinic, alert.alert_id, 0)
    elif kind == "alert.follow-up":
        await to_acknowledge(clinic, alert.alert_id, 0)
    clinic.now = (await clinic.due_timers())[kind]
    trigger = on_safety_flagged(event=flagged("emergency", "chest-pain-breathless"), rules=load_trigger_rules())
    assert trigger
    async with no_member_lock(clinic) as safety:
        book = await load_alert_book(safety, triggers=[trigger], now=clinic.now)
        async with asyncio.timeout(TOO_LONG_S):
            await clinic.run_due()
        assert kind in await clinic.due_timers(), "it is tried again"
        changes = raise_alerts(triggers=[trigger], known=book.known, teams=book.teams, rules=RULES, now=clinic.now)
        async with asyncio.timeout(TOO_LONG_S):
            await write(safety, saving_alert_changes(changes, now=clinic.now))
    asked = await the_alert(clinic)
    assert (asked.status, asked.priority, asked.repeats) == ("open", "emergency", 1)
    assert (await clinic.due_timers())["alert.escalation"] == asked.respond_by
    before = asked.level
    clinic.now = max(clinic.now, asked.respond_by)
    await clinic.run_due()
    asked = await the_alert(clinic)
    assert (asked.status, asked.level) == ("open", before + 1)
    assert await clinic.due_timers() == {"alert.escalation": asked.respond_by}


async def test_a_red_flag_that_waits_for_a_row_does_not_hold_up_the_feed(clinic: Clinic) -> None:
    """All that it writes is one statement; whoever has the row that it waits for may have to enter something, too."""
    await flag(clinic, flagged("clinician-72h", "night-pain"))
    async with clinic.database.acquire() as timers, timers.transaction():
        await timers.execute("select from delivery.timers for update")
        red_flag = await meanwhile(clinic, flag(clinic, flagged("emergency", "chest-pain-breathless")))
        assert not red_flag.done()
        async with asyncio.timeout(TOO_LONG_S):
            entry = NewFeedEntry(kind="member", change="pain", member_id=MEMBER, subject_id=MEMBER)
            await save_feed_entries(timers, [entry], now=clinic.now)
    await red_flag
    await assert_it_asks(clinic, repeats=1)


async def test_a_red_flag_that_fails_leaves_the_timer_that_gave_way_to_it(clinic: Clinic) -> None:
    await flag(clinic, flagged("clinician-72h", "night-pain"))
    clinic.now = (await the_alert(clinic)).respond_by
    async with clinic.database.acquire() as connection:
        safety = connection.transaction()
        await safety.start()
        await carry_out(
            raise_safety_alerts, connection, [flagged("emergency", "chest-pain-breathless")], now=clinic.now
        )
        timers = await meanwhile(clinic, clinic.run_due())
        await safety.rollback()
    await timers
    await clinic.run_due()
    assert (await the_alert(clinic)).level == 1


async def test_an_escalation_at_the_moment_of_a_red_flag_asks_with_the_new_urgency(clinic: Clinic) -> None:
    await flag(clinic, flagged("clinician-72h", "night-pain"))
    clinic.now = (await the_alert(clinic)).respond_by
    async with no_member_lock(clinic) as safety:
        await carry_out(raise_safety_alerts, safety, [flagged("emergency", "chest-pain-breathless")], now=clinic.now)
        timers = await meanwhile(clinic, clinic.run_due())
    await timers
    await clinic.run_due()
    alert = await the_alert(clinic)
    assert (alert.status, alert.priority, alert.repeats, alert.level) == ("open", "emergency", 1, 1)
    assert await clinic.due_timers() == {"alert.escalation": clinic.now + RULES.respond_within["emergency"]}


@pytest.mark.parametrize("flag_is_first", [True, False])
async def test_a_red_flag_at_the_moment_of_a_new_team_asks_the_new_one(clinic: Clinic, flag_is_first: bool) -> None:
    change, red_flag = team_assigned(pt=NEW_PT, at=clinic.now), flagged("clinician-72h", "night-pain")
    if flag_is_first:
        async with no_member_lock(clinic) as safety:
            await carry_out(raise_safety_alerts, safety, [red_flag], now=clinic.now)
            late = await meanwhile(clinic, clinic.take(follow_members, change))
    else:
        async with clinic.transaction(MEMBER) as connection:
            await carry_out(follow_members, connection, [change], now=clinic.now)
            late = await meanwhile(clinic, flag(clinic, red_flag))
    await late
    alert = await the_alert(clinic)
    assert (alert.status, alert.owner.practitioner) == ("open", NEW_PT)


@pytest.mark.parametrize("flag_is_first", [True, False])
async def test_a_red_flag_at_the_moment_of_the_first_team_asks_that(bare_clinic: Clinic, flag_is_first: bool) -> None:
    clinic, red_flag = bare_clinic, flagged("clinician-72h", "night-pain")
    joining = (enrolled(), team_assigned())
    if flag_is_first:
        async with no_member_lock(clinic) as safety:
            await carry_out(raise_safety_alerts, safety, [red_flag], now=clinic.now)
            late = await meanwhile(clinic, clinic.take(follow_members, *joining))
    else:
        async with clinic.transaction(MEMBER) as connection:
            await carry_out(follow_members, connection, joining, now=clinic.now)
            late = await meanwhile(clinic, flag(clinic, red_flag))
    await late
    alert = await the_alert(clinic)
    assert (alert.status, alert.owner.practitioner) == ("open", PT)


async def test_no_two_wait_for_each_other_in_a_circle(clinic: Clinic) -> None:
    """Red flags, new teams, people and timers at once about two members, in either order: nobody is a deadlock's
    victim, and every red flag counts."""
    await clinic.take(follow_members, enrolled(OTHER_MEMBER), team_assigned(OTHER_MEMBER))
    both = [MEMBER, OTHER_MEMBER]
    await flag(clinic, *(flagged("clinician-72h", "night-pain", member_id=m) for m in both))
    ids = [alert.alert_id for m in both for alert in await alerts(clinic, m)]
    rounds = 12
    for turn in range(rounds):
        clinic.now = NOW + turn * DAY
        order = both if turn % 2 else both[::-1]
        pt = NEW_PT if turn % 2 else PT
        async with asyncio.timeout(30):
            await asyncio.gather(
                flag(clinic, *(flagged("same-day", "locked-knee", member_id=m, at=clinic.now) for m in order)),
                clinic.take(follow_members, *(team_assigned(m, pt=pt, at=clinic.now) for m in order[::-1])),
                *(
                    clinic.command(acknowledge, member_id=m, alert_id=a, by=COACH, seen=None)
                    for m, a in zip(both, ids, strict=True)
                ),
                clinic.run_due(),
            )
    for member_id in both:
        (alert,) = await alerts(clinic, member_id)
        assert (alert.repeats, alert.priority) == (rounds, "urgent")


def test_the_safety_groups_raise_one_kind_of_alert_and_nobody_else_may_do_without_the_members_lock() -> None:
    """What everybody else raises is kept apart by the member's lock alone (store/alerts.py)."""
    stateless = [one.run.__name__ for one in SUBSCRIPTIONS if one.stateless]  # type: ignore[attr-defined]  # a function
    assert stateless == [raise_screening_alerts.__name__, raise_safety_alerts.__name__]
    flags = [flagged("emergency", "chest-pain-breathless"), flagged("same-day", "locked-knee")]
    asked = [on_safety_flagged(event=flag, rules=load_trigger_rules()) for flag in flags]
    asked.append(on_member_screened(event=screened("emergency", "saddle-numbness"), rules=load_trigger_rules()))
    assert {trigger.kind for trigger in asked if trigger} == {RAISED_BY_SAFETY_GROUPS}
