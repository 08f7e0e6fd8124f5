"""Baseline, spike, episode: the examples of the rules, and what must hold for any history."""

from collections.abc import Sequence
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.plans.domain.care_plan import PainLevel
from services.plans.domain.pain_baseline import pain_baseline
from services.plans.domain.pain_episode import PainReading, PainStep, follow_pain, re_anchor
from services.plans.domain.pain_spike import detect_pain_spike
from tests.plans.given import DAY_S, LIBRARY

RULES = LIBRARY.pain
HOUR_S = 3_600
START_S = 1_790_000_000


def live(
    readings: Sequence[tuple[float, int]], *, level: PainLevel, red_flags: frozenset[int] = frozenset()
) -> list[PainStep]:
    """Take (day, score) readings during exercise in order."""
    steps: list[PainStep] = []
    for number, (day, score) in enumerate(readings):
        step = follow_pain(
            level=level,
            reading=PainReading(
                at_s=START_S + int(day * DAY_S), score=score, kind="exercise", event=("urn:app", str(number))
            ),
            red_flag=number in red_flags,
            rules=RULES,
        )
        steps.append(step)
        level = step.level
    return steps


def at_usual(usual: int) -> PainLevel:
    return PainLevel(usual=float(usual), exercise=(usual,) * 6)


def alerts(steps: Sequence[PainStep]) -> list[int]:
    return [number for number, step in enumerate(steps) if step.alert is not None]


HISTORIES = st.lists(st.tuples(st.floats(min_value=0.1, max_value=6), st.integers(0, 10)), min_size=1, max_size=60).map(
    lambda gaps: [(sum(gap for gap, _ in gaps[: n + 1]), score) for n, (_, score) in enumerate(gaps)]
)


def test_usual_pain_is_what_was_said_until_there_are_three_readings_and_then_the_median_of_six() -> None:
    def usual(*exercise: int) -> float:
        return pain_baseline(level=PainLevel(usual=7.0, exercise=exercise), kind="exercise", rule=RULES.baseline)

    assert [usual(), usual(2), usual(2, 2), usual(2, 2, 4)] == [7, 7, 7, 2]
    assert usual(9, 9, 9, 1, 2, 3, 4, 5, 6) == 3.5


@pytest.mark.parametrize(
    ("readings", "spikes"),
    [
        ([(0, 6)], [0]),  # 3 above usual, once
        ([(0, 5), (2, 5)], [1]),  # 2 above, twice running
        ([(0, 5), (3, 5)], [1]),  # 72 hours apart is still within
        ([(0, 5), (3.1, 5)], []),  # more than 72 hours apart
        ([(0, 5), (1, 3), (2, 5)], []),  # not running
        ([(0, 4), (1, 4)], []),  # only 1 above
    ],
)
def test_the_spike_rule_at_usual_pain_of_three(readings: list[tuple[float, int]], spikes: list[int]) -> None:
    assert alerts(live(readings, level=at_usual(3))) == spikes


def test_pain_under_four_is_no_spike_however_far_above_usual() -> None:
    assert alerts(live([(0, 3), (1, 3)], level=at_usual(0))) == []
    assert alerts(live([(0, 4)], level=at_usual(0))) == [0]


@pytest.mark.parametrize(
    ("usual", "readings", "spikes"),
    [
        (8, [(0, 9)], []),
        (8, [(0, 9), (1, 9)], [1]),  # two in a row above usual
        (8, [(0, 10)], [0]),  # a single 10 where usual is at most 9
        (9, [(0, 10)], [0]),
        (10, [(0, 10), (1, 10)], []),  # nothing is above 10
        (7, [(0, 8), (1, 8)], []),  # the ceiling rule starts at 8
        (7, [(0, 10)], [0]),  # 3 above
    ],
)
def test_the_end_of_the_scale_hides_no_rise(usual: int, readings: list[tuple[float, int]], spikes: list[int]) -> None:
    assert alerts(live(readings, level=at_usual(usual))) == spikes


