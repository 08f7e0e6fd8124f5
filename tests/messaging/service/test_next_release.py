"""Columns of the next release are there, its processes are not: who cares for a member hears of a red flag as ever."""

from shared.clock import wall_now
from tests.fixtures.databases import add_columns
from tests.fixtures.services import Publish
from tests.messaging.given import MEMBER, flagged, plan_issued, plan_revised
from tests.messaging.service.clinic import Clinic


async def test_new_columns_make_no_dead_letter(clinic: Clinic, publish: Publish) -> None:
    database = clinic.running.service.database
    await add_columns(database)
    for event in (plan_issued(), plan_revised(), flagged("emergency", "chest-pain-breathless")):
        await publish("careloop.plans", event.model_copy(update={"time": wall_now()}))
        await clinic.running.settled()
    held = await database.fetch("select consumer_group, reason, detail from delivery.held_events")
    assert [tuple(row) for row in held] == []
    assert await database.fetchval("select count(*) from alerts where member_id = $1", MEMBER) == 1
    for shown in ("alerts", "chain", "messages", "visits"):
        assert (await clinic.ask("GET", f"/v1/members/{MEMBER}/{shown}", token=clinic.coach)).status_code == 200, shown
