"""What plans reacts to: topic, consumer group, handler over the union of its events, in log order."""

from typing import Final

from services.plans.domain.answers import read_answers
from services.plans.domain.patience import is_calm, reports_no_findings
from services.plans.handlers.follow_activity import follow_activity
from services.plans.handlers.follow_lapses import follow_lapses
from services.plans.handlers.follow_members import follow_members
from services.plans.handlers.follow_visits import follow_visits
from services.plans.handlers.raise_red_flags import raise_red_flags
from services.plans.store.rules import load_library
from shared.events import (
    CareTeamAssigned,
    MemberDisenrolled,
    MemberEnrolled,
    MemberPaused,
    MemberResumed,
    VisitCompleted,
)
from shared.subscriptions import Subscription, TimerSubscription


def is_calm_here(value: bytes) -> bool:
    """By the rules in force."""
    return is_calm(value, rules=load_library().pain)


SUBSCRIPTIONS: Final = (
    Subscription(
        topic="careloop.members",
        group="plans.members",
        run=follow_members,
        events=(MemberEnrolled, CareTeamAssigned, MemberPaused, MemberResumed, MemberDisenrolled),
    ),
    Subscription(
        topic="careloop.activity", group="plans.activity", run=follow_activity, patient=is_calm_here, gather_ms=5
    ),
    Subscription(
        topic="careloop.activity",
        group="plans.safety",
        run=raise_red_flags,
        stateless=True,
        loosely=read_answers,
        patient=reports_no_findings,
        gather_ms=150,  # the group above tells it of a red flag
    ),
    Subscription(topic="careloop.visits", group="plans.visits", run=follow_visits, events=(VisitCompleted,)),
)

TIMERS: Final = (TimerSubscription(kind="plan.lapse", run=follow_lapses),)
