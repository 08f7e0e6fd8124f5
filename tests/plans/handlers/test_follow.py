"""The handlers on a real database: given events, when they are taken, what is saved and published."""

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.plans.domain.care_plan import CarePlan
from services.plans.domain.lapse import reached_lapse
from services.plans.handlers.follow_activity import follow_activity
from services.plans.handlers.follow_lapses import follow_lapses
from services.plans.handlers.follow_members import follow_members
from services.plans.handlers.follow_visits import follow_visits
from services.plans.handlers.raise_red_flags import raise_red_flags
from services.plans.store.care_plans import load_care_plans
from services.plans.store.care_teams import load_care_teams
from services.plans.store.plan_revisions import find_item_decisions, find_plan_revisions
from services.plans.store.rules import load_library
from shared.database import Connection
from shared.events import MemberDisenrolled, MemberPaused, MemberResumed
from shared.events.members import MemberDisenrolledData, MemberPausedData, MemberResumedData, Surgery
from shared.outcomes import Outcomes, Timer
from tests.fixtures.carrying_out import carry_out
from tests.fixtures.taken_timers import take_timers
from tests.plans.given import (
    COACH,
    DAY,
    MONDAY,
    PT,
    care_team_assigned,
    member_enrolled,
    pain_reported,
    session_completed,
    visit_completed,
)


def told(outcomes: Outcomes) -> list[str]:
    return [draft.event.NAME for draft in outcomes.published]


async def enrolled(connection: Connection, **data: Any) -> UUID:
    member_id = uuid4()
    await carry_out(follow_members, connection, [member_enrolled(member_id, **data)], now=MONDAY)
    return member_id


async def plan_of(connection: Connection, member_id: UUID) -> CarePlan:
    return (await load_care_plans(connection, member_ids=[member_id]))[member_id]


