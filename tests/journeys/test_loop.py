"""Given a clinic of four services, when a member trains and hurts, then the loop closes, and every step says why."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from tests.fixtures.servers import RunningServers
from tests.journeys.clinic import Clinic
from tests.journeys.reading import read_topic

pytestmark = pytest.mark.timeout(180)
NEW_YORK = ZoneInfo("America/New_York")
DAY, A_MOMENT = timedelta(days=1), timedelta(minutes=2)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
WHOLE_CHAIN = (
    "session.completed",
    "pain.spiked",
    "alert.raised",
    "message.sent",
    "visit.booked",
    "visit.completed",
    "plan.revised",
)


async def open_alerts(clinic: Clinic, token: str, member: UUID) -> list[dict[str, Any]]:
    alerts = await clinic.ask("messaging", "GET", f"/v1/members/{member}/alerts", token)
    found: list[dict[str, Any]] = alerts["alerts"] if isinstance(alerts, dict) else alerts
    return found


async def test_from_a_painful_session_to_a_changed_plan(
    clinic: Clinic, servers: RunningServers, namespace: str
) -> None:
    member = await clinic.enrol()
    coach, patient, pt = (
        clinic.tokens.coach(clinic.coach_id), clinic.tokens.member(member), clinic.tokens.pt(clinic.pt_id),
    )  # fmt: skip

    plan = await clinic.ask("plans", "GET", f"/v1/members/{member}/plan", patient)
    assert len({item["exercise"] for item in plan["items"]}) == 5

    await clinic.train(member, pain=3, hours_ago=60)
    sent = await clinic.train(member, pain=8, hours_ago=1, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
    await clinic.settled()

    (alert,) = await open_alerts(clinic, coach, member)
    assert alert["kind"] == "pain-spike"
    await clinic.ask("messaging", "POST", f"/v1/alerts/{alert['alert_id']}/acknowledge", coach)
    message = {"text": "I saw your last session hurt. Let us talk.", "alert_id": alert["alert_id"]}
    await clinic.ask("messaging", "POST", f"/v1/members/{member}/messages", coach, json=message)

    visit_id = await book_visit(clinic, member, pt, alert_id=alert["alert_id"])
    clinic.advance(timedelta(days=3))
    done = {"action": "step-back", "exercises": [], "note": "Rest and step back."}
    await clinic.ask("messaging", "POST", f"/v1/visits/{visit_id}/complete", pt, json=done)
    resolved = {"outcome": "plan-adjusted"}
    await clinic.ask("messaging", "POST", f"/v1/alerts/{alert['alert_id']}/resolve", coach, json=resolved)
    await clinic.settled()

    chain = await clinic.ask("messaging", "GET", f"/v1/members/{member}/chain", coach)
    events = chain["events"]
    assert_connected(events, root=sent["event"]["id"])
    revised = await clinic.ask("plans", "GET", f"/v1/members/{member}/plan", patient)
    assert revised["version"] > plan["version"]
    told = await clinic.ask("plans", "GET", f"/v1/events/urn%3Atest%3Aapp/{sent['event']['id']}", patient)
    assert (told["status"], told["safety"]) == ("applied", "applied")
    published = [
        event
        for topic in ("careloop.plans", "careloop.conversations", "careloop.visits")
        for event in await read_topic(servers, namespace, topic)
    ]
    assert_traced(published, root=sent["event"]["id"])


def assert_traced(published: list[dict[str, Any]], *, root: str) -> None:
    """Whatever plans and messaging publish because of the session is in the trace of the request that brought it, each
    event as a span of its own."""
    found = {event["id"]: event for event in published}
    reached = {root}
    while more := {one["id"] for one in found.values() if one["causationid"] in reached} - reached:
        reached |= more
    followed = [found[identity] for identity in reached - {root}]
    names = {event["type"].removeprefix("org.careloop.").removesuffix(".v1") for event in followed}
    assert names >= set(WHOLE_CHAIN) - {"session.completed"}
    assert {event["traceparent"].split("-")[1] for event in followed} == {TRACE}
    assert len({event["traceparent"] for event in followed}) == len(followed)


def assert_connected(events: list[dict[str, Any]], *, root: str) -> None:
    """From each event of the whole chain an unbroken line of causes leads back to the session that began it."""
    causes = {event["id"]: event.get("causationid") for event in events}
    of_type = {event["id"]: event["type"] for event in events}
    reached = set()
    for event_id in causes:
        place: str | None = event_id
        while place is not None and place != root:
            place = causes.get(place)
        if place == root:
            reached.add(of_type[event_id])
    missing = [name for name in WHOLE_CHAIN if name not in reached]
    assert not missing, f"{missing} do not follow from the session; reached {sorted(reached)}"


async def book_visit(
    clinic: Clinic, member: UUID, pt: str, *, alert_id: str | None = None, starts_at: datetime | None = None
) -> str:
    """A visit of half an hour with the PT: at the time given, or the first that is free in two days."""
    week = {
        "time_zone": "America/New_York",
        "hours": [{"weekday": day, "starts_at": "00:00:00", "ends_at": "23:30:00"} for day in range(1, 8)],
    }
    await clinic.ask("messaging", "PUT", "/v1/me/hours", pt, json=week)
    now = starts_at or clinic.now()
    query = {
        "practitioner_id": str(clinic.pt_id),
        "from": now.isoformat(),
        "until": (now + timedelta(days=2)).isoformat(),
    }
    slots = await clinic.ask("messaging", "GET", f"/v1/members/{member}/slots", pt, params=query)
    first = slots["slots"][0]["starts_at"]
    assert starts_at is None or datetime.fromisoformat(first) == starts_at
    hold = {"practitioner_id": str(clinic.pt_id), "starts_at": first, "reason": "follow-up"}
    if alert_id is not None:
        hold |= {"reason": "pain-spike", "alert_id": alert_id}
    held = await clinic.ask("messaging", "POST", f"/v1/members/{member}/holds", pt, json=hold)
    visit = await clinic.ask(
        "messaging", "POST", f"/v1/members/{member}/visits", pt, json={"hold_id": held["visit_id"]}
    )
    await clinic.settled()
    return str(visit["visit_id"])


async def test_an_emergency_at_intake_tells_what_to_do_and_alerts_who_is_on_call(clinic: Clinic) -> None:
    intake = clinic.intake(2, findings=["chest-pain-breathless"])
    answer = await clinic.ask("enrollment", "POST", "/v1/intakes", clinic.tokens.app, json=intake)
    assert answer["screening"]["disposition"] == "emergency"
    assert "911" in answer["screening"]["instruction"]
    await clinic.settled()
    alerts = await clinic.ask("messaging", "GET", "/v1/alerts", clinic.tokens.oncall(clinic.oncall_id))
    listed = alerts["alerts"] if isinstance(alerts, dict) else alerts
    assert [alert["priority"] for alert in listed] == ["emergency"]
    plans = clinic.running["plans"].service.database
    assert await plans.fetchval("select count(*) from care_plans") == 0


async def test_a_clinician_of_another_team_sees_nothing(clinic: Clinic) -> None:
    member = await clinic.enrol(3)
    stranger = clinic.tokens.coach(uuid4())
    await clinic.ask("messaging", "GET", f"/v1/members/{member}/chain", stranger, status=404)
    await clinic.ask("messaging", "GET", f"/v1/members/{member}/messages", stranger, status=404)
    await clinic.ask("plans", "GET", f"/v1/members/{member}/plan", clinic.tokens.member(uuid4()), status=404)


def afternoon(clinic: Clinic, *, days: int, minute: int = 0) -> datetime:
    """Three o'clock where the members live: nobody's quiet hours, also a day and an hour before."""
    local = clinic.now().astimezone(NEW_YORK) + timedelta(days=days)
    return local.replace(hour=15, minute=minute, second=0, microsecond=0)


async def pass_time(clinic: Clinic, until: datetime) -> None:
    clinic.advance(until - clinic.now())
    await clinic.settled()


def reminders(clinic: Clinic, number: int) -> list[str]:
    """When the visits are that a member of the roster was reminded of by mail, in the order of the mails."""
    found = clinic.mailbox.latest(to=f"sim{number}@example.org", search="You have a visit on")
    opened = [clinic.mailbox.open(summary.id) for summary in reversed(found)]
    return [one.text.split("You have a visit on ")[1].split(".")[0] for one in opened if one is not None]


def as_written(starts_at: datetime) -> str:
    local = starts_at.astimezone(NEW_YORK)
    return f"{local:%A}, {local:%B} {local.day} at 3:{local:%M} PM {local:%Z}"


async def test_a_visit_is_reminded_of_by_mail_until_it_is_cancelled(clinic: Clinic) -> None:
    comes, cancels, pt = await clinic.enrol(4), await clinic.enrol(5), clinic.tokens.pt(clinic.pt_id)
    early, late = afternoon(clinic, days=2), afternoon(clinic, days=2, minute=30)
    cancelled = await book_visit(clinic, cancels, pt, starts_at=early)
    await book_visit(clinic, comes, pt, starts_at=late)
    await pass_time(clinic, late - DAY - timedelta(hours=2))
    assert (reminders(clinic, 4), reminders(clinic, 5)) == ([], [])

    await pass_time(clinic, late - DAY + A_MOMENT)
    assert (reminders(clinic, 4), reminders(clinic, 5)) == ([as_written(late)], [as_written(early)])
    await clinic.ask("messaging", "POST", f"/v1/visits/{cancelled}/cancel", pt)
    await clinic.settled()

    for lead in (timedelta(hours=1), timedelta(minutes=30), timedelta(minutes=10)):
        await pass_time(clinic, late - lead + A_MOMENT)
    assert reminders(clinic, 4) == [as_written(late)] * 3
    assert reminders(clinic, 5) == [as_written(early)]


async def test_a_visit_that_is_moved_is_reminded_of_at_its_new_time_only(clinic: Clinic) -> None:
    member, pt = await clinic.enrol(6), clinic.tokens.pt(clinic.pt_id)
    first, second, third = (afternoon(clinic, days=days) for days in (3, 2, 5))
    visit_id = await book_visit(clinic, member, pt, starts_at=first)
    await move_visit(clinic, visit_id, pt, to=second)
    await pass_time(clinic, second - DAY + A_MOMENT)
    assert reminders(clinic, 6) == [as_written(second)]

    await move_visit(clinic, visit_id, pt, to=third)
    for lead in (timedelta(hours=1), timedelta(minutes=10), timedelta(0)):
        await pass_time(clinic, second - lead + A_MOMENT)
    for lead in (timedelta(hours=1), timedelta(minutes=10), timedelta(0)):
        await pass_time(clinic, first - lead + A_MOMENT)
    assert reminders(clinic, 6) == [as_written(second)], "all others of the old times are cancelled"

    for lead in (DAY, timedelta(hours=1)):
        await pass_time(clinic, third - lead + A_MOMENT)
    assert reminders(clinic, 6) == [as_written(second), as_written(third), as_written(third)]


async def move_visit(clinic: Clinic, visit_id: str, pt: str, *, to: datetime) -> None:
    time = {"practitioner_id": str(clinic.pt_id), "starts_at": to.isoformat()}
    await clinic.ask("messaging", "POST", f"/v1/visits/{visit_id}/reschedule", pt, json=time)
    await clinic.settled()
