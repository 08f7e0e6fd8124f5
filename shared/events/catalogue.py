"""The one catalogue of topics: which events, who publishes, who consumes, how long it is kept.

Topic creation, access rules, AsyncAPI, JSON Schemas and the documentation are generated from it; a test holds each
service's subscriptions against it.
"""

from dataclasses import dataclass
from typing import Final

from shared.events import activity, conversations, members, notifications, plans, visits
from shared.events.envelope import CloudEvent, event_type

SERVICES: Final = ("enrollment", "plans", "messaging", "notifications")
APPS: Final = "apps"
"""The platform's apps (iOS, Android, web, devices): the one publisher that is not ours."""
RETENTION_DAYS_MAX: Final = 31
"""Longest retention of a topic: an inbox remembers 35 days, more than retention plus the oldest accepted event."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A Kafka topic. The key of every record is the member's UUID as text; partitions are chosen by murmur2."""

    name: str
    publisher: str
    """The service that alone may write it; APPS for the platform's apps."""
    events: tuple[type[CloudEvent], ...]
    consumers: tuple[str, ...]
    """Consumer groups that read it."""
    retention_days: int
    why: str
    partitions: int = 12
    passed_on_by: tuple[str, ...] = ()
    """Services that write it too, but only what the publisher sent them over HTTP."""

    @property
    def writers(self) -> tuple[str, ...]:
        """Who may write it: the publisher first."""
        return (self.publisher, *self.passed_on_by)


TOPICS: Final[tuple[Topic, ...]] = (
    Topic(
        name="careloop.members",
        publisher="enrollment",
        events=(
            members.MemberScreened,
            members.MemberEnrolled,
            members.CareTeamAssigned,
            members.ConsentChanged,
            members.MemberPaused,
            members.MemberResumed,
            members.MemberDisenrolled,
        ),
        consumers=("plans.members", "messaging.members", "messaging.members.safety", "notifications.members"),
        retention_days=30,
        why="who is a member, who cares for them, what they consented to",
    ),
    Topic(
        name="careloop.contacts",
        publisher="enrollment",
        events=(members.ContactChanged,),
        consumers=("messaging.contacts", "notifications.contacts"),
        retention_days=31,
        why="names and addresses, apart from the rest so that fewer may read them; announced again monthly",
    ),
    Topic(
        name="careloop.activity",
        publisher=APPS,
        passed_on_by=("plans",),
        events=(activity.SessionCompleted, activity.PainReported),
        consumers=("plans.activity", "plans.safety", "messaging.activity", "notifications.activity"),
        retention_days=14,
        why="what a member did and felt, from the platform's apps",
    ),
    Topic(
        name="careloop.plans",
        publisher="plans",
        events=(
            plans.PlanIssued,
            plans.PlanRevised,
            plans.PainSpiked,
            plans.PainSettled,
            plans.UsualPainChanged,
            plans.SafetyFlagged,
            plans.MemberLapsed,
            plans.MilestoneReached,
            plans.OutcomeRecorded,
        ),
        consumers=("messaging.plans", "messaging.safety", "notifications.plans"),
        retention_days=30,
        why="what a member is asked to do and why, and what their answers mean",
    ),
    Topic(
        name="careloop.visits",
        publisher="messaging",
        events=(
            visits.VisitBooked,
            visits.VisitRescheduled,
            visits.VisitCancelled,
            visits.VisitCompleted,
            visits.VisitMissed,
        ),
        consumers=("plans.visits", "messaging.visits", "notifications.visits"),
        retention_days=30,
        why="visits with a physical therapist or a coach",
    ),
    Topic(
        name="careloop.conversations",
        publisher="messaging",
        events=(
            conversations.MessageSent,
            conversations.AlertRaised,
            conversations.AlertAcknowledged,
            conversations.AlertEscalated,
            conversations.AlertResolved,
        ),
        consumers=("messaging.conversations", "notifications.conversations", "notifications.safety"),
        retention_days=30,
        why="that a message was sent (never its text), and the life of an alert",
    ),
    Topic(
        name="careloop.notifications",
        publisher="notifications",
        events=(
            notifications.NotificationSent,
            notifications.NotificationFailed,
            notifications.NotificationSuppressed,
        ),
        consumers=("messaging.notifications",),
        retention_days=14,
        why="what was sent, failed or deliberately not sent",
    ),
)

TOPIC_OF: Final[dict[str, Topic]] = {topic.name: topic for topic in TOPICS}
EVENTS: Final[dict[str, type[CloudEvent]]] = {event_type(event): event for topic in TOPICS for event in topic.events}
TOPIC_OF_TYPE: Final[dict[str, Topic]] = {event_type(event): topic for topic in TOPICS for event in topic.events}
TOPIC_OF_CLASS: Final[dict[type[CloudEvent], Topic]] = {event: topic for topic in TOPICS for event in topic.events}
