"""A visit clears the red flags that were there when it took place, whenever its note is written."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from tests.fixtures.services import Publish, RunningService
from tests.fixtures.tokens import Tokens
from tests.plans.api.test_plans_service import HOUR, now, read
from tests.plans.given import member_enrolled, pain_reported, visit_completed

DAY = timedelta(days=1)


async def test_a_visit_before_a_red_flag_does_not_clear_it(
    plans: RunningService, publish: Publish, tokens: Tokens
) -> None:
    """Given a visit on Monday and chest pain on Wednesday, when Monday's note is written on Thursday, then sessions
    still stop, until a visit after the red flag."""
    member, thursday = uuid4(), now()
    monday, wednesday = thursday - 3 * DAY, thursday - DAY

    async def next_session() -> Any:
        await plans.settled()
        return (await read(plans, member, tokens.member(member))).json()["next_session"]

    await publish("careloop.members", member_enrolled(member, at=monday - 7 * DAY))
    await plans.settled()
    reported = pain_reported(member, at=wednesday, score=3, findings=("chest-pain-breathless",))
    await publish("careloop.activity", reported)
    stopped = await next_session()
    assert (stopped["at"], stopped["why_not"]) == (None, "red-flag-open")
    late = visit_completed(member, at=thursday, starts_at=monday, action="continue")
    await publish("careloop.visits", late)
    assert await next_session() == stopped
    after = visit_completed(member, at=thursday, starts_at=wednesday + HOUR, action="continue")
    await publish("careloop.visits", after)
    assert (await next_session())["at"] is not None
