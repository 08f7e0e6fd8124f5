"""Hold, book, move, cancel and complete visits. That a time is taken once is the database's promise, not ours."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from services.messaging.domain.alert import Alert
from services.messaging.domain.calendar import free_slots
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.people import MemberProfile
from services.messaging.domain.slots import Span
from services.messaging.domain.visit import Visit, book_held, cancel_visit, check_slot, complete_visit, move_visit
from services.messaging.domain.visit_events import announce_visit
from services.messaging.store.alerts import load_alerts
from services.messaging.store.feed import save_feed_entries
from services.messaging.store.members import load_member_profiles
from services.messaging.store.rules import load_visit_rules
from services.messaging.store.visits import (
    HOLD,
    MISSED,
    delete_holds,
    hold_visits,
    load_calendars,
    load_visits,
    save_visits,
)
from shared.database import Connection
from shared.events.visits import VisitReason, VisitRecommendation
from shared.events.vocabulary import Practitioner
from shared.outcomes import Command, Outcomes, Refusal, Timer
from shared.timers import cancel_timers, save_timers

NO_VISIT = Refusal("no-such-visit", "There is no such visit.")
NOT_THEIRS = Refusal("not-their-team", "This practitioner is not of the member's care team.")
TAKEN = Refusal("slot-taken", "Somebody else was first; ask for the slots again.")


@dataclass(frozen=True, kw_only=True, slots=True)
class VisitPlanned:
    visit: Visit
    outcomes: Outcomes


async def list_slots(
    connection: Connection, *, member_id: UUID, practitioner_id: UUID, window: Span, now: datetime
) -> list[Span] | Refusal:
    """Times that the member can take with one of their care team. Refusal: not-their-team."""
    profile = (await load_member_profiles(connection, member_ids=[member_id])).get(member_id)
    if _on_team(profile, practitioner_id) is None:
        return NOT_THEIRS
    calendars = await load_calendars(connection, practitioner_ids=[practitioner_id], window=window)
    return free_slots(
        calendar=calendars[practitioner_id], window=window, member_id=member_id, rules=load_visit_rules(), now=now
    )


async def hold_slot(
    connection: Connection,
    *,
    visit_id: UUID,
    practitioner_id: UUID,
    starts_at: datetime,
    reason: VisitReason,
    alert_id: UUID | None,
    command: Command,
    now: datetime,
) -> VisitPlanned | Refusal:
    """Keep a time for the member for some minutes; an earlier hold of theirs is given back. In the context of an alert
    all that follows belongs to its chain. Refusals: not-their-team, no-such-alert, too-soon, too-far, slot-taken."""
    assert command.member_id is not None, "a hold is a command about one member"
    member_id, rules = command.member_id, load_visit_rules()
    alert = await _alert(connection, alert_id, member_id)
    if isinstance(alert, Refusal):
        return alert
    profile = (await load_member_profiles(connection, member_ids=[member_id])).get(member_id)
    practitioner = _on_team(profile, practitioner_id)
    if profile is None or practitioner is None:
        return NOT_THEIRS
    refused = await _check(connection, practitioner_id, starts_at, member_id, now=now)
    if refused:
        return refused
    visit = Visit(
        visit_id=visit_id,
        member_id=member_id,
        practitioner=practitioner,
        starts_at=starts_at,
        ends_at=starts_at + rules.length,
        time_zone=profile.time_zone or "UTC",
        reason=_reason(reason, alert),
        status="held",
        hold_expires_at=now + rules.hold_for,
        alert_id=alert_id,
        cause=alert.cause if alert else command.cause,
    )
    if not await hold_visits(connection, [visit], now=now):
        return TAKEN
    assert visit.hold_expires_at is not None
    assert visit.cause is not None
    timer = Timer(
        kind=HOLD,
        key=str(member_id),
        member_id=member_id,
        due_at=visit.hold_expires_at,
        cause=visit.cause,
        payload={"visit_id": str(visit_id)},
    )
    await save_timers(connection, [timer])
    await _show(connection, visit, now=now)
    return VisitPlanned(visit=visit, outcomes=Outcomes())


async def book_visit(
    connection: Connection, *, visit_id: UUID, reason: VisitReason | None, command: Command, now: datetime
) -> VisitPlanned | Refusal:
    """Turn a hold into a booking; asked again, the same booking. Refusals: no-such-visit, not-held, hold-expired,
    not-their-team."""
    visit = await _find(connection, visit_id, command)
    if isinstance(visit, Refusal):
        return visit
    if visit.status == "booked":
        return VisitPlanned(visit=visit, outcomes=Outcomes())
    profile = (await load_member_profiles(connection, member_ids=[visit.member_id])).get(visit.member_id)
    if profile is not None and profile.status == "disenrolled":
        return NOT_THEIRS
    booked = book_held(visit=visit, reason=reason or visit.reason, now=now)
    if isinstance(booked, Refusal):
        return booked
    await cancel_timers(connection, kind=HOLD, keys=[str(visit.member_id)])
    return await _save(connection, booked, before=visit, command=command, now=now)


async def release_hold(
    connection: Connection, *, visit_id: UUID, command: Command, now: datetime
) -> VisitPlanned | Refusal:
    """Give a held time back. Refusals: no-such-visit, not-held."""
    visit = await _find(connection, visit_id, command)
    if isinstance(visit, Refusal):
        return visit
    if visit.status != "held":
        return Refusal("not-held", "There is no hold to give back.")
    await delete_holds(connection, visit_ids=[visit_id])
    await cancel_timers(connection, kind=HOLD, keys=[str(visit.member_id)])
    await _show(connection, visit, now=now, change="released")
    return VisitPlanned(visit=visit, outcomes=Outcomes())


async def reschedule_visit(
    connection: Connection,
    *,
    visit_id: UUID,
    practitioner_id: UUID,
    starts_at: datetime,
    by_member: bool,
    command: Command,
    now: datetime,
    moved_from: datetime | None = None,
) -> VisitPlanned | Refusal:
    """To another time; asked again while it is there, the same move: nobody else has taken its time. `moved_from`: the
    start that the caller saw. Refusals: no-such-visit, moved-meanwhile, not-their-team, not-booked, already-started,
    too-soon, too-far, slot-taken."""
    visit = await _find(connection, visit_id, command)
    if isinstance(visit, Refusal):
        return visit
    if visit.status == "booked" and (visit.practitioner.practitioner_id, visit.starts_at) == (
        practitioner_id,
        starts_at,
    ):
        return VisitPlanned(visit=visit, outcomes=Outcomes())
    if moved_from is not None and visit.status == "booked" and visit.starts_at != moved_from:
        return Refusal("moved-meanwhile", "The visit is not where it was; look at it again.")
    profile = (await load_member_profiles(connection, member_ids=[visit.member_id])).get(visit.member_id)
    practitioner = _on_team(profile, practitioner_id)
    if practitioner is None:
        return NOT_THEIRS
    to = Span(starts_at=starts_at, ends_at=starts_at + load_visit_rules().length)
    moved = move_visit(visit=visit, to=to, practitioner=practitioner, now=now)
    if isinstance(moved, Refusal):
        return moved
    refused = await _check(connection, practitioner_id, starts_at, visit.member_id, now=now)
    if refused:
        return refused
    return await _save(connection, moved, before=visit, command=command, now=now, by_member=by_member)


async def cancel_booking(
    connection: Connection, *, visit_id: UUID, by_member: bool, command: Command, now: datetime
) -> VisitPlanned | Refusal:
    """Asked again, whoever asked first, the same cancellation. Refusals: no-such-visit, not-booked, already-started."""
    visit = await _find(connection, visit_id, command)
    if isinstance(visit, Refusal):
        return visit
    if visit.status == "cancelled":
        return VisitPlanned(visit=visit, outcomes=Outcomes())
    cancelled = cancel_visit(visit=visit, now=now)
    if isinstance(cancelled, Refusal):
        return cancelled
    return await _save(connection, cancelled, before=visit, command=command, now=now, by_member=by_member)


async def complete_booking(
    connection: Connection,
    *,
    visit_id: UUID,
    recommendation: VisitRecommendation,
    note: str | None,
    command: Command,
    now: datetime,
) -> VisitPlanned | Refusal:
    """What came of the visit; asked again with the same words, the same completion. The note stays here; the
    recommendation revises the plan. Refusals: no-such-visit, not-booked, not-started."""
    visit = await _find(connection, visit_id, command)
    if isinstance(visit, Refusal):
        return visit
    if visit.status == "completed" and (visit.recommendation, visit.note) == (recommendation, note):
        return VisitPlanned(visit=visit, outcomes=Outcomes())
    done = complete_visit(visit=visit, recommendation=recommendation, note=note, now=now)
    if isinstance(done, Refusal):
        return done
    return await _save(connection, done, before=visit, command=command, now=now)


async def _find(connection: Connection, visit_id: UUID, command: Command) -> Visit | Refusal:
    visit = (await load_visits(connection, visit_ids=[visit_id])).get(visit_id)
    return visit if visit is not None and visit.member_id == command.member_id else NO_VISIT


async def _alert(connection: Connection, alert_id: UUID | None, member_id: UUID) -> Alert | Refusal | None:
    if alert_id is None:
        return None
    alert = (await load_alerts(connection, alert_ids=[alert_id])).get(alert_id)
    return alert if alert and alert.member_id == member_id else Refusal("no-such-alert", "There is no such alert.")


def _on_team(profile: MemberProfile | None, practitioner_id: UUID) -> Practitioner | None:
    """Nobody is, of who has left."""
    team = [p for p in (profile.pt, profile.coach) if p] if profile and profile.status != "disenrolled" else []
    return next((p for p in team if p.practitioner_id == practitioner_id), None)


def _reason(reason: VisitReason, alert: Alert | None) -> VisitReason:
    """A visit booked from an alert says why, unless the caller does."""
    if alert is None or reason != "other":
        return reason
    return {"pain-spike": "pain-spike", "safety": "safety"}.get(alert.kind, reason)  # type: ignore[return-value]  # both are reasons


async def _check(
    connection: Connection, practitioner_id: UUID, starts_at: datetime, member_id: UUID, *, now: datetime
) -> Refusal | None:
    """Whether this start is one of the free slots of its day."""
    around = Span(starts_at=starts_at - timedelta(days=1), ends_at=starts_at + timedelta(days=1))
    calendar = (await load_calendars(connection, practitioner_ids=[practitioner_id], window=around))[practitioner_id]
    free = free_slots(calendar=calendar, window=around, member_id=member_id, rules=load_visit_rules(), now=now)
    return check_slot(starts_at=starts_at, free=free, rules=load_visit_rules(), now=now)


async def _save(
    connection: Connection, visit: Visit, *, before: Visit, command: Command, now: datetime, by_member: bool = False
) -> VisitPlanned | Refusal:
    """Write the visit as it is now, its timer, its event (caused by what happened to it last) and its feed entry."""
    outcomes = Outcomes()
    because = replace(command, cause=visit.cause) if visit.cause else command
    visit = announce_visit(
        outcomes=outcomes, visit=visit, before=before, because=because, by="member" if by_member else "practitioner"
    )
    if not await save_visits(connection, [visit]):
        return TAKEN
    if visit.status == "booked":
        assert visit.cause is not None, "it was announced"
        due = visit.ends_at + load_visit_rules().missed_after
        timer = Timer(kind=MISSED, key=str(visit.visit_id), member_id=visit.member_id, due_at=due, cause=visit.cause)
        await save_timers(connection, [timer])
    else:
        await cancel_timers(connection, kind=MISSED, keys=[str(visit.visit_id)])
    await _show(connection, visit, now=now, also=before.practitioner.practitioner_id)
    return VisitPlanned(visit=visit, outcomes=outcomes)


async def _show(
    connection: Connection, visit: Visit, *, now: datetime, change: str | None = None, also: UUID | None = None
) -> None:
    people = (visit.practitioner.practitioner_id, *([also] if also else []))
    entry = NewFeedEntry(
        kind="visit", change=change or visit.status, member_id=visit.member_id, subject_id=visit.visit_id, also=people
    )
    await save_feed_entries(connection, [entry], now=now)
