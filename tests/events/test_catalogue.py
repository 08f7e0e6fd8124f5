"""The catalogue is complete and agrees with the classes, and the services subscribe to what it says."""

import pkgutil
from importlib import import_module
from importlib.util import find_spec
from types import NoneType
from typing import get_args

import pytest

import shared.events
from shared.events.catalogue import APPS, EVENTS, RETENTION_DAYS_MAX, SERVICES, TOPIC_OF, TOPIC_OF_TYPE, TOPICS
from shared.events.envelope import CloudEvent, Decision, Record, event_type, schema_uri
from shared.subscriptions import Subscription

PRODUCT = {
    "enrollment": {
        "member.screened", "member.enrolled", "care-team.assigned", "contact.changed", "consent.changed",
        "member.paused", "member.resumed", "member.disenrolled",
    },
    "apps": {"session.completed", "pain.reported"},
    "plans": {
        "plan.issued", "plan.revised", "pain.spiked", "pain.settled", "usual-pain.changed", "safety.flagged",
        "member.lapsed",
        "milestone.reached", "outcome.recorded",
    },
    "messaging": {
        "message.sent", "visit.booked", "visit.rescheduled", "visit.cancelled", "visit.completed", "visit.missed",
        "alert.raised", "alert.acknowledged", "alert.escalated", "alert.resolved",
    },
    "notifications": {"notification.sent", "notification.failed", "notification.suppressed"},
}  # fmt: skip
"""What each part of the product says of what happens in it."""


def all_classes() -> set[type[CloudEvent]]:
    for module in pkgutil.iter_modules(shared.events.__path__):
        import_module(f"shared.events.{module.name}")
    found: set[type[CloudEvent]] = set()
    left = list(CloudEvent.__subclasses__())
    while left:
        event = left.pop()
        left += event.__subclasses__()
        if event.__module__.startswith("shared.events."):
            found.add(event)
    return found


def records_of(record: type[Record]) -> set[type[Record]]:
    """A record and every record inside it."""
    found, left = set(), [record]
    while left:
        current = left.pop()
        if current in found:
            continue
        found.add(current)
        left += [part for field in current.model_fields.values() for part in parts_of(field.annotation)]
    return found


def parts_of(annotation: object) -> list[type[Record]]:
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return [annotation]
    return [part for argument in get_args(annotation) for part in parts_of(argument)]


def test_every_event_stands_in_the_catalogue_once() -> None:
    listed = [event for topic in TOPICS for event in topic.events]

    assert len(listed) == len(set(listed))
    assert set(listed) == all_classes()
    assert len(EVENTS) == len(listed), "two events share a type"


def test_each_part_publishes_what_the_product_says() -> None:
    published = {
        publisher: {event.NAME for topic in TOPICS if topic.publisher == publisher for event in topic.events}
        for publisher in (APPS, *SERVICES)
    }

    assert published == PRODUCT


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.NAME)
def test_names_of_an_event_agree(event: type[CloudEvent]) -> None:
    words = event.NAME.replace("-", ".").split(".")

    assert event_type(event) == f"org.careloop.{event.NAME}.v1"
    assert event.__name__ == "".join(word.capitalize() for word in words)
    assert event.model_fields["type"].default == event_type(event)
    assert event.model_fields["data"].annotation.__name__ == f"{event.__name__}Data"  # type: ignore[union-attr]
    assert schema_uri(event) == f"urn:careloop:schema:{event.NAME}:1.{event.MINOR}"
    assert TOPIC_OF_TYPE[event_type(event)].events.count(event) == 1
    assert event.__doc__, "says what happened"


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.NAME)
def test_what_may_be_null_may_be_left_out(event: type[CloudEvent]) -> None:
    """Null is never written, so a member that may be null must be none when it is absent."""
    for record in records_of(event):
        for name, field in record.model_fields.items():
            if NoneType in get_args(field.annotation):
                assert field.default is None, f"{record.__name__}.{name}"


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.NAME)
def test_records_are_frozen_strict_and_closed(event: type[CloudEvent]) -> None:
    for record in records_of(event):
        config = record.model_config
        assert (config.get("frozen"), config.get("strict"), config.get("extra")) == (True, True, "forbid"), record


