"""An event that is rejected, and in which there is a red flag: the flag counts, and nothing else of it."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from services.plans.main import build
from services.plans.settings import PlansSettings
from shared.events.codec import HEADERS
from shared.events.envelope import EVENT_SIZE_MAX
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Consume, Publish, RunningService, RunService
from tests.fixtures.tokens import Tokens
from tests.plans.api.test_plans_service import BATCH, as_json, enrol, now, post
from tests.plans.given import pain_reported, session_completed

AHEAD = timedelta(minutes=6)
"""More than a phone's clock may be, and less than the clocks of our own machines may make of it."""

FLAGGED = "org.careloop.safety.flagged.v1"


def ahead_and_right(member: UUID) -> tuple[Any, Any]:
    """A session of a phone whose clock is ahead, and the same once the app has corrected its times."""
    ahead = as_json(session_completed(member, at=now() + AHEAD, findings=("hot-swollen-joint",)))
    right = as_json(session_completed(member, at=now(), findings=("hot-swollen-joint",)))
    right["id"], right["data"]["session_id"] = ahead["id"], ahead["data"]["session_id"]
    return ahead, right


async def taken(plans: RunningService, group: str) -> int:
    """How many events took effect in a group that reads activity."""
    many: int = await plans.service.database.fetchval(
        "select sum(records_new)::int from delivery.positions where consumer_group = $1 and topic = $2",
        group,
        "careloop.activity",
    )
    return many


async def held(plans: RunningService) -> list[tuple[str, str, str]]:
    rows = await plans.service.database.fetch("select consumer_group, state, reason from delivery.held_events")
    return [tuple(row) for row in rows]


async def test_only_its_red_flag_counts(plans: RunningService, publish: Publish, tokens: Tokens) -> None:
    member = uuid4()
    await enrol(plans, publish, tokens, member)
    ahead, _ = ahead_and_right(member)
    answer = await post(plans, tokens.member(member), ahead)
    assert (answer.status_code, answer.json()["instruction"]["disposition"]) == (422, "emergency")
    await plans.settled()
    assert (await taken(plans, "plans.safety"), await taken(plans, "plans.activity")) == (1, 0)
    assert await held(plans) == [("plans.activity", "dead", "rejected")]


@pytest.mark.parametrize("in_one_request", [True, False])
async def test_what_is_accepted_under_its_id_takes_effect(
    plans: RunningService, publish: Publish, tokens: Tokens, in_one_request: bool
) -> None:
    member = uuid4()
    await enrol(plans, publish, tokens, member)
    ahead, right = ahead_and_right(member)
    if in_one_request:
        answer = await post(plans, tokens.member(member), [ahead, right], content_type=BATCH)
        assert [one["status"] for one in answer.json()["results"]] == ["rejected", "accepted"]
    else:
        assert (await post(plans, tokens.member(member), ahead)).status_code == 422
        await plans.settled()
        assert (await post(plans, tokens.member(member), right)).status_code == 202
    await plans.settled()
    assert await taken(plans, "plans.activity") == 1
    assert await held(plans) == [("plans.activity", "dead", "rejected")]
    assert (await post(plans, tokens.member(member), right)).status_code == 202, "sent again it is the same"


@pytest.mark.parametrize("ahead", [timedelta(0), 2 * AHEAD])
async def test_a_red_flag_that_nobody_has_is_asked_for_again(
    run_service: RunService, tokens: Tokens, ahead: timedelta
) -> None:
    member = uuid4()
    event = pain_reported(member, at=now() + ahead, score=3, findings=("suicidal-thoughts",))
    async with run_service(
        build, PlansSettings, name="plans", wait=False, kafka_bootstrap="127.0.0.1:1", publish_timeout_s=1.0
    ) as plans:

        async def asked() -> bool:
            answer = await post(plans, tokens.member(member), as_json(event))
            assert (answer.status_code, answer.headers.get("retry-after")) == (503, "2"), answer.text
            assert answer.json()["instruction"]["disposition"] == "emergency"
            return True

        await eventually(asked)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"pain_during": 11}, 422),
        ({"findings": ["a-finding-of-tomorrow", 7, ["fall"], "hot-swollen-joint"]}, 422),
        ({"app_notes": "x" * EVENT_SIZE_MAX}, 413),
    ],
)
async def test_one_that_is_not_valid_is_answered_with_what_to_do_and_the_care_team_hears_of_it(
    plans: RunningService, publish: Publish, consume: Consume, tokens: Tokens, change: dict[str, Any], status: int
) -> None:
    """Given a bug of an app in one answer, the red flag in another one is not passed over in silence: once, however
    often it is sent, and the member's events that are valid go on."""
    member = uuid4()
    await enrol(plans, publish, tokens, member)
    bad = as_json(session_completed(member, at=now(), findings=("hot-swollen-joint",)))
    bad["data"] |= change
    answer = await post(plans, tokens.member(member), [bad], content_type=BATCH)
    (result,) = answer.json()["results"]
    assert (answer.status_code, result["status"]) == (status, "rejected")
    assert result["instruction"]["disposition"] == "emergency"
    if status == 422:
        alone = await post(plans, tokens.member(member), bad)
        assert (alone.status_code, alone.json()["instruction"]) == (422, result["instruction"])
        assert alone.json()["errors"][0]["field"].startswith("data.")
    await plans.settled()
    assert (await taken(plans, "plans.safety"), await taken(plans, "plans.activity")) == (1, 0)
    flags = [one for one in await consume("careloop.plans", count=2, within=15) if one["type"] == FLAGGED]
    assert [(one["subject"], one["causationid"], one["data"]["findings"]) for one in flags] == [
        (str(member), bad["id"], ["hot-swollen-joint"])
    ]
    assert {row[:2] for row in await held(plans)} == {("plans.activity", "dead")}
    valid = as_json(session_completed(member, at=now()))
    assert (await post(plans, tokens.member(member), valid)).status_code == 202
    await plans.settled()
    assert await taken(plans, "plans.activity") == 1, "nothing of the member is held up"


