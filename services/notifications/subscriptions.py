"""What notifications reacts to: topics, groups and handlers; timers."""

from services.notifications.handlers.follow_activity import follow_activity
from services.notifications.handlers.follow_contacts import follow_contacts
from services.notifications.handlers.follow_conversations import follow_conversations
from services.notifications.handlers.follow_members import follow_members
from services.notifications.handlers.follow_plans import follow_plans
from services.notifications.handlers.follow_visits import follow_visits
from services.notifications.handlers.page_at_once import page_at_once
from services.notifications.handlers.remind_of_sessions import remind_of_sessions
from services.notifications.handlers.remind_of_visits import remind_of_visits
from shared.events import (
    AlertEscalated,
    AlertRaised,
    MemberLapsed,
    MilestoneReached,
    PlanIssued,
    PlanRevised,
    SessionCompleted,
)
from shared.subscriptions import Subscription, TimerSubscription, all_but

SUBSCRIPTIONS = (
    Subscription(topic="careloop.members", group="notifications.members", run=follow_members),
    Subscription(topic="careloop.contacts", group="notifications.contacts", run=follow_contacts),
    Subscription(
        topic="careloop.activity", group="notifications.activity", run=follow_activity, events=(SessionCompleted,)
    ),
    Subscription(
        topic="careloop.plans",
        group="notifications.plans",
        run=follow_plans,
        events=(PlanIssued, PlanRevised, MemberLapsed, MilestoneReached),
    ),
    Subscription(topic="careloop.visits", group="notifications.visits", run=follow_visits),
    Subscription(topic="careloop.conversations", group="notifications.conversations", run=follow_conversations),
    # Pages alone, so that nothing parked or waiting in the group above can hold one back.
    Subscription(
        topic="careloop.conversations",
        group="notifications.safety",
        run=page_at_once,
        events=(AlertRaised, AlertEscalated),
        stateless=True,
        patient=all_but(AlertRaised, AlertEscalated, topic="careloop.conversations"),
    ),
)

TIMERS = (
    TimerSubscription(kind="reminder.session", run=remind_of_sessions),
    TimerSubscription(kind="reminder.visit", run=remind_of_visits),
)
