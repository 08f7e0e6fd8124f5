"""What is published and what is hurt follows from the seed alone, and holds all that the page promises."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from typing import get_args

import orjson
import pytest

from services.messaging.store.rules import load_alert_rules
from tests.chaos.errands import Action, Role, Then
from tests.chaos.faults import ANSWERED_WITHIN_S, MOVED_MAX_S, FaultKind, draw_faults
from tests.chaos.overriding import Does
from tests.chaos.people import COUNTS, OPENS_ON, opening_of
from tests.chaos.run import draw_plan, reminding_on
from tests.chaos.stream import ACTIVITY, ALONE_KINDS, BLOCKING, LATE, REPEATED, REPEATED_WAITING, Publication, Way
from tests.chaos.wording import ALARMING

DAY = date(2026, 3, 4)


@pytest.mark.parametrize("seed", [0, 8, 999_999])
def test_a_seed_is_a_run(seed: int) -> None:
    assert draw_plan(seed, seconds=30, today=DAY) == draw_plan(seed, seconds=30, today=DAY)
    other = draw_plan(seed + 1, seconds=30, today=DAY)
    assert draw_plan(seed, seconds=30, today=DAY).stream != other.stream
    assert draw_plan(seed, seconds=30, today=DAY).faults != other.faults
    assert draw_plan(seed, seconds=30, today=DAY).errands != other.errands


def test_the_day_moves_the_times_of_events_and_nothing_else() -> None:
    first, later = (draw_plan(8, seconds=30, today=DAY + timedelta(days=days)) for days in (0, 40))
    assert first.faults == later.faults
    assert [(p.at_s, p.topic, p.key, p.kind) for p in first.stream] == [
        (p.at_s, p.topic, p.key, p.kind) for p in later.stream
    ]


def test_who_comes_later_has_no_pain_that_asks_for_a_person() -> None:
    """Their spike could be read before their care team is: it would ask two people, and which one first is chance."""
    plan = draw_plan(1005, seconds=120, today=DAY)
    usual = {str(one.member_id).encode(): one.usual for one in plan.cast.people if one.comes_later}
    assert len(usual) > 10
    told: Counter[int] = Counter()
    for one in plan.stream:
        if one.topic == ACTIVITY and one.key in usual and one.kind == "event":
            data = orjson.loads(one.value or b"")["data"]
            told[data.get("score", data.get("pain_during")) - usual[one.key]] += 1
    assert set(told) == {0, 1}
    assert told.total() > 100


def test_nobody_wants_a_time_that_another_errand_has_unless_they_race_for_it() -> None:
    errands = draw_plan(8, seconds=1800, today=DAY).errands
    wanted = Counter(one.starts_at for one in errands.visits)
    wanted.update(one.moves_to for one in errands.visits if one.moves_to is not None)
    raced = {one.starts_at for one in errands.visits if one.races is not None}
    assert raced
    assert {at: wanted[at] for at in wanted if wanted[at] > 1} == dict.fromkeys(raced, 2)
    assert {one.then for one in errands.visits} == set(get_args(Then))
    assert {one.documented for one in errands.visits} == {None, *get_args(Action)}


def test_people_write_of_red_flags_and_the_therapist_overrides_plans_in_every_way() -> None:
    plan = draw_plan(8, seconds=120, today=DAY)
    alarming = Counter(one.role for one in plan.errands.messages if one.text in ALARMING)
    assert set(alarming) == {None, *get_args(Role)}
    assert {one.does for one in plan.overrides} == set(get_args(Does))
    assert {one.is_doubled for one in plan.overrides} == {True, False}


def test_clinic_time_opens_on_the_same_weekday_and_in_the_past() -> None:
    for days in range(30):
        day = DAY + timedelta(days=days)
        opening = opening_of(day)
        assert opening.isoweekday() == OPENS_ON
        assert timedelta(days=9) <= day - opening.date() <= timedelta(days=15)


def test_a_long_run_holds_every_fault_and_every_poison() -> None:
    plan = draw_plan(8, seconds=600, today=DAY)
    kinds = Counter(one.kind for one in plan.stream)
    assert set(BLOCKING) | set(ALONE_KINDS) <= set(kinds)
    assert kinds["bug"] == COUNTS["bug"]
    assert {one.way for one in plan.stream} == set(get_args(Way))
    events = sum(one.topic == ACTIVITY for one in plan.stream)
    waiting = 1 - COUNTS["steady"] / sum(COUNTS.values())
    repeated = REPEATED * (1 - waiting) + REPEATED_WAITING * waiting
    assert kinds["repeat"] == pytest.approx(repeated * events, rel=0.3)
    assert _out_of_order(plan.stream) == pytest.approx(LATE * events, rel=0.5)
    assert {fault.kind for fault in draw_faults(8, seconds=600)} == set(get_args(FaultKind))


def test_what_is_due_in_an_outage_does_not_bring_the_evening_before_its_time() -> None:
    """However long a run is: what clinic time is moved by, the run itself and two hours more."""
    for seed in (8, 60):
        faults = draw_faults(seed, seconds=7200)
        outages = [fault for fault in faults if fault.kind == "due-in-outage"]
        assert outages[0].by_s == ANSWERED_WITHIN_S
        assert len(outages) > MOVED_MAX_S / ANSWERED_WITHIN_S
        for_all = [fault for fault in faults if fault.kind == "clock" and fault.service is None]
        moved = timedelta(seconds=sum(abs(fault.by_s) for fault in outages + for_all))
        opening = opening_of(DAY)
        assert opening + moved + timedelta(hours=2) < reminding_on(opening)


def test_an_alert_of_an_emergency_is_due_when_an_outage_has_moved_the_clock() -> None:
    assert load_alert_rules().respond_within["emergency"] < timedelta(seconds=ANSWERED_WITHIN_S)


def test_the_evening_has_an_outage_of_its_own() -> None:
    evening = draw_plan(8, seconds=30, today=DAY).evening
    assert [(fault.kind, fault.service) for fault in evening] == [
        ("kill-at", "messaging"), ("kill-at", "notifications"),
        ("due-in-outage", "messaging"), ("due-in-outage", "notifications"),
    ]  # fmt: skip


def _out_of_order(stream: Sequence[Publication]) -> int:
    """How many events come after a later one of the same person."""
    latest: dict[bytes | None, str] = {}
    late = 0
    for one in stream:
        if one.topic == ACTIVITY and one.kind == "event":
            assert one.value is not None
            at = orjson.loads(one.value)["time"]
            late += at < latest.get(one.key, "")
            latest[one.key] = max(at, latest.get(one.key, ""))
    return late
