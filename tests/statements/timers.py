"""Timers of every kind of every service: what is due is claimed, run, published and settled in one transaction."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from deploy.contracts.examples.member import COACH, PT
from services.messaging.domain.alert import AlertChange
from services.messaging.domain.alert_handling import acknowledge_alert, snooze_alert
from services.messaging.domain.conversation import Conversation
from services.messaging.domain.visit import Visit
from services.messaging.store.alerts import load_member_alerts, saving_alert_changes
from services.messaging.store.conversations import FIRST_RESPONSE, save_conversations
from services.messaging.store.rules import load_alert_rules
from services.messaging.store.visits import HOLD, MISSED, hold_visits, save_visits
from shared.commands import new_command
from shared.events import MemberEnrolled, PainSpiked, PlanIssued, VisitBooked
from shared.outcomes import Cause, Timer
from shared.replaying import settle_waiting
from shared.suspect_timers import Caution
from shared.timers import run_timers, save_timers
from shared.writing import write
from tests.statements.chunks import Desk
from tests.statements.counting import Counted, transaction
from tests.statements.enrolling import ENROLLING
from tests.statements.gate import count_whole_reads, require_lookups
from tests.statements.story import STORY, member_of, up_to

END = STORY[-1].time + timedelta(days=60)
"""Everything that these members' lives have set is due by then."""
CAUSE = Cause(source="urn:test:app", id="cause", chain="chain")
FIRST_OF_EACH = """
delete from delivery.timers t using delivery.timers o
where o.kind = t.kind and o.member_id = t.member_id and (o.due_at, o.key) < (t.due_at, t.key)
"""
Given = Callable[[Desk, Sequence[int]], Awaitable[None]]
"""Makes each member of these numbers have one timer of a kind."""


async def run_due(desk: Desk, kind: str, *, now: datetime = END) -> tuple[int, Counted]:
    """Run what is due of one kind; how many timers, and what that sent."""
    handlers = {timer.kind: timer.run for timer in desk.timers if timer.kind == kind}
    before = await count_whole_reads(desk.database)
    async with transaction(desk.database) as (connection, counted):
        run = await run_timers(
            connection,
            handlers,
            service=desk.service,
            now=now,
            settle_waiting=partial(settle_waiting, readers=desk.readers, service=desk.service),
            caution=Caution(),
        )
    assert not run.bugs, run.bugs
    await require_lookups(desk.database, since=before)
    return run.run, counted


async def count_timers(desk: Desk, kind: str, sizes: Sequence[int]) -> dict[int, Counted]:
    """What so many timers of this kind send, each of another member."""
    counts: dict[int, Counted] = {}
    for size in sizes:
        await desk.database.execute("delete from delivery.timers")  # some that ran are due again by the end
        await GIVEN[desk.service, kind](desk, desk.new_members(size))
        await desk.database.execute(FIRST_OF_EACH)
        run, counts[size] = await run_due(desk, kind)
        assert run == size, f"{run} of {size} timers of {kind} ran"
    return counts


def _after(event: type) -> Given:
    """They have lived up to this event."""

    async def live(desk: Desk, numbers: Sequence[int]) -> None:
        await desk.live(up_to(event), numbers)

    return live


async def _with_alert(desk: Desk, numbers: Sequence[int], decide: Callable[..., object]) -> None:
    await desk.live(up_to(PainSpiked), numbers)
    now = STORY[-1].time
    async with transaction(desk.database) as (connection, _):
        found = await load_member_alerts(connection, member_ids=[member_of(number) for number in numbers], limit=1_000)
        alerts = [alert for alert in found if alert.kind == "pain-spike"]
        changes = []
        for alert in alerts:
            command = new_command("given", service="messaging", member_ids=[alert.member_id])
            change = decide(alert=alert, by=PT, seen=alert.repeats, because=command, now=now)
            assert isinstance(change, AlertChange), change
            changes.append(change)
        await write(connection, saving_alert_changes(changes, now=now))
    assert len(alerts) == len(numbers)


async def _snoozed(desk: Desk, numbers: Sequence[int]) -> None:
    until = STORY[-1].time + timedelta(hours=1)
    await _with_alert(desk, numbers, partial(snooze_alert, until=until, rules=load_alert_rules()))


async def _taken_on(desk: Desk, numbers: Sequence[int]) -> None:
    await _with_alert(desk, numbers, acknowledge_alert)


async def _unanswered(desk: Desk, numbers: Sequence[int]) -> None:
    await desk.live(up_to(PlanIssued), numbers)
    at, members = STORY[-1].time, [member_of(number) for number in numbers]
    async with transaction(desk.database) as (connection, _):
        await save_conversations(
            connection,
            [
                Conversation(
                    member_id=member, conversation_id=member, last_number=1, last_message_at=at,
                    awaiting_message_id=member, awaiting_since=at,
                )
                for member in members
            ],
        )  # fmt: skip
        await save_timers(connection, [_timer(FIRST_RESPONSE, member) for member in members])


async def _held(desk: Desk, numbers: Sequence[int]) -> list[Visit]:
    await desk.live(up_to(PlanIssued), numbers)
    first = STORY[-1].time
    visits = [
        Visit(
            visit_id=member_of(number), member_id=member_of(number), practitioner=COACH, time_zone="America/New_York",
            starts_at=first + number * timedelta(minutes=30), ends_at=first + (number + 1) * timedelta(minutes=30),
            reason="follow-up", status="held", hold_expires_at=first + timedelta(minutes=5), cause=CAUSE,
        )
        for number in numbers
    ]  # fmt: skip
    async with transaction(desk.database) as (connection, _):
        assert len(await hold_visits(connection, visits, now=first)) == len(visits)
        timers = [_timer(HOLD, visit.member_id, visit_id=str(visit.visit_id)) for visit in visits]
        await save_timers(connection, timers)
    return visits


async def _hold(desk: Desk, numbers: Sequence[int]) -> None:
    await _held(desk, numbers)


async def _booked(desk: Desk, numbers: Sequence[int]) -> None:
    held = await _held(desk, numbers)
    booked = [replace(visit, status="booked", hold_expires_at=None, booked_at=visit.starts_at) for visit in held]
    async with transaction(desk.database) as (connection, _):
        assert await save_visits(connection, booked)
        await save_timers(connection, [_timer(MISSED, visit.member_id) for visit in booked])


def _timer(kind: str, member_id: UUID, **payload: str) -> Timer:
    return Timer(kind=kind, key=str(member_id), member_id=member_id, due_at=END, cause=CAUSE, payload=payload)


GIVEN: dict[tuple[str, str], Given] = {
    ("plans", "plan.lapse"): _after(MemberEnrolled),
    ("notifications", "reminder.session"): _after(PlanIssued),
    ("notifications", "reminder.visit"): _after(VisitBooked),
    ("messaging", "alert.escalation"): _after(PainSpiked),
    ("messaging", "alert.snooze"): _snoozed,
    ("messaging", "alert.follow-up"): _taken_on,
    ("messaging", "conversation.first-response"): _unanswered,
    ("messaging", "visit.hold"): _hold,
    ("messaging", "visit.missed"): _booked,
    **ENROLLING,
}
"""By service and kind. One that is missing here fails the gate."""
