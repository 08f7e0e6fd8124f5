"""The whole service on real servers: events in, alerts out, over HTTP, live, within the limits of who may see whom."""

from typing import Any
from uuid import uuid4

import pytest

from shared.clock import wall_now
from tests.fixtures.eventually import eventually
from tests.messaging.given import (
    COACH,
    HOUR,
    MEMBER,
    ONCALL,
    OTHER_MEMBER,
    PT,
    STRANGER,
    flagged,
)
from tests.messaging.service.clinic import Clinic, chain, raise_spike


async def test_the_loop_from_a_spike_to_a_completed_visit(clinic: Clinic) -> None:
    alert = await raise_spike(clinic)
    assert (alert["summary"], alert["owner"]["name"], alert["status"]) == ("pain 7, usual 3", "Cora Coach", "open")
    path = f"/v1/alerts/{alert['alert_id']}"

    first = await clinic.ask("POST", f"{path}/acknowledge", token=clinic.coach)
    second = await clinic.ask("POST", f"{path}/acknowledge", token=clinic.tokens.pt(PT.practitioner_id, PT.name))
    assert (first.status_code, second.status_code) == (200, 409)
    assert second.headers["content-type"] == "application/problem+json"
    assert second.json()["detail"] == "Acknowledged by Cora Coach."

    text = {"text": "Let us have a look together.", "alert_id": alert["alert_id"]}
    assert (
        await clinic.ask("POST", f"/v1/members/{MEMBER}/messages", token=clinic.coach, json=text)
    ).status_code == 201
    slots = await clinic.ask(
        "GET", f"/v1/members/{MEMBER}/slots?practitioner_id={COACH.practitioner_id}", token=clinic.member
    )
    assert slots.status_code == 200, slots.text
    wanted = {
        "practitioner_id": str(COACH.practitioner_id),
        "starts_at": slots.json()["slots"][2]["starts_at"],
        "alert_id": alert["alert_id"],
    }
    held = await clinic.ask("POST", f"/v1/members/{MEMBER}/holds", token=clinic.coach, json=wanted)
    assert held.status_code == 201, held.text
    booking = {"hold_id": held.json()["visit_id"]}
    booked = await clinic.ask("POST", f"/v1/members/{MEMBER}/visits", token=clinic.coach, json=booking)
    assert (booked.status_code, booked.json()["status"], booked.json()["reason"]) == (201, "booked", "pain-spike")
    resolved = await clinic.ask("POST", f"{path}/resolve", token=clinic.coach, json={"outcome": "visit-booked"})
    assert resolved.json()["outcome"] == "visit-booked"
    assert await clinic.queue(clinic.coach) == []

    events = await chain(
        clinic, alert["correlationid"], "session.completed", "alert.acknowledged", "alert.resolved", "visit.booked",
        "message.sent",
    )  # fmt: skip
    by_id = {(event["source"], event["id"]): event["type"] for event in events}
    arrows = {(by_id.get((e["causationsource"], e["causationid"])), e["type"]) for e in events}
    assert arrows == {
        (None, "session.completed"),
        ("session.completed", "pain.spiked"),
        ("pain.spiked", "alert.raised"),
        ("alert.raised", "alert.acknowledged"),
        ("alert.raised", "message.sent"),
        ("alert.raised", "visit.booked"),
        ("alert.raised", "alert.resolved"),
    }


async def test_who_may_see_whom(clinic: Clinic) -> None:
    await raise_spike(clinic)
    tokens = clinic.tokens
    stranger, oncall = tokens.coach(STRANGER.practitioner_id), tokens.oncall(ONCALL.practitioner_id)
    alert_id = (await clinic.queue(clinic.coach))[0]["alert_id"]
    paths = (f"/v1/members/{MEMBER}/messages", f"/v1/members/{MEMBER}/visits", f"/v1/members/{MEMBER}/chain",
             f"/v1/members/{MEMBER}/alerts", f"/v1/alerts/{alert_id}")  # fmt: skip
    for path in paths:
        assert (await clinic.ask("GET", path, token=clinic.coach)).status_code == 200
        assert (await clinic.ask("GET", path, token=stranger)).status_code == 404
        assert (await clinic.ask("GET", path, token=oncall)).status_code == 404
        assert (await clinic.ask("GET", path, token=tokens.member(OTHER_MEMBER))).status_code in (403, 404)
        assert (await clinic.ask("GET", path, token=tokens.operator)).status_code == 403
        assert (await clinic.running.client.get(path)).status_code == 401
    for action in ("acknowledge", "resolve"):
        body = {"outcome": "referred"} if action == "resolve" else None
        answer = await clinic.ask("POST", f"/v1/alerts/{alert_id}/{action}", token=stranger, json=body)
        assert answer.status_code == 404
    assert (await clinic.ask("GET", f"/v1/members/{MEMBER}/messages", token=clinic.member)).status_code == 200
    assert (await clinic.ask("GET", f"/v1/members/{MEMBER}/chain", token=clinic.member)).status_code == 403
    assert await clinic.queue(stranger) == []

    await clinic.publish("careloop.plans", flagged("emergency", "hot-swollen-joint", at=wall_now()))
    assert await eventually(lambda: clinic.queue(oncall), what="the emergency asks the on-call role")
    assert (await clinic.ask("GET", f"/v1/members/{MEMBER}/messages", token=oncall)).status_code == 200


