"""The life of a membership: pauses, departures, addresses, consents; by people, by timers, by rosters."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.enrollment.clinic import Clinic, roster


@pytest.fixture
async def enrolled(clinic: Clinic) -> tuple[Clinic, UUID]:
    """The clinic with one enrolled member, E-1."""
    await clinic.import_roster(roster("E-1", "E-2"))
    await clinic.add_practitioner("pt")
    await clinic.add_practitioner("coach")
    return clinic, UUID((await clinic.enrol())["member_id"])


async def later(clinic: Clinic, member: UUID) -> list[str]:
    """What was published about the member after the enrolment."""
    return (await clinic.published_types(member))[5:]


async def status(clinic: Clinic, member: UUID) -> str:
    return str((await clinic.rows("select status from memberships where member_id = $1", member))[0]["status"])


async def panel_sizes(clinic: Clinic) -> list[int]:
    return [row["panel_size"] for row in await clinic.rows("select panel_size from practitioners")]


async def test_a_pause_ends_by_itself_and_can_be_ended_before(enrolled: tuple[Clinic, UUID]) -> None:
    clinic, member = enrolled
    token, path = clinic.tokens.member(member), f"/v1/members/{member}"
    until = "2026-03-09T15:00:00+00:00"
    paused = await clinic.call("POST", f"{path}/pause", token, json={"reason": "holiday", "until": until})
    assert (paused.json()["status"], paused.json()["paused_until"]) == ("paused", until)
    assert (await clinic.published(member))[-1]["data"] == {"reason": "holiday", "until": "2026-03-09T15:00:00Z"}
    clinic.clock.step(days=6, hours=23)
    await clinic.timers_done()
    assert await status(clinic, member) == "paused"
    clinic.clock.step(hours=1)
    await clinic.timers_done()
    assert await status(clinic, member) == "enrolled"
    assert await later(clinic, member) == ["member.paused", "member.resumed"]
    # Ended by hand: the timer of that pause does nothing any more, and without an end it lasts.
    await clinic.call("POST", f"{path}/pause", token, json={"reason": "flu", "until": "2026-03-12T00:00:00+00:00"})
    await clinic.call("POST", f"{path}/resume", token, json={"reason": "better"})
    await clinic.call("POST", f"{path}/pause", token, json={"reason": "work"})
    clinic.clock.step(days=20)
    await clinic.timers_done()
    assert await status(clinic, member) == "paused"
    assert await panel_sizes(clinic) == [1, 1]
    refused = await clinic.call(
        "POST", f"{path}/pause", token, json={"reason": "x", "until": "2026-03-01T00:00:00+00:00"}
    )
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:careloop:problem:until-in-the-past")
    naive = await clinic.call("POST", f"{path}/pause", token, json={"reason": "x", "until": "2026-05-01T00:00:00"})
    assert (naive.status_code, naive.json()["errors"][0]["field"]) == (422, "body.until")


async def test_a_pause_that_is_moved_to_no_end_is_not_ended_by_the_timer_of_before(
    enrolled: tuple[Clinic, UUID],
) -> None:
    clinic, member = enrolled
    token, path = clinic.tokens.member(member), f"/v1/members/{member}/pause"
    await clinic.call("POST", path, token, json={"reason": "holiday", "until": "2026-03-09T15:00:00+00:00"})
    moved = await clinic.call("POST", path, token, json={"reason": "surgery"})
    assert (moved.json()["status"], moved.json().get("paused_until")) == ("paused", None)
    clinic.clock.step(days=20)
    await clinic.timers_done()
    assert await status(clinic, member) == "paused"
    assert await later(clinic, member) == ["member.paused", "member.paused"]


@pytest.mark.parametrize("wrong", ["idempotency-key-reused", "member-is-another"])
async def test_a_red_flag_in_an_intake_with_a_wrong_key_or_id_is_told_all_the_same(
    enrolled: tuple[Clinic, UUID], wrong: str
) -> None:
    """To the person in the answer, and to who cares for them, once however often it is sent."""
    clinic, member = enrolled
    headers = {"Idempotency-Key": "k"} if wrong == "idempotency-key-reused" else {}
    change = {} if headers else {"member_id": str(uuid4())}
    if headers:
        await clinic.import_roster(roster("E-1", "E-2"))
        await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=clinic.intake("E-2"), headers=headers)
    body = clinic.intake(findings=["chest-pain-breathless"], **change)
    for _ in range(2):
        answer = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (409, f"urn:careloop:problem:{wrong}")
        assert "911" in answer.json()["screening"]["instruction"]
    events = [event for event in await clinic.published(member) if event["type"] == "org.careloop.member.screened.v1"]
    assert {(event["id"], event["data"]["disposition"]) for event in events[1:]} == {(events[-1]["id"], "emergency")}


async def test_a_member_raises_no_red_flag_for_another_person(enrolled: tuple[Clinic, UUID]) -> None:
    clinic, member = enrolled
    body = clinic.intake(findings=["chest-pain-breathless"])
    answer = await clinic.call("POST", "/v1/intakes", clinic.tokens.member(uuid4()), json=body)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:careloop:problem:member-is-another")
    assert "eligibility" not in answer.json(), "nor do they learn whether that person is covered"
    assert "911" in answer.json()["screening"]["instruction"]
    assert await later(clinic, member) == []


async def test_what_another_person_answers_is_not_told_of_the_member_whose_id_they_name(
    enrolled: tuple[Clinic, UUID],
) -> None:
    """E-2 is not E-1: a red flag of theirs must not call a clinician to her."""
    clinic, member = enrolled
    body = clinic.intake("E-2", member_id=str(member), findings=["chest-pain-breathless"])
    answer = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:careloop:problem:member-is-another")
    assert "911" in answer.json()["screening"]["instruction"]
    assert await later(clinic, member) == []


async def test_leaving_frees_the_panel_and_a_new_intake_brings_the_same_member_back(
    enrolled: tuple[Clinic, UUID],
) -> None:
    clinic, member = enrolled
    path, token = f"/v1/members/{member}/disenroll", clinic.tokens.member(member)
    for reason, who, expected in (
        ("completed", token, 403),
        ("operator", token, 403),
        ("bored", token, 422),
        ("member-left", token, 200),
        ("member-left", token, 409),
    ):
        assert (await clinic.call("POST", path, who, json={"reason": reason})).status_code == expected, reason
    assert await panel_sizes(clinic) == [0, 0]
    assert (await clinic.rows("select count(*) from delivery.timers"))[0]["count"] == 0
    again = await clinic.enrol()
    assert again["member_id"] == str(member)
    assert (await later(clinic, member))[:2] == ["member.disenrolled", "member.screened"]
    assert (await later(clinic, member))[-1] == "care-team.assigned"
    assert await panel_sizes(clinic) == [1, 1]


async def test_a_contact_is_replaced_as_a_whole_and_announced_again_monthly(enrolled: tuple[Clinic, UUID]) -> None:
    clinic, member = enrolled
    path, token = f"/v1/members/{member}/contact", clinic.tokens.member(member)
    contact = {
        "given_name": "Simone",
        "family_name": "Simulated",
        "phone": "+12125550100",
        "time_zone": "America/Chicago",
        "language": "es",
    }
    assert (await clinic.call("PUT", path, token, json=contact)).status_code == 200
    assert (await clinic.call("PUT", path, token, json=contact)).status_code == 200
    assert await later(clinic, member) == ["contact.changed"]
    said = (await clinic.published(member))[-1]["data"]
    assert said == contact
    for month in range(1, 4):
        clinic.clock.step(days=30)
        await clinic.timers_done()
        events = await clinic.published(member)
        assert [event["data"] for event in events[6:]] == [contact] * month
        assert len({event["id"] for event in events}) == len(events)
    await clinic.call("POST", f"/v1/members/{member}/disenroll", token, json={"reason": "member-left"})
    clinic.clock.step(days=60)
    await clinic.timers_done()
    assert (await later(clinic, member))[-1] == "member.disenrolled"


async def test_only_consents_that_change_are_told(enrolled: tuple[Clinic, UUID]) -> None:
    clinic, member = enrolled
    path, token = f"/v1/members/{member}/consents", clinic.tokens.member(member)
    body = {
        "consents": [
            {"channel": "email", "granted": True},
            {"channel": "email", "topic": "nudge", "granted": False},
            {"channel": "push", "granted": False},
            {"channel": "push", "granted": True},
        ]
    }
    assert (await clinic.call("PUT", path, token, json=body)).status_code == 200
    assert (await clinic.call("PUT", path, token, json=body)).status_code == 200
    said = [event["data"] for event in (await clinic.published(member))[5:]]
    assert said == [
        {"channel": "email", "topic": "nudge", "granted": False, "given_by": "member"},
        {"channel": "push", "topic": "all", "granted": True, "given_by": "member"},
    ]
    wrong_ones: list[dict[str, Any]] = [
        {"consents": []},
        {"consents": [{"channel": "fax", "granted": True}]},
        {"consents": [{"channel": "sms", "granted": "yes"}]},
    ]
    for wrong in wrong_ones:
        assert (await clinic.call("PUT", path, token, json=wrong)).status_code == 422


async def test_who_may_read_and_act(enrolled: tuple[Clinic, UUID]) -> None:
    clinic, member = enrolled
    tokens, path = clinic.tokens, f"/v1/members/{member}"
    own = (await clinic.call("GET", path, tokens.member(member))).json()
    assert own["contact"]["given_name"] == "Simone"
    assert own["consents"] == [{"channel": "email", "topic": "all", "granted": True}]
    pt, coach = UUID(own["pt_id"]), UUID(own["coach_id"])
    for token, expected in (
        (tokens.pt(pt), 200),
        (tokens.coach(coach), 200),
        (tokens.oncall(uuid4()), 404),
        (tokens.app, 200),
        (tokens.pt(uuid4()), 404),
        (tokens.coach(uuid4()), 404),
        (tokens.coach(pt), 404),
        (tokens.member(uuid4()), 404),
        (tokens.sponsor_admin, 403),
    ):
        assert (await clinic.call("GET", path, token)).status_code == expected
        pause = await clinic.call("POST", f"{path}/pause", token, json={"reason": "x"})
        assert pause.status_code == expected
    missing = await clinic.call("GET", f"/v1/members/{uuid4()}", tokens.member(member))
    stranger = await clinic.call("GET", path, tokens.member(uuid4()))
    # Somebody else's member and nobody at all look the same.
    assert missing.json() == stranger.json()
    assert (await clinic.client.get(path)).status_code == 401
    assert (await clinic.call("PUT", f"{path}/contact", tokens.pt(pt), json={})).status_code in (403, 422)


async def test_who_is_on_call_sees_a_member_until_somebody_cares_for_them(clinic: Clinic) -> None:
    await clinic.import_roster(roster("E-1"))
    member = (await clinic.enrol())["member_id"]
    path, tokens, pt = f"/v1/members/{member}", clinic.tokens, uuid4()
    assert (await clinic.call("GET", path, tokens.oncall(uuid4()))).json()["status"] == "waitlisted"
    assert (await clinic.call("GET", path, tokens.pt(pt))).status_code == 404
    await clinic.add_practitioner("coach")
    await clinic.add_practitioner("pt", practitioner_id=pt)
    await clinic.timers_done()
    assert (await clinic.call("GET", path, tokens.oncall(uuid4()))).status_code == 404
    # Who is of the team and on call, too, stays of the team.
    assert (await clinic.call("GET", path, tokens.person(pt, "pt", "oncall"))).status_code == 200
    left = await clinic.call("POST", f"{path}/disenroll", json={"reason": "operator"})
    assert left.status_code == 200
    assert (await clinic.call("GET", path, tokens.oncall(uuid4()))).status_code == 404


async def test_a_roster_that_ends_coverage_disenrols_when_the_last_day_is_over(enrolled: tuple[Clinic, UUID]) -> None:
    clinic, member = enrolled
    other = UUID((await clinic.enrol("E-2"))["member_id"])
    done = await clinic.import_roster(roster("E-1"), mode="full")
    assert (done["persons"]["ended"], done["members_whose_coverage_ends"]) == (1, 1)
    assert await status(clinic, other) == "enrolled"
    clinic.clock.step(hours=20)  # 11:00 UTC of the next day: still the last day somewhere
    await clinic.timers_done()
    assert await status(clinic, other) == "enrolled"
    clinic.clock.step(hours=1)
    await clinic.timers_done()
    assert (await status(clinic, other), await status(clinic, member)) == ("disenrolled", "enrolled")
    ended = (await clinic.published(other))[-1]
    assert ended["data"] == {"reason": "coverage-ended", "effective_on": "2026-03-02"}
    assert ended["causationid"] == done["import_id"]
    assert await panel_sizes(clinic) == [1, 1]


async def test_coverage_that_a_later_file_gives_back_ends_nobody(enrolled: tuple[Clinic, UUID]) -> None:
    clinic, member = enrolled
    await clinic.import_roster(roster("E-1", ends="2026-03-10"))
    await clinic.import_roster(roster("E-1"))
    clinic.clock.step(days=30)
    await clinic.timers_done()
    assert await status(clinic, member) == "enrolled"
    await clinic.import_roster(roster("E-1", ends="2026-04-10"))
    await clinic.import_roster(roster("E-1", ends="2026-04-20"))
    clinic.clock.step(days=15)  # past the first end
    await clinic.timers_done()
    assert await status(clinic, member) == "enrolled"
    clinic.clock.step(days=6)
    await clinic.timers_done()
    assert await status(clinic, member) == "disenrolled"


async def test_coverage_with_an_end_known_at_intake_and_the_end_of_a_contract(enrolled: tuple[Clinic, UUID]) -> None:
    clinic, member = enrolled
    await clinic.import_roster(roster("E-3", ends="2026-03-15"))
    short = UUID((await clinic.enrol("E-3"))["member_id"])
    terms = {"name": "Example Mills", "states": ["NY"], "covers_from": "2026-01-01", "covers_until": "2026-03-31"}
    assert (await clinic.call("PUT", f"/v1/sponsors/{clinic.sponsor_id}", json=terms)).status_code == 200
    clinic.clock.step(days=14)
    await clinic.timers_done()
    assert (await status(clinic, short), await status(clinic, member)) == ("disenrolled", "enrolled")
    clinic.clock.step(days=17)
    await clinic.timers_done()
    assert await status(clinic, member) == "disenrolled"
    assert (await clinic.published(member))[-1]["data"]["effective_on"] == "2026-03-31"


async def test_an_end_that_is_taken_back_leaves_the_one_behind_it(enrolled: tuple[Clinic, UUID]) -> None:
    """A contract's end is withdrawn; the person's own, which is later, still counts."""
    clinic, member = enrolled
    await clinic.import_roster(roster("E-1", ends="2026-04-15"))
    terms = {"name": "Example Mills", "states": ["NY"], "covers_from": "2026-01-01"}
    path = f"/v1/sponsors/{clinic.sponsor_id}"
    await clinic.call("PUT", path, json={**terms, "covers_until": "2026-03-31"})
    await clinic.call("PUT", path, json=terms)
    clinic.clock.step(days=35)
    await clinic.timers_done()
    assert await status(clinic, member) == "enrolled"
    clinic.clock.step(days=11)
    await clinic.timers_done()
    assert await status(clinic, member) == "disenrolled"


async def enrol_directly(clinic: Clinic, members: list[UUID], people: list[str], pt: UUID, coach: UUID) -> None:
    """Many members at once, written straight into the tables as their intakes would have."""
    async with clinic.database() as connection, connection.transaction():
        await connection.execute("insert into delivery.member_locks select unnest($1::uuid[])", members)
        await connection.execute(
            "insert into intakes (intake_id, member_id, taken_at, findings, disposition, rule_id, rule_version,"
            " channels) select m, m, now(), '{}', 'none', 'red-flag.none', 1, '{}' from unnest($1::uuid[]) as m",
            members,
        )
        await connection.execute(
            "insert into memberships (member_id, sponsor_id, person_id, status, status_reason, status_since, state,"
            " language, time_zone, pt_id, coach_id, intake_id)"
            " select m, $2, p, 'enrolled', 'intake', now(), 'NY', 'en',"
            " 'America/New_York', $3, $4, m from unnest($1::uuid[], $5::text[]) as u(m, p)",
            members,
            clinic.sponsor_id,
            pt,
            coach,
            people,
        )
        await connection.execute("update practitioners set panel_size = $1", len(members))


async def test_a_thousand_departures_at_once(clinic: Clinic) -> None:
    """One file ends a whole sponsor: in batches, each member told once, panels empty."""
    people = [f"E-{n}" for n in range(1_000)]
    await clinic.import_roster(roster(*people, "E-stays"))
    pt, coach = (
        await clinic.add_practitioner("pt", panel_limit=2_000),
        await clinic.add_practitioner("coach", panel_limit=2_000),
    )
    members = [uuid4() for _ in people]
    await enrol_directly(clinic, members, people, pt, coach)
    held = await clinic.import_roster(roster("E-stays"), mode="full")
    assert held["state"] == "held"
    await clinic.call("POST", f"/v1/imports/{held['import_id']}/confirm")
    assert (await clinic.finished(held["import_id"]))["members_whose_coverage_ends"] == 1_000
    clinic.clock.step(days=1)
    await clinic.timers_done()
    told = [event["subject"] for event in await clinic.published()]
    assert sorted(told) == sorted(str(member) for member in members)
    assert await panel_sizes(clinic) == [0, 0]
