"""docs/reference/topics.md and access.md: what is on the broker, and who may do what there."""

from deploy.contracts.access import PRINCIPALS, access_rules, service_of
from deploy.contracts.asyncapi import PRODUCTION_REPLICAS
from deploy.contracts.tables import code, page, table
from shared.events.catalogue import TOPICS
from shared.topics import BATCH_SIZE_MAX, SEGMENT_AGE_MAX, TIMESTAMP_AGE_MAX, topic_settings

_KEYS = """\
The key of every record is the member's UUID as text in UTF-8, equal to the event's `subject`. Partitions are chosen by
**murmur2**, the default of Kafka's Java client and of aiokafka; librdkafka's default differs, there set
`partitioner=murmur2_random`. A record on another partition than its key's is counted and its effects stay exact, but
its order to the member's other events is lost.

The number of partitions of a live topic never changes: a member's records would move to another partition."""

_SETTINGS = f"""\
Same for all: timestamps are the publisher's (`CreateTime`), and the broker refuses a record that is older than
{TIMESTAMP_AGE_MAX.days} days (an inbox remembers 35); no compaction; segments of {SEGMENT_AGE_MAX.days} day, so
that retention is kept to the day; record batches of at most {BATCH_SIZE_MAX:,} bytes; {PRODUCTION_REPLICAS} replicas in
production, of which a write needs {PRODUCTION_REPLICAS - 1}."""


def topics_page() -> str:
    """The page of topics and consumer groups as Markdown."""
    return page(
        "Topics",
        table(
            ("topic", "published by", "events", "kept", "partitions", "why"),
            [
                (
                    code(topic.name),
                    topic.publisher
                    + "".join(f" ({service} passes on what they send over HTTP)" for service in topic.passed_on_by),
                    ", ".join(event.NAME for event in topic.events),
                    f"{topic.retention_days} days",
                    str(topic.partitions),
                    topic.why,
                )
                for topic in TOPICS
            ],
        ),
        "## Keys and partitions",
        _KEYS,
        "## Settings",
        _SETTINGS,
        table(
            ("topic", *(code(name) for name in topic_settings(TOPICS[0], replication=PRODUCTION_REPLICAS))),
            [
                (code(topic.name), *topic_settings(topic, replication=PRODUCTION_REPLICAS).values())
                for topic in TOPICS
            ],
        ),
        "## Consumer groups",
        table(
            ("group", "service", "topic"),
            [
                (code(group), service_of(group), code(topic.name))
                for topic in TOPICS
                for group in topic.consumers
            ],
        ),
    )  # fmt: skip


def access_page() -> str:
    """The page of access rules as Markdown."""
    return page(
        "Who may do what on the broker",
        "Exact names, no patterns; what is not listed is denied. One principal a service, one for the platform's apps, "
        "one for the operator's commands (`careloop topics`, `careloop reconcile`).",
        *(
            f"## {principal}\n\n"
            + table(
                ("resource", "name", "operations", "because it"),
                [
                    (rule.resource, code(rule.name), ", ".join(rule.operations), rule.why)
                    for rule in access_rules()
                    if rule.principal == principal
                ],
            )
            for principal in PRINCIPALS
        ),
    )
