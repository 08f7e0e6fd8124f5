"""Progression: the table of the rule, and that no history moves an exercise up twice in seven days."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.plans.domain.activity import PainReport, Session, Taken, take_pain_report, take_session
from services.plans.domain.care_plan import CarePlan
from services.plans.domain.ladder import because, ease_after_gap, move
from shared.events import ExerciseResult
from tests.plans.given import APP, DAY, DAY_S, LIBRARY, MONDAY, PLAN, plan, seconds, session, usual_pain_of

EPISODE = PLAN


def take(care_plan: CarePlan, event: Session) -> Taken:
    return take_session(plan=care_plan, session=event, library=LIBRARY)


def run(care_plan: CarePlan, *days: float, **values: Any) -> list[Taken]:
    """Good sessions on these days, changed by the values."""
    taken: list[Taken] = []
    for day in days:
        step = take(care_plan, session(care_plan, at=MONDAY + day * DAY, **values))
        taken.append(step)
        care_plan = step.plan
    return taken


def actions(taken: Taken) -> dict[str, str]:
    return {change.exercise: change.action for change in taken.changes}


def steps(care_plan: CarePlan) -> dict[str, int]:
    return {item.exercise: item.step for item in care_plan.items}


def changed(care_plan: CarePlan, **result: Any) -> tuple[ExerciseResult, ...]:
    return tuple(one.model_copy(update=result) for one in session(care_plan, at=MONDAY).results)


def test_two_good_sessions_with_calm_mornings_go_one_step_up_and_say_why() -> None:
    first, second, third = run(plan(), 0, 2, 4)
    assert not first.changes
    assert not second.changes  # the morning after the second is not known yet
    assert set(actions(third).values()) == {"progress"}
    assert len(third.changes) == 5
    change = third.changes[0]
    assert (change.from_step, change.to_step) == (1, 2)
    assert change.reason.rule_id == "progression.progress"
    assert [identity for _, identity in change.reason.evidence] == [
        f"session-{(MONDAY + day * DAY).isoformat()}" for day in (0, 2, 4)
    ]
    assert third.plan.version == 2


def test_the_answer_of_the_next_morning_settles_it_without_waiting_for_a_session() -> None:
    second = run(plan(), 0, 2)[-1]
    report = PainReport(
        event=(APP, "morning"), at_s=seconds(MONDAY + 3 * DAY), score=2, context="next-morning", disposition="none"
    )
    taken = take_pain_report(plan=second.plan, report=report, library=LIBRARY)
    assert set(actions(taken).values()) == {"progress"}
    other_day = replace(report, at_s=report.at_s + DAY_S)
    assert not take_pain_report(plan=second.plan, report=other_day, library=LIBRARY).changes


@pytest.mark.parametrize(
    "value", [{"pain_last_morning": None}, {"pain": 3, "pain_last_morning": 4}, {"pain": 4}, {"pain": 5}]
)
def test_a_missing_or_amber_answer_holds(value: dict[str, Any]) -> None:
    assert not any(taken.changes for taken in run(plan(), 0, 2, 4, 7, **value))


@pytest.mark.parametrize(
    "result",
    [
        {"rpe": None},
        {"rpe": 5},
        {"rpe": 8},
        {"last_set_reps": 11, "last_set_hold_s": 19},
        {"last_set_reps": None, "last_set_hold_s": None},
    ],
)
def test_effort_repetitions_and_missing_answers_hold(result: dict[str, Any]) -> None:
    care_plan = plan()
    for day in (0, 2, 4, 7):
        taken = take(care_plan, session(care_plan, at=MONDAY + day * DAY, results=changed(care_plan, **result)))
        assert not taken.changes
        care_plan = taken.plan


@pytest.mark.parametrize("value", [{"pain": 6}, {"rpe": 9}, {"rpe": 10}])
def test_red_pain_or_too_much_effort_goes_one_step_down_at_once(value: dict[str, int]) -> None:
    care_plan = plan()
    results = changed(care_plan, rpe=value.get("rpe", 4))
    taken = take(care_plan, session(care_plan, at=MONDAY, results=results, pain=value.get("pain", 2)))
    assert set(actions(taken).values()) == {"regress"}
    assert steps(taken.plan) == {name: step - 1 for name, step in steps(care_plan).items()}


def test_two_incomplete_sessions_running_go_down_and_one_does_not() -> None:
    care_plan = plan()
    incomplete = changed(care_plan, sets_done=1)
    first = take(care_plan, session(care_plan, at=MONDAY, results=incomplete))
    assert not first.changes
    second = take(first.plan, session(care_plan, at=MONDAY + 2 * DAY, results=incomplete))
    assert set(actions(second).values()) == {"regress"}
    between = take(first.plan, session(care_plan, at=MONDAY + 2 * DAY))
    assert not take(between.plan, session(care_plan, at=MONDAY + 4 * DAY, results=incomplete)).changes


def test_a_much_worse_next_morning_goes_down_and_blames_the_session_before() -> None:
    first = take(plan(), session(plan(), at=MONDAY))
    second = take(first.plan, session(plan(), at=MONDAY + 2 * DAY, pain_last_morning=5))
    assert set(actions(second).values()) == {"regress"}
    evidence = [identity for _, identity in second.changes[0].reason.evidence]
    assert evidence[0] == f"session-{MONDAY.isoformat()}"


def test_a_session_moves_an_exercise_down_once_though_its_morning_was_bad_too() -> None:
    first = take(plan(), session(plan(), at=MONDAY, pain=6))
    second = take(first.plan, session(first.plan, at=MONDAY + 2 * DAY, pain_last_morning=9))
    assert not second.changes


def test_an_amber_session_stops_a_step_up_that_was_earned_before() -> None:
    second = run(plan(), 0, 2)[-1]
    assert not take(second.plan, session(second.plan, at=MONDAY + 4 * DAY, pain=4)).changes


def test_a_locked_item_and_one_at_an_end_of_its_ladder_stay() -> None:
    care_plan = plan()
    locked = replace(care_plan, items=tuple(replace(item, locked=True) for item in care_plan.items))
    assert not any(taken.changes for taken in run(locked, 0, 2, 4, 7, 11))
    assert not any(taken.changes for taken in run(locked, 0, 2, pain=9))
    top = replace(care_plan, items=tuple(replace(i, step=LIBRARY.exercises[i.exercise].top) for i in care_plan.items))
    assert not any(taken.changes for taken in run(top, 0, 2, 4, 7, 11))
    bottom = replace(care_plan, items=tuple(replace(item, step=0) for item in care_plan.items))
    assert not any(taken.changes for taken in run(bottom, 0, 2, pain=9))


def test_an_exercise_that_was_not_part_of_a_session_keeps_its_row() -> None:
    care_plan = plan(days_per_week=5)
    stretches = tuple(one for one in session(care_plan, at=MONDAY).results if "stretch" in one.exercise)
    for day, results in ((0, None), (1, stretches), (2, None), (3, stretches)):
        values = {} if results is None else {"results": results}
        taken = take(care_plan, session(care_plan, at=MONDAY + day * DAY, **values))
        care_plan = taken.plan
    assert steps(care_plan)["mini-squat"] == 2


def test_high_usual_pain_makes_red_pain_a_proposal_once_a_week() -> None:
    care_plan = usual_pain_of(plan(usual_pain=6), 6)
    taken = run(care_plan, 0, 2, 4, 7, pain=6, pain_last_morning=6)
    assert [set(actions(one).values()) for one in taken] == [{"propose"}, set(), set(), {"propose"}]
    assert steps(taken[-1].plan) == steps(care_plan)
    assert taken[0].changes[0].reason.rule_id == "progression.propose-at-high-pain"


def test_a_gap_of_two_weeks_goes_one_step_back_and_of_four_asks_for_a_review() -> None:
    first = run(plan(), 0)[-1]
    for days, review in ((14, None), (27, None), (28, "progression.gap-review")):
        taken = take(first.plan, session(first.plan, at=MONDAY + days * DAY))
        assert set(actions(taken).values()) == {"step-back"}
        assert (taken.review.id if taken.review else None) == review
    assert not take(first.plan, session(first.plan, at=MONDAY + 14 * DAY - timedelta(hours=1))).changes


def test_who_was_eased_while_away_is_not_eased_again_by_the_review_of_a_long_gap() -> None:
    eased = replace(run(plan(), 0)[-1].plan, stepped_back_for_gap=True)
    taken = take(eased, session(eased, at=MONDAY + 28 * DAY))
    assert taken.review is not None
    assert taken.review.id == "progression.gap-review"
    assert (taken.changes, steps(taken.plan)) == ((), steps(eased))


def test_who_was_eased_while_away_is_not_eased_again_after_an_old_session_that_came_late() -> None:
    eased = replace(run(plan(), 0, 2)[-1].plan, stepped_back_for_gap=True)
    late = take(eased, session(eased, at=MONDAY + DAY)).plan
    taken = take(late, session(late, at=MONDAY + 18 * DAY))
    assert "step-back" not in actions(taken).values()


def test_nothing_goes_up_while_the_review_after_a_gap_is_open() -> None:
    back = run(plan(), 0, 28)[-1].plan
    taken = run(back, 30, 32, 35, 37)
    assert not any(one.changes for one in taken)
    reviewed = replace(back, review=None)
    assert any(one.changes for one in run(reviewed, 30, 32, 35, 37))


def test_nothing_goes_up_while_a_red_flag_is_open() -> None:
    flagged = take(plan(), session(plan(), at=MONDAY, disposition="same-day")).plan
    assert flagged.safety == ("same-day", (APP, f"session-{MONDAY.isoformat()}"))
    assert not any(one.changes for one in run(flagged, 2, 4, 7, 9))


def test_after_surgery_a_step_up_is_proposed_and_red_starts_at_five() -> None:
    care_plan = replace(plan(), pathway="post-surgical")
    third = run(care_plan, 0, 2, 4)[-1]
    assert set(actions(third).values()) == {"propose"}
    assert steps(third.plan) == steps(care_plan)
    assert set(actions(run(care_plan, 0, pain=5)[-1]).values()) == {"regress"}


def test_a_late_session_counts_and_moves_nothing() -> None:
    before = run(plan(), 0, 4)[-1].plan
    late = take(before, session(before, at=MONDAY + 2 * DAY, pain=6))
    assert not late.changes
    assert late.plan.adherence.sessions == 3
    assert late.plan.adherence.last_session_s == before.adherence.last_session_s


def test_the_same_session_under_another_event_id_is_refused() -> None:
    once = run(plan(), 0)[-1].plan
    again = replace(session(once, at=MONDAY + DAY), session_id=seconds(MONDAY))
    assert take(once, again).refused == "session-already-taken"
    assert take(once, replace(again, session_id=7, plan_id=EPISODE)).refused is None
    foreign = replace(again, session_id=7, plan_id=plan().member_id)
    assert take(once, foreign).refused == "not-the-members-plan"
    assert take(replace(once, status="ended"), replace(again, session_id=7)).refused == "care-ended"


def test_what_was_done_before_somebody_else_moved_an_exercise_does_not_count_at_its_new_step() -> None:
    """As by an edit of the physical therapist, or a visit: the session before it waited for its morning."""
    done = run(plan(), 0)[-1].plan
    reason = because(action="override", rule=LIBRARY.progression.gap, says="Decided at a visit.", evidence=())
    rules = LIBRARY.exercises
    items = [move(item=i, to_step=i.step + 1, rule=rules[i.exercise], reason=reason)[0] for i in done.items]
    after = run(replace(done, items=tuple(items)), 2, 4)
    assert [len(item.good) for item in after[0].plan.items] == [0] * len(items)
    assert not any(taken.changes for taken in after)


def test_who_was_eased_while_away_begins_anew_at_the_easier_step() -> None:
    """Neither a good session of before counts, nor that its morning was bad."""
    done = run(plan(), 0, 2)[-1].plan
    items, changes = ease_after_gap(
        items=run(done, 4)[-1].plan.items, exercises=LIBRARY.exercises, rule=LIBRARY.progression.gap,
        gap_s=15 * DAY_S, evidence=(),
    )  # fmt: skip
    assert changes
    eased = replace(done, items=items, stepped_back_for_gap=True)
    bad_morning = take(eased, session(eased, at=MONDAY + 19 * DAY, pain_last_morning=9))
    assert "regress" not in actions(bad_morning).values()
    assert not run(eased, 20, 22)[-1].changes
    assert run(eased, 20, 22, 24)[-1].changes


def test_the_latest_sessions_are_remembered_however_many_came_before() -> None:
    done = run(plan(), *range(0, 40, 2))[-1].plan
    for day in (36, 38):
        again = replace(session(done, at=MONDAY + 39 * DAY), session_id=seconds(MONDAY + day * DAY))
        assert take(done, again).refused == "session-already-taken"


ANSWERS = st.fixed_dictionaries(
    {
        "gap_h": st.integers(1, 20 * 24),
        "pain": st.integers(0, 10),
        "pain_last_morning": st.one_of(st.none(), st.integers(0, 10), st.just(2), st.just(2)),
        "rpe": st.one_of(st.none(), st.integers(0, 10), st.just(3), st.just(3)),
        "complete": st.booleans(),
        "extra": st.integers(0, 4),
    }
)
MOSTLY_GOOD = st.one_of(
    ANSWERS,
    st.fixed_dictionaries(
        {
            "gap_h": st.integers(20, 72),
            "pain": st.integers(0, 3),
            "pain_last_morning": st.integers(0, 3),
            "rpe": st.integers(0, 4),
            "complete": st.just(True),
            "extra": st.integers(2, 4),
        }
    ),
)


def lived(lives: list[dict[str, Any]]) -> list[tuple[int, CarePlan, Taken, dict[str, Any]]]:
    """Each session with its time, the plan before and what it led to."""
    care_plan, at, told = plan(), MONDAY, []
    for answer in lives:
        at += timedelta(hours=answer["gap_h"])
        results = tuple(
            one.model_copy(
                update={
                    "sets_done": one.sets_done if answer["complete"] else one.sets_done - 1,
                    "last_set_reps": one.last_set_reps and one.last_set_reps - 2 + answer["extra"],
                    "rpe": answer["rpe"],
                }
            )
            for one in session(care_plan, at=at).results
        )
        event = session(
            care_plan, at=at, pain=answer["pain"], pain_last_morning=answer["pain_last_morning"], results=results
        )
        taken = take(care_plan, event)
        told.append((event.at_s, care_plan, taken, answer))
        care_plan = taken.plan
    return told


@settings(max_examples=150)
@given(st.lists(MOSTLY_GOOD, min_size=1, max_size=30))
def test_whatever_is_answered_a_step_is_one_step_and_up_at_most_once_in_seven_days(lives: list[dict[str, Any]]) -> None:
    up: dict[str, int] = {}
    for at_s, before, taken, answer in lived(lives):
        assert taken.plan.version == before.version + (1 if taken.changes or taken.review else 0)
        for change in taken.changes:
            ladder = LIBRARY.exercises[change.exercise].ladder
            assert 0 <= change.to_step < len(ladder)
            assert abs(change.to_step - change.from_step) == 1
            assert change.from_step == steps(before)[change.exercise]
            assert change.reason.evidence
            assert change.reason.says
            if change.action == "progress":
                assert at_s - up.get(change.exercise, -(10**9)) >= 7 * DAY_S
                assert answer["pain"] <= 3
                assert answer["rpe"] is not None
                assert answer["rpe"] <= 4
                up[change.exercise] = at_s
        moved = {change.exercise for change in taken.changes if change.action != "propose"}
        assert {name for name, step in steps(taken.plan).items() if step != steps(before)[name]} == moved


@settings(max_examples=80)
@given(st.lists(ANSWERS, min_size=1, max_size=20))
def test_without_an_answer_about_the_morning_nothing_ever_goes_up(lives: list[dict[str, Any]]) -> None:
    for _, _, taken, _ in lived([{**one, "pain_last_morning": None} for one in lives]):
        assert "progress" not in actions(taken).values()


def test_a_session_done_before_a_step_up_does_not_count_towards_the_next() -> None:
    taken = run(plan(), 0, 2, 4, 11, 13, 15)
    assert [bool(one.changes) for one in taken] == [False, False, True, False, False, True]


def test_who_trains_daily_goes_up_once_in_seven_days_however_good_they_are() -> None:
    """A knee takes longer to get used to a load than a person to ask for more."""
    taken = run(plan(), *range(12))
    assert [day for day, one in enumerate(taken) if "progress" in actions(one).values()] == [2, 9]


def test_the_most_urgent_red_flag_stays_until_a_clinician_clears_it() -> None:
    flagged = take(plan(), session(plan(), at=MONDAY, disposition="emergency")).plan
    milder = take(flagged, session(flagged, at=MONDAY + DAY, disposition="clinician-72h")).plan
    assert milder.safety == flagged.safety
    worse = take(
        replace(plan(), safety=("clinician-72h", (APP, "x"))), session(plan(), at=MONDAY, disposition="same-day")
    )
    assert worse.plan.safety is not None
    assert worse.plan.safety[0] == "same-day"
