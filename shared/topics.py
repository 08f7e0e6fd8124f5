"""Topics on the broker, made and checked from the catalogue; nobody creates one by hand.

The number of partitions of a live topic never changes: a member's records would move to another partition and lose
their order. A topic that differs from the catalogue is therefore an error, never repaired.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from pydantic import SecretStr

from shared.clock import monotonic
from shared.events.catalogue import TOPICS, Topic

TIMESTAMP_AGE_MAX: Final = timedelta(days=33)
"""Older records are refused by the broker. An inbox remembers 35 days, so a relay that wakes after weeks cannot double
an effect; more than the longest retention, so that nothing that may still be read is refused."""
TIMESTAMP_AHEAD_MAX: Final = timedelta(hours=1)
"""A publisher's clock may be this far ahead before the broker refuses its records."""
SEGMENT_AGE_MAX: Final = timedelta(days=1)
"""Retention deletes whole segments: with Kafka's own seven days a record could outlive the inbox's memory of it."""
BATCH_SIZE_MAX: Final = 1_048_588
"""Bytes of a record batch (Kafka's own default), which holds many events. One event may have 65,536; a larger one is
refused when it is read, as a dead letter."""
LEADER_TIMEOUT_S: Final = 30.0


class TopicDiffers(Exception):
    """A topic on the broker is not as the catalogue says, or could not be made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerTopic:
    """A topic as the broker has it."""

    name: str
    partitions: int
    replication: int
    leaderless: int
    """Partitions that nobody leads at the moment."""
    settings: Mapping[str, str]
    """Only those that `topic_settings` sets."""


def topic_name(namespace: str, name: str) -> str:
    """The broker's name of a topic: `careloop.activity`, or `t3f9.careloop.activity` in the namespace t3f9."""
    return f"{namespace}.{name}" if namespace else name


def group_name(namespace: str, group: str) -> str:
    """The broker's name of a consumer group: `plans.activity`, or `t3f9.plans.activity` in the namespace t3f9."""
    return f"{namespace}.{group}" if namespace else group


class BrokerAccess(Protocol):
    """How a broker is talked to: the settings of a service, or what a local stack was started with."""

    @property
    def kafka_security(self) -> str: ...
    @property
    def kafka_username(self) -> str | None: ...
    @property
    def kafka_password(self) -> SecretStr | None: ...
    @property
    def kafka_ca_file(self) -> Path | None: ...


