"""What plans reacts to: topic, consumer group, handler over the union of its events, in log order."""

from typing import Final

from services.plans.handlers.follow_activity import follow_activity
from services.plans.handlers.follow_lapses import follow_lapses
from services.plans.handlers.follow_members import follow_members
from services.plans.handlers.follow_visits import follow_visits
from services.plans.handlers.raise_red_flags import raise_red_flags
from shared.events import (
    CareTeamAssigned,
    MemberDisenrolled,
    MemberEnrolled,
    MemberPaused,
    MemberResumed,
    VisitCompleted,
)
from shared.subscriptions import Subscription, TimerSubscription

NO_FINDINGS: Final = (b'"findings":[]',)
"""What an app writes where its member reports nothing of the kind."""

SUBSCRIPTIONS: Final = (
    Subscription(
        topic="careloop.members",
        group="plans.members",
        run=follow_members,
        events=(MemberEnrolled, CareTeamAssigned, MemberPaused, MemberResumed, MemberDisenrolled),
    ),
    Subscription(topic="careloop.activity", group="plans.activity", run=follow_activity, gather_ms=15),
    Subscription(
        topic="careloop.activity",
        group="plans.safety",
        run=raise_red_flags,
        stateless=True,
        patient=NO_FINDINGS,
        gather_ms=15,
    ),
    Subscription(topic="careloop.visits", group="plans.visits", run=follow_visits, events=(VisitCompleted,)),
)

TIMERS: Final = (TimerSubscription(kind="plan.lapse", run=follow_lapses),)
