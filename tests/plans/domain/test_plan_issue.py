"""A first plan, and what a physical therapist makes of it."""

from datetime import datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.plans.domain.announcements import plan_issued
from services.plans.domain.clinician import Override, follow_visit, override_item
from services.plans.domain.plan_issue import Intake, issue_plan, sign_phase
from shared.events.vocabulary import Cause, Exercise, TreatmentElement
from tests.plans.domain.test_progression import run, steps, take
from tests.plans.given import DAY, LIBRARY, MEMBER, MONDAY, PLAN, plan, seconds, session

VISIT = ("urn:careloop:messaging", "visit")
LATER = MONDAY + 30 * DAY


@given(st.sampled_from(get_args(Cause)), st.integers(0, 10), st.integers(1, 7), st.sampled_from(["none", "pt-72h"]))
def test_every_plan_holds_six_elements_five_exercises_and_three_to_five_days(
    cause: Cause, usual: int, days: int, disposition: Any
) -> None:
    intake = Intake(
        member_id=MEMBER, event=("urn:x", "1"), at_s=seconds(MONDAY), cause=cause, usual_pain=usual, days_per_week=days,
        local_time="07:30", time_zone="America/Chicago", disposition=disposition,
    )  # fmt: skip
    issue = issue_plan(intake=intake, plan_id=PLAN, library=LIBRARY)
    if cause == "post-surgical":
        assert issue.plan.status == "awaiting-phase"
        assert issue.plan.version == 0
        assert not issue.plan.items
        return
    told = plan_issued(plan=issue.plan, rule=issue.rule, evidence=(intake.event,), library=LIBRARY)
    assert [one.element for one in told.elements] == list(get_args(TreatmentElement))
    assert {item.exercise for item in told.items} == set(get_args(Exercise))
    assert 3 <= told.sessions_per_week <= 5
    assert told.sessions_per_week == len(told.schedule.weekdays)
    assert told.decision.evidence[0].id == "1"
    careful = disposition == "pt-72h" or cause == "unsure"
    for item in told.items:
        rule = LIBRARY.exercises[item.exercise]
        assert item.step == (0 if careful else rule.start)
        assert item.days_per_week <= told.sessions_per_week
        assert item.sets == (2 if days < 3 else 3), "with less time sets are cut, not days"
    assert (issue.plan.review is not None) is careful


def test_a_phase_after_surgery_is_what_the_therapist_signed_and_nothing_more() -> None:
    waiting = plan(cause="post-surgical")
    signed, changes = sign_phase(
        plan=waiting, steps={"bridge": 0, "mini-squat": 1}, says="x", at_s=seconds(MONDAY), event=VISIT, library=LIBRARY
    )
    assert {change.action for change in changes} == {"start"}
    assert steps(signed) == {"bridge": 0, "mini-squat": 1}
    assert (signed.status, signed.version) == ("active", 1)
    again, (change,) = sign_phase(
        plan=signed, steps={"bridge": 19}, says="x", at_s=seconds(MONDAY), event=VISIT, library=LIBRARY
    )
    assert change.from_step == 0
    assert steps(again) == {"bridge": LIBRARY.exercises["bridge"].top}
    assert again.version == 2


def test_an_override_edits_one_item_with_its_reason_and_raises_the_version() -> None:
    edit = Override(exercise="bridge", action="edit", reason="Knee is calm, I want to see single leg.", step=3, sets=2)
    done = override_item(plan=plan(), override=edit, event=VISIT, library=LIBRARY)
    assert done.plan.version == 2
    (item,) = [one for one in done.plan.items if one.exercise == "bridge"]
    assert (item.step, item.sets, item.reps) == (3, 2, 5)
    assert [one for one in done.plan.items if one.exercise != "bridge"] == [
        one for one in plan().items if one.exercise != "bridge"
    ]
    (change,) = done.changes
    assert (change.action, change.from_step, change.to_step, change.reason.says) == ("override", 1, 3, edit.reason)


@pytest.mark.parametrize(
    ("override", "why"),
    [
        (Override(exercise="bridge", action="edit", reason="x", step=19), "no-such-step"),
        (Override(exercise="bridge", action="edit", reason="x", step=1), "nothing-to-change"),
        (Override(exercise="bridge", action="unlock", reason="x"), "nothing-to-change"),
    ],
)
def test_an_override_that_cannot_be_is_refused(override: Override, why: str) -> None:
    done = override_item(plan=plan(), override=override, event=VISIT, library=LIBRARY)
    assert (done.refused, done.plan) == (why, plan())


def visit(care_plan: Any, action: Any, *exercises: Any, began: datetime | None = None, noted: datetime = LATER) -> Any:
    """A visit whose note is written at `noted`; where nobody says when it began, a release before told of it."""
    return follow_visit(
        plan=care_plan, action=action, exercises=exercises, event=VISIT, at_s=seconds(noted),
        began_s=None if began is None else seconds(began), library=LIBRARY,
    )  # fmt: skip