async def test_a_command_on_what_asked_again_meanwhile_changes_nothing(clinic: Clinic) -> None:
    await clinic.publish("careloop.plans", flagged("same-day", "locked-knee", at=wall_now()))
    pt = clinic.tokens.pt(PT.practitioner_id, PT.name)
    (shown,) = await eventually(lambda: clinic.queue(pt), what="the PT has the alert")
    await clinic.publish("careloop.plans", flagged("emergency", "chest-pain-breathless", at=wall_now()))

    async def worse() -> Any:
        (alert,) = await clinic.queue(pt)
        return alert if alert["priority"] == "emergency" else None

    now = await eventually(worse, what="the emergency has joined it")
    assert (shown["repeats"], now["repeats"]) == (0, 1)
    path, seen = f"/v1/alerts/{shown['alert_id']}", {"seen": shown["repeats"]}
    bodies: dict[str, dict[str, Any]] = {
        "acknowledge": {},
        "snooze": {"until": (wall_now() + HOUR).isoformat()},
        "hand-over": {"to_role": "coach"},
        "resolve": {"outcome": "no-action-needed", "note": "stiff only"},
    }
    for action, body in bodies.items():
        stale = await clinic.ask("POST", f"{path}/{action}", token=pt, json=body | seen)
        assert (stale.status_code, stale.json()["type"]) == (409, "urn:careloop:problem:asked-again"), action
        assert stale.headers["content-type"] == "application/problem+json"
        blind = await clinic.ask("POST", f"{path}/{action}", token=pt, json=body | {"seen": -1})
        assert blind.status_code == 422
    for action in ("snooze", "hand-over", "resolve"):
        blind = await clinic.ask("POST", f"{path}/{action}", token=pt, json=bodies[action])
        assert (blind.status_code, blind.json()["type"]) == (409, "urn:careloop:problem:not-seen"), action
    assert await worse() == now
    done = await clinic.ask("POST", f"{path}/resolve", token=pt, json=bodies["resolve"] | {"seen": now["repeats"]})
    assert done.json()["status"] == "resolved", done.text


async def test_a_command_that_is_sent_again_with_its_key_acts_once(clinic: Clinic) -> None:
    await clinic.publish("careloop.plans", flagged("same-day", "locked-knee", at=wall_now()))
    pt = clinic.tokens.pt(PT.practitioner_id, PT.name)
    (alert,) = await eventually(lambda: clinic.queue(pt), what="the PT has the alert")
    path, key = f"/v1/alerts/{alert['alert_id']}/acknowledge", {"Idempotency-Key": "click-1"}
    taken = await clinic.ask("POST", path, token=pt, json={"seen": 0}, **key)
    again = await clinic.ask("POST", path, token=pt, json={"seen": 0}, **key)
    assert (taken.status_code, again.status_code, again.json()) == (200, 200, taken.json())
    other = await clinic.ask("POST", path, token=pt, json={"seen": 0}, **{"Idempotency-Key": "click-2"})
    assert (other.status_code, other.json()["type"]) == (409, "urn:careloop:problem:already-acknowledged")
    # The key is of one person and one verb: the same one gives it back, and a colleague's is another request.
    undone = await clinic.ask("DELETE", path, token=pt, **key)
    assert (undone.status_code, undone.json()["status"]) == (200, "open")
    late = await clinic.ask("POST", path, token=pt, json={"seen": 0}, **key)
    assert (late.status_code, late.json()["status"]) == (200, "open"), "it was done, and is not done again"
    colleague = await clinic.ask("POST", path, token=clinic.coach, json={"seen": 0}, **key)
    assert (colleague.status_code, colleague.json()["status"]) == (200, "acknowledged")


