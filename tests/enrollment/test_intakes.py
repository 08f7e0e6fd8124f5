"""Intake through HTTP: enrolled, stopped, waiting, taught or refused, and what the other services hear of it."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.enrollment.store.answers import KEPT, Answer, forget_answers, load_answer, save_answer
from services.enrollment.store.memberships import load_memberships
from shared.clock import wall_now
from shared.database import Connection, open_database
from tests.enrollment.clinic import Clinic, roster
from tests.fixtures.databases import DatabaseFactory

ENROLMENT = ["member.screened", "contact.changed", "member.enrolled", "consent.changed", "care-team.assigned"]


async def test_an_enrolment_is_told_in_one_transaction_and_in_order(open_clinic: Clinic) -> None:
    clinic = open_clinic
    answer = await clinic.enrol()
    assert answer["outcome"] == "enrolled"
    assert answer["eligibility"]["member_cost"] == 0
    assert answer["care_team"]["pt"]["name"] == "Petra Therapist"
    assert [each["sign"] for each in answer["assessment"]] == ["pain-daily", "limited-motion"]
    events = await clinic.published(answer["member_id"])
    assert [event["type"].split("careloop.")[1] for event in events] == [f"{name}.v1" for name in ENROLMENT]
    assert len({event["correlationid"] for event in events}) == 1
    assert {event["causationid"] for event in events} == {answer["intake_id"]}
    enrolled = events[2]["data"]
    assert enrolled["goals"] == [
        "Walk the dog",
        "Walk, climb stairs and stand up with less pain",
        "Bend and straighten the knee further",
    ]
    assert (enrolled["disposition"], enrolled["pain"]["usual"], enrolled["consented_channels"]) == (
        "none",
        4,
        ["email"],
    )
    decision = events[4]["data"]["decision"]
    assert (decision["rule_id"], decision["rule_version"]) == ("enrollment.care-team", 1)
    assert "licensed in NY" in decision["reason"]
    assert decision["evidence"] == [{"source": events[0]["source"], "id": events[0]["id"]}]
    assert events[3]["data"] == {"channel": "email", "topic": "all", "granted": True, "given_by": "intake"}
    assert {row["panel_size"] for row in await clinic.rows("select panel_size from practitioners")} == {1}


@pytest.mark.parametrize(
    ("findings", "disposition", "words"),
    [
        (["chest-pain-breathless"], "emergency", "911"),
        (["locked-knee"], "same-day", ""),
        (["cannot-take-4-steps"], "same-day", ""),
    ],
)
async def test_a_blocking_answer_is_told_at_once_and_enrols_nobody(
    open_clinic: Clinic, findings: list[str], disposition: str, words: str
) -> None:
    clinic = open_clinic
    answer = await clinic.enrol(findings=findings)
    assert (answer["outcome"], answer["care_team"]) == ("blocked", None)
    assert answer["screening"]["disposition"] == disposition
    assert answer["screening"]["instruction"]
    assert words in answer["screening"]["instruction"]
    assert answer["next_steps"] == ["follow-instruction"]
    # The on-call clinician hears of it and knows whom to call; nobody is enrolled, no channel is consented to.
    assert await clinic.published_types(answer["member_id"]) == ["member.screened", "contact.changed"]
    assert (await clinic.published(answer["member_id"]))[0]["data"]["disposition"] == disposition
    urgent = [
        row["urgent"] for row in await clinic.rows("select urgent from published order by outbox_id desc limit 2")
    ]
    assert urgent == [False, True], "the screening does not wait for what else goes out"
    assert (await clinic.rows("select count(*) from consents"))[0]["count"] == 0
    assert {row["panel_size"] for row in await clinic.rows("select panel_size from practitioners")} == {0}


async def test_the_instruction_comes_in_the_persons_language(open_clinic: Clinic) -> None:
    clinic = open_clinic
    body = clinic.intake(findings=["chest-pain-breathless"], language="es")
    spanish = (await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body)).json()["screening"][
        "instruction"
    ]
    english = (await clinic.enrol("E-2", findings=["chest-pain-breathless"]))["screening"]["instruction"]
    assert "911" in spanish
    assert spanish != english


async def test_nobody_answers_their_way_past_a_screening_until_a_clinician_has_looked(open_clinic: Clinic) -> None:
    clinic = open_clinic
    blocked = await clinic.enrol(findings=["cancer-history", "night-pain"])
    member = blocked["member_id"]
    assert blocked["screening"]["disposition"] == "clinician-72h"
    retry = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=clinic.intake(findings=[]))
    assert (retry.status_code, retry.json()["type"]) == (409, "urn:careloop:problem:screening-open")
    path, reason = f"/v1/members/{member}/clearance", {"reason": "Called; oncologist has cleared exercise."}
    for token in (clinic.tokens.coach(uuid4()), clinic.tokens.pt(uuid4())):
        assert (await clinic.call("POST", path, token, json=reason)).status_code == 403
    assert (await clinic.call("POST", path, clinic.tokens.oncall(uuid4()), json=reason)).status_code == 200
    assert (await clinic.call("POST", path, clinic.tokens.oncall(uuid4()), json=reason)).status_code == 409
    # What was looked at no longer blocks, with the member's own id kept; one finding more does.
    worse = await clinic.enrol(findings=["cancer-history", "night-pain", "locked-knee"])
    assert (worse["outcome"], worse["member_id"]) == ("blocked", member)
    assert (await clinic.call("POST", path, clinic.tokens.oncall(uuid4()), json=reason)).status_code == 200
    again = await clinic.enrol(findings=["cancer-history", "night-pain"])
    assert (again["outcome"], again["screening"]["disposition"]) == ("enrolled", "pt-72h")
    assert again["next_steps"][0] == "book-pt-visit"


async def test_a_clearance_runs_out(open_clinic: Clinic) -> None:
    clinic = open_clinic
    blocked = await clinic.enrol(findings=["cancer-history", "night-pain"])
    path = f"/v1/members/{blocked['member_id']}/clearance"
    await clinic.call("POST", path, clinic.tokens.oncall(uuid4()), json={"reason": "Seen."})
    clinic.clock.step(days=14)
    assert (await clinic.enrol(findings=["cancer-history", "night-pain"]))["outcome"] == "blocked"


async def test_giving_way_lets_the_plan_start_and_asks_for_a_pt(open_clinic: Clinic) -> None:
    answer = await open_clinic.enrol(findings=["giving-way"])
    assert (answer["outcome"], answer["screening"]["disposition"]) == ("enrolled", "pt-72h")
    assert answer["next_steps"] == ["book-pt-visit", "read-plan"]
    assert not await open_clinic.rows("select from published where urgent"), "nobody is alerted because of it"


@pytest.mark.parametrize("intent", ["researching", "what-is-this"])
async def test_just_researching_leaves_no_trace_whatever_was_said(open_clinic: Clinic, intent: str) -> None:
    clinic = open_clinic
    body = clinic.intake(intent=intent, findings=["chest-pain-breathless"])
    answer = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["outcome"]) == (200, "education")
    assert "911" in answer.json()["screening"]["instruction"]
    assert len(answer.json()["articles"]) >= 3
    assert await clinic.published() == []
    for table in ("memberships", "intakes", "contacts", "answers", "delivery.member_locks"):
        assert (await clinic.rows(f"select count(*) from {table}"))[0]["count"] == 0, table


async def test_only_an_intent_is_needed_to_be_taught(clinic: Clinic) -> None:
    answer = await clinic.call(
        "POST", "/v1/intakes", clinic.tokens.app, json={"intent": "is-pt-right", "language": "es"}
    )
    assert answer.status_code == 200
    assert answer.json()["articles"][0]["title"].startswith("Qué")


async def test_care_now_is_led_to_a_visit(open_clinic: Clinic) -> None:
    answer = await open_clinic.enrol(intent="care-now")
    assert (answer["route"], answer["outcome"]) == ("pt-visit", "enrolled")
    assert answer["next_steps"] == ["book-pt-visit", "read-plan"]


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        ({"person_id": "E-404", "date_of_birth": "1980-05-17"}, "person-not-found"),
        ({"person_id": "E-1", "date_of_birth": "1980-05-18"}, "person-not-found"),
    ],
)
async def test_somebody_not_covered_is_refused_but_told_what_to_do(
    open_clinic: Clinic, person: dict[str, str], reason: str
) -> None:
    clinic = open_clinic
    body = clinic.intake(person=person, findings=["chest-pain-breathless"])
    answer = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:careloop:problem:not-eligible")
    assert answer.json()["errors"] == [{"field": "body.person", "message": reason}]
    assert "911" in answer.json()["screening"]["instruction"]
    assert await clinic.published() == []


async def test_a_red_flag_of_somebody_in_care_is_told_although_their_intake_is_refused(open_clinic: Clinic) -> None:
    clinic = open_clinic
    member = (await clinic.enrol())["member_id"]
    before = await clinic.rows("select * from memberships"), await clinic.rows("select * from delivery.timers")
    told = len(await clinic.published(member))
    for findings in (["chest-pain-breathless"], ["chest-pain-breathless"], ["calf-swelling"], ["locked-knee"], []):
        again = clinic.intake(findings=findings)
        answer = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=again)
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:careloop:problem:already-enrolled")
    events = (await clinic.published(member))[told:]
    assert {event["type"] for event in events} == {"org.careloop.member.screened.v1"}
    assert [event["data"]["findings"] for event in events] == [
        ["chest-pain-breathless"], ["chest-pain-breathless"], ["calf-swelling"], ["locked-knee"],
    ]  # fmt: skip
    assert events[0]["data"]["disposition"] == "emergency"
    assert len({event["id"] for event in events}) == 3, "sent again it is the same event"
    assert (
        await clinic.rows("select * from memberships"),
        await clinic.rows("select * from delivery.timers"),
    ) == before


async def test_the_same_key_gets_the_same_answer_and_another_body_a_conflict(open_clinic: Clinic) -> None:
    clinic = open_clinic
    body, headers = clinic.intake(), {"Idempotency-Key": "intake-1"}
    first = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body, headers=headers)
    again = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    changes: list[dict[str, Any]] = [{"days_per_week": 4}, {"findings": ["locked-knee"]}, {"consents": []}]
    for change in changes:
        another = clinic.intake(**change)
        other = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=another, headers=headers)
        assert (other.status_code, other.json()["type"]) == (409, "urn:careloop:problem:idempotency-key-reused")
    assert await clinic.published_types() == [*ENROLMENT, "member.screened"], "of the locked knee"
    # The key is the caller's own.
    someone = await clinic.call("POST", "/v1/intakes", clinic.tokens.person("app-2", "app"), json=body, headers=headers)
    assert someone.json()["type"] == "urn:careloop:problem:already-enrolled"


async def test_many_at_once_with_one_key_are_one_enrolment_with_one_answer(open_clinic: Clinic) -> None:
    clinic = open_clinic
    answers = await asyncio.gather(
        *(
            clinic.call(
                "POST", "/v1/intakes", clinic.tokens.app, json=clinic.intake(), headers={"Idempotency-Key": "k"}
            )
            for _ in range(8)
        )
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert await clinic.published_types() == ENROLMENT


async def test_a_repeat_that_looked_before_the_first_was_done_gets_its_answer(
    open_clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first look at the key finds nothing, and then the person is a member already."""
    clinic, looks = open_clinic, 0

    async def look(connection: Connection, *, caller: str, key: str) -> Answer | None:
        nonlocal looks
        looks += 1
        return None if looks == 1 else await load_answer(connection, caller=caller, key=key)

    body, headers = clinic.intake(), {"Idempotency-Key": "k"}
    first = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body, headers=headers)
    monkeypatch.setattr("services.enrollment.api.intakes.load_answer", look)
    again = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body, headers=headers)
    assert (again.status_code, again.text) == (first.status_code, first.text)
    assert looks > 1
    assert await clinic.published_types() == ENROLMENT


