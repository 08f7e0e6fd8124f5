"""Weeks, planned days, lapses, streaks and milestones."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.plans.domain.adherence import count_session, reach_milestones
from services.plans.domain.care_plan import Adherence, CarePlan, Lapse, PainLevel
from services.plans.domain.lapse import coming_lapse, expect_lapse, follow_session, next_lapse
from services.plans.domain.schedule import items_on, local_date, next_session_at, plan_week, sessions_per_week
from tests.plans.given import DAY, DAY_S, LIBRARY, MONDAY, plan, seconds

LAPSE = LIBRARY.engagement.lapse
FREQUENCY = LIBRARY.pathways.frequency
ZONES = st.sampled_from(["America/New_York", "America/Los_Angeles", "America/Phoenix", "Pacific/Honolulu", "No/Where"])
MOMENTS = st.integers(seconds(MONDAY) - 250 * DAY_S, seconds(MONDAY) + 480 * DAY_S).map(
    lambda at_s: datetime.fromtimestamp(at_s, UTC)
)
SESSIONS = st.integers(1, 7).map(lambda days: sessions_per_week(days_per_week=days, rule=FREQUENCY))


def last_done(at: datetime) -> CarePlan:
    return replace(plan(), adherence=Adherence(sessions=1, last_session_s=seconds(at)))


def rung(care_plan: CarePlan, *, now: datetime) -> Lapse:
    found = coming_lapse(plan=care_plan, now_s=seconds(now), rule=LAPSE)
    assert found is not None
    return found


def test_days_are_kept_between_three_and_five_and_strength_days_are_never_two_running() -> None:
    planned = [sessions_per_week(days_per_week=days, rule=FREQUENCY) for days in range(1, 8)]
    assert planned == [3, 3, 3, 4, 5, 5, 5]
    for sessions in (3, 4, 5):
        week = plan_week(sessions=sessions, local_time="18:00", time_zone="America/New_York", rule=FREQUENCY)
        assert len(week.weekdays) == sessions
        strength = [
            day
            for day in range(1, 8)
            if day in week.weekdays
            and any(
                item.exercise == "bridge"
                for item in items_on(weekday=day, items=plan().items, week=week, exercises=LIBRARY.exercises)
            )
        ]
        assert strength == [1, 3, 5]


@given(MOMENTS, ZONES, SESSIONS, st.booleans())
def test_the_next_session_is_ahead_on_a_planned_day_within_a_week(
    now: datetime, zone: str, sessions: int, done_now: bool
) -> None:
    week = plan_week(sessions=sessions, local_time="02:30", time_zone=zone, rule=FREQUENCY)
    at = next_session_at(week=week, now_s=seconds(now), last_session_s=seconds(now) if done_now else None)
    assert now < at <= now + timedelta(days=8)
    there = ZoneInfo("UTC") if zone == "No/Where" else ZoneInfo(zone)
    assert at.astimezone(there).isoweekday() in week.weekdays
    if done_now:
        assert at.astimezone(there).date() > now.astimezone(there).date()


@pytest.mark.parametrize(
    ("done_on", "missed", "lapses_on"),
    [
        (0, date(2026, 9, 9), date(2026, 9, 13)),  # Monday done, Wednesday missed: Sunday
        (2, date(2026, 9, 11), date(2026, 9, 15)),  # Friday missed: Tuesday, not Monday
        (4, date(2026, 9, 14), date(2026, 9, 18)),  # Monday missed: Friday
    ],
)
def test_a_lapse_counts_from_the_planned_session_that_was_missed(done_on: int, missed: date, lapses_on: date) -> None:
    done = MONDAY + done_on * DAY
    found = rung(last_done(done), now=done)
    assert found.missed_since == missed.toordinal()
    assert found.rung_d == 3
    assert local_date(at_s=found.due_s, time_zone="America/New_York") == lapses_on


@given(MOMENTS)
def test_a_monday_wednesday_friday_member_never_lapses_on_a_monday(done: datetime) -> None:
    found = rung(last_done(done), now=done)
    assert local_date(at_s=found.due_s, time_zone="America/New_York").isoweekday() != 1


@given(MOMENTS, ZONES, SESSIONS)
def test_rungs_come_in_order_and_end_after_twenty_one_days(done: datetime, zone: str, sessions: int) -> None:
    week = plan_week(sessions=sessions, local_time="18:00", time_zone=zone, rule=FREQUENCY)
    care_plan = replace(last_done(done), week=week, started_s=0)
    reached: Lapse | None = rung(care_plan, now=done)
    rungs: list[Lapse] = []
    while reached is not None:
        rungs.append(reached)
        reached = next_lapse(plan=care_plan, reached=reached, rule=LAPSE)
    assert [one.rung_d for one in rungs] == [3, 7, 14, 21]
    assert [one.due_s for one in rungs] == sorted({one.due_s for one in rungs})
    assert rungs[0].due_s > seconds(done) + 3 * DAY_S
    assert len({one.missed_since for one in rungs}) == 1


def test_nobody_who_is_asked_for_nothing_lapses() -> None:
    now_s = seconds(MONDAY)
    for care_plan in (
        replace(plan(), status="paused"),
        replace(plan(), status="ended"),
        replace(plan(), items=()),
        replace(plan(), safety=("emergency", ("urn:app", "x"))),
    ):
        assert coming_lapse(plan=care_plan, now_s=now_s, rule=LAPSE) is None


def test_an_old_session_sent_late_does_not_tell_passed_rungs_again() -> None:
    care_plan = last_done(MONDAY)
    assert rung(care_plan, now=MONDAY + 7 * DAY).rung_d == 7
    assert coming_lapse(plan=care_plan, now_s=seconds(MONDAY + 60 * DAY), rule=LAPSE) is None


def test_who_comes_back_from_a_pause_is_asked_for_nothing_of_before_it() -> None:
    """Given sessions before a pause, then the missed session is the first planned one after its end."""
    care_plan = replace(last_done(MONDAY), started_s=seconds(MONDAY + 30 * DAY))
    first = rung(care_plan, now=MONDAY + 30 * DAY)
    assert first.rung_d == 3
    assert date.fromordinal(first.missed_since) > (MONDAY + 30 * DAY).date()


def test_the_timer_moves_only_where_it_would_be_too_late() -> None:
    first, moved = expect_lapse(plan=plan(), lapse=Lapse(3, 1, 1000))
    assert (moved, first.lapse_timer_s) == (True, 1000)
    later, moved = expect_lapse(plan=first, lapse=Lapse(3, 2, 2000))
    assert (moved, later.lapse_timer_s) == (False, 1000)
    assert later.lapse == Lapse(3, 2, 2000)
    sooner, moved = expect_lapse(plan=later, lapse=Lapse(3, 1, 500))
    assert (moved, sooner.lapse_timer_s) == (True, 500)
    none, moved = expect_lapse(plan=sooner, lapse=None)
    assert (moved, none.lapse_timer_s) == (True, None)
    assert expect_lapse(plan=none, lapse=None) == (none, False)


def test_who_comes_back_late_in_a_lapse_is_missed_in_time_when_they_stay_away_again() -> None:
    """The timer stands at the last rung of the lapse before, which is later than the first of the next."""
    back = MONDAY + 20 * DAY
    waiting, _ = expect_lapse(plan=plan(), lapse=Lapse(21, 1, seconds(back + 7 * DAY)))
    returned = replace(waiting, adherence=Adherence(sessions=1, last_session_s=seconds(back)))
    after, moved = follow_session(plan=returned, now_s=seconds(back), rule=LAPSE)
    assert (moved, after.lapse_timer_s) == (True, rung(returned, now=back).due_s)
    assert rung(returned, now=back).due_s < seconds(back + 7 * DAY)


def done(care_plan: CarePlan, *days: int) -> CarePlan:
    for day in days:
        at_s = seconds(MONDAY + day * DAY)
        adherence = count_session(plan=care_plan, at_s=at_s, session_id=day, event=("urn:app", f"e{day}"))
        care_plan = replace(care_plan, adherence=adherence)
    return care_plan


def milestones(care_plan: CarePlan) -> tuple[str, ...]:
    return reach_milestones(plan=care_plan, rule=LIBRARY.engagement.milestones, baseline=LIBRARY.pain.baseline)


def test_a_week_counts_when_it_is_full_and_a_week_that_is_not_ends_the_streak() -> None:
    full = done(plan(), 0, 2, 4)
    assert full.adherence.streak_weeks == 1
    assert done(full, 7, 9).adherence.streak_weeks == 1
    assert done(full, 7, 9, 11).adherence.streak_weeks == 2
    assert done(full, 7, 9, 14).adherence.streak_weeks == 0
    assert done(full, 14).adherence.streak_weeks == 0
    assert done(full, 7, 9, 11, 12).adherence.streak_weeks == 2


def test_milestones_are_reached_once() -> None:
    assert milestones(done(plan(), 0)) == ("first-session",)
    assert set(milestones(done(plan(), 0, 2, 4))) == {"first-session", "first-week"}
    four_weeks = done(plan(), *[week * 7 + day for week in range(4) for day in (0, 2, 4)])
    assert "streak-4-weeks" in milestones(four_weeks)
    assert "sessions-10" in milestones(four_weeks)
    told = replace(four_weeks, adherence=replace(four_weeks.adherence, milestones=milestones(four_weeks)))
    assert milestones(told) == ()


@pytest.mark.parametrize(
    ("intake", "readings", "halved"),
    [(6, (3,) * 6, True), (6, (4,) * 6, False), (6, (1,) * 5, False), (0, (0,) * 6, False)],
)
def test_usual_pain_halved_needs_six_readings_and_pain_to_begin_with(
    intake: int, readings: tuple[int, ...], halved: bool
) -> None:
    care_plan = replace(plan(usual_pain=intake), pain=PainLevel(usual=float(intake), exercise=readings))
    assert ("pain-halved" in milestones(care_plan)) is halved