def test_a_visit_steps_back_what_it_names_even_if_locked() -> None:
    back = visit(plan(), "step-back", "bridge")
    assert steps(back.plan) == {**steps(plan()), "bridge": 0}
    assert back.plan.version == 2
    assert visit(back.plan, "step-back", "bridge").changes == ()


def test_hold_locks_until_a_visit_continues() -> None:
    held = visit(plan(), "hold").plan
    assert all(item.locked for item in held.items)
    assert not any(taken.changes for taken in run(held, 0, 2, 4, 7))
    freed = visit(held, "continue")
    assert {change.action for change in freed.changes} == {"unlock"}
    assert any(taken.changes for taken in run(freed.plan, 0, 2, 4))


def test_a_visit_clears_a_red_flag_and_a_review() -> None:
    flagged = take(plan(), session(plan(), at=MONDAY, disposition="emergency")).plan
    cleared = visit(replace(flagged, review="progression.gap-review"), "continue")
    assert (cleared.plan.safety, cleared.plan.review) == (None, None)
    assert cleared.plan.version == flagged.version


def test_a_visit_clears_no_red_flag_that_came_after_it_began() -> None:
    flagged = take(plan(), session(plan(), at=MONDAY + DAY, disposition="emergency")).plan
    note = {"noted": MONDAY + 2 * DAY}
    late = visit(flagged, "continue", began=MONDAY, **note).plan
    assert (late.safety, late.safety_s, late.started_s) == (flagged.safety, seconds(MONDAY + DAY), flagged.started_s)
    seen = visit(late, "continue", began=MONDAY + DAY, **note).plan
    assert (seen.safety, seen.safety_s, seen.started_s) == (None, None, seconds(note["noted"]))


@pytest.mark.parametrize("second", ["same-day", "emergency"])
def test_a_red_flag_after_the_visit_keeps_one_from_before_it(second: Any) -> None:
    """The plan names the most urgent one alone: it stays while any is open."""
    flagged = take(plan(), session(plan(), at=MONDAY, disposition="emergency")).plan
    again = take(flagged, session(flagged, at=MONDAY + 2 * DAY, disposition=second)).plan
    assert (again.safety, again.safety_s) == (flagged.safety, seconds(MONDAY + 2 * DAY))
    late = visit(again, "continue", began=MONDAY + DAY, noted=MONDAY + 3 * DAY).plan
    assert late.safety == flagged.safety
    older = take(again, session(again, at=MONDAY - DAY, disposition="same-day")).plan
    assert older.safety_s == again.safety_s, "what a phone sent late is not the newest"


def test_a_visit_that_is_told_without_its_start_clears_what_came_before_its_note() -> None:
    flagged = take(plan(), session(plan(), at=MONDAY, disposition="emergency")).plan
    assert visit(flagged, "continue", noted=MONDAY).plan.safety is None
    assert visit(flagged, "continue", noted=MONDAY - DAY).plan.safety == flagged.safety


def test_a_red_flag_of_which_no_time_is_known_is_cleared_by_any_visit() -> None:
    """A release before kept none. It could else never be cleared."""
    flagged = replace(plan(), safety=("emergency", VISIT), review="progression.gap-review")
    cleared = visit(flagged, "continue", began=MONDAY - DAY).plan
    assert (cleared.safety, cleared.review) == (None, None)


def test_a_review_that_was_asked_for_after_a_visit_waits_for_another_one() -> None:
    up = run(plan(), 0, 2, 4, 7, 9, 11, pain=7)[-1].plan
    asked = MONDAY + 11 * DAY
    assert (up.review, up.review_s) == ("pain.level-stays-up", seconds(asked))
    late = visit(up, "reviewed", began=asked - DAY, noted=asked + DAY)
    assert (late.re_anchored, late.plan.pain, late.plan.review) == (False, up.pain, up.review)
    seen = visit(late.plan, "reviewed", began=asked + DAY, noted=asked + DAY)
    assert (seen.re_anchored, seen.plan.review, seen.plan.review_s) == (True, None, None)


def test_reviewed_makes_a_level_that_stayed_up_the_usual_one() -> None:
    up = run(plan(), 0, 2, 4, 7, 9, 11, pain=7)[-1].plan
    assert up.review == "pain.level-stays-up"
    reviewed = visit(up, "reviewed")
    assert reviewed.re_anchored
    assert reviewed.plan.pain.usual == 7
    assert not visit(up, "continue").re_anchored


def test_reviewed_leaves_a_level_that_nobody_asked_to_review() -> None:
    """One bad session does not become the usual pain, beside which the next one would be none."""
    spiked = run(plan(), 0, 2, pain=7)[-1].plan
    reviewed = visit(spiked, "reviewed")
    assert (reviewed.re_anchored, reviewed.plan.pain) == (False, spiked.pain)