async def test_many_at_once_without_a_key_enrol_the_person_once(open_clinic: Clinic) -> None:
    clinic = open_clinic
    answers = await asyncio.gather(
        *(clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=clinic.intake()) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert await clinic.published_types() == ENROLMENT
    assert {row["panel_size"] for row in await clinic.rows("select panel_size from practitioners")} == {1}


async def test_a_panels_last_place_is_given_once(clinic: Clinic) -> None:
    people = [f"E-{n}" for n in range(12)]
    await clinic.import_roster(roster(*people))
    await clinic.add_practitioner("pt", panel_limit=5)
    await clinic.add_practitioner("coach", panel_limit=50)
    answers = await asyncio.gather(*(clinic.enrol(person) for person in people))
    outcomes = [answer["outcome"] for answer in answers]
    assert (outcomes.count("enrolled"), outcomes.count("waitlisted")) == (5, 7)
    sizes = await clinic.rows("select panel_size from practitioners order by panel_limit")
    assert [row["panel_size"] for row in sizes] == [5, 5]


async def test_a_member_takes_an_intake_for_themself_only(open_clinic: Clinic) -> None:
    clinic, me = open_clinic, uuid4()
    token = clinic.tokens.member(me)
    other = await clinic.call("POST", "/v1/intakes", token, json=clinic.intake(member_id=str(uuid4())))
    assert (other.status_code, other.json()["errors"][0]["field"]) == (409, "body.member_id")
    mine = await clinic.call("POST", "/v1/intakes", token, json=clinic.intake())
    assert mine.json()["member_id"] == str(me)
    second_person = await clinic.call("POST", "/v1/intakes", token, json=clinic.intake("E-2"))
    assert second_person.json()["type"] == "urn:careloop:problem:member-is-another"
    stranger = await clinic.call("POST", "/v1/intakes", clinic.tokens.member(uuid4()), json=clinic.intake())
    assert stranger.status_code == 409
    assert (await clinic.call("POST", "/v1/intakes", clinic.tokens.coach(me), json=clinic.intake())).status_code == 403


BAD: list[tuple[dict[str, Any], str]] = [
    ({"intent": "curious"}, "body.intent"),
    ({"pain": {"now": 11, "average_24h": 5, "usual": 4}}, "body.pain.now"),
    ({"pain": {"now": 4.5, "average_24h": 5, "usual": 4}}, "body.pain.now"),
    ({"pain": {"now": True, "average_24h": 5, "usual": 4}}, "body.pain.now"),
    ({"pain": {"now": 4, "average_24h": 5}}, "body.pain.usual"),
    ({"signs": ["pain-dialy"]}, "body.signs.0"),
    ({"findings": ["fever"]}, "body.findings.0"),
    ({"state": "XX"}, "body.state"),
    ({"time_zone": "EST5EDT4"}, "body.time_zone"),
    ({"preferred_time": "7:30"}, "body.preferred_time"),
    ({"days_per_week": 8}, "body.days_per_week"),
    ({"days_per_week": None}, "body.days_per_week"),
    ({"language": "fr"}, "body.language"),
    ({"goals": ["a\nb"]}, "body.goals.0"),
    ({"goals": ["\u0000"]}, "body.goals.0"),
    ({"goals": ["x" * 301]}, "body.goals.0"),
    ({"contact": None}, "body.contact"),
    ({"contact": {"given_name": "S", "family_name": "S", "email": "nowhere"}}, "body.contact.email"),
    ({"contact": {"given_name": "S", "family_name": "S", "phone": "555-0100"}}, "body.contact.phone"),
    ({"contact": {"given_name": "S", "family_name": "S"}}, "body.consents"),
    ({"cause": "post-surgical"}, "body.surgery"),
    (
        {"surgery": {"procedure": "x", "performed_on": "2026-04-01", "surgeon_cleared": True}},
        "body.surgery.performed_on",
    ),
    ({"person": {"person_id": "E-1", "date_of_birth": "1980-13-01"}}, "body.person.date_of_birth"),
    ({"person": {"person_id": "\ud800", "date_of_birth": "1980-12-01"}}, "body.person.person_id"),
    ({"member_id": "42"}, "body.member_id"),
    ({"sings": []}, "body.sings"),
]


async def test_a_wrong_field_is_named_and_nothing_happens(clinic: Clinic) -> None:
    for change, field in BAD:
        answer = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=clinic.intake(**change))
        assert answer.status_code == 422, (change, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert [error["field"] for error in answer.json()["errors"]] == [field], change
    assert await clinic.published() == []


async def test_a_body_that_is_no_intake_is_a_problem(clinic: Clinic) -> None:
    for content in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'{"intent": "care-now"}\xff',
        b'{"\\ud800": 1, "intent": "care-now"}',
    ):
        answer = await clinic.call(
            "POST", "/v1/intakes", clinic.tokens.app, content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code in (400, 422), (content, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_an_enrolment_and_a_file_that_ends_the_coverage_meet_in_either_order(open_clinic: Clinic) -> None:
    """Whichever commits first, nobody stays enrolled without coverage."""
    clinic = open_clinic
    await clinic.import_roster(roster(*(f"X-{n}" for n in range(15))))
    people = [f"X-{n}" for n in range(15)]
    file = asyncio.create_task(clinic.import_roster(roster(*people, ends="2026-03-01")))
    answers = await asyncio.gather(
        *(clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=clinic.intake(person)) for person in people)
    )
    assert (await file)["state"] == "applied"
    await clinic.timers_done()
    enrolled = [UUID(a.json()["member_id"]) for a in answers if a.status_code == 201]
    async with clinic.database() as connection:
        found = await load_memberships(connection, member_ids=enrolled)
    assert {m.status for m in found.values()} <= {"disenrolled"}
    assert sum(row["panel_size"] for row in await clinic.rows("select panel_size from practitioners")) == 0


async def test_an_answer_is_kept_for_as_long_as_a_phone_may_ask_again(database: DatabaseFactory) -> None:
    pool, now = await open_database(await database("enrollment"), connections=2, application="test"), wall_now()
    answer = Answer(digest=b"d", status=201, body=b"{}")
    try:
        async with pool.acquire() as connection:
            for key, age in (("young", KEPT - timedelta(minutes=1)), ("old", KEPT + timedelta(minutes=1))):
                await save_answer(connection, answer, caller="app", key=key, now=now - age)
            await forget_answers(connection, now=now)
            assert await load_answer(connection, caller="app", key="young") == answer
            assert await load_answer(connection, caller="app", key="old") is None
    finally:
        await pool.close()
