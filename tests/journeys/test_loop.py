"""Given a clinic of four services, when a member trains and hurts, then the loop closes, and every step says why."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.journeys.clinic import Clinic
from tests.journeys.reading import read_topic

pytestmark = pytest.mark.timeout(180)
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

    visit_id = await book_visit(clinic, member, pt, alert["alert_id"])
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
    assert "applied" in str(told)
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


async def book_visit(clinic: Clinic, member: UUID, pt: str, alert_id: str) -> str:
    week = {
        "time_zone": "America/New_York",
        "hours": [{"weekday": day, "starts_at": "00:00:00", "ends_at": "23:30:00"} for day in range(1, 8)],
    }
    await clinic.ask("messaging", "PUT", "/v1/me/hours", pt, json=week)
    now = clinic.now()
    query = {
        "practitioner_id": str(clinic.pt_id),
        "from": now.isoformat(),
        "until": (now + timedelta(days=2)).isoformat(),
    }
    slots = await clinic.ask("messaging", "GET", f"/v1/members/{member}/slots", pt, params=query)
    listed = slots["slots"]
    hold = {
        "practitioner_id": str(clinic.pt_id), "starts_at": listed[0]["starts_at"], "reason": "pain-spike",
        "alert_id": alert_id,
    }  # fmt: skip
    held = await clinic.ask("messaging", "POST", f"/v1/members/{member}/holds", pt, json=hold)
    visit = await clinic.ask(
        "messaging", "POST", f"/v1/members/{member}/visits", pt, json={"hold_id": held["visit_id"]}
    )
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


async def test_a_visit_is_confirmed_or_reminded_by_mail_and_a_cancelled_one_is_not(clinic: Clinic) -> None:
    member = await clinic.enrol(4)
    pt = clinic.tokens.pt(clinic.pt_id)
    await clinic.train(member, pain=8, hours_ago=1)
    await clinic.settled()
    alerts = await eventually(lambda: open_alerts(clinic, pt, member))
    visit_id = await book_visit(clinic, member, pt, alerts[0]["alert_id"])
    await clinic.settled()
    timers = clinic.running["notifications"].service.database
    count = "select count(*) from delivery.timers where kind = 'reminder.visit' and member_id = $1"
    assert await timers.fetchval(count, member) > 0
    await clinic.ask("messaging", "POST", f"/v1/visits/{visit_id}/cancel", pt)
    await clinic.settled()
    assert await timers.fetchval(count, member) == 0
