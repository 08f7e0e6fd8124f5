"""Simulated phones: everything goes through the public interfaces, HTTP or Kafka, as the platform's apps send it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import stamina
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.local.stack import Stack, kafka_options
from deploy.simulator.access import PATIENCE_S, Access, Away, Refused, code_of
from deploy.simulator.diary import Via
from deploy.simulator.stream import APPS, Kind, Publication
from shared.topics import topic_name

BATCH_MAX = 100
"""Events in one request."""
AT_ONCE_MAX = 8
"""Requests at once."""
STRAIGHT_TO_KAFKA = APPS.index("web")
"""Where phones use both ways: this app publishes straight to Kafka, the others over HTTP."""


@dataclass(kw_only=True)
class Sent:
    """What was sent and how it was answered. Repeats of flaky phones count as sent."""

    intakes: int = 0
    events: int = 0
    messages: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def count(self, kind: Kind) -> None:
        """One more."""
        self.intakes += kind == "intake"
        self.events += kind == "event"
        self.messages += kind == "message"

    def add(self, other: "Sent") -> None:
        self.intakes += other.intakes
        self.events += other.events
        self.messages += other.messages
        self.refused.update(other.refused)


@dataclass(kw_only=True)
class Phones:
    """Sends what members' phones have to send. `via`: both takes HTTP for some apps and Kafka for others."""

    access: Access
    producer: AIOKafkaProducer
    via: Via

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._topic = topic_name(self.access.stack.namespace, "careloop.activity")

    async def send(self, publications: Sequence[Publication]) -> Sent:
        """Sends these, each member's in order; returns once all are taken or refused.

        Raises Away or KafkaError when a part of the stack stays away.
        """
        sent = Sent()
        by_member: dict[UUID, list[Publication]] = {}
        straight = [p for p in publications if p.kind == "event" and self._is_straight(p)]
        for publication in publications:
            if not (publication.kind == "event" and self._is_straight(publication)):
                by_member.setdefault(publication.member.member_id, []).append(publication)
        async with asyncio.TaskGroup() as group:
            work = [group.create_task(self._send_of_member(theirs)) for theirs in by_member.values()]
            work.append(group.create_task(self._send_to_kafka(straight)))
        for task in work:
            sent.add(task.result())
        return sent

    def _is_straight(self, publication: Publication) -> bool:
        if self.via == "both":
            return publication.member.index % len(APPS) == STRAIGHT_TO_KAFKA
        return self.via == "kafka"

    async def _send_to_kafka(self, publications: Sequence[Publication]) -> Sent:
        """Keyed by the member's id in text; aiokafka's default partitioner is murmur2, as the contract asks."""
        headers = [("content-type", b"application/cloudevents+json")]
        async for attempt in stamina.retry_context(on=KafkaError, timeout=PATIENCE_S, attempts=None, wait_max=2.0):
            with attempt:
                waiting = [
                    await self.producer.send(self._topic, p.body, key=str(p.member.member_id).encode(), headers=headers)
                    for p in publications
                ]
                await asyncio.gather(*waiting)
        return Sent(events=len(publications))

    async def _send_of_member(self, publications: Sequence[Publication]) -> Sent:
        sent = Sent()
        async with self._slots:
            for run in _runs(publications):
                first = run[0]
                try:
                    if first.kind == "intake":
                        await self._send_intake(first)
                        sent.intakes += 1
                    elif first.kind == "message":
                        await self._send_message(first)
                        sent.messages += 1
                    else:
                        sent.add(await self._send_events(run))
                except Refused as refusal:
                    sent.refused[f"{first.kind}: {refusal.code}"] += 1
        return sent

    async def _send_intake(self, publication: Publication) -> None:
        member = publication.member
        headers = {**await self.access.as_member(member.member_id), "Idempotency-Key": publication.id}
        headers["Content-Type"] = "application/json"
        await self.access.ask("POST", "enrollment", "/v1/intakes", headers=headers, content=publication.body)

    async def _send_events(self, publications: Sequence[Publication]) -> Sent:
        """One request; again where Kafka did not acknowledge some of it, as sending an event twice is safe."""
        headers = await self.access.as_member(publications[0].member.member_id)
        headers |= {"Content-Type": "application/cloudevents-batch+json"}
        body = b"[" + b",".join(p.body for p in publications) + b"]"
        async for attempt in stamina.retry_context(on=Away, timeout=PATIENCE_S, attempts=None, wait_max=2.0):
            with attempt:
                answer = await self.access.ask("POST", "plans", "/v1/events", headers=headers, content=body)
                problems = [each["problem"] for each in answer.json()["results"] if each["status"] == "rejected"]
                if any(problem["status"] == httpx.codes.SERVICE_UNAVAILABLE for problem in problems):
                    raise Away("plans: not acknowledged")
        return Sent(events=len(publications), refused=Counter(f"event: {code_of(problem)}" for problem in problems))

    async def _send_message(self, publication: Publication) -> None:
        member_id = publication.member.member_id
        headers = {**await self.access.as_member(member_id), "Idempotency-Key": publication.id}
        path = f"/v1/members/{member_id}/messages"
        await self.access.ask("POST", "messaging", path, headers=headers, json={"text": publication.body.decode()})


def _runs(publications: Iterable[Publication]) -> list[list[Publication]]:
    """Neighbouring events together, at most as many as one request may hold; each other thing alone."""
    runs: list[list[Publication]] = []
    for publication in publications:
        joins = runs and publication.kind == "event" and runs[-1][0].kind == "event" and len(runs[-1]) < BATCH_MAX
        if joins:
            runs[-1].append(publication)
        else:
            runs.append([publication])
    return runs


@asynccontextmanager
async def open_phones(access: Access, *, via: Via) -> AsyncIterator[Phones]:
    """Phones of a running stack, for as long as the block runs."""
    producer = open_producer(access.stack)
    await producer.start()
    try:
        yield Phones(access=access, producer=producer, via=via)
    finally:
        await producer.stop()


def open_producer(stack: Stack) -> AIOKafkaProducer:
    return AIOKafkaProducer(**kafka_options(stack), acks="all", enable_idempotence=True)
