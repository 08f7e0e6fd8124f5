"""Who may do what on the broker: exact rules per principal, derived from the catalogue. Everything else is denied."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from shared.events.catalogue import APPS, SERVICES, TOPICS, Topic

OPERATOR: Final = "operator"
"""Makes the topics, compares the log with the inboxes. A person's or a job's, never a service's."""
PRINCIPALS: Final = (APPS, *SERVICES, OPERATOR)

Operation = Literal["Create", "AlterConfigs", "Describe", "DescribeConfigs", "Read", "Write"]


@dataclass(frozen=True, kw_only=True)
class AccessRule:
    """One principal may do these operations on one topic or consumer group, named in full (no patterns)."""

    principal: str
    resource: Literal["topic", "group"]
    name: str
    operations: tuple[Operation, ...]
    why: str


def access_rules() -> tuple[AccessRule, ...]:
    """All rules, by principal, then topics before groups, in the catalogue's order."""
    rules = [rule for topic in TOPICS for rule in _rules_of(topic)]
    return tuple(sorted(rules, key=lambda rule: (PRINCIPALS.index(rule.principal), rule.resource == "group")))


def service_of(group: str) -> str:
    """The service that a consumer group belongs to: `plans` of `plans.activity`."""
    return group.partition(".")[0]


def _rules_of(topic: Topic) -> Iterator[AccessRule]:
    for writer in topic.writers:
        yield AccessRule(
            principal=writer,
            resource="topic",
            name=topic.name,
            operations=("Describe", "Write"),
            why="publishes it" if writer == topic.publisher else f"passes on what {topic.publisher} send over HTTP",
        )
    for service in dict.fromkeys(service_of(group) for group in topic.consumers):
        yield AccessRule(
            principal=service, resource="topic", name=topic.name, operations=("Describe", "Read"), why="consumes it"
        )
    for group in topic.consumers:
        yield AccessRule(
            principal=service_of(group), resource="group", name=group, operations=("Read",), why=f"reads {topic.name}"
        )
        yield AccessRule(
            principal=OPERATOR, resource="group", name=group, operations=("Describe",), why="sees its lag and members"
        )
    yield AccessRule(
        principal=OPERATOR,
        resource="topic",
        name=topic.name,
        operations=("Create", "AlterConfigs", "Describe", "DescribeConfigs", "Read"),
        why="makes it, and compares the log with the inboxes",
    )
