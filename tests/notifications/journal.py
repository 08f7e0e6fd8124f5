"""Events as the other services publish them, for members of these tests."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from shared.events import (
    AlertAcknowledged,
    AlertEscalated,
    AlertRaised,
    AlertResolved,
    CareTeamAssigned,
    CloudEvent,
    ConsentChanged,
    ContactChanged,
    MemberDisenrolled,
    MemberEnrolled,
    MemberLapsed,
    MemberPaused,
    MemberResumed,
    MessageSent,
    MilestoneReached,
    PlanIssued,
    PlanRevised,
    SessionCompleted,
    VisitBooked,
    VisitCancelled,
    VisitCompleted,
    VisitRescheduled,
)
from shared.events.envelope import event_type

DECISION = {"rule_id": "test.rule", "rule_version": 1, "reason": "because"}
ITEM = {
    "exercise": "bridge", "step": 0, "step_name": "Bridge", "sets": 3, "reps": 10, "days_per_week": 3,
}  # fmt: skip
MONDAY_8 = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
"""Monday 2 March 2026, 8:00 in Chicago."""


@dataclass
class Clock:
    """Clinic time that a test moves by hand."""

    at: datetime = MONDAY_8

    def now(self) -> datetime:
        return self.at


@dataclass
class Journal:
    """What happens to one member. Each call makes one event at the clock's time."""

    clock: Clock
    member_id: UUID = field(default_factory=uuid4)
    email: str | None = "ana@example.org"
    phone: str | None = "+15550100"
    time_zone: str = "America/Chicago"
    language: str = "en"

    def _event(self, kind: type[CloudEvent], source: str, data: dict[str, Any]) -> Any:
        envelope = {
            "id": str(uuid4()), "source": source, "type": event_type(kind), "time": self.clock.now(),
            "subject": self.member_id, "data": data,
        }  # fmt: skip
        return kind.model_validate(envelope, strict=False)

    def enrolled(self, *, channels: tuple[str, ...] = ("email",), **changes: Any) -> MemberEnrolled:
        data = {
            "sponsor_id": uuid4(), "intent": "care-now", "region": "knee", "cause": "overuse", "signs": (),
            "pain": {"now": 3, "average_24h": 3, "usual": 3}, "goals": (), "days_per_week": 3,
            "preferred_time": "18:00", "time_zone": self.time_zone, "state": "IL", "language": self.language,
            "disposition": "none", "consented_channels": channels,
        }  # fmt: skip
        return self._event(MemberEnrolled, "urn:careloop:enrollment", {**data, **changes})  # type: ignore[no-any-return]

    def team(self, *, pt_id: UUID, coach_id: UUID) -> CareTeamAssigned:
        pt = {"practitioner_id": str(pt_id), "role": "pt", "name": "Sam Therapist"}
        coach = {"practitioner_id": str(coach_id), "role": "coach", "name": "Kim Coach"}
        data = {"pt": pt, "coach": coach, "decision": DECISION}
        event: CareTeamAssigned = self._event(CareTeamAssigned, "urn:careloop:enrollment", data)
        return event

    def contact(self, **changes: Any) -> ContactChanged:
        data = {
            "given_name": "Ana", "family_name": "Example", "email": self.email, "phone": self.phone,
            "time_zone": self.time_zone, "language": self.language,
        }  # fmt: skip
        return self._event(ContactChanged, "urn:careloop:enrollment", {**data, **changes})  # type: ignore[no-any-return]

    def consent(self, channel: str, *, granted: bool, topic: str = "all") -> ConsentChanged:
        data = {"channel": channel, "topic": topic, "granted": granted, "given_by": "member"}
        return self._event(ConsentChanged, "urn:careloop:enrollment", data)  # type: ignore[no-any-return]

    def paused(self, until: datetime | None = None) -> MemberPaused:
        return self._event(MemberPaused, "urn:careloop:enrollment", {"reason": "travel", "until": until})  # type: ignore[no-any-return]

    def resumed(self) -> MemberResumed:
        return self._event(MemberResumed, "urn:careloop:enrollment", {"reason": "back"})  # type: ignore[no-any-return]

    def disenrolled(self) -> MemberDisenrolled:
        data = {"reason": "member-left", "effective_on": self.clock.now().date()}
        return self._event(MemberDisenrolled, "urn:careloop:enrollment", data)  # type: ignore[no-any-return]

    def plan(self, *, weekdays: tuple[int, ...] = (1, 3, 5), local_time: str = "18:00") -> PlanIssued:
        elements = ("assessment", "strengthening", "stretching", "education", "pain-relief", "prevention")
        data = {
            "plan_id": uuid4(), "version": 1, "pathway": "overuse", "items": (ITEM,), "sessions_per_week": 3,
            "elements": tuple({"element": element, "content": "some"} for element in elements),
            "schedule": {"weekdays": weekdays, "local_time": local_time, "time_zone": self.time_zone},
            "decision": DECISION,
        }  # fmt: skip
        return self._event(PlanIssued, "urn:careloop:plans", data)  # type: ignore[no-any-return]

    def revision(self, *, weekdays: tuple[int, ...] = (1, 3, 5), local_time: str = "18:00") -> PlanRevised:
        data = {
            "plan_id": uuid4(), "version": 2, "changes": (), "items": (ITEM,), "sessions_per_week": 3,
            "schedule": {"weekdays": weekdays, "local_time": local_time, "time_zone": self.time_zone},
            "decision": DECISION,
        }  # fmt: skip
        return self._event(PlanRevised, "urn:careloop:plans", data)  # type: ignore[no-any-return]

    def session(self, *, started_at: datetime | None = None) -> SessionCompleted:
        done = {"exercise": "bridge", "step": 0, "sets_prescribed": 3, "sets_done": 3}
        data = {
            "session_id": uuid4(), "started_at": started_at or self.clock.now() - timedelta(minutes=20),
            "duration_min": 20, "exercises": (done,), "pain_during": 2,
        }  # fmt: skip
        return self._event(SessionCompleted, "urn:app:test", data)  # type: ignore[no-any-return]

    def lapsed(self, rung_days: int = 3) -> MemberLapsed:
        since = self.clock.now().date() - timedelta(days=rung_days)
        data = {"rung_days": rung_days, "missed_since": since, "decision": DECISION}
        return self._event(MemberLapsed, "urn:careloop:plans", data)  # type: ignore[no-any-return]

    def milestone(self, name: str = "pain-halved") -> MilestoneReached:
        return self._event(MilestoneReached, "urn:careloop:plans", {"milestone": name, "decision": DECISION})  # type: ignore[no-any-return]

    def booked(self, visit_id: UUID, starts_at: datetime) -> VisitBooked:
        return self._event(  # type: ignore[no-any-return]
            VisitBooked, "urn:careloop:messaging", {**self._visit(visit_id, starts_at), "reason": "follow-up"}
        )

    def rescheduled(self, visit_id: UUID, starts_at: datetime, *, was: datetime) -> VisitRescheduled:
        data = {**self._visit(visit_id, starts_at), "previous_starts_at": was, "rescheduled_by": "member"}
        return self._event(VisitRescheduled, "urn:careloop:messaging", data)  # type: ignore[no-any-return]

    def cancelled(self, visit_id: UUID, starts_at: datetime) -> VisitCancelled:
        data = {"visit_id": visit_id, "starts_at": starts_at, "cancelled_by": "member"}
        return self._event(VisitCancelled, "urn:careloop:messaging", data)  # type: ignore[no-any-return]

    def completed(self, visit_id: UUID) -> VisitCompleted:
        data = {"visit_id": visit_id, "practitioner": PT, "recommendation": {"action": "continue"}}
        return self._event(VisitCompleted, "urn:careloop:messaging", data)  # type: ignore[no-any-return]

    def _visit(self, visit_id: UUID, starts_at: datetime) -> dict[str, Any]:
        return {
            "visit_id": visit_id, "practitioner": PT, "starts_at": starts_at, "time_zone": self.time_zone,
            "ends_at": starts_at + timedelta(minutes=30),
        }  # fmt: skip

    def message(
        self, *, conversation_id: UUID, sender: str = "coach", to: tuple[str, ...] = ("member",)
    ) -> MessageSent:
        data = {
            "conversation_id": conversation_id, "message_id": uuid4(), "sender_role": sender, "sender_id": uuid4(),
            "recipients": to,
        }  # fmt: skip
        return self._event(MessageSent, "urn:careloop:messaging", data)  # type: ignore[no-any-return]

    def alert(
        self, alert_id: UUID, *, priority: str = "emergency", role: str = "oncall", repeated: bool = False
    ) -> AlertRaised:
        data = {
            "alert_id": alert_id, "kind": "safety", "priority": priority, "owner_role": role, "decision": DECISION,
            "respond_by": self.clock.now() + timedelta(minutes=15), "repeated": repeated,
        }  # fmt: skip
        return self._event(AlertRaised, "urn:careloop:messaging", data)  # type: ignore[no-any-return]

    def escalated(self, alert_id: UUID, *, level: int = 1, role: str = "pt") -> AlertEscalated:
        data = {
            "alert_id": alert_id, "level": level, "owner_role": role, "decision": DECISION,
            "respond_by": self.clock.now() + timedelta(minutes=15),
        }  # fmt: skip
        return self._event(AlertEscalated, "urn:careloop:messaging", data)  # type: ignore[no-any-return]

    def acknowledged(self, alert_id: UUID) -> AlertAcknowledged:
        return self._event(  # type: ignore[no-any-return]
            AlertAcknowledged, "urn:careloop:messaging", {"alert_id": alert_id, "acknowledged_by": PT}
        )

    def resolved(self, alert_id: UUID) -> AlertResolved:
        data = {"alert_id": alert_id, "resolved_by": PT, "outcome": "reached-member"}
        return self._event(AlertResolved, "urn:careloop:messaging", data)  # type: ignore[no-any-return]


PT = {"practitioner_id": uuid4(), "role": "pt", "name": "Petra Therapist"}
