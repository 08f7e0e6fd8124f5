"""What messaging reacts to: topic, consumer group, handler, in log order; and its timers."""

from services.messaging.handlers.follow_activity import follow_activity
from services.messaging.handlers.follow_contacts import follow_contacts
from services.messaging.handlers.follow_conversations import follow_conversations
from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.follow_notifications import follow_notifications
from services.messaging.handlers.follow_plans import follow_plans
from services.messaging.handlers.follow_visits import follow_visits
from services.messaging.handlers.raise_safety_alerts import raise_safety_alerts, raise_screening_alerts
from services.messaging.handlers.run_deadlines import (
    ask_for_answers,
    escalate_alerts,
    miss_visits,
    release_holds,
    remind_alerts,
    wake_alerts,
)
from services.messaging.store.alerts import ESCALATION, FOLLOW_UP, SNOOZE
from services.messaging.store.conversations import FIRST_RESPONSE
from services.messaging.store.visits import HOLD, MISSED
from shared.events import (
    MemberScreened,
    MilestoneReached,
    PlanIssued,
    PlanRevised,
    SafetyFlagged,
    UsualPainChanged,
)
from shared.subscriptions import Subscription, TimerSubscription, all_but, everything, types_of

SUBSCRIPTIONS = (
    Subscription(topic="careloop.members", group="messaging.members", run=follow_members),
    # What a screening found alone, so that nothing parked, waiting or locked for the group above can hold it back.
    Subscription(
        topic="careloop.members",
        group="messaging.members.safety",
        run=raise_screening_alerts,
        events=(MemberScreened,),
        stateless=True,
        gather_ms=15,
        patient=all_but(MemberScreened, topic="careloop.members"),
    ),
    Subscription(topic="careloop.contacts", group="messaging.contacts", run=follow_contacts),
    Subscription(
        topic="careloop.activity", group="messaging.activity", run=follow_activity, patient=everything, gather_ms=150
    ),
    Subscription(
        topic="careloop.plans",
        group="messaging.plans",
        run=follow_plans,
        patient=types_of(PlanIssued, PlanRevised, MilestoneReached, UsualPainChanged),
        gather_ms=5,
    ),
    # Red flags alone, so that nothing parked or waiting in the group above can hold one back.
    Subscription(
        topic="careloop.plans",
        group="messaging.safety",
        run=raise_safety_alerts,
        events=(SafetyFlagged,),
        stateless=True,
        gather_ms=150,  # messaging.plans tells it of a red flag
        patient=all_but(SafetyFlagged, topic="careloop.plans"),
    ),
    # Our own events come back for the timeline and the feed.
    Subscription(topic="careloop.visits", group="messaging.visits", run=follow_visits),
    Subscription(
        topic="careloop.conversations",
        group="messaging.conversations",
        run=follow_conversations,
        patient=everything,
        gather_ms=150,
    ),
    Subscription(topic="careloop.notifications", group="messaging.notifications", run=follow_notifications),
)

TIMERS = (
    TimerSubscription(kind=ESCALATION, run=escalate_alerts),
    TimerSubscription(kind=SNOOZE, run=wake_alerts),
    TimerSubscription(kind=FOLLOW_UP, run=remind_alerts),
    TimerSubscription(kind=FIRST_RESPONSE, run=ask_for_answers),
    TimerSubscription(kind=HOLD, run=release_holds),
    TimerSubscription(kind=MISSED, run=miss_visits),
)
