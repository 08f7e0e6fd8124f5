"""Visits: free slots, holds, bookings and what came of them; practitioners' hours and absences."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from services.messaging.api.access import (
    Anyone,
    Clinician,
    IdempotencyKey,
    This,
    check_member,
    member_of_visit,
    not_found,
    practitioner_of,
    refuse,
)
from services.messaging.api.bodies import (
    Absence,
    Completion,
    NewHold,
    NewTime,
    NewVisit,
    SlotAnswer,
    SlotsAnswer,
    VisitAnswer,
    Week,
)
from services.messaging.domain.slots import Span
from services.messaging.domain.visit import Visit
from services.messaging.handlers.plan_visits import (
    book_visit,
    cancel_booking,
    complete_booking,
    hold_slot,
    list_slots,
    release_hold,
    reschedule_visit,
)
from services.messaging.store.rules import load_visit_rules
from services.messaging.store.visits import load_member_visits, save_absences, save_practitioner_hours
from shared.commands import identity_of
from shared.events.envelope import Instant
from shared.events.visits import VisitRecommendation
from shared.http import Problem
from shared.outcomes import Refusal

router = APIRouter(prefix="/v1", tags=["visits"])
WINDOW_MAX = timedelta(days=31)


def _answer(visit: Visit, *, with_note: bool) -> VisitAnswer:
    return VisitAnswer.of(visit, rules=load_visit_rules(), with_note=with_note)


@router.get("/members/{member_id}/slots")
async def get_slots(
    member_id: UUID,
    practitioner_id: UUID,
    caller: Anyone,
    service: This,
    starts_after: Annotated[Instant | None, Query(alias="from")] = None,
    ends_before: Annotated[Instant | None, Query(alias="until")] = None,
) -> SlotsAnswer:
    """Free times with one of the member's care team, of the next 14 days or of up to 31 days that are named."""
    await check_member(service, caller, member_id)
    now = service.clock.now()
    start = starts_after or now
    window = Span(starts_at=start, ends_at=ends_before or start + timedelta(days=14))
    if not timedelta(0) < window.ends_at - window.starts_at <= WINDOW_MAX:
        raise Problem(422, "invalid-window", f"`until` lies after `from`, at most {WINDOW_MAX.days} days.")
    async with service.requests.acquire() as connection:
        slots = await list_slots(
            connection, member_id=member_id, practitioner_id=practitioner_id, window=window, now=now
        )
    if isinstance(slots, Refusal):
        refuse(slots)
    return SlotsAnswer(practitioner_id=practitioner_id, slots=[SlotAnswer.of(slot) for slot in slots])


@router.post("/members/{member_id}/holds", status_code=201)
async def post_hold(
    member_id: UUID, new: NewHold, caller: Anyone, service: This, request: Request, key: IdempotencyKey = None
) -> VisitAnswer:
    """Keep a time for five minutes. A member has one hold: another one gives the first back. 409 when it is taken."""
    is_member = await check_member(service, caller, member_id)
    if is_member and new.alert_id is not None:
        raise Problem(422, "invalid-request", "Only the care team books from an alert.")
    hold_id = identity_of("hold", caller.subject, key)
    async with service.command("hold-slot", member_ids=[member_id], request=request, command_id=str(hold_id)) as work:
        answer = await hold_slot(
            work.connection,
            visit_id=hold_id,
            practitioner_id=new.practitioner_id,
            starts_at=new.starts_at,
            reason=new.reason,
            alert_id=new.alert_id,
            command=work.command,
            now=work.now,
        )
        if isinstance(answer, Refusal):
            refuse(answer)
        work.take(answer.outcomes)
    return _answer(answer.visit, with_note=not is_member)


@router.delete("/members/{member_id}/holds/{hold_id}", status_code=204)
async def delete_hold(member_id: UUID, hold_id: UUID, caller: Anyone, service: This, request: Request) -> None:
    """Give a held time back."""
    await check_member(service, caller, member_id)
    async with service.command("release-hold", member_ids=[member_id], request=request) as work:
        answer = await release_hold(work.connection, visit_id=hold_id, command=work.command, now=work.now)
        if isinstance(answer, Refusal):
            refuse(answer)


@router.get("/members/{member_id}/visits")
async def get_visits(member_id: UUID, caller: Anyone, service: This) -> list[VisitAnswer]:
    """The member's visits and holds, latest first."""
    is_member = await check_member(service, caller, member_id)
    async with service.requests.acquire() as connection:
        visits = await load_member_visits(connection, member_ids=[member_id])
    return [_answer(visit, with_note=not is_member) for visit in visits]


