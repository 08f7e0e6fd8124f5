"""People on the waiting list are tried again: by a timer, and at once when a panel gains room."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from services.enrollment.domain.care_team import CareTeam
from services.enrollment.domain.enrolment import (
    WAITLIST_TIMER,
    announce_enrolment,
    care_need,
    consents_at_enrolment,
    contact_timer,
    waitlist_timer,
)
from services.enrollment.domain.membership import Membership
from services.enrollment.store.care_teams import assign_care_teams
from services.enrollment.store.intakes import load_intakes
from services.enrollment.store.memberships import (
    Consent,
    find_waiting,
    load_memberships,
    load_said_consents,
    save_consents,
    save_memberships,
)
from shared.database import Connection
from shared.outcomes import Cause, Outcomes, Timer
from shared.timers import save_timers

TICK: Final = timedelta(microseconds=1)
HURRIED_MAX: Final = 2_000
"""Waiting people whose turn is moved up when a panel gains room; the others come with their own timer."""


async def place_waiting(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """Enrol those for whom there is a care team now, as they are now: what they changed since their intake holds. The
    others wait on, with the reason of today. The end of their coverage has had its timer since their intake."""
    timer_of = {timer.member_id: timer for timer in timers}
    memberships = await load_memberships(connection, member_ids=list(timer_of))
    longest_first = sorted(memberships.values(), key=lambda m: m.status_since)
    waiting = {m.member_id: m for m in longest_first if m.status == "waitlisted"}
    intakes = await load_intakes(connection, memberships=list(waiting.values()))
    said = await load_said_consents(connection, since={m: intake.taken_at for m, intake in intakes.items()})
    teams = await assign_care_teams(
        connection,
        needs={member_id: care_need(membership) for member_id, membership in waiting.items()},
        now=now,
    )
    outcomes = Outcomes()
    changed: list[Membership] = []
    due: list[Timer] = []
    consents: list[Consent] = []
    for member_id, team in teams.items():
        membership, timer, intake = waiting[member_id], timer_of[member_id], intakes[member_id]
        if not isinstance(team, CareTeam):
            changed.append(replace(membership, status_reason=team.reason))
            due.append(waitlist_timer(member_id=member_id, because=timer, now=now))
            continue
        assert intake.enrolment is not None
        changed.append(
            replace(
                membership,
                status="enrolled",
                status_reason="waitlist",
                status_since=now,
                pt_id=team.pt.practitioner_id,
                coach_id=team.coach.practitioner_id,
            )
        )
        told = consents_at_enrolment(channels=intake.channels, said=said.get(member_id, ()))
        given = tuple(one.channel for one in told if one.topic == "all")
        consents += [
            Consent(member_id=member_id, channel=channel, topic="all", granted=True, given_by="intake")
            for channel in given
        ]
        present = {"time_zone": membership.time_zone, "language": membership.language, "consented_channels": given}
        announce_enrolment(
            outcomes,
            enrolment=intake.enrolment.model_copy(update=present),
            consents=told,
            team=team,
            intake_id=intake.intake_id,
            because=timer,
        )
        due.append(contact_timer(member_id=member_id, because=timer, now=now))
    await save_memberships(connection, changed)
    await save_consents(connection, consents, now=now)
    await save_timers(connection, due)
    return outcomes


async def hurry_waiting(connection: Connection, *, cause: Cause, now: datetime) -> int:
    """A panel gained room: the longest waiting are tried at once. How many."""
    waiting = await find_waiting(connection, limit=HURRIED_MAX)
    await save_timers(
        connection,
        [
            # In this order, which timers of one moment would not keep.
            Timer(kind=WAITLIST_TIMER, key=str(member_id), member_id=member_id, due_at=now - ahead * TICK, cause=cause)
            for ahead, member_id in enumerate(reversed(waiting))
        ],
    )
    return len(waiting)
