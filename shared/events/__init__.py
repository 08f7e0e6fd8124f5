"""The contracts: the only language between services. One class per event, one catalogue of topics."""

from shared.events.activity import ExerciseResult, PainReported, SessionCompleted
from shared.events.conversations import (
    AlertAcknowledged,
    AlertEscalated,
    AlertRaised,
    AlertResolved,
    MessageSent,
)
from shared.events.envelope import NAMESPACE, CloudEvent, Decision, EventRef, Record
from shared.events.members import (
    CareTeamAssigned,
    ConsentChanged,
    ContactChanged,
    MemberDisenrolled,
    MemberEnrolled,
    MemberPaused,
    MemberResumed,
    MemberScreened,
)
from shared.events.notifications import NotificationFailed, NotificationSent, NotificationSuppressed
from shared.events.plans import (
    MemberLapsed,
    MilestoneReached,
    OutcomeRecorded,
    PainSettled,
    PainSpiked,
    PlanIssued,
    PlanRevised,
    SafetyFlagged,
    UsualPainChanged,
)
from shared.events.visits import VisitBooked, VisitCancelled, VisitCompleted, VisitMissed, VisitRescheduled

__all__ = [
    "NAMESPACE",
    "AlertAcknowledged",
    "AlertEscalated",
    "AlertRaised",
    "AlertResolved",
    "CareTeamAssigned",
    "CloudEvent",
    "ConsentChanged",
    "ContactChanged",
    "Decision",
    "EventRef",
    "ExerciseResult",
    "MemberDisenrolled",
    "MemberEnrolled",
    "MemberLapsed",
    "MemberPaused",
    "MemberResumed",
    "MemberScreened",
    "MessageSent",
    "MilestoneReached",
    "NotificationFailed",
    "NotificationSent",
    "NotificationSuppressed",
    "OutcomeRecorded",
    "PainReported",
    "PainSettled",
    "PainSpiked",
    "PlanIssued",
    "PlanRevised",
    "Record",
    "SafetyFlagged",
    "SessionCompleted",
    "UsualPainChanged",
    "VisitBooked",
    "VisitCancelled",
    "VisitCompleted",
    "VisitMissed",
    "VisitRescheduled",
]
