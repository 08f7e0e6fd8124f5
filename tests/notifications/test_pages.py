"""A page of an alert that cannot wait is planned whatever is parked for its member, and once."""

from datetime import timedelta
from functools import partial
from uuid import uuid4

import orjson
import pytest

from services.notifications.handlers.follow_conversations import follow_conversations
from services.notifications.handlers.follow_members import follow_members
from services.notifications.handlers.page_at_once import page_at_once
from services.notifications.main import build
from services.notifications.settings import NotificationsSettings
from shared.events.catalogue import TOPICS
from shared.events.codec import encode
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunService
from tests.fixtures.topics import TopicFactory
from tests.notifications.conftest import Desk
from tests.notifications.journal import Clock, Journal

DAY = timedelta(days=1)


async def test_a_page_passes_a_bad_event_of_its_member(
    run_service: RunService, publish: Publish, topics: TopicFactory
) -> None:
    await topics(*(topic.name for topic in TOPICS), partitions=1)
    clock, alert_id = Clock(), uuid4()
    ana = Journal(clock)
    bad = {**orjson.loads(encode(ana.alert(uuid4()))), "type": "org.careloop.message.edited.v1"}
    async with run_service(partial(build, clock=clock), NotificationsSettings, name="notifications") as running:
        await publish.raw("careloop.conversations", orjson.dumps(bad), key=str(ana.member_id).encode())
        await publish("careloop.conversations", ana.alert(alert_id), ana.escalated(alert_id))

        async def are_planned() -> bool:
            rows = await running.service.database.fetch("select about, template from notifications")
            assert [tuple(row) for row in rows] == [(f"alert {alert_id}", "page")] * 2
            return True

        await eventually(are_planned, what="both pages are planned")
        await running.settled()  # the two groups take what they take at their own pace
        held = await running.service.database.fetch("select consumer_group, state, blocks from delivery.held_events")
        assert sorted(tuple(row) for row in held) == [
            ("notifications.conversations", "dead", True),
            ("notifications.conversations", "parked", True),
            ("notifications.conversations", "parked", True),
            ("notifications.safety", "dead", False),
        ]


@pytest.mark.parametrize("at_once_first", [True, False])
async def test_a_page_is_planned_once_and_is_moot_once_somebody_took_the_alert(desk: Desk, at_once_first: bool) -> None:
    ana, alert_id = desk.member(), uuid4()
    asked = ana.alert(alert_id)
    first, second = (page_at_once, follow_conversations) if at_once_first else (follow_conversations, page_at_once)
    await desk.take(first, asked)
    await desk.take(second, asked)
    await desk.take(follow_conversations, ana.acknowledged(alert_id))
    await desk.take(page_at_once, asked)
    assert [(row["template"], row["state"]) for row in await desk.rows()] == [("page", "suppressed")]


async def test_what_would_be_stale_is_not_paged_by_a_group_that_begins(desk: Desk) -> None:
    ana = desk.member()
    old, recent, routine = ana.alert(uuid4()), ana.alert(uuid4()), ana.alert(uuid4(), priority="routine")
    desk.clock.at += DAY / 2
    old = old.model_copy(update={"time": desk.clock.now() - DAY})
    await desk.take(page_at_once, old, recent, routine)
    assert [row["about"] for row in await desk.rows()] == [f"alert {recent.data.alert_id}"]


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_who_is_asked_about_somebody_who_has_left_is_paged(desk: Desk, leaves_first: bool) -> None:
    """Whoever has left is written to no more; a clinician still looks at what was raised about them."""
    ana, alert_id = desk.member(), uuid4()
    await desk.take(follow_members, ana.enrolled())
    if leaves_first:
        await desk.take(follow_members, ana.disenrolled())
        await desk.take(page_at_once, ana.alert(alert_id))
    else:
        await desk.take(page_at_once, ana.alert(alert_id))
        await desk.take(follow_members, ana.disenrolled())
    attempts, _ = await desk.claim(mailboxes={"oncall": "oncall@clinic.example"})
    assert [one.address for one in attempts] == ["oncall@clinic.example"]
