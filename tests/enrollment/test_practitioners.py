"""Practitioners, the waiting list and hand-over; sponsors and eligibility, as operators and apps see them."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.enrollment.clinic import Clinic, roster
from tests.fixtures.eventually import eventually


async def standing(clinic: Clinic) -> dict[str, str]:
    rows = await clinic.rows("select person_id, status from memberships order by person_id")
    return {row["person_id"]: row["status"] for row in rows}


async def test_nobody_to_care_for_someone_is_said_seen_and_mended(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1", "E-2"))
    await clinic.add_practitioner("coach", languages=["en", "es"])
    answer = await clinic.enrol(consents=["email"])
    assert (answer["outcome"], answer["waiting_for"]) == ("waitlisted", "no-pt-licensed-in-state")
    member = answer["member_id"]
    assert await clinic.published_types(member) == ["member.screened", "contact.changed"]
    for token in (clinic.tokens.operator, clinic.tokens.oncall(uuid4())):
        seen = (await clinic.call("GET", "/v1/waitlist", token)).json()["waiting"]
        assert [(each["member_id"], each["reason"], each["state"]) for each in seen] == [
            (member, "no-pt-licensed-in-state", "NY")
        ]
    assert (await clinic.call("GET", "/v1/waitlist", clinic.tokens.app)).status_code == 403

    async def alarms() -> bool:
        return 'careloop_enrollment_unplaced{why="waitlisted"} 1.0' in (await clinic.client.get("/metrics")).text

    await eventually(alarms, what="the metric says that one person waits")
    # Somebody who does not speak their language changes the reason, not the wait.
    await clinic.add_practitioner("pt", languages=["es"])
    await clinic.timers_done()
    assert (await clinic.call("GET", "/v1/waitlist")).json()["waiting"][0]["reason"] == "no-pt-speaks-language"
    await clinic.add_practitioner("pt")
    await clinic.timers_done()
    assert await standing(clinic) == {"E-1": "enrolled"}
    assert (await clinic.published_types(member))[2:] == ["member.enrolled", "consent.changed", "care-team.assigned"]
    assert (await clinic.published(member))[2]["data"]["goals"][0] == "Walk the dog"
    assert (await clinic.call("GET", "/v1/waitlist")).json()["waiting"] == []
    assert (await clinic.rows("select count(*) from delivery.timers where kind = 'waitlist.retry'"))[0]["count"] == 0


async def test_who_waited_for_a_care_team_keeps_the_consents_of_their_intake(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1"))
    waiting = await clinic.enrol(consents=["email"])
    assert waiting["outcome"] == "waitlisted"
    await clinic.add_practitioner("pt")
    await clinic.add_practitioner("coach")
    await clinic.timers_done()
    member = (await clinic.call("GET", f"/v1/members/{waiting['member_id']}")).json()
    assert member["status"] == "enrolled"
    assert member["consents"] == [{"channel": "email", "topic": "all", "granted": True}]


async def test_what_somebody_said_while_they_waited_holds_once_they_are_placed(clinic: Clinic) -> None:
    """What they took back since their intake is not given again by it, and they are enrolled as they are now."""
    await clinic.import_roster(roster("E-1"))
    contact = {"given_name": "Simone", "family_name": "S", "email": "simone@example.org", "phone": "+12125550123"}
    waiting = await clinic.enrol(contact=contact, consents=["email", "sms"])
    assert waiting["outcome"] == "waitlisted"
    path = f"/v1/members/{waiting['member_id']}"
    clinic.clock.step(hours=1)
    said = [
        {"channel": "sms", "granted": False},
        {"channel": "email", "topic": "milestone", "granted": False},
        {"channel": "webhook", "granted": True},
    ]
    assert (await clinic.call("PUT", f"{path}/consents", json={"consents": said})).status_code == 200
    moved = {**contact, "time_zone": "America/Los_Angeles", "language": "es"}
    assert (await clinic.call("PUT", f"{path}/contact", json=moved)).status_code == 200
    clinic.clock.step(hours=1)
    await clinic.add_practitioner("pt", languages=["es"])
    await clinic.add_practitioner("coach", languages=["es"])
    await clinic.timers_done()
    member = (await clinic.call("GET", path)).json()
    assert member["status"] == "enrolled"
    assert {(one["channel"], one["topic"]): one["granted"] for one in member["consents"]} == {
        ("email", "all"): True,
        ("email", "milestone"): False,
        ("sms", "all"): False,
        ("webhook", "all"): True,
    }
    events = await clinic.published(waiting["member_id"])
    (enrolled,) = [one["data"] for one in events if one["type"] == "org.careloop.member.enrolled.v1"]
    assert enrolled["consented_channels"] == ["email"]
    assert (enrolled["time_zone"], enrolled["language"]) == ("America/Los_Angeles", "es")
    told = [one["data"] for one in events if one["type"] == "org.careloop.consent.changed.v1"][len(said) :]
    # Behind the grant that covers it: for who follows the log the last word counts.
    assert [(one["channel"], one["topic"], one["granted"]) for one in told] == [
        ("email", "all", True),
        ("email", "milestone", False),
    ]


@pytest.mark.parametrize("again", [False, True], ids=["before the intake", "after it again"])
async def test_a_consent_that_was_taken_back_is_given_by_a_later_intake_alone(clinic: Clinic, again: bool) -> None:
    await clinic.import_roster(roster("E-1"))
    path = f"/v1/members/{(await clinic.enrol())['member_id']}/consents"
    taken_back = {"consents": [{"channel": "email", "granted": False}]}
    assert (await clinic.call("PUT", path, json=taken_back)).status_code == 200
    clinic.clock.step(hours=1)
    assert (await clinic.enrol())["outcome"] == "waitlisted"
    if again:
        assert (await clinic.call("PUT", path, json=taken_back)).status_code == 200
    await clinic.add_practitioner("pt")
    await clinic.add_practitioner("coach")
    await clinic.timers_done()
    member = (await clinic.call("GET", path.removesuffix("/consents"))).json()
    assert member["consents"] == [{"channel": "email", "topic": "all", "granted": not again}]


async def test_the_contact_of_who_waited_is_announced_again_monthly(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1"))
    waiting = await clinic.enrol()
    await clinic.add_practitioner("pt")
    await clinic.add_practitioner("coach")
    await clinic.timers_done()
    clinic.clock.step(days=30)
    await clinic.timers_done()
    assert (await clinic.published_types(waiting["member_id"]))[-2:] == ["care-team.assigned", "contact.changed"]


async def test_the_waiting_list_is_tried_again_by_itself_and_ends_with_the_coverage(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1", "E-2"))
    await clinic.add_practitioner("pt", panel_limit=1)
    await clinic.add_practitioner("coach")
    first = await clinic.enrol("E-1")
    assert (await clinic.enrol("E-2"))["waiting_for"] == "no-pt-has-room"
    await clinic.call("POST", f"/v1/members/{first['member_id']}/disenroll", json={"reason": "operator"})
    clinic.clock.step(hours=6)
    await clinic.timers_done()
    assert await standing(clinic) == {"E-1": "disenrolled", "E-2": "enrolled"}
    assert (await clinic.enrol("E-1"))["outcome"] == "waitlisted"
    await clinic.import_roster(roster("E-1", ends="2026-03-03"))
    clinic.clock.step(days=3)
    await clinic.timers_done()
    assert await standing(clinic) == {"E-1": "disenrolled", "E-2": "enrolled"}
    # Never enrolled since: nobody needs to hear that they left.
    assert (await clinic.published_types(first["member_id"]))[-1] == "contact.changed"


async def test_who_has_waited_longest_gets_the_place_that_is_free(clinic: Clinic) -> None:
    """Whatever their ids: the first who came has the last."""
    people = ["E-1", "E-2", "E-3"]
    await clinic.import_roster(roster(*people))
    await clinic.add_practitioner("coach")
    for place, person in enumerate(people):
        await clinic.enrol(person, member_id=str(UUID(int=9 - place)))
        clinic.clock.step(minutes=1)
    await clinic.add_practitioner("pt", panel_limit=1)
    await clinic.timers_done()
    assert await standing(clinic) == {"E-1": "enrolled", "E-2": "waitlisted", "E-3": "waitlisted"}


async def test_who_left_while_the_waiting_were_hurried_is_not_enrolled(clinic: Clinic) -> None:
    """They were found waiting, left, and only then got the timer that tries them again."""
    await clinic.import_roster(roster("E-1"))
    member = UUID((await clinic.enrol())["member_id"])
    await clinic.add_practitioner("coach")
    await clinic.timers_done()
    async with clinic.database() as connection:
        await connection.execute("create table hurried as select * from delivery.timers where kind = 'waitlist.retry'")
        await clinic.call("POST", f"/v1/members/{member}/disenroll", json={"reason": "operator"})
        await clinic.add_practitioner("pt")
        await connection.execute("update hurried set due_at = $1", clinic.clock.now())
        await connection.execute("insert into delivery.timers select * from hurried")
    await clinic.timers_done()
    assert await standing(clinic) == {"E-1": "disenrolled"}


async def test_a_new_intake_of_someone_waiting_leaves_nothing_due_of_the_old_one(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1", ends="2026-12-31"))
    waiting = await clinic.enrol()
    assert waiting["outcome"] == "waitlisted"
    blocked = await clinic.enrol(findings=["chest-pain-breathless"])
    assert (blocked["outcome"], blocked["member_id"]) == ("blocked", waiting["member_id"])
    assert await clinic.rows("select kind from delivery.timers") == []


async def test_a_hand_over_moves_a_whole_panel_and_nobody_else(clinic: Clinic) -> None:
    people = [f"E-{n}" for n in range(6)]
    await clinic.import_roster(roster(*people))
    leaving = await clinic.add_practitioner("pt")
    coach = await clinic.add_practitioner("coach")
    members = [UUID((await clinic.enrol(person))["member_id"]) for person in people]
    path = f"/v1/practitioners/{leaving}/hand-over"
    # Nobody else yet: everyone stays with the one who leaves, and the operator sees why.
    assert (await clinic.call("POST", path, json={"reason": "parental leave"})).json()["members_to_move"] == 6
    await clinic.timers_done()
    waiting = (await clinic.call("GET", "/v1/waitlist")).json()["waiting"]
    assert {(each["status"], each["reason"]) for each in waiting} == {("enrolled", "no-pt-has-room")}
    assert len(waiting) == 6
    # They have somebody, even if it should be somebody else: not for who is on call to see.
    assert (await clinic.call("GET", "/v1/waitlist", clinic.tokens.oncall(uuid4()))).json()["waiting"] == []
    other = await clinic.add_practitioner("pt", name="Otis Therapist", panel_limit=4)
    clinic.clock.step(hours=6)
    await clinic.timers_done()
    rows = await clinic.rows("select pt_id, coach_id from memberships")
    assert sorted(row["pt_id"] for row in rows) == sorted([other] * 4 + [leaving] * 2)
    assert {row["coach_id"] for row in rows} == {coach}
    assert len((await clinic.call("GET", "/v1/waitlist")).json()["waiting"]) == 2
    sizes = {
        p["practitioner_id"]: p["panel_size"]
        for p in (await clinic.call("GET", "/v1/practitioners")).json()["practitioners"]
    }
    assert sizes == {str(leaving): 2, str(other): 4, str(coach): 6}
    moved = [
        ((await clinic.published(member))[0], event)
        for member in members
        for event in (await clinic.published(member))[5:]
    ]
    assert [event["data"]["pt"]["name"] for _, event in moved] == ["Otis Therapist"] * 4
    for screened, event in moved:
        assert event["data"]["decision"]["evidence"] == [{"source": screened["source"], "id": screened["id"]}]
        assert event["data"]["decision"]["reason"].endswith("Your coach stays.")
    noted = await clinic.rows("select done_by, action, reason from delivery.operations")
    assert [tuple(row) for row in noted] == [("careloop-cli", "hand-over-panel", "parental leave")]


async def test_the_members_of_a_coach_who_leaves_get_another_and_are_told(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1"))
    await clinic.add_practitioner("pt")
    leaving = await clinic.add_practitioner("coach")
    member = (await clinic.enrol())["member_id"]
    other = await clinic.add_practitioner("coach")
    answer = await clinic.call("POST", f"/v1/practitioners/{leaving}/hand-over", json={"reason": "moves away"})
    assert answer.json()["members_to_move"] == 1
    await clinic.timers_done()
    assert [row["coach_id"] for row in await clinic.rows("select coach_id from memberships")] == [other]
    assert (await clinic.published_types(member))[5:] == ["care-team.assigned"]
    assert (await clinic.published(member))[-1]["data"]["coach"]["practitioner_id"] == str(other)


async def test_a_hand_over_finds_somebody_for_who_rests_and_in_the_language_they_speak_now(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1"))
    leaving = await clinic.add_practitioner("pt", languages=["en", "es"])
    await clinic.add_practitioner("coach", languages=["en", "es"])
    member = UUID((await clinic.enrol())["member_id"])
    await clinic.call("POST", f"/v1/members/{member}/pause", json={"reason": "holiday"})
    contact = {"given_name": "Simone", "family_name": "S", "email": "simone@example.org", "language": "es"}
    answer = await clinic.call(
        "PUT", f"/v1/members/{member}/contact", json={**contact, "time_zone": "America/New_York"}
    )
    assert answer.status_code == 200, answer.text
    await clinic.add_practitioner("pt", languages=["en"])
    spanish = await clinic.add_practitioner("pt", languages=["es"])
    await clinic.call("POST", f"/v1/practitioners/{leaving}/hand-over", json={"reason": "parental leave"})
    await clinic.timers_done()
    assert [tuple(row) for row in await clinic.rows("select status, pt_id from memberships")] == [("paused", spanish)]


async def test_who_manages_practitioners_and_what_is_refused(clinic: Clinic) -> None:
    known = await clinic.add_practitioner("pt")
    good = {
        "practitioner_id": str(known),
        "role": "pt",
        "name": "Pat",
        "licensed_states": ["NJ", "NY"],
        "languages": ["es"],
        "time_zone": "America/New_York",
        "panel_limit": 7,
    }
    changed = await clinic.call("POST", "/v1/practitioners", json=good)
    assert (changed.status_code, changed.json()["panel_limit"], changed.json()["languages"]) == (200, 7, ["es"])
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"role": "coach"}, 409, "body.role"),
        ({"role": "oncall"}, 422, "body.role"),
        ({"licensed_states": []}, 422, "body.licensed_states"),
        ({"licensed_states": ["ZZ"]}, 422, "body.licensed_states.0"),
        ({"languages": []}, 422, "body.languages"),
        ({"time_zone": "Mars/Base"}, 422, "body.time_zone"),
        ({"panel_limit": 0}, 422, "body.panel_limit"),
        ({"name": " "}, 422, "body.name"),
        ({"practitioner_id": "7"}, 422, "body.practitioner_id"),
    ]
    for change, expected, field in wrong:
        answer = await clinic.call("POST", "/v1/practitioners", json={**good, **change})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (expected, field), change
    for token in (clinic.tokens.app, clinic.tokens.coach(known), clinic.tokens.sponsor_admin):
        assert (await clinic.call("POST", "/v1/practitioners", token, json=good)).status_code == 403
    nobody = await clinic.call("POST", f"/v1/practitioners/{uuid4()}/hand-over", json={"reason": "x"})
    assert nobody.status_code == 404


async def test_sponsors_are_seen_by_their_own_administrators_only(clinic: Clinic) -> None:
    other = uuid4()
    terms = {"name": "Other Works", "states": ["CA"], "covers_from": "2026-01-01", "administrators": ["works-hr"]}
    assert (await clinic.call("PUT", f"/v1/sponsors/{other}", json=terms)).status_code == 201
    hr = clinic.tokens.person("mills-hr", "sponsor-admin")
    mine = (await clinic.call("GET", "/v1/sponsors", hr)).json()["sponsors"]
    assert [(each["name"], each["states"], each["member_cost"]) for each in mine] == [
        ("Example Mills", ["NJ", "NY"], 0)
    ]
    assert len((await clinic.call("GET", "/v1/sponsors")).json()["sponsors"]) == 2
    page = (await clinic.call("GET", "/v1/sponsors", params={"limit": 1})).json()
    rest = (await clinic.call("GET", "/v1/sponsors", params={"limit": 5, "after": page["next"]})).json()
    assert {page["sponsors"][0]["name"], rest["sponsors"][0]["name"]} == {"Example Mills", "Other Works"}
    assert (await clinic.call("GET", f"/v1/sponsors/{other}", hr)).status_code == 404
    assert (await clinic.call("PUT", f"/v1/sponsors/{other}", hr, json=terms)).status_code == 403
    wrong = await clinic.call("PUT", f"/v1/sponsors/{other}", json={**terms, "covers_until": "2025-01-01"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "body.covers_until")


async def test_an_eligibility_check_says_why_and_what_it_costs(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1") + "E-2,1980-05-17,NY,2026-04-01,2026-06-30\n")

    def asked(person: str, **fields: Any) -> dict[str, Any]:
        return {
            "sponsor_id": str(clinic.sponsor_id),
            "person": {"person_id": person, "date_of_birth": "1980-05-17"},
            **fields,
        }

    for body, eligible, reason, ends in (
        (asked("E-1"), True, "covered", None),
        (asked("E-1", state="CA"), False, "state-not-served", None),
        (asked("E-2"), False, "coverage-not-started", "2026-06-30"),
        (asked("E-9"), False, "person-not-found", None),
        (asked("E-1", sponsor_id=str(uuid4())), False, "sponsor-unknown", None),
    ):
        answer = await clinic.call("POST", "/v1/eligibility-checks", clinic.tokens.app, json=body)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["eligible"], found["reason"], found["effective_to"], found["member_cost"]) == (
            eligible,
            reason,
            ends,
            0,
        )
    hr = clinic.tokens.person("mills-hr", "sponsor-admin")
    assert (await clinic.call("POST", "/v1/eligibility-checks", hr, json=asked("E-1"))).status_code == 200
    other_hr = clinic.tokens.person("works-hr", "sponsor-admin")
    assert (await clinic.call("POST", "/v1/eligibility-checks", other_hr, json=asked("E-1"))).status_code == 404
    assert (
        await clinic.call("POST", "/v1/eligibility-checks", clinic.tokens.member(uuid4()), json=asked("E-1"))
    ).status_code == 403
    wrong = await clinic.call("POST", "/v1/eligibility-checks", clinic.tokens.app, json={"sponsor_id": "x"})
    assert [error["field"] for error in wrong.json()["errors"]] == ["body.sponsor_id", "body.person"]
