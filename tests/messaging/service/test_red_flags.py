"""A red flag is told of whatever else is the matter with its member, whoever tells of it."""

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import orjson
import pytest

from services.messaging.domain.timeline import describe_event
from services.messaging.handlers import follow_plans
from shared import service as commands
from shared.clock import wall_now
from shared.events import CloudEvent
from shared.events.codec import encode
from shared.member_locks import lock_members
from tests.fixtures.eventually import eventually
from tests.messaging.given import MEMBER, enrolled, flagged, screened, spiked
from tests.messaging.service.clinic import Clinic

WAYS = pytest.mark.parametrize("topic", ["careloop.plans", "careloop.members"])


def red_flag(topic: str) -> CloudEvent:
    flag = (flagged if topic == "careloop.plans" else screened)("emergency", "chest-pain-breathless")
    return flag.model_copy(update={"time": wall_now()})


async def raised(clinic: Clinic) -> list[tuple[Any, ...]]:
    rows = await clinic.running.service.database.fetch("select kind, priority, status, repeats from alerts")
    return [tuple(row) for row in rows]


async def held(clinic: Clinic) -> set[tuple[str, str]]:
    rows = await clinic.running.service.database.fetch("select consumer_group, reason from delivery.held_events")
    return {(row["consumer_group"], row["reason"]) for row in rows}


@WAYS
async def test_a_red_flag_passes_a_bad_event_of_its_member(clinic: Clinic, topic: str) -> None:
    next_release = orjson.loads(encode(enrolled(at=wall_now()))) | {"type": "org.careloop.member.moved.v1"}
    await clinic.publish.raw(topic, orjson.dumps(next_release), key=str(MEMBER).encode())
    await clinic.publish(topic, red_flag(topic))
    await eventually(lambda: raised(clinic), within=15, what="the alert")
    await clinic.running.settled()
    group = "messaging.plans" if topic == "careloop.plans" else "messaging.members"
    assert (group, "behind") in await held(clinic), "all else about it waits"
    assert await raised(clinic) == [("safety", "emergency", "open", 0)]


@WAYS
async def test_a_red_flag_waits_for_nobodys_lock(clinic: Clinic, topic: str) -> None:
    async with clinic.running.service.database.acquire() as connection, connection.transaction():
        await lock_members(connection, [MEMBER])
        await clinic.publish(topic, red_flag(topic))
        await eventually(lambda: raised(clinic), within=8, what="the alert")
    await clinic.running.settled()
    assert await raised(clinic) == [("safety", "emergency", "open", 0)]
    assert await held(clinic) == set()


