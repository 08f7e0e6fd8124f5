"""Plans over HTTP and Kafka, as the apps and the care team use it, on the real broker and database."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import orjson
import pytest
from aiokafka import AIOKafkaConsumer

from services.plans.main import build
from services.plans.settings import PlansSettings
from shared.clock import wall_now
from shared.events import CloudEvent, SafetyFlagged
from shared.events.catalogue import TOPIC_OF
from shared.events.codec import Decoder, encode
from shared.events.envelope import EVENT_SIZE_MAX
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.services import Publish, RunningService, RunService
from tests.fixtures.tokens import Tokens
from tests.fixtures.topics import TopicFactory
from tests.plans.given import COACH, PT, care_team_assigned, member_enrolled, pain_reported, session_completed

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
HOUR = timedelta(hours=1)


def now() -> datetime:
    return wall_now().replace(microsecond=0).astimezone(UTC)


def as_json(event: CloudEvent) -> Any:
    return orjson.loads(encode(event))


async def post(plans: RunningService, token: str, body: Any, *, content_type: str = SINGLE) -> Any:
    headers = {**Tokens.bearer(token), "content-type": content_type}
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return await plans.client.post("/v1/events", content=content, headers=headers)


async def enrol(plans: RunningService, publish: Publish, tokens: Tokens, member_id: UUID) -> Any:
    """A member with a plan and a care team; the plan as an app reads it."""
    event = member_enrolled(member_id, at=now() - 24 * HOUR)
    await publish("careloop.members", event, care_team_assigned(member_id, at=now()))
    await plans.settled()
    return (await read(plans, member_id, tokens.member(member_id))).json()


async def read(plans: RunningService, member_id: UUID, token: str, rest: str = "") -> Any:
    return await plans.client.get(f"/v1/members/{member_id}/plan{rest}", headers=Tokens.bearer(token))


async def published(servers: RunningServers, namespace: str, topic: str, *, at_least: int) -> list[CloudEvent]:
    """What lies in a topic once it holds so many records."""
    decoder = Decoder(TOPIC_OF[topic])
    found: list[CloudEvent] = []
    consumer = AIOKafkaConsumer(
        f"{namespace}.{topic}", bootstrap_servers=servers.kafka_bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            while len(found) < at_least:
                record = await consumer.getone()
                assert record.key == str(decoder.decode(record.value, record.headers).subject).encode()
                found.append(decoder.decode(record.value, record.headers))
    finally:
        await consumer.stop()
    return found


async def test_a_session_that_an_app_posts_changes_the_plan_and_says_what_became_of_it(
    plans: RunningService, publish: Publish, tokens: Tokens, servers: RunningServers, namespace: str
) -> None:
    member_id = uuid4()
    before = await enrol(plans, publish, tokens, member_id)
    assert before["version"] == 1
    assert len(before["elements"]) == 6
    assert before["next_session"]["items"][0]["reason"]
    event = session_completed(member_id, at=now(), pain_during=7)
    answer = await post(plans, tokens.member(member_id), as_json(event))
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"index": 0, "id": event.id, "source": event.source, "status": "accepted"}
    await plans.settled()
    after = (await read(plans, member_id, tokens.member(member_id))).json()
    assert after["version"] == 2
    assert {item["last_action"] for item in after["items"]} == {"regress"}
    assert after["items"][0]["decision"]["evidence"][0]["id"] == event.id
    asked = await plans.client.get(
        f"/v1/events/{quote(event.source, safe='')}/{event.id}", headers=Tokens.bearer(tokens.member(member_id))
    )
    assert asked.json() == {"source": event.source, "id": event.id, "status": "applied", "safety": "applied"}
    told = await published(servers, namespace, "careloop.plans", at_least=4)
    assert [one.NAME for one in told] == ["plan.issued", "pain.spiked", "plan.revised", "milestone.reached"]
    assert {one.causationid for one in told[1:]} == {event.id}
    assert {one.correlationid for one in told[1:]} == {event.chain}


async def test_each_event_of_a_batch_is_answered_on_its_own(plans: RunningService, tokens: Tokens) -> None:
    member_id = uuid4()
    good, other = pain_reported(member_id, at=now(), score=3), pain_reported(member_id, at=now(), score=4)
    stranger = pain_reported(uuid4(), at=now(), score=3)
    ahead = pain_reported(member_id, at=now() + 2 * HOUR, score=3)
    old = pain_reported(member_id, at=now() - 31 * 24 * HOUR, score=3)
    impossible = as_json(pain_reported(member_id, at=now(), score=3))
    impossible["data"]["score"] = 11
    conflict = as_json(good)
    conflict["data"]["score"] = 9
    foreign = {**as_json(other), "type": "org.careloop.visit.booked.v1"}
    oversized = {**as_json(other), "padding": "x" * 70_000}
    namesake = {**as_json(other), "id": good.id, "source": "urn:test:another-app"}
    batch = [
        as_json(good),
        as_json(stranger),
        as_json(ahead),
        as_json(old),
        impossible,
        conflict,
        foreign,
        oversized,
        7,
    ]
    batch += [as_json(good), as_json(other), namesake]
    answer = await post(plans, tokens.member(member_id), batch, content_type=BATCH)
    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [one["index"] for one in results] == list(range(12))
    assert [one["status"] for one in results] == ["accepted", *["rejected"] * 8, *["accepted"] * 3]
    problems = [one["problem"]["type"].rsplit(":", 1)[1] for one in results[1:9]]
    assert problems == [
        "not-yourself", "time-ahead", "too-old", "invalid", "identity-conflict",
        "unknown-type", "oversized", "malformed",
    ]  # fmt: skip
    assert results[4]["problem"]["errors"][0]["field"] == "data.score"
    assert "11" not in orjson.dumps(results[4]["problem"]["errors"]).decode()
    await plans.settled()


async def test_another_body_under_an_identity_that_was_taken_is_refused_but_its_red_flag_is_raised(
    plans: RunningService, tokens: Tokens, servers: RunningServers, namespace: str
) -> None:
    member_id = uuid4()
    first = as_json(pain_reported(member_id, at=now(), score=3))
    assert (await post(plans, tokens.member(member_id), first)).status_code == 202
    await plans.settled()
    assert (await post(plans, tokens.member(member_id), first)).status_code == 202, "the same again is safe"

    other = {**first, "data": {**first["data"], "score": 4}}
    refused = await post(plans, tokens.member(member_id), other)
    assert (refused.status_code, refused.json()["type"].rsplit(":", 1)[1]) == (409, "identity-conflict")
    await plans.settled()
    dead = "select count(*) from delivery.held_events where state = 'dead'"
    assert await plans.service.database.fetchval(dead) == 0

    flagged = {**first, "data": {**first["data"], "findings": ["chest-pain-breathless"]}}
    refused = await post(plans, tokens.member(member_id), flagged)
    assert refused.status_code == 409
    assert refused.json()["instruction"]["disposition"] == "emergency"
    (flag,) = await published(servers, namespace, "careloop.plans", at_least=1)
    assert (flag.NAME, flag.subject) == ("safety.flagged", member_id)


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        (SINGLE, b"{", 422, "malformed"),
        (SINGLE, b"[]", 422, "malformed"),
        (BATCH, b"{}", 422, "malformed"),
        (BATCH, b"[]", 422, "batch-size"),
        (BATCH, b"[" + b"{}," * 500 + b"{}]", 422, "batch-size"),
        (SINGLE, b'"' + b"x" * 70_000 + b'"', 413, "too-large"),
        ("text/plain", b"{}", 415, "unsupported-media-type"),
        ("application/json", b"{}", 415, "unsupported-media-type"),
    ],
)
async def test_a_body_that_cannot_be_read_is_a_problem(
    plans: RunningService, tokens: Tokens, content_type: str, body: bytes, status: int, code: str
) -> None:
    answer = await post(plans, tokens.app, body, content_type=content_type)
    assert (answer.status_code, answer.json()["type"].rsplit(":", 1)[1]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_event_is_in_the_trace_of_its_request_unless_it_names_one(
    plans: RunningService, tokens: Tokens, servers: RunningServers, namespace: str
) -> None:
    given, own = (f"00-{digit * 32}-00f067aa0ba902b7-01" for digit in "ab")
    member_id = uuid4()
    plain, named = (as_json(pain_reported(member_id, at=now(), score=3)) for _ in range(2))
    # As large as an event may be: it is taken, only without the trace.
    full = as_json(pain_reported(member_id, at=now(), score=3))
    full["note"] = "x" * (EVENT_SIZE_MAX - len(orjson.dumps({**full, "note": ""})))
    headers = {**Tokens.bearer(tokens.app), "content-type": "application/cloudevents-batch+json", "traceparent": given}
    body = orjson.dumps([plain, {**named, "traceparent": own}, full])
    answer = await plans.client.post("/v1/events", content=body, headers=headers)
    assert [each["status"] for each in answer.json()["results"]] == ["accepted"] * 3, answer.text
    wrong = {**headers, "traceparent": "00-nothing"}
    answer = await plans.client.post("/v1/events", content=orjson.dumps([plain]), headers=wrong)
    assert answer.status_code == 202
    told = await published(servers, namespace, "careloop.activity", at_least=4)
    assert [one.traceparent for one in told] == [given, own, None, None]


async def test_binary_mode_is_the_same_event(plans: RunningService, publish: Publish, tokens: Tokens) -> None:
    member_id = uuid4()
    await enrol(plans, publish, tokens, member_id)
    event = as_json(pain_reported(member_id, at=now(), score=3))
    headers = {f"ce-{name}": str(value) for name, value in event.items() if name not in ("data", "datacontenttype")}
    headers |= {**Tokens.bearer(tokens.app), "content-type": "application/json"}
    answer = await plans.client.post("/v1/events", content=orjson.dumps(event["data"]), headers=headers)
    assert answer.status_code == 202, answer.text
    assert (await post(plans, tokens.app, event)).status_code == 202
    await plans.settled()
    asked = await plans.client.get(f"/v1/events/{event['source']}/{event['id']}", headers=Tokens.bearer(tokens.app))
    assert asked.json()["status"] == "applied"


async def test_a_red_flag_is_answered_with_what_to_do_even_if_the_event_is_not_accepted(
    plans: RunningService, tokens: Tokens, servers: RunningServers, namespace: str
) -> None:
    member_id = uuid4()
    token = tokens.member(member_id)
    event = pain_reported(member_id, at=now(), score=3, findings=("hot-swollen-joint",))
    answer = await post(plans, token, as_json(event))
    assert answer.status_code == 202
    instruction = answer.json()["instruction"]
    assert (instruction["disposition"], instruction["blocks_plan"]) == ("emergency", True)
    assert "911" in instruction["text"]["en"]
    assert "911" in instruction["text"]["es"]
    too_old = pain_reported(member_id, at=now() - 60 * 24 * HOUR, score=3, findings=("suicidal-thoughts",))
    refused = await post(plans, token, as_json(too_old))
    assert refused.status_code == 422
    assert "988" in refused.json()["instruction"]["text"]["en"]
    # The member is unknown here, so their event waits; the red flag does not.
    (flagged,) = await published(servers, namespace, "careloop.plans", at_least=1)
    assert isinstance(flagged, SafetyFlagged)
    assert flagged.causationid == event.id

    async def waits() -> bool:
        asked = await plans.client.get(f"/v1/events/{event.source}/{event.id}", headers=Tokens.bearer(token))
        body: dict[str, str] = asked.json()
        return body["status"] == "waiting" and body["waiting_for"] == "care-plan" and body["safety"] == "applied"

    await eventually(waits, what="the event waits for a plan")


async def test_an_early_event_is_released_by_the_plan_it_waits_for(
    plans: RunningService, publish: Publish, tokens: Tokens
) -> None:
    member_id = uuid4()
    events = [session_completed(member_id, at=now() - 2 * HOUR), pain_reported(member_id, at=now() - HOUR, score=3)]
    answer = await post(plans, tokens.member(member_id), [as_json(event) for event in events], content_type=BATCH)
    assert answer.status_code == 202
    token = Tokens.bearer(tokens.member(member_id))

    async def status(event: CloudEvent) -> str:
        found = await plans.client.get(f"/v1/events/{event.source}/{event.id}", headers=token)
        return str(found.json()["status"])

    async def both_wait() -> bool:
        return [await status(event) for event in events] == ["waiting", "waiting"]

    await eventually(both_wait)
    plan = await enrol(plans, publish, tokens, member_id)
    assert plan["adherence"]["sessions"] == 1
    assert [await status(event) for event in events] == ["applied", "applied"]


async def test_a_refused_event_says_why_and_an_unknown_one_that_it_is(
    plans: RunningService, publish: Publish, tokens: Tokens
) -> None:
    member_id = uuid4()
    await enrol(plans, publish, tokens, member_id)
    event = session_completed(member_id, at=now(), plan_id=uuid4())
    await post(plans, tokens.app, as_json(event))
    await plans.settled()
    token = Tokens.bearer(tokens.app)
    asked = (await plans.client.get(f"/v1/events/{event.source}/{event.id}", headers=token)).json()
    assert (asked["status"], asked["reason"]) == ("refused", "not-the-members-plan")
    slashed = quote("https://apps.example/ios", safe="")
    asked = (await plans.client.get(f"/v1/events/{slashed}/a%2Fb", headers=token)).json()
    assert asked == {"source": "https://apps.example/ios", "id": "a/b", "status": "unknown", "safety": "unknown"}


async def test_only_the_member_and_their_care_team_see_a_plan(
    plans: RunningService, publish: Publish, tokens: Tokens
) -> None:
    member_id = uuid4()
    await enrol(plans, publish, tokens, member_id)
    allowed = [tokens.member(member_id), tokens.pt(PT), tokens.coach(COACH), tokens.app]
    denied = [tokens.member(uuid4()), tokens.pt(uuid4()), tokens.coach(uuid4()), tokens.coach(PT)]
    assert [(await read(plans, member_id, token)).status_code for token in allowed] == [200] * 4
    assert [(await read(plans, member_id, token)).status_code for token in denied] == [404] * 4
    assert (await read(plans, uuid4(), tokens.pt(PT))).status_code == 404
    assert (await read(plans, member_id, tokens.operator)).status_code == 403
    assert (await plans.client.get(f"/v1/members/{member_id}/plan")).status_code == 401


async def test_an_override_needs_the_version_it_was_decided_on(
    plans: RunningService, publish: Publish, tokens: Tokens
) -> None:
    member_id = uuid4()
    await enrol(plans, publish, tokens, member_id)
    url = f"/v1/members/{member_id}/plan/overrides"
    edit = {"expected_version": 1, "exercise": "bridge", "action": "edit", "step": 2, "reason": "Ready for it."}

    async def override(body: Any, token: str) -> Any:
        return await plans.client.post(url, json=body, headers=Tokens.bearer(token))

    done = await override(edit, tokens.pt(PT))
    assert done.status_code == 200, done.text
    assert done.json()["revised_by"] == str(PT)
    assert done.json()["version"] == 2
    late = await override({**edit, "step": 3}, tokens.pt(PT))
    assert (late.status_code, late.json()["version"]) == (409, 2)
    assert (await override({**edit, "expected_version": 2}, tokens.pt(PT))).status_code == 422
    assert (await override({**edit, "expected_version": 2, "step": 19}, tokens.pt(PT))).status_code == 422
    assert (await override({**edit, "reason": ""}, tokens.pt(PT))).json()["errors"][0]["field"] == "body.reason"
    assert (await override(edit, tokens.pt(uuid4()))).status_code == 404
    assert (await override(edit, tokens.coach(COACH))).status_code == 403
    revisions = (await read(plans, member_id, tokens.pt(PT), "/revisions")).json()["revisions"]
    assert [one["version"] for one in revisions] == [2, 1]
    assert revisions[0]["data"]["changes"][0]["decision"]["reason"] == "Ready for it."


async def test_two_overrides_at_once_and_one_of_them_is_refused(
    plans: RunningService, publish: Publish, tokens: Tokens
) -> None:
    member_id = uuid4()
    await enrol(plans, publish, tokens, member_id)
    bodies = [
        {"expected_version": 1, "exercise": exercise, "action": "lock", "reason": "Wait for me."}
        for exercise in ("bridge", "mini-squat", "quad-stretch")
    ]
    url, headers = f"/v1/members/{member_id}/plan/overrides", Tokens.bearer(tokens.pt(PT))
    answers = await asyncio.gather(*[plans.client.post(url, json=body, headers=headers) for body in bodies])
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]


async def test_after_surgery_the_therapist_signs_a_phase_and_only_then_is_there_a_plan(
    plans: RunningService, publish: Publish, tokens: Tokens
) -> None:
    member_id = uuid4()
    enrolled = member_enrolled(member_id, at=now() - HOUR, cause="post-surgical")
    await publish("careloop.members", enrolled, care_team_assigned(member_id, at=now()))
    await plans.settled()
    waiting = (await read(plans, member_id, tokens.member(member_id))).json()
    assert (waiting["status"], waiting["items"]) == ("awaiting-phase", [])
    assert waiting["next_session"] == {"at": None, "why_not": "awaiting-phase"}
    url, headers = f"/v1/members/{member_id}/plan/phases", Tokens.bearer(tokens.pt(PT))
    body: dict[str, Any] = {"expected_version": 0, "phase": "phase 1", "surgeon_cleared": False, "steps": {"bridge": 0}}
    assert (await plans.client.post(url, json=body, headers=headers)).status_code == 422
    signed = await plans.client.post(url, json={**body, "surgeon_cleared": True}, headers=headers)
    assert signed.status_code == 200, signed.text
    plan = (await read(plans, member_id, tokens.member(member_id))).json()
    assert (plan["status"], [item["exercise"] for item in plan["items"]]) == ("active", ["bridge"])


async def test_nothing_is_accepted_that_kafka_has_not_acknowledged(
    run_service: RunService, topics: TopicFactory, tokens: Tokens, servers: RunningServers
) -> None:
    member_id = uuid4()
    event = pain_reported(member_id, at=now(), score=3, findings=("deformity",))
    async with run_service(
        build, PlansSettings, name="plans", wait=False, kafka_bootstrap="127.0.0.1:1", publish_timeout_s=1.0
    ) as plans:
        answer = await post(plans, tokens.member(member_id), as_json(event))
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "911" in answer.json()["instruction"]["text"]["en"]
        batch = [as_json(event), as_json(pain_reported(member_id, at=now() + 2 * HOUR, score=3))]
        mixed = await post(plans, tokens.member(member_id), batch, content_type=BATCH)
        assert mixed.status_code == 503, "one of them is worth sending again"


async def test_nobody_raises_a_red_flag_for_somebody_else(
    plans: RunningService, tokens: Tokens, servers: RunningServers, namespace: str
) -> None:
    me, other = uuid4(), uuid4()
    answer = await post(
        plans, tokens.member(me), as_json(pain_reported(other, at=now(), score=3, findings=("chest-pain-breathless",)))
    )
    assert (answer.status_code, "instruction" in answer.json()) == (403, False)
    mine = pain_reported(me, at=now(), score=3, findings=("chest-pain-breathless",))
    assert (await post(plans, tokens.member(me), as_json(mine))).status_code == 202
    await plans.settled()
    assert [one.subject for one in await published(servers, namespace, "careloop.plans", at_least=1)] == [me]
    assert [one.subject for one in await published(servers, namespace, "careloop.activity", at_least=1)] == [me]