async def test_a_message_is_sent_once_and_its_red_flags_are_answered_at_once(clinic: Clinic) -> None:
    path, key = f"/v1/members/{MEMBER}/messages", str(uuid4())
    text = {"text": "My knee is hot, red and swollen"}
    first = await clinic.ask("POST", path, token=clinic.member, json=text, **{"Idempotency-Key": key})
    again = await clinic.ask("POST", path, token=clinic.member, json=text, **{"Idempotency-Key": key})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "911" in first.json()["instruction"]
    assert first.json()["message"]["sender_name"] == "Marta Muster"
    read = await clinic.ask("GET", path, token=clinic.coach)
    assert [m["text"] for m in read.json()["messages"]] == [text["text"]]
    assert read.json()["read_up_to"] == 0
    put = await clinic.ask("PUT", f"{path}/read", token=clinic.coach, json={"number": 1})
    assert put.status_code == 200
    assert (await clinic.ask("PUT", f"{path}/read", token=clinic.coach, json={"number": 2})).status_code == 404
    assert (await clinic.ask("GET", path, token=clinic.coach)).json()["read_up_to"] == 1
    (alert,) = await clinic.queue(clinic.coach)
    assert (alert["kind"], alert["priority"]) == ("safety", "emergency")


async def test_the_same_key_of_two_people_is_two_requests(clinic: Clinic) -> None:
    """Or what one of them wrote would be refused, or taken for what the other did."""
    path, key = f"/v1/members/{MEMBER}/messages", "1"
    for token, text in ((clinic.member, "May I run?"), (clinic.coach, "Not yet.")):
        answer = await clinic.ask("POST", path, token=token, json={"text": text}, **{"Idempotency-Key": key})
        assert answer.status_code == 201, answer.text
    read = await clinic.ask("GET", path, token=clinic.coach)
    assert [message["text"] for message in read.json()["messages"]] == ["May I run?", "Not yet."]


async def test_the_note_of_a_visit_is_for_the_care_team(clinic: Clinic) -> None:
    slots = f"/v1/members/{MEMBER}/slots?practitioner_id={COACH.practitioner_id}"
    free = (await clinic.ask("GET", slots, token=clinic.member)).json()["slots"]
    wanted = {"practitioner_id": str(COACH.practitioner_id), "starts_at": free[0]["starts_at"]}
    held = await clinic.ask("POST", f"/v1/members/{MEMBER}/holds", token=clinic.member, json=wanted)
    booking = {"hold_id": held.json()["visit_id"]}
    visits = f"/v1/members/{MEMBER}/visits"
    assert (await clinic.ask("POST", visits, token=clinic.member, json=booking)).status_code == 201
    past = "update visits set during = tstzrange(now() - interval '1 hour', now() - interval '30 minutes')"
    await clinic.running.service.database.execute(past)
    done = {"action": "continue", "exercises": [], "note": "Afraid of stairs."}
    path = f"/v1/visits/{held.json()['visit_id']}/complete"
    assert (await clinic.ask("POST", path, token=clinic.member, json=done)).status_code == 403
    assert (await clinic.ask("POST", path, token=clinic.coach, json=done)).json()["note"] == "Afraid of stairs."
    for token, note in ((clinic.member, None), (clinic.coach, "Afraid of stairs.")):
        (shown,) = (await clinic.ask("GET", visits, token=token)).json()
        assert (shown["status"], shown.get("note")) == ("completed", note)


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", f"/v1/members/{MEMBER}/messages", {"text": "  "}, "body.text"),
        ("POST", f"/v1/members/{MEMBER}/messages", {"text": "x" * 4001}, "body.text"),
        ("POST", f"/v1/members/{MEMBER}/messages", {"text": "a\x00b"}, "body.text"),
        ("POST", f"/v1/members/{MEMBER}/messages", {"text": "Hi", "more": 1}, "body.more"),
        ("POST", f"/v1/members/{MEMBER}/holds", {"practitioner_id": "x", "starts_at": "2026-01-01T10:00:00Z"},
         "body.practitioner_id"),
        ("POST", f"/v1/members/{MEMBER}/holds", {"practitioner_id": str(PT.practitioner_id),
         "starts_at": "2026-01-01T10:00:00"}, "body.starts_at"),
        ("PUT", "/v1/me/hours", {"time_zone": "America/New_York", "hours": [
            {"weekday": 1, "starts_at": "10:00", "ends_at": "09:00"}]}, "body.hours.0"),
        ("PUT", "/v1/me/hours", {"time_zone": "Mars/Olympus", "hours": []}, "body.time_zone"),
        ("POST", "/v1/me/absences", {"starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}, "body"),
    ],
)  # fmt: skip
async def test_bad_input_names_the_field_and_changes_nothing(
    clinic: Clinic, method: str, path: str, body: Any, field: str
) -> None:
    answer = await clinic.ask(method, path, token=clinic.coach, json=body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
