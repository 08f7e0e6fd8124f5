"""Each service's own page names what the service really takes, tells and keeps."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from shared.events.catalogue import SERVICES, TOPIC_OF, TOPICS
from shared.subscriptions import Subscription, TimerSubscription

ROOT = Path(__file__).parents[1] / "services"
ROW = re.compile(r"^\| (?P<when>[^|]+) \| (?P<group>[^|]*)\| `(?P<handler>\w+)` \|", re.MULTILINE)


def readme(service: str) -> str:
    return (ROOT / service / "README.md").read_text("utf-8")


def told(service: str) -> set[tuple[str, str, str]]:
    """(event or timer, consumer group, handler) of the table "Who reacts to what"; requests have no place here."""
    return {
        (what.strip(), row["group"].strip(), row["handler"])
        for row in ROW.finditer(readme(service))
        if not row["when"].startswith(("GET ", "POST ", "PUT "))
        for what in row["when"].split(",")
    }


def is_so(service: str) -> set[tuple[str, str, str]]:
    found = import_module(f"services.{service}.subscriptions")
    subscriptions: tuple[Subscription, ...] = found.SUBSCRIPTIONS
    timers: tuple[TimerSubscription, ...] = found.TIMERS
    events = {
        (event.NAME, one.group, one.run.__name__)  # type: ignore[attr-defined]  # a plain function
        for one in subscriptions
        for event in one.events or TOPIC_OF[one.topic].events
    }
    return events | {(f"timer {one.kind}", "", one.run.__name__) for one in timers}


@pytest.mark.parametrize("service", SERVICES)
def test_the_page_names_every_event_and_timer_with_its_group_and_handler_and_no_other(service: str) -> None:
    assert told(service) == is_so(service)


@pytest.mark.parametrize("service", SERVICES)
def test_every_published_event_and_every_table_is_named(service: str) -> None:
    page = readme(service)
    published = {event.NAME for topic in TOPICS if topic.publisher == service for event in topic.events}
    tables = {
        name
        for path in (ROOT / service / "migrations").glob("*.sql")
        for name in re.findall(r"create (?:unlogged )?table (\w+)", path.read_text("utf-8"))
    }
    assert published
    assert tables
    assert {name for name in published if name not in page} == set()
    assert {name for name in tables if f"`{name}`" not in page} == set()