def test_one_alert_an_episode_until_pain_is_two_above_the_last_alert() -> None:
    steps = live([(0, 6), (1, 7), (2, 7), (3, 8), (4, 9), (5, 10)], level=at_usual(3))
    assert alerts(steps) == [0, 3, 5]
    assert [steps[number].repeated for number in (0, 3, 5)] == [False, True, True]


def test_a_second_ten_a_day_later_alerts_once_more_at_the_ceiling() -> None:
    assert alerts(live([(0, 10), (0.9, 10), (1.0, 10), (2.5, 10), (3.5, 10)], level=at_usual(9))) == [0, 2]
    assert alerts(live([(0, 9), (1, 9), (2, 10), (2.5, 10), (3.1, 10)], level=at_usual(8))) == [1, 4]


def test_a_red_flag_in_an_open_episode_alerts_again_and_outside_one_is_not_a_spike() -> None:
    assert alerts(live([(0, 6), (1, 5)], level=at_usual(3), red_flags=frozenset({1}))) == [0, 1]
    assert alerts(live([(0, 3)], level=at_usual(3), red_flags=frozenset({0}))) == []


def test_an_episode_settles_after_three_calm_readings_over_five_days() -> None:
    def settled(*readings: tuple[float, int]) -> list[int]:
        steps = live([(0, 7), *readings], level=at_usual(3))
        return [number for number, step in enumerate(steps) if step.settled is not None]

    assert settled((1, 4), (3, 4), (6, 4)) == [3]
    assert settled((1, 4), (3, 4), (5.9, 4)) == []
    assert settled((1, 4), (6, 4)) == []  # two readings only
    assert settled((1, 4), (3, 5), (6, 4), (8, 4), (11, 4)) == [5]  # a reading above breaks the row


def test_a_red_flag_in_the_reading_that_settles_an_episode_is_told_all_the_same() -> None:
    steps = live([(0, 7), (1, 4), (3, 4), (6, 4)], level=at_usual(3), red_flags=frozenset({3}))
    assert [step.settled is not None for step in steps] == [False, False, False, True]
    assert alerts(steps) == [0, 3]
    assert steps[3].repeated


def test_a_spike_within_the_cooldown_opens_the_episode_again_without_an_alert() -> None:
    history = [(0.0, 6), (0.2, 3), (3.0, 3), (5.3, 3), (6.0, 6), (6.5, 8)]
    steps = live(history, level=at_usual(3))
    assert [number for number, step in enumerate(steps) if step.settled] == [3]
    assert alerts(steps) == [0, 5]
    assert steps[5].repeated
    episodes = {step.level.episode.id for step in steps if step.level.episode}
    assert len(episodes) == 1
    quiet = live([*history[:5], (7.5, 6)], level=at_usual(3))
    assert alerts(quiet) == [0, 5]  # once the cooldown is over, raised pain is told


def test_six_readings_or_fourteen_days_in_an_episode_ask_for_a_review_once() -> None:
    def asked(*readings: tuple[float, int]) -> list[int]:
        steps = live(readings, level=at_usual(3))
        return [number for number, step in enumerate(steps) if step.review is not None]

    assert asked(*[(n, 7) for n in range(9)]) == [5]
    assert asked((0, 7), (7, 6), (14, 6), (15, 6)) == [2]


def test_a_reviewed_level_becomes_the_usual_one_and_ends_the_episode() -> None:
    level = live([(n, 6 + n % 2) for n in range(6)], level=at_usual(3))[-1].level
    anchored = re_anchor(level=level, rule=RULES.re_anchor)
    assert pain_baseline(level=anchored, kind="exercise", rule=RULES.baseline) == 6.5
    assert anchored.episode is not None
    assert not anchored.episode.open
    assert alerts(live([(10, 7), (11, 7)], level=anchored)) == []
    assert re_anchor(level=anchored, rule=RULES.re_anchor) is anchored


def test_a_late_reading_alerts_alone_and_moves_nothing_else() -> None:
    first = live([(5, 3)], level=at_usual(3))[-1].level
    (alone,) = live([(4, 7)], level=first)
    assert alone.alert is not None
    (old,) = live([(1, 7)], level=first)
    assert old.alert is None
    assert old.level == first
    (calm,) = live([(4, 5)], level=first)
    assert calm.level == first


