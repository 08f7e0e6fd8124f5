"""A member's message waits for an answer: until somebody writes, or closes the alert that it became."""

from uuid import UUID, uuid4

import pytest

from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.handle_alerts import resolve
from services.messaging.handlers.send_message import Sender, send_message
from services.messaging.store.rules import load_alert_rules
from shared.events.vocabulary import Practitioner
from tests.messaging.conftest import Clinic
from tests.messaging.given import COACH, DAY, HOUR, MEMBER, ONCALL, OTHER_MEMBER, PT, enrolled, team_assigned
from tests.messaging.test_alerts import alerts, the_alert
from tests.messaging.test_asking_again import MIGRATIONS

RULES = load_alert_rules()


async def write_as(clinic: Clinic, member_id: UUID, body: str) -> None:
    member = Sender(role="member", sender_id=member_id, name="Marta Muster")
    await clinic.command(send_message, member_id=member_id, sender=member, message_id=uuid4(), body=body, alert_id=None)


async def awaited(clinic: Clinic) -> UUID | None:
    (row,) = await clinic.fetch("select awaiting_message_id from conversations")
    found: UUID | None = row["awaiting_message_id"]
    return found


@pytest.mark.parametrize("person", [COACH, PT, ONCALL])
async def test_an_unanswered_message_becomes_an_alert_and_the_answer_resolves_it(
    clinic: Clinic, person: Practitioner
) -> None:
    member = Sender(role="member", sender_id=MEMBER, name="Marta Muster")
    sent = await clinic.command(
        send_message, sender=member, message_id=uuid4(), body="Is it fine to run?", alert_id=None
    )
    (raised,) = await clinic.pass_time(RULES.first_response_within)
    assert (raised.data.kind, raised.data.owner) == ("unanswered-message", COACH)
    message_event = clinic.published[0]
    assert message_event.data.message_id == sent.message.message_id
    assert raised.causationid == message_event.id
    who = Sender(role=person.role, sender_id=person.practitioner_id, name=person.name)
    await clinic.command(send_message, sender=who, message_id=uuid4(), body="Yes, slowly.", alert_id=None)
    (alert,) = await alerts(clinic)
    assert (alert.status, alert.outcome) == ("resolved", "reached-member")


async def test_who_closes_the_alert_about_a_message_ends_the_wait_and_the_next_one_waits_anew(clinic: Clinic) -> None:
    """They rang the member up: no answer was written."""
    member = Sender(role="member", sender_id=MEMBER, name="Marta Muster")
    await clinic.command(send_message, sender=member, message_id=uuid4(), body="Is it fine to run?", alert_id=None)
    await clinic.pass_time(RULES.first_response_within)
    alert = await the_alert(clinic)
    await clinic.command(resolve, alert_id=alert.alert_id, by=COACH, outcome="reached-member", note=None, seen=0)
    assert await clinic.due_timers() == {}
    assert await awaited(clinic) is None
    again = await clinic.command(send_message, sender=member, message_id=uuid4(), body="And stairs?", alert_id=None)
    assert await awaited(clinic) == again.message.message_id
    (raised,) = [e for e in await clinic.pass_time(RULES.first_response_within) if e.NAME == "alert.raised"]
    assert raised.data.alert_id != alert.alert_id


async def test_what_a_member_writes_while_the_alert_is_open_waits_once_that_is_closed(clinic: Clinic) -> None:
    member = Sender(role="member", sender_id=MEMBER, name="Marta Muster")
    await clinic.command(send_message, sender=member, message_id=uuid4(), body="Is it fine to run?", alert_id=None)
    await clinic.pass_time(RULES.first_response_within)
    for body in ("And stairs?", "And swimming?"):
        await clinic.pass_time(HOUR)
        await clinic.command(send_message, sender=member, message_id=uuid4(), body=body, alert_id=None)
    written_at, alert = clinic.now - HOUR, await the_alert(clinic)
    await clinic.command(resolve, alert_id=alert.alert_id, by=COACH, outcome="reached-member", note=None, seen=0)
    assert await clinic.due_timers() == {"conversation.first-response": written_at + RULES.first_response_within}
    await clinic.pass_time(RULES.first_response_within)
    assert {(a.kind, a.status) for a in await alerts(clinic)} == {
        ("unanswered-message", "resolved"), ("unanswered-message", "open"),
    }  # fmt: skip
    coach = Sender(role="coach", sender_id=COACH.practitioner_id, name=COACH.name)
    await clinic.command(send_message, sender=coach, message_id=uuid4(), body="Yes, all.", alert_id=None)
    assert {a.status for a in await alerts(clinic)} == {"resolved"}


async def test_waits_that_closed_alerts_had_left_are_ended_or_go_on_with_what_came_later(clinic: Clinic) -> None:
    await clinic.take(follow_members, enrolled(OTHER_MEMBER), team_assigned(OTHER_MEMBER))
    for member_id in (MEMBER, OTHER_MEMBER):
        await write_as(clinic, member_id, "Is it fine to run?")
    before = await clinic.fetch("select * from conversations order by member_id")
    await clinic.pass_time(RULES.first_response_within + HOUR)
    await write_as(clinic, MEMBER, "And stairs?")
    for alert in await clinic.fetch("select member_id, alert_id from alerts"):
        await clinic.command(
            resolve, member_id=alert["member_id"], alert_id=alert["alert_id"], by=COACH, outcome="reached-member",
            note=None, seen=0,
        )  # fmt: skip
    waits = "select * from conversations order by member_id"
    timers = "select kind, key, due_at, cause from delivery.timers"
    expected = [await clinic.fetch(waits), await clinic.fetch(timers)]
    async with clinic.database.acquire() as connection, connection.transaction():
        await connection.execute("delete from delivery.timers")
        for row in before:
            await connection.execute(
                "update conversations set awaiting_message_id = $2, awaiting_since = $3 where member_id = $1",
                row["member_id"], row["awaiting_message_id"], row["awaiting_since"],
            )  # fmt: skip
        await connection.execute((MIGRATIONS / "0026_end_waits_of_closed_alerts.sql").read_text())
    assert [await clinic.fetch(waits), await clinic.fetch(timers)] == expected


async def test_an_answer_in_time_leaves_no_alert(clinic: Clinic) -> None:
    member = Sender(role="member", sender_id=MEMBER, name="Marta Muster")
    coach = Sender(role="coach", sender_id=COACH.practitioner_id, name=COACH.name)
    await clinic.command(send_message, sender=member, message_id=uuid4(), body="Hello?", alert_id=None)
    assert set(await clinic.due_timers()) == {"conversation.first-response"}
    await clinic.command(send_message, sender=coach, message_id=uuid4(), body="Hi Marta.", alert_id=None)
    assert await clinic.due_timers() == {}
    assert await clinic.pass_time(5 * DAY) == []