def kafka_security(settings: BrokerAccess) -> dict[str, Any]:
    """How to connect to the broker, as keywords of every aiokafka client. ssl.SSLError or OSError on a bad CA file."""
    keywords: dict[str, Any] = {"security_protocol": settings.kafka_security}
    if settings.kafka_security.endswith("SSL"):
        keywords["ssl_context"] = ssl.create_default_context(cafile=settings.kafka_ca_file)
    if settings.kafka_security.startswith("SASL"):
        password = settings.kafka_password
        keywords |= {
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    return keywords


def topic_settings(topic: Topic, *, replication: int) -> dict[str, str]:
    """The broker's settings of a topic. With 3 replicas a write needs 2: losing one loses nothing."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(_milliseconds(timedelta(days=topic.retention_days))),
        "segment.ms": str(_milliseconds(SEGMENT_AGE_MAX)),
        "max.message.bytes": str(BATCH_SIZE_MAX),
        "message.timestamp.type": "CreateTime",
        "message.timestamp.before.max.ms": str(_milliseconds(TIMESTAMP_AGE_MAX)),
        "message.timestamp.after.max.ms": str(_milliseconds(TIMESTAMP_AHEAD_MAX)),
        # The broker unpacks what publishers pack: no reader needs every codec, and a small batch that would unpack to
        # gigabytes is refused by its size.
        "compression.type": "uncompressed",
        "min.insync.replicas": str(max(1, replication - 1)),
        # Whatever the cluster's default is: a replica that was behind would lead without what was accepted, and what
        # comes then would lie at offsets that groups have passed.
        "unclean.leader.election.enable": "false",
    }


async def create_topics(
    bootstrap: str,
    *,
    namespace: str = "",
    partitions: int | None = None,
    replication: int = 1,
    security: Mapping[str, Any] | None = None,
) -> list[str]:
    """Make every topic of the catalogue that is missing, bring the settings of the others up to date, and return when
    all have leaders. `partitions` replaces the catalogue's number (tests). Returns the names that were made.

    Raises TopicDiffers where a topic has another number of partitions, aiokafka's KafkaError without a broker.
    """
    wanted = {topic_name(namespace, topic.name): topic for topic in TOPICS}
    async with _admin(bootstrap, security) as admin:
        present = await _describe(admin, list(wanted))
        _check_partitions(present, wanted, partitions)
        missing = {name: wanted[name] for name in wanted.keys() - {topic.name for topic in present}}
        made = await _make(admin, missing, partitions, replication)
        # A topic that another process made meanwhile, or that the broker did not tell of yet, is seen only now.
        topics = await _await_leaders(admin, list(wanted))
        _check_partitions(topics, wanted, partitions)
        await _update(admin, [(there, _settings_of(there, wanted)) for there in topics])
    return [name for name in wanted if name in made]


async def describe_topics(
    bootstrap: str, *, namespace: str = "", security: Mapping[str, Any] | None = None
) -> list[BrokerTopic]:
    """The catalogue's topics as the broker has them, in the catalogue's order; those that it lacks are left out."""
    async with _admin(bootstrap, security) as admin:
        return await _describe(admin, [topic_name(namespace, topic.name) for topic in TOPICS])


class _admin:
    """An admin client that is always closed, also when it could not connect."""

    def __init__(self, bootstrap: str, security: Mapping[str, Any] | None) -> None:
        self._client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **(security or {}))

    async def __aenter__(self) -> AIOKafkaAdminClient:
        try:
            await self._client.start()
        except BaseException:
            await self._client.close()
            raise
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


async def kafka_cluster(bootstrap: str, *, security: Mapping[str, Any] | None = None) -> str:
    """What tells this Kafka cluster from every other, wherever it answers. KafkaError where it cannot be asked."""
    async with _admin(bootstrap, security) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


async def _describe(admin: AIOKafkaAdminClient, names: Sequence[str]) -> list[BrokerTopic]:
    found = {topic["topic"]: topic for topic in await admin.describe_topics(list(names)) if not topic["error_code"]}
    settings = await _load_settings(admin, [name for name in names if name in found])
    return [
        BrokerTopic(
            name=name,
            partitions=len(found[name]["partitions"]),
            replication=min((len(p["replicas"]) for p in found[name]["partitions"]), default=0),
            leaderless=sum(1 for p in found[name]["partitions"] if p["leader"] < 0),
            settings=settings[name],
        )
        for name in names
        if name in found
    ]


async def _load_settings(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    ours = dict.fromkeys(topic_settings(TOPICS[0], replication=1), "")
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name, ours) for name in names])
    settings: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, message, _, name, entries in answer.resources:
            if code:
                raise TopicDiffers(
                    f"{name}: the broker does not tell its settings: {message or for_code(code).__name__}"
                )
            settings[name] = {entry[0]: entry[1] for entry in entries}
    return settings


async def _make(
    admin: AIOKafkaAdminClient, missing: Mapping[str, Topic], partitions: int | None, replication: int
) -> set[str]:
    if not missing:
        return set()
    answer = await admin.create_topics(
        [
            NewTopic(
                name,
                partitions or topic.partitions,
                replication,
                topic_configs=topic_settings(topic, replication=replication),
            )
            for name, topic in missing.items()
        ]
    )
    made = set()
    for name, code, message in answer.topic_errors:
        if code == TopicAlreadyExistsError.errno:  # another process made it meanwhile
            continue
        if code:
            raise TopicDiffers(f"{name} could not be made: {message or for_code(code).__name__}")
        made.add(name)
    return made


async def _update(admin: AIOKafkaAdminClient, topics: Sequence[tuple[BrokerTopic, Mapping[str, str]]]) -> None:
    stale = [
        ConfigResource(ConfigResourceType.TOPIC, there.name, dict(settings))
        for there, settings in topics
        if dict(there.settings) != dict(settings)
    ]
    if not stale:
        return
    for answer in await admin.alter_configs(stale):
        for code, message, _, name in answer.resources:
            if code:
                raise TopicDiffers(f"{name} could not be changed: {message or for_code(code).__name__}")


async def _await_leaders(admin: AIOKafkaAdminClient, names: Sequence[str]) -> list[BrokerTopic]:
    """A topic just made answers NotLeaderForPartition for a moment; whoever starts after us should not see it."""
    deadline = monotonic() + LEADER_TIMEOUT_S
    while True:
        try:
            topics = await _describe(admin, names)
        except (KafkaError, TopicDiffers):
            topics = []
        if len(topics) == len(names) and not any(topic.leaderless for topic in topics):
            return topics
        if monotonic() > deadline:
            raise TopicDiffers(f"after {LEADER_TIMEOUT_S:.0f} s some topics still have no leader")
        await asyncio.sleep(0.05)


def _check_partitions(there: Sequence[BrokerTopic], wanted: Mapping[str, Topic], partitions: int | None) -> None:
    for topic in there:
        expected = partitions or wanted[topic.name].partitions
        if topic.partitions != expected:
            raise TopicDiffers(
                f"{topic.name} has {topic.partitions} partitions, the catalogue says {expected}: "
                "the partitions of a live topic never change"
            )


def _settings_of(there: BrokerTopic, wanted: Mapping[str, Topic]) -> dict[str, str]:
    return topic_settings(wanted[there.name], replication=there.replication)


def _milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