@pytest.mark.parametrize("data", [None, [], {"findings": "fall"}, {"findings": [None]}, {"findings": ["age-55-plus"]}])
async def test_one_that_is_not_valid_and_holds_no_red_flag_has_no_instruction(
    plans: RunningService, tokens: Tokens, data: Any
) -> None:
    member = uuid4()
    bad = {**as_json(pain_reported(member, at=now(), score=3)), "data": data}
    answer = await post(plans, tokens.member(member), bad)
    assert (answer.status_code, "instruction" in answer.json()) == (422, False)


@pytest.mark.parametrize(
    ("subject", "is_flagged"),
    [(None, True), ("nobody", True), (str(uuid4()), False)],
    ids=["none", "unreadable", "other"],
)
async def test_a_member_is_asked_about_alone(
    plans: RunningService, publish: Publish, tokens: Tokens, subject: str | None, is_flagged: bool
) -> None:
    """What is no event is its sender's where it does not say whose it is, and never somebody else's."""
    member = uuid4()
    await enrol(plans, publish, tokens, member)
    event = pain_reported(member, at=now(), score=3, findings=("hot-swollen-joint",))
    answer = await post(plans, tokens.member(member), {**as_json(event), "subject": subject, "time": "never"})
    assert (answer.status_code, answer.json()["instruction"]["disposition"]) == (422, "emergency")
    await plans.settled()
    assert await taken(plans, "plans.safety") == int(is_flagged)


async def test_a_red_flag_in_what_no_contract_allows_is_told_once_for_each_body(
    plans: RunningService, publish: Publish, consume: Consume, tokens: Tokens
) -> None:
    """Of whoever publishes it to the log itself, and although its member is held up behind it."""
    member = uuid4()
    await enrol(plans, publish, tokens, member)
    bad = as_json(session_completed(member, at=now(), findings=("hot-swollen-joint",)))
    bad["data"]["pain_during"] = 11
    other = {**bad, "data": {**bad["data"], "findings": ["suicidal-thoughts"]}}
    for one in (bad, bad, other):
        await publish.raw("careloop.activity", orjson.dumps(one), key=str(member).encode(), headers=HEADERS)
    await plans.settled()
    told = [one for one in await consume("careloop.plans", count=3, within=15) if one["type"] == FLAGGED]
    assert [one["data"]["findings"] for one in told] == [["hot-swollen-joint"], ["suicidal-thoughts"]]
    assert [row for row in await held(plans) if row[0] == "plans.safety"] == []
    assert ("plans.activity", "dead", "invalid") in await held(plans)


@pytest.mark.parametrize("where", ["data", "id"])
async def test_half_a_sign_is_one_event_s_fault(
    plans: RunningService, publish: Publish, tokens: Tokens, where: str
) -> None:
    """Of a text that an app cut in the middle of an emoji: those beside it are accepted, and its red flag is told."""
    member = uuid4()
    await enrol(plans, publish, tokens, member)
    cut = as_json(pain_reported(member, at=now(), score=3, findings=("hot-swollen-joint",)))
    (cut if where == "id" else cut["data"])["id"] = "\ud83d"
    right = as_json(pain_reported(member, at=now(), score=2))
    together = json.dumps([cut, right]).encode()
    answer = await post(plans, tokens.member(member), together, content_type=BATCH)
    assert [one["status"] for one in answer.json()["results"]] == ["rejected", "accepted"]
    assert answer.json()["results"][0]["instruction"]["disposition"] == "emergency"
    alone = await post(plans, tokens.member(member), json.dumps(cut).encode())
    assert (alone.status_code, alone.json()["instruction"]["disposition"]) == (422, "emergency")
    await plans.settled()
    assert await taken(plans, "plans.activity") == 1
    assert await taken(plans, "plans.safety") > 1


@pytest.mark.parametrize("odd", ["NaN", "1e999", "-Infinity"])
async def test_what_is_no_json_beside_half_a_sign_is_none(plans: RunningService, tokens: Tokens, odd: str) -> None:
    body = f'[{{"id": "\\ud83d", "data": {odd}}}]'.encode()
    headers = {**tokens.bearer(tokens.app), "content-type": BATCH}
    answer = await plans.client.post("/v1/events", content=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:careloop:problem:malformed")