def day(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()


async def coming(connection: Connection, member_id: UUID) -> tuple[int, str] | None:
    """The rung that comes next, and the day since when a session is missed."""
    lapse = reached_lapse(plan=await plan_of(connection, member_id), rule=load_library().engagement.lapse)
    return None if lapse is None else (lapse.rung_d, day(lapse.missed_since))


async def due(connection: Connection, *, now: datetime) -> list[Timer]:
    await connection.execute(
        "insert into delivery.member_locks select distinct member_id from delivery.timers on conflict do nothing"
    )
    async with connection.transaction():
        return await take_timers(connection, kinds=["plan.lapse"], now=now)


async def test_a_member_who_enrols_gets_a_plan_and_a_lapse_timer(connection: Connection) -> None:
    member_id = uuid4()
    events: list[Any] = [member_enrolled(member_id), care_team_assigned(member_id)]
    outcomes = await carry_out(follow_members, connection, events, now=MONDAY)
    assert told(outcomes) == ["plan.issued"]
    care_plan = await plan_of(connection, member_id)
    assert outcomes.published[0].data.plan_id == care_plan.plan_id  # type: ignore[attr-defined]
    team = (await load_care_teams(connection, member_ids=[member_id]))[member_id]
    assert (team.pt_id, team.coach_id) == (PT, COACH)
    (revision,) = await find_plan_revisions(connection, member_id=member_id, plan_id=care_plan.plan_id, limit=9)
    assert (revision["version"], revision["event"]) == (1, "plan.issued")
    assert revision["data"]["decision"]["rule_id"] == "plan.issue"
    assert await coming(connection, member_id) == (3, "2026-09-09")
    assert len(await due(connection, now=MONDAY + 30 * DAY)) == 1


async def test_nobody_gets_two_plans_or_one_with_a_red_flag_open_and_who_comes_back_gets_a_new_one(
    connection: Connection,
) -> None:
    member_id = await enrolled(connection)
    first = await plan_of(connection, member_id)
    again, blocked = member_enrolled(member_id), member_enrolled(uuid4(), disposition="same-day")
    outcomes = await carry_out(follow_members, connection, [again, blocked], now=MONDAY)
    assert list(outcomes.refused.values()) == ["already-has-a-plan", "red-flag-open"]
    left = MemberDisenrolled(
        id="left", source="urn:careloop:enrollment", time=MONDAY, subject=member_id,
        data=MemberDisenrolledData(reason="member-left", effective_on=MONDAY.date()),
    )  # fmt: skip
    outcomes = await carry_out(follow_members, connection, [left, member_enrolled(member_id)], now=MONDAY)
    assert told(outcomes) == ["plan.issued"]
    assert (await plan_of(connection, member_id)).plan_id != first.plan_id


async def test_of_two_teams_in_one_chunk_the_later_may_read_and_change(connection: Connection) -> None:
    member_id, successor = await enrolled(connection), uuid4()
    teams = [care_team_assigned(member_id), care_team_assigned(member_id, pt=successor)]
    await carry_out(follow_members, connection, teams, now=MONDAY)
    team = (await load_care_teams(connection, member_ids=[member_id]))[member_id]
    assert (team.pt_id, team.coach_id) == (successor, COACH)


async def test_what_is_felt_after_care_has_ended_is_refused(connection: Connection) -> None:
    member_id = await enrolled(connection)
    left = MemberDisenrolled(
        id="left", source="urn:careloop:enrollment", time=MONDAY, subject=member_id,
        data=MemberDisenrolledData(reason="member-left", effective_on=MONDAY.date()),
    )  # fmt: skip
    await carry_out(follow_members, connection, [left], now=MONDAY)
    before = await plan_of(connection, member_id)
    late = [pain_reported(member_id, at=MONDAY + DAY, score=9), session_completed(member_id, at=MONDAY + DAY)]
    outcomes = await carry_out(follow_activity, connection, late, now=MONDAY + DAY)
    assert (told(outcomes), list(outcomes.refused.values())) == ([], ["care-ended"] * 2)
    assert await plan_of(connection, member_id) == before


async def test_after_surgery_no_plan_is_issued_and_pain_is_followed_all_the_same(connection: Connection) -> None:
    surgery = Surgery(procedure="total knee replacement", performed_on=MONDAY.date() - 40 * DAY, surgeon_cleared=True)
    member_id = uuid4()
    event = member_enrolled(member_id, cause="post-surgical", surgery=surgery)
    assert told(await carry_out(follow_members, connection, [event], now=MONDAY)) == []
    assert await due(connection, now=MONDAY + 99 * DAY) == []
    spiked = await carry_out(follow_activity, connection, [pain_reported(member_id, at=MONDAY, score=8)], now=MONDAY)
    assert told(spiked) == ["pain.spiked"]


async def test_who_pauses_does_not_lapse_and_counts_anew_from_the_end_of_the_pause(connection: Connection) -> None:
    member_id = await enrolled(connection)
    envelope: dict[str, Any] = {"source": "urn:careloop:enrollment", "subject": member_id}
    paused = MemberPaused(id="p", time=MONDAY, data=MemberPausedData(reason="holiday"), **envelope)
    await carry_out(follow_members, connection, [paused], now=MONDAY)
    assert (await plan_of(connection, member_id)).status == "paused"
    assert await due(connection, now=MONDAY + 99 * DAY) == []
    back = MONDAY + 20 * DAY
    resumed = MemberResumed(id="r", time=back, data=MemberResumedData(reason="back"), **envelope)
    await carry_out(follow_members, connection, [resumed], now=back)
    assert await coming(connection, member_id) == (3, "2026-09-28")
    assert len(await due(connection, now=MONDAY + 99 * DAY)) == 1


async def test_two_good_sessions_and_a_calm_morning_move_the_plan_with_evidence(connection: Connection) -> None:
    member_id = await enrolled(connection)
    events = [session_completed(member_id, at=MONDAY + n * DAY) for n in (0, 2, 4)]
    outcomes = await carry_out(follow_activity, connection, events, now=MONDAY + 4 * DAY)
    assert told(outcomes) == ["milestone.reached", "usual-pain.changed", "plan.revised", "milestone.reached"]
    revised: Any = outcomes.published[2].data
    assert revised.version == 2
    assert {change.action for change in revised.changes} == {"progress"}
    assert [ref.id for ref in revised.changes[0].decision.evidence] == [event.id for event in events]
    care_plan = await plan_of(connection, member_id)
    assert care_plan.version == 2
    newest, first = await find_plan_revisions(connection, member_id=member_id, plan_id=care_plan.plan_id, limit=9)
    assert newest["data"]["changes"][0]["decision"]["rule_id"] == "progression.progress"
    assert first["version"] == 1


async def test_a_chunk_is_taken_as_event_by_event(connection: Connection) -> None:
    one, other = await enrolled(connection), await enrolled(connection)

    def lives(member_id: UUID) -> list[Any]:
        scores = (2, 7, 3, 8, 2, 2, 1, 6)
        sessions = [session_completed(member_id, at=MONDAY + 2 * n * DAY, pain_during=s) for n, s in enumerate(scores)]
        return [*sessions, pain_reported(member_id, at=MONDAY + 17 * DAY, score=9)]

    now = MONDAY + 18 * DAY
    at_once = await carry_out(follow_activity, connection, lives(one), now=now)
    singly = [
        name for event in lives(other) for name in told(await carry_out(follow_activity, connection, [event], now=now))
    ]
    assert told(at_once) == singly
    a, b = await plan_of(connection, one), await plan_of(connection, other)
    assert [item.step for item in a.items] == [item.step for item in b.items]
    assert a.pain.exercise == b.pain.exercise
    assert (a.version, a.adherence.sessions) == (b.version, b.adherence.sessions)


async def test_a_chunk_costs_the_same_few_statements_however_many_events(connection: Connection) -> None:
    members = [await enrolled(connection) for _ in range(5)]

    async def statements(events: Sequence[Any]) -> int:
        seen: list[str] = []
        with connection.query_logger(lambda query: seen.append(query.query)):
            await carry_out(follow_activity, connection, events, now=MONDAY)
        return len(seen)

    few = await statements([session_completed(members[0], at=MONDAY, pain_during=7)])
    many = [session_completed(member, at=MONDAY + n * DAY, pain_during=7) for n in range(1, 20) for member in members]
    assert await statements(many) <= few
    assert few <= 4


async def test_an_early_event_waits_and_keeps_nobody_else_from_going_on(connection: Connection) -> None:
    known, unknown = await enrolled(connection), uuid4()
    early: list[Any] = [session_completed(unknown, at=MONDAY), pain_reported(unknown, at=MONDAY, score=3)]
    outcomes = await carry_out(
        follow_activity, connection, [early[0], session_completed(known, at=MONDAY), early[1]], now=MONDAY
    )
    assert outcomes.waiting[(early[0].source, early[0].id)] == "care-plan"
    assert told(outcomes) == ["milestone.reached"]
    assert (await plan_of(connection, known)).adherence.sessions == 1


async def test_a_spike_comes_before_the_change_it_leads_to(connection: Connection) -> None:
    member_id = await enrolled(connection)
    event = session_completed(member_id, at=MONDAY, pain_during=7)
    outcomes = await carry_out(follow_activity, connection, [event], now=MONDAY)
    assert told(outcomes) == ["pain.spiked", "plan.revised", "milestone.reached"]
    spiked: Any = outcomes.published[0].data
    assert (spiked.score, spiked.baseline, spiked.repeated) == (7, 3, False)
    assert spiked.decision.reason.startswith("Pain 7, usual 3.")
    assert [draft.because for draft in outcomes.published] == [event] * 3


async def test_red_flags_are_told_without_any_state(connection: Connection) -> None:
    stranger = uuid4()
    events: list[Any] = [
        session_completed(stranger, at=MONDAY, findings=("hot-swollen-joint", "fall")),
        pain_reported(stranger, at=MONDAY, score=2, findings=("giving-way",)),
        pain_reported(stranger, at=MONDAY, score=2, findings=("age-55-plus",)),
        pain_reported(stranger, at=MONDAY, score=9),
    ]
    outcomes = await carry_out(raise_red_flags, connection, events, now=MONDAY)
    flagged: list[Any] = [draft.data for draft in outcomes.published]
    assert [one.disposition for one in flagged] == ["emergency", "pt-72h"]
    assert flagged[0].decision.evidence[0].id == events[0].id
    again: list[Any] = [
        draft.data for draft in (await carry_out(raise_red_flags, connection, events, now=MONDAY)).published
    ]
    assert [one.flag_id for one in again] == [one.flag_id for one in flagged]


async def test_a_red_flag_stops_sessions_until_a_visit_clears_it(connection: Connection) -> None:
    member_id = await enrolled(connection)
    flagged = pain_reported(member_id, at=MONDAY, score=3, findings=("locked-knee",))
    await carry_out(follow_activity, connection, [flagged], now=MONDAY)
    care_plan = await plan_of(connection, member_id)
    assert care_plan.safety == ("same-day", (flagged.source, flagged.id))
    assert await due(connection, now=MONDAY + 99 * DAY) == []
    seen = MONDAY + 20 * DAY
    await carry_out(follow_visits, connection, [visit_completed(member_id, at=seen, action="continue")], now=seen)
    assert (await plan_of(connection, member_id)).safety is None
    assert await coming(connection, member_id) == (3, "2026-09-28")
    assert len(await due(connection, now=MONDAY + 99 * DAY)) == 1


async def test_a_visit_with_a_coach_clears_no_red_flag(connection: Connection) -> None:
    member_id = await enrolled(connection)
    flagged = pain_reported(member_id, at=MONDAY, score=3, findings=("locked-knee",))
    await carry_out(follow_activity, connection, [flagged], now=MONDAY)
    met = visit_completed(member_id, at=MONDAY + DAY, action="continue", role="coach")
    assert not (await carry_out(follow_visits, connection, [met], now=MONDAY + DAY)).refused
    assert (await plan_of(connection, member_id)).safety == ("same-day", (flagged.source, flagged.id))


async def test_a_visit_revises_the_plan_in_the_therapists_name_and_a_coachs_does_not(connection: Connection) -> None:
    member_id = await enrolled(connection)
    by_coach = visit_completed(member_id, at=MONDAY, action="step-back", role="coach")
    by_pt = visit_completed(member_id, at=MONDAY, action="step-back", exercises=("bridge",))
    early = visit_completed(uuid4(), at=MONDAY, action="continue")
    outcomes = await carry_out(follow_visits, connection, [by_coach, by_pt, early], now=MONDAY)
    assert list(outcomes.refused.values()) == ["not-a-clinician"]
    assert list(outcomes.waiting.values()) == ["care-plan"]
    (draft,) = outcomes.published
    revised: Any = draft.data
    assert (revised.revised_by, len(revised.changes)) == (PT, 1)


async def test_a_level_that_stays_up_is_reviewed_and_becomes_the_usual_one(connection: Connection) -> None:
    member_id = await enrolled(connection)
    up = [session_completed(member_id, at=MONDAY + n * DAY, pain_during=7) for n in range(6)]
    outcomes = await carry_out(follow_activity, connection, up, now=MONDAY + 6 * DAY)
    asked: list[Any] = [d.data for d in outcomes.published if d.event.NAME == "plan.revised"]
    assert asked[-1].decision.rule_id == "pain.level-stays-up"
    seen = MONDAY + 8 * DAY
    outcomes = await carry_out(
        follow_visits, connection, [visit_completed(member_id, at=seen, action="reviewed")], now=seen
    )
    settled: Any = outcomes.published[0].data
    assert told(outcomes) == ["pain.settled", "usual-pain.changed"]
    assert (settled.baseline, settled.decision.rule_id) == (7, "pain.re-anchor")
    changed: Any = outcomes.published[1].data
    assert (changed.usual_pain, changed.before, changed.decision.rule_id) == (7, 3, "pain.usual-told")


async def test_usual_pain_is_told_when_it_has_moved_by_a_point_since_it_was_last_told(connection: Connection) -> None:
    member_id = await enrolled(connection)
    scores = [2, 2, 2, 2, 3, 3, 3, 3, 3, 1, 1, 1]
    events = [session_completed(member_id, at=MONDAY + n * DAY, pain_during=score) for n, score in enumerate(scores)]
    outcomes = await carry_out(follow_activity, connection, events, now=MONDAY + 12 * DAY)
    changed: list[Any] = [draft for draft in outcomes.published if draft.event.NAME == "usual-pain.changed"]
    # 3 at intake; the median of the last six is 2 from the third reading on, 3 from the eighth, 2 at the end.
    assert [(draft.data.before, draft.data.usual_pain) for draft in changed] == [(3, 2), (2, 3), (3, 2)]
    assert [events.index(draft.because) for draft in changed] == [2, 7, 11]
    plan = await plan_of(connection, member_id)
    assert plan.pain.told == 2


async def test_the_lapse_ladder_is_climbed_from_the_missed_session_and_eases_the_plan(connection: Connection) -> None:
    member_id = await enrolled(connection)
    await carry_out(follow_activity, connection, [session_completed(member_id, at=MONDAY)], now=MONDAY)
    rungs: list[tuple[int, str, list[str]]] = []
    for day in range(60):
        now = MONDAY + day * DAY
        timers = await due(connection, now=now)
        if timers:
            outcomes = await carry_out(follow_lapses, connection, timers, now=now)
            lapsed: Any = outcomes.published[0].data
            rungs.append((lapsed.rung_days, lapsed.missed_since.isoformat(), told(outcomes)))
    assert [rung for rung, _, _ in rungs] == [3, 7, 14, 21]
    assert {since for _, since, _ in rungs} == {"2026-09-09"}
    assert [names for _, _, names in rungs].count(["member.lapsed", "plan.revised"]) == 1
    assert rungs[2][2] == ["member.lapsed", "plan.revised"]
    eased = await plan_of(connection, member_id)
    decisions = await find_item_decisions(connection, plan_id=eased.plan_id)
    assert {decision["rule_id"] for _, decision in decisions.values()} == {"progression.gap"}
    back = session_completed(member_id, at=MONDAY + 26 * DAY, care_plan=eased)
    outcomes = await carry_out(follow_activity, connection, [back], now=MONDAY + 26 * DAY)
    assert "plan.revised" not in told(outcomes), "a gap goes one step back once"


async def test_who_keeps_to_the_plan_never_lapses_and_a_lapse_names_the_last_session(connection: Connection) -> None:
    member_id = await enrolled(connection)
    last: Any = None
    lapses: list[Any] = []
    for number in range(40):
        now = MONDAY + number * DAY
        if number < 21 and now.isoweekday() in (1, 3, 5):
            last = session_completed(member_id, at=now)
            await carry_out(follow_activity, connection, [last], now=now)
        timers = await due(connection, now=now)
        outcomes = await carry_out(follow_lapses, connection, timers, now=now)
        lapses += [(number, draft) for draft in outcomes.published if draft.event.NAME == "member.lapsed"]
    assert [number for number, _ in lapses] == [25, 29, 36]
    for _, draft in lapses:
        assert draft.data.decision.evidence[0].id == last.id
        assert (draft.because.cause.id, draft.because.cause.chain) == (last.id, last.chain)


async def test_a_session_moves_the_lapse_and_a_pain_report_does_not(connection: Connection) -> None:
    member_id = await enrolled(connection)
    await carry_out(follow_activity, connection, [session_completed(member_id, at=MONDAY)], now=MONDAY)
    timers = await due(connection, now=MONDAY + 7 * DAY)
    await carry_out(follow_lapses, connection, timers, now=MONDAY + 7 * DAY)
    report = pain_reported(member_id, at=MONDAY + 7 * DAY, score=3)
    await carry_out(follow_activity, connection, [report], now=MONDAY + 7 * DAY)
    assert await due(connection, now=MONDAY + 7 * DAY) == []
    session = session_completed(member_id, at=MONDAY + 7 * DAY)
    await carry_out(follow_activity, connection, [session], now=MONDAY + 7 * DAY)
    assert await coming(connection, member_id) == (3, "2026-09-16")


async def test_a_version_is_told_once(connection: Connection) -> None:
    member_id = await enrolled(connection)
    event = session_completed(member_id, at=MONDAY, pain_during=8)
    transaction = connection.transaction()
    await transaction.start()
    await carry_out(follow_activity, connection, [event], now=MONDAY)
    await connection.execute("update care_plans set version = 1, state = state where member_id = $1", member_id)
    with pytest.raises(asyncpg.UniqueViolationError):
        await carry_out(
            follow_activity,
            connection,
            [session_completed(member_id, at=MONDAY + timedelta(hours=30), pain_during=9)],
            now=MONDAY,
        )
    await transaction.rollback()


async def test_why_an_exercise_is_as_it_is_is_what_moved_it_and_no_proposal(connection: Connection) -> None:
    plan_id, member_id = uuid4(), uuid4()
    told = (
        ("plan.issued", {"items": [{"exercise": "squat"}], "decision": {"reason": "issued"}}),
        ("plan.revised", {"changes": [{"exercise": "squat", "action": "raise", "decision": {"reason": "well"}}]}),
        ("plan.revised", {"changes": [{"exercise": "squat", "action": "propose", "decision": {"reason": "maybe"}}]}),
    )
    for version, (event, data) in enumerate(told, 1):
        await connection.execute(
            "insert into plan_revisions (plan_id, version, member_id, decided_at, event, data)"
            " values ($1, $2, $3, now(), $4, $5::text::jsonb)",
            plan_id, version, member_id, event, json.dumps(data),
        )  # fmt: skip
    assert await find_item_decisions(connection, plan_id=plan_id) == {"squat": ("raise", {"reason": "well"})}
