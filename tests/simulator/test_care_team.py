"""What simulated staff leave to whoever really sits at the console."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from deploy.simulator.care_team import LeftToOthers, draw_delay
from deploy.simulator.parameters import load_parameters
from deploy.simulator.people import chance

P = load_parameters()
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ages = st.lists(st.floats(min_value=-24, max_value=24 * 84), max_size=60)


def at_end(hours_ago: list[float]) -> LeftToOthers:
    return LeftToOthers.at_end(NOW, P, [NOW - timedelta(hours=hours) for hours in hours_ago])


def test_the_last_days_are_left_open_after_seeding() -> None:
    assert NOW - at_end([]).untouched_after == timedelta(hours=P.open_for_a_person_h)
    assert NOW - at_end([5, 6, 7, 100]).untouched_after == timedelta(hours=P.open_for_a_person_h)


def test_where_little_happened_lately_older_spikes_are_left_open() -> None:
    left = at_end([60, 80, 100, 110])
    assert left.untouched_after < NOW - timedelta(hours=100)
    assert left.untouched_after > NOW - timedelta(hours=110)


def test_nothing_is_left_that_the_staff_would_take_on_the_next_day() -> None:
    assert NOW - at_end([P.open_for_a_person_max_h - 1]).untouched_after == timedelta(hours=P.open_for_a_person_h)


@given(ages)
def test_what_is_left_after_seeding_stays_left_while_the_population_lives_on(hours_ago: list[float]) -> None:
    end, a_day_later = at_end(hours_ago), LeftToOthers.in_life(NOW + timedelta(hours=23), P)
    assert end.untouched_after >= a_day_later.untouched_after
    assert end.unresolved_after <= end.untouched_after <= NOW


def test_members_are_answered_before_their_message_becomes_an_alert() -> None:
    assert NOW - LeftToOthers.in_life(NOW, P).unanswered_after < timedelta(hours=24)


def test_delays_have_their_median() -> None:
    median = timedelta(minutes=25)
    drawn = sorted(draw_delay(chance("test", number), median=median) for number in range(2001))
    assert abs(drawn[1000] / median - 1) < 0.1
    assert drawn[0] > timedelta(0)
