"""A member asks for a rest from sessions and reminders, and comes back: by themself or when the pause ends."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.enrollment.domain.enrolment import PAUSE_TIMER, member_timer
from services.enrollment.domain.membership import Membership, pause, resume
from services.enrollment.store.memberships import load_memberships, save_memberships
from shared.database import Connection
from shared.events import MemberPaused, MemberResumed
from shared.events.members import MemberPausedData, MemberResumedData
from shared.outcomes import Command, Outcomes, Refusal, Timer
from shared.timers import cancel_member_timers, save_timers


async def pause_member(
    connection: Connection, *, member_id: UUID, reason: str, until: datetime | None, command: Command, now: datetime
) -> Outcomes | Refusal:
    """Pause, or move the end of a pause. Without `until` it lasts until somebody resumes it."""
    membership = (await load_memberships(connection, member_ids=[member_id])).get(member_id)
    if membership is None:
        return Refusal("not-found", "No such member.")
    paused = pause(membership=membership, reason=reason, until=until, now=now)
    if isinstance(paused, Refusal):
        return paused
    await save_memberships(connection, [paused])
    await cancel_member_timers(connection, kinds=[PAUSE_TIMER], member_ids=[member_id])
    if until is not None:
        await save_timers(connection, [member_timer(PAUSE_TIMER, member_id=member_id, due_at=until, because=command)])
    outcomes = Outcomes()
    outcomes.publish(MemberPaused, MemberPausedData(reason=reason, until=until), because=command)
    return outcomes


async def resume_member(
    connection: Connection, *, member_id: UUID, reason: str, command: Command, now: datetime
) -> Outcomes | Refusal:
    membership = (await load_memberships(connection, member_ids=[member_id])).get(member_id)
    if membership is None:
        return Refusal("not-found", "No such member.")
    resumed = resume(membership=membership, reason=reason, now=now)
    if isinstance(resumed, Refusal):
        return resumed
    await save_memberships(connection, [resumed])
    await cancel_member_timers(connection, kinds=[PAUSE_TIMER], member_ids=[member_id])
    outcomes = Outcomes()
    outcomes.publish(MemberResumed, MemberResumedData(reason=reason), because=command)
    return outcomes


async def end_pauses(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """The pause of these members is over. Whoever ended or moved it meanwhile took its timer away or moved it."""
    memberships = await load_memberships(connection, member_ids=[timer.member_id for timer in timers])
    outcomes = Outcomes()
    resumed: list[Membership] = []
    for timer in timers:
        membership = memberships.get(timer.member_id)
        if membership is None:
            continue
        back = resume(membership=membership, reason="pause-ended", now=now)
        if isinstance(back, Membership):
            resumed.append(back)
            outcomes.publish(MemberResumed, MemberResumedData(reason="pause-ended"), because=timer)
    await save_memberships(connection, resumed)
    return outcomes
