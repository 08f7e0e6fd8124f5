"""Simulated lives have the rates that their cited parameters say, over a population large enough to tell."""

import statistics
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.simulator.bodies import Body, draw_flare, read_pain
from deploy.simulator.lives import Happening, Joined, Life, MessageWritten, PainTold, SessionDone
from deploy.simulator.messages import MEMBER_TEXTS, REPLIES
from deploy.simulator.parameters import load_cited, load_parameters
from deploy.simulator.people import (
    BLOCKING_AT_INTAKE,
    MILD_AT_INTAKE,
    STATES,
    ZONES,
    Cohort,
    Member,
    chance,
    clinicians,
    make_member,
    population,
)
from services.plans.store.rules import load_library
from shared.events.vocabulary import Cause, Finding, Intent
from shared.red_flags import BLOCKING, screen

P = load_parameters()
STARTS_ON = date(2026, 8, 31)
DAYS = 168
COHORT = Cohort(seed=5, members=400, days=84, starts_on=STARTS_ON)


def cohort_of(seed: int) -> Cohort:
    return replace(COHORT, seed=seed)


@dataclass
class LivedLife:
    member: Member
    happenings: list[Happening]


def live(member: Member, *, cohort: Cohort = COHORT, days: int = DAYS) -> list[Happening]:
    life = Life(member=member, cohort=cohort, p=P)
    joined_on = STARTS_ON + timedelta(days=member.joins_on_day)
    happened: list[Happening] = [next(life.happenings())]
    last = min(days, member.leaves_after_days or days)
    if member.starts:
        for number in range(1, last + 1):
            happened.extend(life.live_day(joined_on + timedelta(days=number)))
    return happened


@pytest.fixture(scope="module")
def lives() -> list[LivedLife]:
    people = population(COHORT, P)
    return [LivedLife(member, live(member)) for member in people]


def test_every_parameter_names_its_source_and_mark() -> None:
    cited = load_cited()
    assert set(cited) == set(type(P).model_fields)
    for name in ("flares_per_100_person_days", "flare_median_days", "sessions_per_week", "completion_share"):
        assert cited[name].mark == "V", name
    assert cited["zone_weights"].mark == "U"
    assert cited["hour_weights"].mark == "A"


def test_weights_use_the_closed_words_of_the_contracts() -> None:
    assert set(P.cause_weights) == set(get_args(Cause))
    assert set(P.intent_weights) == set(get_args(Intent))
    assert set(P.finding_weights) <= set(get_args(Finding))
    assert set(P.zone_weights) == set(STATES)
    assert len(P.hour_weights) == 24
    assert sum(P.hour_weights) == pytest.approx(100, abs=0.5)


def test_flares_begin_as_often_and_last_as_long_as_published() -> None:
    begun, person_days, lengths = 0, 0, []
    for index in range(300):
        body = Body(chance(str(11), index, "body"), usual_pain=4.5, p=P)
        days = [body.live_day() for _ in range(400)]
        flares = [day.flare_begins for day in days if day.flare_begins]
        begun, person_days = begun + len(flares), person_days + len(days)
        lengths += [flare.days for flare in flares]
    # 1,300 flares: a standard error of 3% of the rate, so 8% is generous; the seed is fixed.
    assert begun / person_days * 100 == pytest.approx(P.flares_per_100_person_days, rel=0.08)
    assert statistics.median(lengths) == pytest.approx(P.flare_median_days, abs=1)
    assert min(lengths) >= P.flare_days_min
    assert max(lengths) <= P.flare_days_max


@given(st.integers(), st.floats(min_value=0, max_value=10))
def test_a_flare_is_at_least_two_points_above_usual_for_at_least_two_days(seed: int, usual: float) -> None:
    flare = draw_flare(chance(str(seed), "flare"), P)
    assert flare.rise >= 2
    assert 2 <= flare.days <= 30
    body = Body(chance(str(seed), "body"), usual_pain=usual, p=P)
    for _ in range(30):
        day = body.live_day()
        assert day.rise == 0 or day.rise >= 2
        assert 0 <= read_pain(chance(str(seed), "answer"), level=day.level, p=P) <= 10


