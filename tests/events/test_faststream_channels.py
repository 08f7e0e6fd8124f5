"""What FastStream really subscribes to, service by service, is what the AsyncAPI document says."""

from importlib import import_module
from typing import Any, cast

import pytest
import yaml

from deploy.contracts import generate
from deploy.contracts.settings_page import settings_classes
from shared.broker import build_broker
from shared.events.catalogue import SERVICES
from shared.intake import Intake
from shared.service import Service
from shared.taking import ChunkTaker

DOCUMENT = yaml.safe_load((generate.REFERENCE / "asyncapi.yaml").read_text())


def built(service: str, **values: Any) -> Service:
    """The service as its own main.py composes it, not started."""
    (settings,) = [found for module, found in settings_classes("services") if module == f"services.{service}.settings"]
    main = import_module(f"services.{service}.main")
    return cast(Service, main.build(settings(database_url="postgresql://nobody@127.0.0.1/nothing", **values)))


def subscribed(service: Service) -> set[tuple[str, str]]:
    """(topic, group) of each FastStream subscriber, after the runtime has declared them."""
    broker = build_broker(service.settings)
    for reader in service.readers.values():
        taker = ChunkTaker(
            reader=reader,
            service=service.name,
            database=cast(Any, None),
            clock=service.clock,
            settle_waiting=service.settle_waiting,
            committed=service.committed,
        )
        Intake(taker, service.settings).subscribe(broker)
    subscribers = cast(list[Any], broker.subscribers)
    found = [(topic.name, subscriber.group_id) for subscriber in subscribers for topic in subscriber.topics]
    assert len(found) == len(set(found))
    return set(found)


def documented(service: str) -> set[tuple[str, str]]:
    return {
        (DOCUMENT["channels"][operation["channel"]["$ref"].rsplit("/", 1)[1]]["address"], group)
        for operation in DOCUMENT["operations"].values()
        if operation["action"] == "receive"
        for group in operation["bindings"]["kafka"]["groupId"]["enum"]
        if group.startswith(f"{service}.")
    }


@pytest.mark.parametrize("service", SERVICES)
async def test_subscriptions_are_the_documents(service: str) -> None:
    assert subscribed(built(service)) == documented(service)


async def test_a_namespace_goes_before_every_topic_and_group() -> None:
    assert subscribed(built("plans", namespace="t3f9")) == {
        (f"t3f9.{topic}", f"t3f9.{group}") for topic, group in documented("plans")
    }
