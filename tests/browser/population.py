"""A small clinic for the pages: two clinicians, an on-call one, and members with twelve weeks behind them.

Lived through by messaging's own handlers at the time of each event, so that every row on a page came from an event.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

from services.messaging.handlers.follow_activity import follow_activity
from services.messaging.handlers.follow_contacts import follow_contacts
from services.messaging.handlers.follow_conversations import follow_conversations
from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.follow_notifications import follow_notifications
from services.messaging.handlers.follow_plans import follow_plans
from services.messaging.handlers.raise_safety_alerts import raise_safety_alerts
from shared.database import Connection
from shared.events import (
    CareTeamAssigned,
    CloudEvent,
    ContactChanged,
    ExerciseResult,
    MemberEnrolled,
    NotificationSent,
    PainReported,
    PainSettled,
    PainSpiked,
    PlanIssued,
    PlanRevised,
    SafetyFlagged,
    SessionCompleted,
    UsualPainChanged,
)
from shared.events.activity import PainReportedData, SessionCompletedData
from shared.events.envelope import NAMESPACE, Decision, EventRef
from shared.events.members import CareTeamAssignedData, ContactChangedData, MemberEnrolledData, PainIntake
from shared.events.notifications import NotificationSentData
from shared.events.plans import (
    PainSettledData,
    PainSpikedData,
    PlanChange,
    PlanElement,
    PlanIssuedData,
    PlanRevisedData,
    SafetyFlaggedData,
    UsualPainChangedData,
)
from shared.events.vocabulary import Exercise, Language, PlanAction, PlanItem, Practitioner, Schedule, TreatmentElement
from shared.member_locks import lock_members
from tests.fixtures.carrying_out import carry_out
from tests.fixtures.published import published_events


def person_id(name: str) -> UUID:
    """The same id for the same name in every run: screenshots can be compared."""
    return uuid5(NAMESPACE, f"browser {name}")


ANA = Practitioner(practitioner_id=person_id("ana"), role="coach", name="Ana Ruiz")
OMAR = Practitioner(practitioner_id=person_id("omar"), role="pt", name="Omar Haddad")
OTTO = Practitioner(practitioner_id=person_id("otto"), role="oncall", name="Otto Lindqvist")
LUCIA = Practitioner(practitioner_id=person_id("lucia"), role="pt", name="Lucía Prieto")
"""Reads the console in Spanish."""
STRANGER = Practitioner(practitioner_id=person_id("stranger"), role="coach", name="Stella Okafor")
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)
EXERCISES: tuple[tuple[Exercise, str, int, int | None, int | None], ...] = (
    ("quad-stretch", "Standing, 45 s", 1, None, 45),
    ("hamstring-stretch", "Supine, 30 s", 0, None, 30),
    ("knee-extension", "Black band, 5 s hold", 3, 10, 5),
    ("mini-squat", "0 to 45 degrees", 2, 10, None),
    ("bridge", "Both legs, 3 s hold", 1, 10, 3),
)
ELEMENTS: tuple[TreatmentElement, ...] = (
    "assessment",
    "strengthening",
    "stretching",
    "education",
    "pain-relief",
    "prevention",
)


@dataclass
class Member:
    """One simulated person and the events of their life so far, each caused by another."""

    given: str
    family: str
    zone: str = "America/New_York"
    language: Language = "en"
    usual: int = 3
    coach: Practitioner = ANA
    pt: Practitioner = OMAR
    member_id: UUID = field(init=False)
    version: int = 1

    def __post_init__(self) -> None:
        self.member_id = person_id(f"{self.given} {self.family}")

    def envelope(self, service: str, at: datetime, because: CloudEvent | None = None) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "id": str(uuid4()),
            "source": f"urn:careloop:{service}",
            "time": at,
            "subject": self.member_id,
        }
        if because is not None:
            fields |= {"causationid": because.id, "causationsource": because.source, "correlationid": because.chain}
        return fields

    def begins(self, at: datetime) -> list[CloudEvent]:
        enrolled = MemberEnrolled(
            **self.envelope("enrollment", at),
            data=MemberEnrolledData(
                sponsor_id=person_id("sponsor"),
                intent="care-now",
                region="knee",
                cause="overuse",
                signs=("pain-daily",),
                pain=PainIntake(now=4, average_24h=self.usual, usual=self.usual),
                goals=("walk the dog for an hour",),
                days_per_week=3,
                preferred_time="18:00",
                time_zone=self.zone,
                state="NY",
                language=self.language,
                disposition="none",
                consented_channels=("email", "push"),
            ),
        )
        team = CareTeamAssigned(
            **self.envelope("enrollment", at, enrolled),
            data=CareTeamAssignedData(
                pt=self.pt,
                coach=self.coach,
                decision=Decision(rule_id="enrollment.care-team", rule_version=1, reason="licence, language, load"),
            ),
        )
        contact = ContactChanged(
            **self.envelope("enrollment", at, enrolled),
            data=ContactChangedData(
                given_name=self.given,
                family_name=self.family,
                email="member@example.org",
                time_zone=self.zone,
                language=self.language,
            ),
        )
        issued = PlanIssued(
            **self.envelope("plans", at + HOUR, enrolled),
            data=PlanIssuedData(
                plan_id=self.plan_id,
                version=1,
                pathway="Overuse",
                elements=tuple(
                    PlanElement(element=e, content=f"What the plan does for {e.replace('-', ' ')}.") for e in ELEMENTS
                ),
                items=self.items(),
                schedule=self.schedule(),
                sessions_per_week=3,
                decision=Decision(
                    rule_id="plan.pathway", rule_version=1, reason="Overuse with usual pain 3: strengthening first."
                ),
            ),
        )
        return [enrolled, team, contact, issued]

    @property
    def plan_id(self) -> UUID:
        return person_id(f"plan {self.member_id}")

    def schedule(self) -> Schedule:
        return Schedule(weekdays=(1, 3, 5), local_time="18:00", time_zone=self.zone)

    def items(self, *, squat: int = 2) -> tuple[PlanItem, ...]:
        return tuple(
            PlanItem(
                exercise=name,
                step=squat if name == "mini-squat" else step,
                step_name=label,
                sets=3,
                reps=reps,
                hold_s=hold,
                days_per_week=3,
            )
            for name, label, step, reps, hold in EXERCISES
        )

    def session(self, at: datetime, pain: int, *, morning: int | None = None) -> SessionCompleted:
        return SessionCompleted(
            **self.envelope("apps:ios", at),
            data=SessionCompletedData(
                session_id=uuid4(),
                started_at=at - timedelta(minutes=22),
                duration_min=22,
                pain_during=pain,
                pain_last_morning=morning,
                exercises=tuple(
                    ExerciseResult(exercise=name, step=step, sets_prescribed=3, sets_done=3, last_set_reps=reps, rpe=4)
                    for name, _, step, reps, _ in EXERCISES
                ),
            ),
        )

    def report(self, at: datetime, pain: int) -> PainReported:
        return PainReported(**self.envelope("apps:ios", at), data=PainReportedData(score=pain, context="average-24h"))

    def spike(self, because: CloudEvent, pain: int, episode: str) -> PainSpiked:
        return PainSpiked(
            **self.envelope("plans", because.time + timedelta(seconds=2), because),
            data=PainSpikedData(
                episode_id=person_id(f"{self.member_id} {episode}"),
                score=pain,
                baseline=float(self.usual),
                repeated=False,
                decision=Decision(
                    rule_id="pain.spike",
                    rule_version=1,
                    evidence=(EventRef(source=because.source, id=because.id),),
                    reason=f"Pain {pain} is {pain - self.usual} above the usual {self.usual}; "
                    "3 above counts as a spike.",
                ),
            ),
        )

    def usual_changes(self, because: CloudEvent, to: float) -> UsualPainChanged:
        return UsualPainChanged(
            **self.envelope("plans", because.time + timedelta(seconds=2), because),
            data=UsualPainChangedData(
                usual_pain=to,
                before=float(self.usual),
                decision=Decision(rule_id="pain.usual-told", rule_version=1, reason="It has moved by 1 or more."),
            ),
        )

    def settle(self, because: CloudEvent, pain: int, episode: str) -> PainSettled:
        return PainSettled(
            **self.envelope("plans", because.time + timedelta(seconds=2), because),
            data=PainSettledData(
                episode_id=person_id(f"{self.member_id} {episode}"),
                score=pain,
                baseline=float(self.usual),
                decision=Decision(
                    rule_id="pain.settle", rule_version=1, reason="Three readings at the usual level in 5 days."
                ),
            ),
        )

    def flag(self, because: CloudEvent) -> SafetyFlagged:
        return SafetyFlagged(
            **self.envelope("plans", because.time + timedelta(seconds=1), because),
            data=SafetyFlaggedData(
                flag_id=uuid4(),
                disposition="emergency",
                findings=("hot-swollen-joint",),
                decision=Decision(
                    rule_id="red-flags", rule_version=1, reason="A hot, swollen joint needs to be seen at once."
                ),
            ),
        )

    def revise(self, because: CloudEvent, *, from_step: int, to_step: int) -> PlanRevised:
        self.version += 1
        action: PlanAction = "progress" if to_step > from_step else "regress"
        reason = (
            "Two sessions in a row fully done at pain 3 or less."
            if action == "progress"
            else "Pain of 6 or more during the exercise: one step easier until it settles."
        )
        decision = Decision(
            rule_id="progression.pain",
            rule_version=1,
            reason=reason,
            evidence=(EventRef(source=because.source, id=because.id),),
        )
        return PlanRevised(
            **self.envelope("plans", because.time + timedelta(seconds=3), because),
            data=PlanRevisedData(
                plan_id=self.plan_id,
                version=self.version,
                items=self.items(squat=to_step),
                schedule=self.schedule(),
                changes=(
                    PlanChange(
                        exercise="mini-squat", action=action, from_step=from_step, to_step=to_step, decision=decision
                    ),
                ),
                sessions_per_week=3,
                decision=decision,
            ),
        )

    def reminder(self, because: CloudEvent, at: datetime) -> NotificationSent:
        return NotificationSent(
            **self.envelope("notifications", at, because),
            data=NotificationSentData(
                notification_id=uuid4(),
                topic="session-reminder",
                channel="email",
                template="session-reminder",
            ),
        )


def twelve_weeks(member: Member, *, now: datetime, seed: int, spike_days_ago: float | None = None) -> list[CloudEvent]:
    """A believable course: three sessions a week, one flare in week 5, and a spike some days ago where asked for."""
    chance = random.Random(seed)
    events = member.begins(now - 12 * WEEK)
    issued = events[-1]
    at = now - 12 * WEEK + DAY
    flare = (now - 8 * WEEK, now - 8 * WEEK + 9 * DAY)
    in_flare = False
    step = 1
    while at < now - HOUR and (spike_days_ago is None or at < now - spike_days_ago * DAY - HOUR):
        base = member.usual - (1 if at > now - 4 * WEEK else 0)
        pain = min(max(round(chance.gauss(base, 0.7)), 0), 10)
        if flare[0] <= at <= flare[1]:
            pain = member.usual + chance.choice((3, 4))
        session = member.session(at, pain, morning=max(pain - 1, 0))
        events.append(session)
        if flare[0] <= at <= flare[1] and not in_flare:
            in_flare = True
            spike = member.spike(session, pain, "first")
            events += [spike, member.revise(spike, from_step=step + 1, to_step=step)]
        elif in_flare and at > flare[1]:
            in_flare = False
            events += [member.settle(session, pain, "first"), member.usual_changes(session, member.usual - 1)]
        elif chance.random() < 0.12 and not in_flare and step < 4:
            events.append(member.revise(session, from_step=step, to_step=step + 1))
            step += 1
        if chance.random() < 0.35:
            events.append(member.report(at + 20 * HOUR, min(max(pain + chance.choice((-1, 0, 1)), 0), 10)))
        if at > now - 3 * WEEK:
            events.append(member.reminder(issued, at + 40 * HOUR))
        at += timedelta(days=chance.choice((2, 2, 3)), hours=chance.uniform(-3, 3))
    if spike_days_ago is not None:
        session = member.session(now - spike_days_ago * DAY, member.usual + 4)
        spike = member.spike(session, member.usual + 4, "now")
        events += [session, spike, member.revise(spike, from_step=3, to_step=2)]
    return sorted((event for event in events if event.time <= now), key=lambda event: event.time)


HANDLERS: tuple[tuple[tuple[type[CloudEvent], ...], Any], ...] = (
    ((ContactChanged,), follow_contacts),
    ((MemberEnrolled, CareTeamAssigned), follow_members),
    ((SessionCompleted, PainReported), follow_activity),
    ((PlanIssued, PlanRevised, PainSpiked, PainSettled, UsualPainChanged), follow_plans),
    ((SafetyFlagged,), raise_safety_alerts),
    ((NotificationSent,), follow_notifications),
)


async def live_through(connection: Connection, events: Sequence[CloudEvent]) -> None:
    """Give each event to the handler that follows it, at its own time, and what that publishes likewise."""
    async with connection.transaction():
        # As every chunk does: the running service's own timers leave these members alone meanwhile.
        await lock_members(connection, list({event.subject for event in events}))
        for event in events:
            run = next(run for types, run in HANDLERS if isinstance(event, types))
            outcomes = await carry_out(run, connection, [event], now=event.time)
            own = published_events(outcomes, service="messaging", scope="browser", now=event.time)
            if own:
                await carry_out(follow_conversations, connection, own, now=event.time)