def test_readings_of_one_person_spread_by_about_one_point() -> None:
    spreads = []
    for index in range(200):
        body = Body(chance(str(3), index, "body"), usual_pain=5.0, p=P)
        rng = chance(str(3), index, "answers")
        days = [body.live_day() for _ in range(84)]
        spreads += [read_pain(rng, level=d.level, p=P) - d.usual for d in days if not d.flaring and 3 <= d.usual <= 7]
    # Answers are whole numbers: rounding adds 1/12 to the variance.
    assert statistics.stdev(spreads) == pytest.approx((P.within_person_sd**2 + 1 / 12) ** 0.5, rel=0.05)
    assert statistics.mean(spreads) == pytest.approx(0, abs=0.05)


def test_usual_pain_falls_slowly_for_most_and_hardly_for_the_rest() -> None:
    bodies = [Body(chance(str(7), index, "body"), usual_pain=5.0, p=P) for index in range(2000)]
    improved = sum(body.improvement > 0.3 for body in bodies) / len(bodies)
    assert improved == pytest.approx(P.responders_share, abs=0.03)
    for body in bodies[:50]:
        assert body.usual_on(0) == pytest.approx(5.0)
        assert body.usual_on(84) == pytest.approx(5.0 * (1 - body.improvement))
        assert body.usual_on(300) == body.usual_on(84)
        steps = [abs(body.usual_on(day + 1) - body.usual_on(day)) for day in range(84)]
        assert max(steps) < 0.2


def test_active_members_do_as_many_sessions_a_week_as_published(lives: list[LivedLife]) -> None:
    """Weeks without any word from the member (lapses, rest) are not active ones."""
    sessions, active_days = 0, 0
    for life in lives:
        heard = sorted(h.at.date() for h in life.happenings if not isinstance(h, Joined))
        if not heard:
            continue
        done = [h for h in life.happenings if isinstance(h, SessionDone)]
        silent = sum((b - a).days for a, b in pairwise(heard) if (b - a).days > 5)
        sessions += len(done)
        active_days += (heard[-1] - heard[0]).days + 1 - silent
    assert sessions / active_days * 7 == pytest.approx(P.sessions_per_week, rel=0.06)


def test_sessions_follow_the_hours_of_the_day(lives: list[LivedLife]) -> None:
    """By the members' preferred hours: many people, so that a few with a habit do not weigh."""
    hours = Counter(make_member(cohort=cohort_of(9), index=i, p=P).hour for i in range(6000))
    for hour, weight in enumerate(P.hour_weights):
        assert hours[hour] / 6000 * 100 == pytest.approx(weight, abs=1.3), hour
    done = Counter(
        h.started_at.astimezone(ZoneInfo(life.member.time_zone)).hour
        for life in lives
        for h in life.happenings
        if isinstance(h, SessionDone)
    )
    total = sum(done.values())
    assert sum(done[h] for h in range(5)) / total < 0.06
    assert sum(done[h] for h in (6, 7, 8, 17, 18, 19)) / total > 0.35


def test_zones_are_mixed_as_stated() -> None:
    zones = Counter(make_member(cohort=cohort_of(2), index=i, p=P).time_zone for i in range(6000))
    for zone, name in ZONES.items():
        assert zones[name] / 60 == pytest.approx(P.zone_weights[zone], abs=2)
    assert P.zone_weights == {"ET": 47, "CT": 29, "MT": 7, "PT": 17}


def test_three_of_four_stay_and_the_others_fall_silent(lives: list[LivedLife]) -> None:
    people = [make_member(cohort=cohort_of(8), index=i, p=P) for i in range(4000)]
    assert sum(m.leaves_after_days is None for m in people) / 4000 == pytest.approx(P.completion_share, abs=0.02)
    for life in lives:
        if life.member.leaves_after_days is not None:
            left_on = STARTS_ON + timedelta(days=life.member.joins_on_day + life.member.leaves_after_days)
            assert all(h.at.date() <= left_on + timedelta(days=2) for h in life.happenings)


def test_the_steps_in_answers_are_steps_of_the_published_ladders(lives: list[LivedLife]) -> None:
    exercises = load_library().exercises
    climbed = 0
    for life in lives:
        for happening in life.happenings:
            if not isinstance(happening, SessionDone):
                continue
            for result in happening.exercises:
                step = exercises[result.exercise].ladder[result.step]
                assert result.sets_prescribed == step.sets
                assert (result.last_set_reps is None) == (step.reps is None)
                assert (result.last_set_hold_s is None) == (step.hold_s is None)
                climbed += result.step > exercises[result.exercise].start
    assert climbed > 1000