def test_the_cooldown_counts_from_the_latest_reading_that_alerted_and_not_from_the_last_to_come() -> None:
    steps = live([(0, 5), (1, 7), (0.9, 9)], level=at_usual(2))
    assert alerts(steps) == [0, 1, 2]
    episode = steps[-1].level.episode
    assert episode is not None
    assert (episode.alert_s, episode.alert_score) == (START_S + DAY_S, 9)


def test_pain_of_the_day_has_a_baseline_of_its_own() -> None:
    level = PainLevel(usual=3.0, exercise=(5,) * 6, daily=(2,) * 6)
    reading = PainReading(at_s=START_S, score=5, kind="daily", event=("urn:app", "x"))
    step = follow_pain(level=level, reading=reading, red_flag=False, rules=RULES)
    assert step.alert is not None
    assert step.baseline == 2
    assert alerts(live([(0, 5)], level=level)) == []


@given(HISTORIES, st.integers(0, 10))
def test_usual_pain_is_made_of_readings_outside_episodes_only(history: list[tuple[float, int]], usual: int) -> None:
    steps = live(history, level=PainLevel(usual=float(usual)))
    free: list[int] = []
    for number, step in enumerate(steps):
        before = steps[number - 1].level.episode if number else None
        after = step.level.episode
        was_open, is_open = before is not None and before.open, after is not None and after.open
        if not was_open and not is_open:
            free.append(history[number][1])
        elif is_open and not was_open and free and step.level.exercise[-6:] != tuple(free[-6:]):
            free.pop()  # the first of the pair that raised it
        assert step.level.exercise[-6:] == tuple(free[-6:])
        if len(step.level.exercise) >= 3:
            usual_now = pain_baseline(level=step.level, kind="exercise", rule=RULES.baseline)
            assert usual_now == median(free[-6:])


@given(HISTORIES, st.integers(0, 10))
def test_alerts_need_raised_pain_and_settling_needs_an_episode(history: list[tuple[float, int]], usual: int) -> None:
    steps = live(history, level=PainLevel(usual=float(usual)))
    for (_, score), step in zip(history, steps, strict=True):
        if step.alert is not None:
            assert score > step.baseline or score == 10
            assert score >= 4
            assert step.level.episode is not None
            assert step.level.episode.open
        if step.settled is not None:
            assert step.level.episode is not None
            assert not step.level.episode.open
    first = [step for step in steps if step.alert is not None and not step.repeated]
    episodes = [step.level.episode.id for step in first if step.level.episode]
    assert len(set(episodes)) == len(episodes), "an episode is announced once"


@given(
    st.integers(0, 10), st.integers(0, 10), st.one_of(st.none(), st.tuples(st.integers(-200, 0), st.integers(-10, 10)))
)
def test_three_above_usual_always_is_a_spike_and_at_usual_never_is(
    score: int, usual: int, previous: tuple[int, int] | None
) -> None:
    before = None if previous is None else (START_S + previous[0] * HOUR_S, float(previous[1]))
    rule = detect_pain_spike(score=score, at_s=START_S, baseline=float(usual), previous=before, rules=RULES)
    if score >= 4 and score - usual >= 3:
        assert rule is not None
        assert rule.id == "pain.spike"
    if score <= usual or score < 4:
        assert rule is None


def test_the_first_of_a_pair_that_raised_an_episode_leaves_the_baseline() -> None:
    assert live([(0, 5), (1, 5)], level=at_usual(3))[-1].level.exercise[-6:] == (3,) * 6
    assert live([(0, 5), (1, 7)], level=at_usual(3))[-1].level.exercise[-6:] == (3, 3, 3, 3, 3, 5)


def test_a_late_reading_is_never_the_second_of_a_pair() -> None:
    newest = live([(5, 5)], level=at_usual(3))[-1].level
    (late,) = live([(4, 5)], level=newest)
    assert late.alert is None
