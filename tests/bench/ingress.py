"""Events over HTTP: our ingress beside the bare web framework that posts the same bytes to Kafka and checks nothing.

python -m tests.bench.ingress ours|bare|post     a server; or the app that posts, whose counts are a line of JSON
"""

import asyncio
import json
import os
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import orjson
import psutil
import uvicorn
import uvloop
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from deploy.local.ports import choose_port
from services.plans.api.cloudevents import BATCH, SINGLE
from services.plans.api.events import router
from services.plans.api.known_events import KnownEvents
from services.plans.settings import PlansSettings
from shared.auth import Authenticator
from shared.clock import monotonic
from shared.events.codec import HEADERS
from shared.publishing import Publisher
from shared.service import Service, Task, run
from shared.settings import ServiceSettings
from shared.topics import topic_name
from tests.bench.job import TOPIC
from tests.bench.profiles import describe_profile
from tests.bench.sessions import make_members, make_topic, sessions
from tests.bench.stage import Stage, is_ready, new_namespace, program
from tests.fixtures.tokens import AUDIENCE, ISSUER, Tokens

CONNECTIONS = 32
SECONDS = 4.0
PATH = "/v1/events"


async def contest(stage: Stage, *, batch: int) -> dict[str, Any]:
    results: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    for _ in range(stage.rounds):
        for name, measured in results.items():
            measured.append(await _measure(stage, name, batch))
    profile = Path(f"build/bench-ingress_{batch}.txt")
    await _measure(stage, "ours", batch, profile)
    pairs = zip(results["ours"], results["bare"], strict=True)
    middle = {
        name: {key: statistics.median(one[key] for one in measured) for key in measured[0]}
        for name, measured in results.items()
    }
    return {
        "name": f"ingress_{batch}",
        "unit": "events/s",
        "ours": round(middle["ours"]["per_s"]),
        "beside": {"bare_framework": round(middle["bare"]["per_s"])},
        "ratio": round(statistics.median(ours["per_s"] / bare["per_s"] for ours, bare in pairs), 2),
        "mark": 0.7,
        "ours_cpu_us": round(middle["ours"]["cpu_us"], 1),
        "bare_cpu_us": round(middle["bare"]["cpu_us"], 1),
        "limited_by": f"one Python thread, busy {middle['ours']['per_s'] * middle['ours']['cpu_us'] / 1e6:.0%}",
        "profile": str(profile),
    }


async def _measure(stage: Stage, name: str, batch: int, profile: Path | None = None) -> dict[str, float]:
    namespace, url, port = new_namespace(), await stage.database("plans"), choose_port()
    await make_topic(stage.servers.kafka_bootstrap, namespace)
    tokens = Tokens()
    environment = stage.environment(
        namespace, url, CARELOOP_PORT=str(port), BENCH_JWKS=json.dumps(tokens.jwks), BENCH_TOKEN=tokens.app,
        BENCH_BATCH=str(batch),
    )  # fmt: skip
    async with program("tests.bench.ingress", environment, name) as server:
        await is_ready(port)
        seen = psutil.Process(server.pid)
        spent = sum(seen.cpu_times()[:2])
        sampling = describe_profile(server.pid, profile) if profile else nullcontext()
        async with program("tests.bench.ingress", environment, "post") as app:
            with sampling:
                said, _ = await app.communicate()
        found: dict[str, float] = json.loads(said)
        return {"per_s": found["per_s"], "cpu_us": (sum(seen.cpu_times()[:2]) - spent) / found["events"] * 1e6}


# -- the two servers


def ours() -> None:
    """Plans without its consumers, which another replica may be: what they cost is in the rows about consuming."""
    settings = PlansSettings()
    publisher = Publisher(settings, timeout_s=settings.publish_timeout_s)
    tasks = [Task("publisher", lambda _: publisher.run())]
    service = Service(name="plans", settings=settings, routers=[router], tasks=tasks)
    service.app.state.publisher = publisher
    service.app.state.known_events = KnownEvents(service)
    service.app.state.authenticator = Authenticator.from_keys(
        json.loads(os.environ["BENCH_JWKS"]), issuer=ISSUER, audience=AUDIENCE
    )
    run(service)


def bare() -> None:
    settings = ServiceSettings()
    topic = topic_name(settings.namespace, TOPIC)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AIOKafkaProducer(
            bootstrap_servers=settings.kafka_bootstrap, acks="all", enable_idempotence=True, max_batch_size=512 * 1024
        ) as producer:
            app.state.producer = producer
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post(PATH)
    async def publish(request: Request) -> JSONResponse:
        read = orjson.loads(await request.body())
        events = read if isinstance(read, list) else [read]
        sent = [
            await app.state.producer.send(
                topic, value=orjson.dumps(event), key=event["subject"].encode(), headers=list(HEADERS)
            )
            for event in events
        ]
        await asyncio.wait(sent)
        return JSONResponse({"results": [{"id": event["id"], "status": "accepted"} for event in events]}, 202)

    @app.get("/health/ready")
    async def ready() -> None:
        return None

    uvicorn.run(app, host="127.0.0.1", port=settings.port, loop="uvloop", log_level="warning", access_log=False)


# -- the app


async def post() -> None:
    """Many connections that post one request after the other; the answers are counted, anything but 202 ends it."""
    batch, port = int(os.environ["BENCH_BATCH"]), int(os.environ["CARELOOP_PORT"])
    values = [value for _, value in sessions("light", make_members(), 40_000)]
    groups = [values[start : start + batch] for start in range(0, len(values), batch)]
    requests = [_request(b"[%b]" % b",".join(group) if batch > 1 else group[0], batch, port) for group in groups]
    waiting = iter(requests)
    began, done = monotonic(), 0

    async def connection() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for request in waiting:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(head.decode())
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            done += batch
            if monotonic() - began > SECONDS:
                break
        writer.close()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    print(json.dumps({"per_s": done / (monotonic() - began), "events": done}))


def _request(body: bytes, batch: int, port: int) -> bytes:
    lines = [
        f"POST {PATH} HTTP/1.1", f"host: 127.0.0.1:{port}", f"content-type: {BATCH if batch > 1 else SINGLE}",
        f"authorization: Bearer {os.environ['BENCH_TOKEN']}", f"content-length: {len(body)}", "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + body


if __name__ == "__main__":
    if sys.argv[1] == "post":
        uvloop.run(post())
    else:
        (ours if sys.argv[1] == "ours" else bare)()
