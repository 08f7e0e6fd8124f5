"""A plan that a process of the next release has written costs no event in processes of this one, and it is told."""

from datetime import timedelta
from uuid import uuid4

import pytest

from services.plans.main import build
from services.plans.settings import PlansSettings
from services.plans.store.packing import LAYOUT
from shared.clock import wall_now
from tests.fixtures.eventually import eventually
from tests.fixtures.services import Publish, RunService
from tests.fixtures.tokens import Tokens
from tests.fixtures.topics import TopicFactory
from tests.plans.given import member_enrolled, pain_reported

GIVE = "update care_plans set state = convert_to(replace(convert_from(state, 'utf8'), $1, $2), 'utf8')"

TAKEN = "select sum(records_new) from delivery.positions where consumer_group = 'plans.activity'"


async def test_a_layout_of_the_next_release_makes_no_dead_letter(
    run_service: RunService,
    topics: TopicFactory,
    publish: Publish,
    tokens: Tokens,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given a deploy under way, when this release meets a plan of the next one, then its member's event waits and
    readiness says so; a process that can read it takes the event, and nothing was ever held."""
    monkeypatch.setattr("shared.health.STUCK_S", 0.5)
    await topics("careloop.members", "careloop.activity", "careloop.plans", "careloop.visits")
    async with run_service(build, PlansSettings, name="plans") as running:
        member_id, database = uuid4(), running.service.database
        await publish("careloop.members", member_enrolled(member_id, at=wall_now() - timedelta(days=1)))
        await running.settled()
        this, following = f"[{LAYOUT},", f"[{LAYOUT + 1},"
        await database.execute(GIVE, this, following)
        await publish("careloop.activity", pain_reported(member_id, at=wall_now(), score=3))

        async def is_told() -> bool:
            held = await database.fetch("select state, reason from delivery.held_events")
            assert [tuple(row) for row in held] == []
            answer = await running.client.get("/health/ready")
            return answer.status_code == 503 and "a chunk has failed" in answer.text

        await eventually(is_told, within=20)
        asked = await running.client.get(
            f"/v1/members/{member_id}/plan", headers=Tokens.bearer(tokens.member(member_id))
        )
        assert asked.status_code == 503, asked.text
        await database.execute(GIVE, following, this)
        await running.settled()
        taken = (
            "select records_new from delivery.positions where consumer_group = 'plans.activity' and records_read > 0"
        )
        assert await database.fetchval(taken) == 1
        assert await database.fetchval("select count(*) from delivery.held_events") == 0