@router.post("/members/{member_id}/visits", status_code=201)
async def post_visit(member_id: UUID, new: NewVisit, caller: Anyone, service: This, request: Request) -> VisitAnswer:
    """Book a held time. Sent again it is the same booking."""
    is_member = await check_member(service, caller, member_id)
    async with service.command("book-visit", member_ids=[member_id], request=request) as work:
        answer = await book_visit(
            work.connection, visit_id=new.hold_id, reason=new.reason, command=work.command, now=work.now
        )
        if isinstance(answer, Refusal):
            refuse(answer)
        work.take(answer.outcomes)
    return _answer(answer.visit, with_note=not is_member)


@router.post("/visits/{visit_id}/reschedule")
async def post_reschedule(visit_id: UUID, new: NewTime, caller: Anyone, service: This, request: Request) -> VisitAnswer:
    """To another time, with the same or another of the care team. Sent again while it is there, it is the same move;
    409 `moved-meanwhile` where it is no longer at `moved_from`, if that is named."""
    member_id, is_member = await member_of_visit(service, caller, visit_id)
    async with service.command("reschedule-visit", member_ids=[member_id], request=request) as work:
        answer = await reschedule_visit(
            work.connection,
            visit_id=visit_id,
            practitioner_id=new.practitioner_id,
            starts_at=new.starts_at,
            moved_from=new.moved_from,
            by_member=is_member,
            command=work.command,
            now=work.now,
        )
        if isinstance(answer, Refusal):
            refuse(answer)
        work.take(answer.outcomes)
    return _answer(answer.visit, with_note=not is_member)


@router.post("/visits/{visit_id}/cancel")
async def post_cancel(visit_id: UUID, caller: Anyone, service: This, request: Request) -> VisitAnswer:
    """Cancel a booked visit that has not begun. Sent again it is the same cancellation."""
    member_id, is_member = await member_of_visit(service, caller, visit_id)
    async with service.command("cancel-visit", member_ids=[member_id], request=request) as work:
        answer = await cancel_booking(
            work.connection, visit_id=visit_id, by_member=is_member, command=work.command, now=work.now
        )
        if isinstance(answer, Refusal):
            refuse(answer)
        work.take(answer.outcomes)
    return _answer(answer.visit, with_note=not is_member)


@router.post("/visits/{visit_id}/complete")
async def post_complete(
    visit_id: UUID, done: Completion, caller: Clinician, service: This, request: Request
) -> VisitAnswer:
    """Document the visit: the recommendation revises the plan, the note stays here. Sent again with the same words it
    is the same completion."""
    member_id, is_member = await member_of_visit(service, caller, visit_id)
    if is_member:
        raise not_found()
    async with service.command("complete-visit", member_ids=[member_id], request=request) as work:
        answer = await complete_booking(
            work.connection,
            visit_id=visit_id,
            recommendation=VisitRecommendation(action=done.action, exercises=tuple(done.exercises)),
            note=done.note,
            command=work.command,
            now=work.now,
        )
        if isinstance(answer, Refusal):
            refuse(answer)
        work.take(answer.outcomes)
    return _answer(answer.visit, with_note=True)


@router.put("/me/hours", status_code=204, tags=["practitioners"])
async def put_hours(week: Week, caller: Clinician, service: This) -> None:
    """The caller's weekly hours on their own wall clock. Visits already booked stay."""
    async with service.requests.acquire() as connection, connection.transaction():
        known = await save_practitioner_hours(
            connection, practitioner_id=caller.person_id, time_zone=week.time_zone, hours=week.weekly_hours()
        )
    if not known:
        raise Problem(409, "not-on-a-team", "You are on no member's care team yet.")


@router.post("/me/absences", status_code=201, tags=["practitioners"])
async def post_absence(
    absence: Absence, caller: Clinician, service: This, key: IdempotencyKey = None
) -> dict[str, UUID]:
    """The caller is away then: alerts ask the next in line, and no slot is offered."""
    absence_id = identity_of("absence", caller.subject, key)
    async with service.requests.acquire() as connection:
        await save_absences(
            connection,
            absence_ids=[absence_id],
            practitioner_ids=[practitioner_of(caller).practitioner_id],
            spans=[Span(starts_at=absence.starts_at, ends_at=absence.ends_at)],
        )
    return {"absence_id": absence_id}