def test_sessions_are_on_planned_days_and_none_before_a_phase_is_signed(lives: list[LivedLife]) -> None:
    weekdays = load_library().pathways.frequency.weekdays
    for life in lives:
        sessions = [h for h in life.happenings if isinstance(h, SessionDone)]
        if life.member.cause == "post-surgical":
            assert not sessions
        zone = ZoneInfo(life.member.time_zone)
        for session in sessions:
            assert session.started_at.astimezone(zone).isoweekday() in weekdays[life.member.days_per_week]


def test_findings_are_rare_and_knees_buckle_more_in_a_flare(lives: list[LivedLife]) -> None:
    sessions = [h for life in lives for h in life.happenings if isinstance(h, SessionDone)]
    with_finding = [h for h in sessions if h.findings]
    assert 0.002 < len(with_finding) / len(sessions) < 0.012
    assert sum(h.findings == ("giving-way",) for h in with_finding) > len(with_finding) / 3


def test_members_write_and_tell_pain_between_sessions(lives: list[LivedLife]) -> None:
    texts = sum(isinstance(h, MessageWritten) for life in lives for h in life.happenings)
    told = sum(isinstance(h, PainTold) for life in lives for h in life.happenings)
    sessions = sum(isinstance(h, SessionDone) for life in lives for h in life.happenings)
    written = P.messages_per_active_week * P.member_share_of_messages
    assert texts / sessions == pytest.approx(written / P.sessions_per_week, rel=0.25)
    assert told / sessions == pytest.approx(P.pain_reports_per_week / P.sessions_per_week, rel=0.2)


def test_who_is_told_to_stop_publishes_nothing_after_the_intake(lives: list[LivedLife]) -> None:
    stopped = [life for life in lives if not life.member.starts]
    assert stopped
    assert all(len(life.happenings) == 1 and isinstance(life.happenings[0], Joined) for life in stopped)


@settings(max_examples=50)
@given(st.integers(min_value=0, max_value=2**40), st.integers(min_value=0, max_value=99_999))
def test_nobody_can_be_taken_for_a_real_person(seed: int, index: int) -> None:
    member = make_member(cohort=cohort_of(seed), index=index, p=P)
    assert member.email.endswith("@members.example.org")
    assert member.phone.startswith("+1555")
    assert len(member.phone) == 12
    assert member.family_name.split()[0] in {"Sample", "Example", "Placeholder", "Simulated", "Fixture", "Testcase"}
    assert member == make_member(cohort=cohort_of(seed), index=index, p=P)


def test_everybody_finds_a_care_team() -> None:
    for zone, states in STATES.items():
        for state in states:
            for language in ("en", "es"):
                able = [c for c in clinicians() if c.role == "pt" and state in c.states and language in c.languages]
                assert able, (zone, state, language)
    assert any(c.role == "oncall" for c in clinicians())
    assert all(c.email.endswith("@clinic.example.org") for c in clinicians())


def test_intakes_that_block_do_and_those_that_do_not_do_not() -> None:
    assert all(screen(findings=[finding]).disposition in BLOCKING for finding in BLOCKING_AT_INTAKE)
    assert all(screen(findings=[finding]).disposition == "pt-72h" for finding in MILD_AT_INTAKE)


def test_whoever_tells_a_red_flag_in_a_session_rests_for_days(lives: list[LivedLife]) -> None:
    rested = 0
    for life in lives:
        sessions = [h for h in life.happenings if isinstance(h, SessionDone)]
        for flagged, following in pairwise(sessions):
            if screen(findings=flagged.findings).blocks_plan:
                rested += 1
                assert following.started_at - flagged.started_at > timedelta(days=P.rest_after_red_flag_days - 2)
    assert rested > 5


def test_texts_name_no_red_flag() -> None:
    words = ("swollen", "numb", "chest", "breath", "calf", "suicid", "hinchad", "pecho", "locked", "fever")
    texts = [t for by_language in MEMBER_TEXTS.values() for ts in by_language.values() for t in ts]
    texts += [t for ts in REPLIES.values() for t in ts]
    for text in texts:
        assert not [word for word in words if word in text.lower()], text
