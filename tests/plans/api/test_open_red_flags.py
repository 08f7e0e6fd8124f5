"""How long a red flag stops sessions: until a clinician's visit that it came before."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

from tests.fixtures.services import Publish, RunningService
from tests.fixtures.tokens import Tokens
from tests.plans.api.test_plans_service import HOUR, as_json, now, post, read
from tests.plans.given import member_disenrolled, member_enrolled, pain_reported, visit_completed

DAY = timedelta(days=1)


async def next_session(plans: RunningService, tokens: Tokens, member: UUID) -> Any:
    await plans.settled()
    return (await read(plans, member, tokens.member(member))).json()["next_session"]


async def test_a_visit_before_a_red_flag_does_not_clear_it(
    plans: RunningService, publish: Publish, tokens: Tokens
) -> None:
    """Given a visit on Monday and chest pain on Wednesday, when Monday's note is written on Thursday, then sessions
    still stop, until a visit after the red flag."""
    member, thursday = uuid4(), now()
    monday, wednesday = thursday - 3 * DAY, thursday - DAY
    await publish("careloop.members", member_enrolled(member, at=monday - 7 * DAY))
    await plans.settled()
    reported = pain_reported(member, at=wednesday, score=3, findings=("chest-pain-breathless",))
    await publish("careloop.activity", reported)
    stopped = await next_session(plans, tokens, member)
    assert (stopped["at"], stopped["why_not"]) == (None, "red-flag-open")
    late = visit_completed(member, at=thursday, starts_at=monday, action="continue")
    await publish("careloop.visits", late)
    assert await next_session(plans, tokens, member) == stopped
    after = visit_completed(member, at=thursday, starts_at=wednesday + HOUR, action="continue")
    await publish("careloop.visits", after)
    assert (await next_session(plans, tokens, member))["at"] is not None


async def test_who_comes_back_keeps_a_red_flag_that_was_read_before_their_enrolment(
    plans: RunningService, publish: Publish, tokens: Tokens
) -> None:
    """Given a former member who is enrolled again, when what they report is read before that is, then it is refused,
    and their new plan asks for no session all the same, until a visit."""
    member, left_at = uuid4(), now() - DAY
    await publish("careloop.members", member_enrolled(member, at=left_at - 7 * DAY))
    await publish("careloop.members", member_disenrolled(member, at=left_at))
    await plans.settled()
    reported = pain_reported(member, at=now(), score=3, findings=("chest-pain-breathless",))
    assert (await post(plans, tokens.member(member), as_json(reported))).status_code == 202
    await plans.settled()
    became = await plans.client.get(
        f"/v1/events/{quote(reported.source, safe='')}/{reported.id}", headers=Tokens.bearer(tokens.member(member))
    )
    assert (became.json()["status"], became.json()["reason"], became.json()["safety"]) == (
        "refused",
        "care-ended",
        "applied",
    )
    await publish("careloop.members", member_enrolled(member, at=now()))
    assert (await next_session(plans, tokens, member))["why_not"] == "red-flag-open"
    seen = visit_completed(member, at=now(), starts_at=now() + HOUR, action="continue")
    await publish("careloop.visits", seen)
    assert (await next_session(plans, tokens, member))["at"] is not None
