"""A screening raises its alert in a safety group of its own, once, whoever has raised it before: releases before that
group raised it beside the profile, and the group begins with all that the log still holds."""

import asyncio
from typing import Any

import pytest

from services.messaging.domain.alert import Alert
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_raising import raise_alerts
from services.messaging.domain.triggers import on_member_screened
from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.handle_alerts import resolve
from services.messaging.handlers.raise_safety_alerts import raise_safety_alerts, raise_screening_alerts
from services.messaging.store.alerts import load_alert_book, load_member_alerts, saving_alert_changes
from services.messaging.store.members import load_member_profiles
from services.messaging.store.rules import load_alert_rules, load_trigger_rules
from shared.database import Connection
from shared.events import MemberScreened
from shared.outcomes import Outcomes
from shared.writing import write
from tests.fixtures.carrying_out import carry_out
from tests.fixtures.eventually import eventually
from tests.messaging.conftest import Clinic
from tests.messaging.given import MEMBER, ONCALL, OTHER_MEMBER, flagged, screened


async def raise_as_before(connection: Connection, events: list[MemberScreened], /, *, now: Any) -> Outcomes:
    """What releases before this one did about a blocking screening."""
    asked = [on_member_screened(event=event, rules=load_trigger_rules()) for event in events]
    triggers = [trigger for trigger in asked if trigger]
    book = await load_alert_book(connection, triggers=triggers, now=now)
    changes = raise_alerts(triggers=triggers, known=book.known, teams=book.teams, rules=load_alert_rules(), now=now)
    outcomes = Outcomes(writes=[*saving_alert_changes(changes, now=now)])
    announce_alerts(outcomes=outcomes, changes=changes)
    return outcomes


async def alerts(clinic: Clinic) -> list[Alert]:
    async with clinic.database.acquire() as connection:
        return await load_member_alerts(connection, member_ids=[MEMBER])


async def close(clinic: Clinic) -> None:
    (alert,) = [found for found in await alerts(clinic) if found.status != "resolved"]
    await clinic.command(
        resolve, alert_id=alert.alert_id, by=ONCALL, outcome="reached-member", note=None, seen=alert.repeats
    )


async def test_the_members_group_leaves_a_screening_to_the_safety_group_but_records_it(bare_clinic: Clinic) -> None:
    screening = screened("emergency", "chest-pain-breathless")
    assert await bare_clinic.take(follow_members, screening) == []
    assert await alerts(bare_clinic) == []
    recorded = await bare_clinic.fetch("select summary from timeline where event_id = $1", screening.id)
    assert [row["summary"] for row in recorded] == ["emergency: chest pain breathless"]
    async with bare_clinic.database.acquire() as connection:
        profiles = await load_member_profiles(connection, member_ids=[MEMBER])
    assert profiles[MEMBER].status == "screened"
    (raised,) = await bare_clinic.take(raise_screening_alerts, screening)
    assert (raised.data.priority, raised.data.repeated, raised.causationid) == ("emergency", False, screening.id)


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("is_behind", [False, True], ids=["its events are back", "its events are not back yet"])
async def test_what_a_release_before_has_raised_is_not_raised_again(
    clinic: Clinic, is_closed: bool, is_behind: bool
) -> None:
    clinic.is_behind = is_behind
    screening = screened("emergency", "chest-pain-breathless")
    await clinic.take(raise_as_before, screening)
    if is_closed:
        await close(clinic)
    before = await alerts(clinic)
    assert await clinic.take(raise_screening_alerts, screening) == []
    assert await alerts(clinic) == before
    assert [alert.repeats for alert in before] == [0]


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("is_last", [False, True])
async def test_what_joined_another_alert_does_not_ask_again_either(
    clinic: Clinic, is_closed: bool, is_last: bool
) -> None:
    """Such an alert bears the key of what opened it."""
    screening = screened("emergency", "chest-pain-breathless")
    clinic.is_behind = is_last  # then the alert itself names it
    await clinic.take(raise_safety_alerts, flagged("same-day", "locked-knee"))
    await clinic.take(raise_as_before, screening)
    if not is_last:
        await clinic.take(raise_safety_alerts, flagged("clinician-72h", "night-pain"))
    if is_closed:
        await close(clinic)
    before = await alerts(clinic)
    assert [alert.repeats for alert in before] == [1 if is_last else 2]
    assert await clinic.take(raise_screening_alerts, screening) == []
    assert await alerts(clinic) == before


async def test_a_new_screening_in_the_words_of_one_that_was_closed_asks(clinic: Clinic) -> None:
    for _ in range(2):
        (raised,) = await clinic.take(raise_screening_alerts, screened("emergency", "chest-pain-breathless"))
        assert not raised.data.repeated
        await close(clinic)
    assert len(await alerts(clinic)) == 2


async def test_another_body_under_a_known_identity_asks_in_its_own_words(clinic: Clinic) -> None:
    first, second = screened("same-day", "locked-knee"), screened("emergency", "chest-pain-breathless")
    await clinic.take(raise_screening_alerts, first)
    (again,) = await clinic.take(raise_screening_alerts, second.model_copy(update={"id": first.id}))
    assert (again.data.priority, again.data.repeated) == ("emergency", True)


async def test_of_a_chunk_only_what_nobody_was_asked_about_asks(clinic: Clinic) -> None:
    old, new = screened("same-day", "locked-knee"), screened("emergency", "chest-pain-breathless")
    other = screened("emergency", "chest-pain-breathless", member_id=OTHER_MEMBER)
    await clinic.take(raise_as_before, old)
    await close(clinic)
    mild = screened("pt-72h", "giving-way")
    raised = await clinic.take(raise_screening_alerts, mild, old, new, other)
    assert [(event.causationid, event.data.repeated) for event in raised] == [(new.id, False), (other.id, False)]


async def test_a_process_of_the_release_before_that_raises_it_at_this_moment(clinic: Clinic) -> None:
    screening = screened("emergency", "chest-pain-breathless")

    async def raise_now() -> list[Any]:
        async with clinic.database.acquire() as connection, connection.transaction():
            return (await carry_out(raise_screening_alerts, connection, [screening], now=clinic.now)).published

    async with clinic.transaction(MEMBER) as before:
        outcomes = await raise_as_before(before, [screening], now=clinic.now)
        late = asyncio.ensure_future(raise_now())
        await eventually(lambda: _waits(clinic, late), within=8, what="it waits for the lock to raise")
        assert not late.done()
        await write(before, outcomes.writes)
    assert await late == []
    assert [alert.repeats for alert in await alerts(clinic)] == [0]


async def _waits(clinic: Clinic, task: "asyncio.Future[Any]") -> bool:
    waits: bool = await clinic.database.fetchval(
        "select exists (select from pg_stat_activity"
        " where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0)"
    )
    return task.done() or waits
