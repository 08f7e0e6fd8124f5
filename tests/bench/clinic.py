"""Plans and messaging as two processes, and members that both know: for rows about the whole loop."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
from aiokafka import AIOKafkaProducer

from deploy.local.ports import choose_port
from shared.events.catalogue import TOPICS
from shared.events.codec import HEADERS, encode
from shared.events.envelope import CloudEvent
from shared.events.vocabulary import Practitioner
from shared.topics import topic_name
from tests.bench.sessions import make_topic
from tests.bench.stage import Stage, is_ready, new_namespace, program
from tests.fixtures.eventually import eventually
from tests.fixtures.tokens import Tokens
from tests.messaging.given import enrolled, team_assigned

SETTLED_S = 180.0


@dataclass
class Clinic:
    namespace: str
    tokens: Tokens
    ports: dict[str, int]
    pids: dict[str, int]
    producer: AIOKafkaProducer

    async def send(self, topic: str, member: UUID, value: bytes) -> None:
        name = topic_name(self.namespace, topic)
        await self.producer.send(name, value=value, key=str(member).encode(), headers=list(HEADERS))

    async def enrol(self, members: Sequence[UUID], *, coach: Practitioner) -> None:
        """Every member has a plan and a care team, and both services know it."""
        at = datetime.now(UTC) - timedelta(days=20)
        for member in members:
            events: list[CloudEvent] = [enrolled(member, at=at), team_assigned(member, coach=coach, at=at)]
            for event in events:
                await self.send("careloop.members", member, encode(event))
        await self.producer.flush()

    async def settled(self) -> None:
        """Both services have done all there is to do, twice in a row: what one does makes work for the other."""
        for port in [*self.ports.values(), *self.ports.values()]:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=SETTLED_S) as client:

                async def rests(client: httpx.AsyncClient = client) -> bool:
                    answer = (await client.get("/health/progress")).json()
                    assert answer.get("settled"), answer
                    return True

                await eventually(rests, within=SETTLED_S, what="a service settles")


def make_coach() -> Practitioner:
    return Practitioner(practitioner_id=uuid4(), role="coach", name="Cora Coach")


@asynccontextmanager
async def open_clinic(stage: Stage, folder: Path | None = None) -> AsyncIterator[Clinic]:
    """`folder`: of another checkout, whose services these are."""
    namespace, tokens = new_namespace(), Tokens()
    for topic in TOPICS:
        await make_topic(stage.servers.kafka_bootstrap, namespace, topic.name)
    async with AsyncExitStack() as stack:
        ports, pids = {}, {}
        for service in ("plans", "messaging"):
            ports[service] = choose_port()
            environment = stage.environment(
                namespace, await stage.database(service), CARELOOP_PORT=str(ports[service]),
                BENCH_JWKS=json.dumps(tokens.jwks),
            )  # fmt: skip
            started = await stack.enter_async_context(
                program("tests.bench.with_keys", environment, service, folder=folder)
            )
            pids[service] = started.pid
        for port in ports.values():
            await is_ready(port)
        producer = AIOKafkaProducer(bootstrap_servers=stage.servers.kafka_bootstrap, acks="all")
        await stack.enter_async_context(producer)
        yield Clinic(namespace, tokens, ports, pids, producer)
