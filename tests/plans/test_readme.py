"""The service's own page names what the service really takes, tells and keeps."""

import re
from pathlib import Path

from fastapi.routing import APIRoute

from services.plans.api.events import router as events_router
from services.plans.api.plans import router as plans_router
from services.plans.subscriptions import SUBSCRIPTIONS, TIMERS
from shared.events.catalogue import TOPIC_OF, TOPICS

PLANS = Path(__file__).parents[2] / "services" / "plans"
README = (PLANS / "README.md").read_text("utf-8")


def test_every_subscription_and_timer_is_named_with_its_handler() -> None:
    for subscription in SUBSCRIPTIONS:
        for event in subscription.events or TOPIC_OF[subscription.topic].events:
            row = rf"\|.*{re.escape(event.NAME)}.*\| {subscription.group} \| `{subscription.run.__name__}` \|"  # type: ignore[attr-defined]
            assert re.search(row, README), f"{event.NAME} in {subscription.group}"
    for timer in TIMERS:
        assert f"timer {timer.kind}" in README


def test_subscriptions_are_those_of_the_catalogue() -> None:
    expected = {(topic.name, group) for topic in TOPICS for group in topic.consumers if group.startswith("plans.")}
    assert {(one.topic, one.group) for one in SUBSCRIPTIONS} == expected


def test_every_published_event_table_and_route_is_named() -> None:
    for event in TOPIC_OF["careloop.plans"].events:
        assert event.NAME in README
    tables = {
        name
        for path in (PLANS / "migrations").glob("*.sql")
        for name in re.findall(r"create table (\w+)", path.read_text("utf-8"))
    }
    assert tables
    assert all(f"`{name}`" in README for name in tables)
    for route in [*events_router.routes, *plans_router.routes]:
        assert isinstance(route, APIRoute)
        path = route.path.replace("{source_and_id:path}", "{source}/{id}").replace("{member_id}", "{id}")
        assert path.removeprefix("/v1/members/{id}/plan") in README
