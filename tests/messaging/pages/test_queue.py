"""What a clinician finds on the triage page: under which heading, and in which order."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from services.messaging.handlers.follow_plans import follow_plans
from services.messaging.handlers.handle_alerts import acknowledge, resolve, snooze
from services.messaging.handlers.raise_safety_alerts import raise_safety_alerts
from services.messaging.pages.triage import queue_parts, waiting_in
from services.messaging.pages.viewer import Viewer
from services.messaging.store.alerts import load_alert_queue
from services.messaging.store.pages_queue import RESOLVED_SHOWN, load_member_alerts, load_queue
from shared.events.vocabulary import Practitioner
from tests.messaging.conftest import Clinic
from tests.messaging.given import COACH, HOUR, MEMBER, MINUTE, NOW, ONCALL, PT, STRANGER, flagged, lapsed, spiked


async def page(clinic: Clinic, person: Practitioner, *, oncall: bool = False) -> dict[str, list[UUID]]:
    """The alerts under each heading that has some, as this person sees them."""
    roles = frozenset({person.role, *(["oncall"] if oncall else [])})
    viewer = Viewer(
        practitioner_id=person.practitioner_id, roles=roles, name=person.name or "", language="en", form_token="",
        time_zone=None, secret="",
    )  # fmt: skip
    async with clinic.database.acquire() as connection:
        rows = await load_queue(
            connection,
            practitioner_id=person.practitioner_id,
            oncall=viewer.oncall,
            resolved_since=clinic.now - RESOLVED_SHOWN,
        )
    parts = queue_parts(rows, viewer=viewer)
    assert waiting_in(parts) == sum(part.key in ("now", "team") for part in parts for _ in part.rows)
    return {part.key: [row.alert_id for row in part.rows] for part in parts if part.rows}


async def over_http(clinic: Clinic, *, snoozed: bool = False) -> list[UUID]:
    async with clinic.database.acquire() as connection:
        found = await load_alert_queue(
            connection, practitioner_id=COACH.practitioner_id, oncall=False, include_snoozed=snoozed
        )
    return [alert.alert_id for alert in found]


async def spike_at(clinic: Clinic, at: datetime, *, episode: UUID, repeated: bool = False, score: int = 7) -> UUID:
    clinic.now = at
    (raised,) = await clinic.take(follow_plans, spiked(score=score, episode=episode, repeated=repeated, at=at))
    alert_id: UUID = raised.data.alert_id
    return alert_id


async def test_one_that_asks_again_keeps_its_place_and_its_deadline(clinic: Clinic) -> None:
    """Whoever began with it before the other must not lose it from under the pointer, nor anybody the time it has."""
    again, other = uuid4(), uuid4()
    first = await spike_at(clinic, NOW, episode=again)
    second = await spike_at(clinic, NOW + HOUR, episode=other)
    assert await spike_at(clinic, NOW + 2 * HOUR, episode=again, repeated=True, score=9) == first
    assert await page(clinic, COACH) == {"now": [first, second]}
    assert await page(clinic, PT) == {"team": [first, second]}
    assert await over_http(clinic) == [first, second]
    async with clinic.database.acquire() as connection:
        of_member = await load_member_alerts(
            connection, practitioner_id=COACH.practitioner_id, oncall=False, member_id=MEMBER
        )
    assert [row.alert_id for row in of_member] == [second, first], "the newest first, not who asked last"
    escalated = [event.data.alert_id for event in await clinic.pass_time(timedelta(hours=6, minutes=30))]
    assert escalated == [first], "it was asked first, so the next in line is asked about it first"


async def test_what_presses_most_is_first_and_then_what_is_due_first(clinic: Clinic) -> None:
    (lapse,) = await clinic.take(follow_plans, lapsed(14))
    spike = await spike_at(clinic, lapse.data.respond_by - HOUR, episode=uuid4())
    later = await spike_at(clinic, clinic.now + MINUTE, episode=uuid4())
    (flag,) = await clinic.take(raise_safety_alerts, flagged("emergency", "hot-swollen-joint", at=clinic.now))
    lapse_id, flag_id = lapse.data.alert_id, flag.data.alert_id
    assert await over_http(clinic) == [flag_id, spike, later, lapse_id]
    assert await page(clinic, COACH) == {"now": [flag_id, spike, later, lapse_id]}
    assert await page(clinic, ONCALL, oncall=True) == {"now": [flag_id]}
    assert await page(clinic, STRANGER) == {}


async def test_what_was_put_off_stands_apart_until_it_asks_again(clinic: Clinic) -> None:
    alerts = [await spike_at(clinic, NOW + n * MINUTE, episode=uuid4()) for n in range(4)]
    asks, taken, late, soon = alerts
    await clinic.command(acknowledge, alert_id=taken, by=COACH, seen=0)
    for alert_id, until in ((late, clinic.now + 3 * HOUR), (soon, clinic.now + 2 * HOUR)):
        await clinic.command(snooze, alert_id=alert_id, by=COACH, until=until, seen=0)
    assert await page(clinic, COACH) == {"now": [asks], "taken": [taken], "snoozed": [late, soon]}
    assert await over_http(clinic) == [asks, taken]
    assert await over_http(clinic, snoozed=True) == alerts
    await clinic.pass_time(2 * HOUR)
    shown = await page(clinic, COACH)
    assert (shown["now"], shown["snoozed"]) == ([asks, soon], [late])


async def test_what_was_done_stays_a_day_the_latest_first(clinic: Clinic) -> None:
    alerts = [await spike_at(clinic, NOW + n * MINUTE, episode=uuid4()) for n in range(3)]
    for alert_id in alerts[:2]:
        await clinic.command(resolve, alert_id=alert_id, by=COACH, outcome="reached-member", note=None, seen=0)
        clinic.now += MINUTE
    assert await page(clinic, COACH) == {"now": [alerts[2]], "resolved": [alerts[1], alerts[0]]}
    clinic.now += RESOLVED_SHOWN - timedelta(seconds=90)
    assert (await page(clinic, COACH))["resolved"] == [alerts[1]]