DECISIONS = {
    "member.screened", "care-team.assigned",
    "plan.issued", "plan.revised", "pain.spiked", "pain.settled", "usual-pain.changed", "safety.flagged",
        "member.lapsed",
    "milestone.reached", "outcome.recorded",
    "alert.raised", "alert.escalated", "notification.suppressed",
}  # fmt: skip
"""What a rule of ours decided: each tells the rule, its version, the reason and the evidence."""
FACTS = {
    "session.completed": "an app's measurement",
    "pain.reported": "a member's word",
    "member.enrolled": "what somebody answered; whether they may be is decided in member.screened",
    "contact.changed": "a member's word",
    "consent.changed": "a member's word",
    "member.paused": "somebody asked for it, and says why",
    "member.resumed": "somebody asked for it, or the break that was asked for is over",
    "member.disenrolled": "coverage ended or somebody asked for it: `reason` says which",
    "message.sent": "somebody wrote",
    "alert.acknowledged": "somebody took it on",
    "alert.resolved": "somebody closed it, with an outcome",
    "visit.booked": "somebody booked it",
    "visit.rescheduled": "somebody moved it",
    "visit.cancelled": "somebody cancelled it, or care ended",
    "visit.completed": "somebody did it",
    "visit.missed": "nobody said in time that it took place",
    "notification.sent": "a provider took it",
    "notification.failed": "a provider refused it: `reason` says how",
}
"""What people, apps and providers did: there is nothing to explain but that."""


def test_whatever_a_rule_decides_says_which_rule_and_why() -> None:
    """A new event stands in one of the two lists, so that nobody forgets to choose."""
    assert DECISIONS.isdisjoint(FACTS)
    assert {event.NAME for event in EVENTS.values()} == DECISIONS | set(FACTS)
    for event in EVENTS.values():
        data = event.model_fields["data"].annotation
        assert isinstance(data, type)
        assert issubclass(data, Record)
        field = data.model_fields.get("decision")
        assert (field is not None) == (event.NAME in DECISIONS), event.NAME
        if field is not None:
            assert field.annotation is Decision, event.NAME
            assert field.is_required(), event.NAME


def test_topics_can_be_kept_and_read() -> None:
    groups = [group for topic in TOPICS for group in topic.consumers]

    assert len(groups) == len(set(groups))
    for topic in TOPICS:
        assert topic.name.startswith("careloop.")
        assert topic.publisher in (APPS, *SERVICES)
        assert set(topic.passed_on_by) <= set(SERVICES)
        assert 0 < topic.retention_days <= RETENTION_DAYS_MAX
        assert topic.partitions == 12
        assert topic.why
    for group in groups:
        service, _, what = group.partition(".")
        assert service in SERVICES
        assert what


def test_only_who_writes_to_members_reads_their_addresses() -> None:
    assert {group.partition(".")[0] for group in TOPIC_OF["careloop.contacts"].consumers} == {
        "messaging",
        "notifications",
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_subscribes_to_what_the_catalogue_says(service: str) -> None:
    """Same groups, on the same topics, of events of those topics."""
    if find_spec(f"services.{service}.subscriptions") is None:
        assert not [group for topic in TOPICS for group in topic.consumers if group.startswith(f"{service}.")]
        return
    subscriptions: tuple[Subscription, ...] = import_module(f"services.{service}.subscriptions").SUBSCRIPTIONS

    assert {(found.topic, found.group) for found in subscriptions} == {
        (topic.name, group) for topic in TOPICS for group in topic.consumers if group.startswith(f"{service}.")
    }
    for found in subscriptions:
        assert set(found.events) <= set(TOPIC_OF[found.topic].events), found.group
