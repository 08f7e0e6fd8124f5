"""How often somebody is written to: what goes out together counts, too."""

import pytest

from services.notifications.domain.delivery import NoAnswer
from services.notifications.handlers.follow_plans import follow_plans
from tests.notifications.conftest import Desk, published
from tests.notifications.test_handlers import settle_in


async def test_a_cap_counts_what_goes_out_in_the_same_batch(desk: Desk) -> None:
    ana = desk.member()
    await settle_in(desk, ana)
    names = ("pain-halved", "first-session", "sessions-10")
    await desk.take(follow_plans, *(ana.milestone(name) for name in names))
    for row in await desk.rows():
        desk.clock.at = max(desk.clock.at, row["not_before"])
    attempts, outcomes = await desk.claim()
    assert len(attempts) == 2, [one.notification.template for one in attempts]
    assert published(outcomes) == [("notification.suppressed", "frequency-cap")]


@pytest.mark.parametrize("result", [None, NoAnswer()], ids=["on the line", "of unknown result"])
async def test_a_cap_counts_what_may_have_been_sent(desk: Desk, result: NoAnswer | None) -> None:
    """Given attempts whose result nobody knows, or not yet, then they count as sent: the member may have had them."""
    ana = desk.member()
    await settle_in(desk, ana)
    for name in ("pain-halved", "first-session"):
        await desk.take(follow_plans, ana.milestone(name))
    attempts, _ = await desk.claim()
    assert len(attempts) == 2
    if result is not None:
        await desk.record(attempts, result)
    await desk.take(follow_plans, ana.milestone("sessions-10"))
    again, outcomes = await desk.claim()
    assert again == []
    assert published(outcomes) == [("notification.suppressed", "frequency-cap")]
