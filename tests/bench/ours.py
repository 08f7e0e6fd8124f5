"""The contestant that is ours: a service with one subscription, as every service of the product is built."""

import asyncio
import os
from typing import Any

from services.plans.handlers.follow_activity import follow_activity
from shared.relay import Relay
from shared.service import Service, run
from shared.settings import ServiceSettings
from shared.subscriptions import Subscription
from tests.bench.job import TOPIC, follow_sessions

HANDLERS: dict[str, Any] = {"consume": follow_sessions, "consume_rules": follow_activity}


async def run_no_relay(self: Relay) -> None:
    """The job ends in the outbox for every contestant, so nobody hands it over while the clock runs."""
    await asyncio.Event().wait()


def build(settings: ServiceSettings) -> Service:
    subscription = Subscription(topic=TOPIC, group="bench.ours", run=HANDLERS[os.environ["BENCH_JOB"]])
    service = os.environ.get("BENCH_SERVICE", "bench")
    return Service(name=service, settings=settings, subscriptions=[subscription])


if __name__ == "__main__":
    Relay.run = run_no_relay  # type: ignore[method-assign]
    run(build(ServiceSettings()))