async def test_words_under_a_key_that_other_words_used_are_looked_at_all_the_same(clinic: Clinic) -> None:
    """An app that numbers what it sends begins again once installed anew. What tells of no red flag is refused."""
    path = f"/v1/members/{MEMBER}/messages"

    async def send(text: str) -> httpx.Response:
        return await clinic.ask("POST", path, token=clinic.member, json={"text": text}, **{"Idempotency-Key": "1"})

    assert (await send("Hello")).status_code == 201
    assert (await send("Hello again")).status_code == 409
    first, again = [await send("I have chest pain and cannot breathe") for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "911" in first.json()["instruction"]
    assert await raised(clinic) == [("safety", "emergency", "open", 0)]
    worse = "My chest pain is worse and I cannot breathe"
    assert (await send(worse)).status_code == 201
    assert await raised(clinic) == [("safety", "emergency", "open", 1)], "other words of a red flag, too"
    read = await clinic.ask("GET", path, token=clinic.coach)
    texts = ["Hello", "I have chest pain and cannot breathe", worse]
    assert [message["text"] for message in read.json()["messages"]] == texts


RED = "I have chest pain and cannot breathe"


@pytest.mark.parametrize(
    "body",
    [
        {"text": RED, "alert_id": str(uuid4())},
        {"text": RED, "alert_id": "the last one"},
        {"text": f"{RED} {'all day ' * 600}"},
        {"text": f"{'all day ' * 600} {RED}"},
        {"text": f"{RED}\x00"},
        {"text": RED, "mood": "bad"},
    ],
    ids=["answers-an-alert", "no-alert-id", "too-long", "too-long-before", "nul", "unknown-field"],
)
async def test_words_of_a_message_that_is_refused_are_looked_at_all_the_same(clinic: Clinic, body: Any) -> None:
    """Given a message that cannot be taken, when its words tell of a red flag, then whoever sent it is told what to do,
    and so is who cares for them; sent again with its key it is told once."""
    path = f"/v1/members/{MEMBER}/messages"
    key = {"Idempotency-Key": "1"}
    answers = [await clinic.ask("POST", path, token=clinic.member, json=body, **key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [422, 422]
    for answer in answers:
        assert "911" in answer.json()["instruction"]
        assert RED not in answer.text
    await clinic.running.settled()
    assert await raised(clinic) == [("safety", "emergency", "open", 0)]
    assert (await clinic.ask("GET", path, token=clinic.coach)).json()["messages"] == []
    harmless = await clinic.ask("POST", path, token=clinic.member, json=body | {"text": "Hello" * 1_000}, **key)
    assert (harmless.status_code, harmless.json().get("instruction")) == (422, None)
    of_the_team = await clinic.ask("POST", path, token=clinic.coach, json=body | {"mood": "bad"})
    assert (of_the_team.status_code, of_the_team.json().get("instruction")) == (422, None)
    assert await raised(clinic) == [("safety", "emergency", "open", 0)]


@pytest.mark.parametrize("topic", [None, "careloop.plans"])
async def test_words_of_a_message_that_is_refused_ask_once_whatever_became_of_it(
    clinic: Clinic, topic: str | None
) -> None:
    """An app sends again what was not taken: what joined an alert asks no second time, nor does what somebody has dealt
    with."""
    path, key = f"/v1/members/{MEMBER}/messages", {"Idempotency-Key": "1"}
    if topic is not None:
        await clinic.publish(topic, red_flag(topic))
        await eventually(lambda: raised(clinic), within=15, what="the alert")
    repeats = 0 if topic is None else 1

    async def send() -> None:
        refused = await clinic.ask("POST", path, token=clinic.member, json={"text": RED, "mood": "bad"}, **key)
        assert (refused.status_code, "911" in refused.json()["instruction"]) == (422, True)

    for _ in range(2):
        await send()
        assert await raised(clinic) == [("safety", "emergency", "open", repeats)]
    (alert,) = await clinic.queue(clinic.coach)
    done = {"outcome": "reached-member", "seen": repeats}
    resolved = await clinic.ask("POST", f"/v1/alerts/{alert['alert_id']}/resolve", token=clinic.coach, json=done)
    assert resolved.status_code == 200, resolved.text
    await send()
    assert await raised(clinic) == [("safety", "emergency", "resolved", repeats)]


async def test_a_half_sign_beside_words_of_a_red_flag_hides_nothing(clinic: Clinic) -> None:
    """JSON can hold what is no text; no hash and no database takes it."""
    headers = {**clinic.tokens.bearer(clinic.member), "Idempotency-Key": "1", "Content-Type": "application/json"}
    body = b'{"text": "%s \\ud83d"}' % RED.encode()
    answer = await clinic.running.client.post(f"/v1/members/{MEMBER}/messages", content=body, headers=headers)
    assert (answer.status_code, "911" in answer.json()["instruction"]) == (422, True)
    assert await raised(clinic) == [("safety", "emergency", "open", 0)]


async def test_where_no_database_answers_whoever_writes_of_a_red_flag_is_told_what_to_do(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def locked(*_: Any, **__: Any) -> None:
        raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")

    path, key = f"/v1/members/{MEMBER}/messages", {"Idempotency-Key": "1"}
    with monkeypatch.context() as patch:
        patch.setattr(commands, "lock_members", locked)
        taken, unfit = [
            await clinic.ask("POST", path, token=clinic.member, json={"text": RED, **more}, **key)
            for more in ({}, {"mood": "bad"})
        ]
        harmless = await clinic.ask("POST", path, token=clinic.member, json={"text": "Hello"})
    for answer in (taken, unfit):
        assert (answer.status_code, "911" in answer.json()["instruction"]) == (503, True)
    assert (harmless.status_code, harmless.json().get("instruction")) == (503, None)
    assert (await clinic.ask("POST", path, token=clinic.member, json={"text": RED}, **key)).status_code == 201
    assert await raised(clinic) == [("safety", "emergency", "open", 0)]


WAITS_FOR_THE_ALERT = """
select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')
"""


async def test_a_red_flag_does_not_wait_for_the_search_for_a_bug(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a chunk that is tried in pieces one has written, another waits for an alert that somebody changes: nobody has
    the feed in hand meanwhile."""
    database = clinic.running.service.database
    guilty = uuid4()

    def fail_for_one(event: Any, *, service: str) -> Any:
        if event.subject == guilty:
            raise RuntimeError
        return describe_event(event, service=service)

    def about(member: UUID) -> CloudEvent:
        return spiked().model_copy(update={"id": str(uuid4()), "time": wall_now(), "subject": member})

    async def alert_of(member: UUID) -> Any:
        return await database.fetchval("select alert_id from alerts where member_id = $1", member)

    monkeypatch.setattr(follow_plans, "describe_event", fail_for_one)
    await clinic.publish("careloop.plans", about(MEMBER))
    alert = await eventually(lambda: alert_of(MEMBER), within=20)
    await clinic.running.settled()
    somebody = await asyncpg.connect(clinic.running.database_url)
    try:
        async with somebody.transaction():
            await somebody.execute("select 1 from alerts where alert_id = $1 for update", alert)
            await clinic.publish("careloop.plans", about(uuid4()), about(guilty), about(MEMBER))
            await eventually(lambda: somebody.fetchval(WAITS_FOR_THE_ALERT), within=20)
            other = uuid4()
            flag = flagged("emergency", "chest-pain-breathless")
            await clinic.publish("careloop.plans", flag.model_copy(update={"time": wall_now(), "subject": other}))
            await eventually(lambda: alert_of(other), within=5, what="the alert")
            assert await somebody.fetchval(WAITS_FOR_THE_ALERT)
    finally:
        await somebody.close()
    await clinic.running.settled()
