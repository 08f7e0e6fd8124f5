"""Where an intent leads, what a sign means, and what a clinician's clearance changes."""

import copy
from datetime import date
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.enrollment.domain.intake import GOALS_MAX, apply_clearance, plan_goals, route_intent, with_age
from services.enrollment.store.intake_rules import FILE, load_intake_rules, parse_intake_rules
from shared.events.vocabulary import Finding, Intent, Sign
from shared.red_flags import screen

RULES = load_intake_rules()
SIGNS = st.lists(st.sampled_from(get_args(Sign)), unique=True)
FINDINGS = st.sets(st.sampled_from(get_args(Finding)))


@pytest.mark.parametrize(
    ("intent", "with_signs", "without"),
    [
        ("care-now", "pt-visit", "pt-visit"),
        ("seeking-treatment", "enrolment", "enrolment"),
        ("researching", "education", "education"),
        ("is-pt-right", "pt-visit", "education"),
        ("what-is-this", "education", "education"),
        ("other", "enrolment", "education"),
    ],
)
def test_each_intent_leads_somewhere(intent: Intent, with_signs: str, without: str) -> None:
    assert route_intent(intent=intent, signs=["pain-daily"], rules=RULES) == with_signs
    assert route_intent(intent=intent, signs=[], rules=RULES) == without


@given(signs=SIGNS)
def test_just_researching_never_enrols_even_if_the_data_said_so(signs: list[Sign]) -> None:
    data = yaml.safe_load(FILE.read_text())
    data["intents"]["routes"]["researching"] = {"route": "enrolment"}
    assert route_intent(intent="researching", signs=signs, rules=parse_intake_rules(data)) == "education"


@given(own=st.lists(st.text(min_size=1, max_size=20), max_size=5), signs=SIGNS)
def test_goals_are_the_members_own_first_and_never_too_many(own: list[str], signs: list[Sign]) -> None:
    goals = plan_goals(own=own, signs=signs, rules=RULES)
    assert len(goals) == len(set(goals)) <= GOALS_MAX
    assert goals[: len(set(own))] == tuple(dict.fromkeys(own))
    assert {RULES.signs[sign].goal for sign in signs} <= set(goals)


def test_every_sign_has_a_finding_and_a_goal_of_its_own() -> None:
    assert set(RULES.signs) == set(get_args(Sign))
    assert (
        len({rule.goal for rule in RULES.signs.values()}) == len({rule.finding for rule in RULES.signs.values()}) == 5
    )


@pytest.mark.parametrize(
    ("part", "words", "word"), [("intents", "routes", "other"), ("signs", "meanings", "persistent")]
)
def test_rules_that_leave_a_word_out_do_not_load(part: str, words: str, word: str) -> None:
    data: dict[str, Any] = copy.deepcopy(yaml.safe_load(FILE.read_text()))
    del data[part][words][word]
    with pytest.raises(ValueError, match=part):
        parse_intake_rules(data)


@pytest.mark.parametrize(
    ("today", "counts"), [(date(2026, 5, 16), False), (date(2026, 5, 17), True), (date(2026, 5, 18), True)]
)
def test_fifty_five_begins_on_the_birthday(today: date, counts: bool) -> None:
    found = with_age(findings=["fall"], date_of_birth=date(1971, 5, 17), today=today)
    assert found == (("fall", "age-55-plus") if counts else ("fall",))


def test_age_turns_a_recent_injury_into_a_red_flag() -> None:
    """An Ottawa knee rule item that nobody has to be asked for."""
    findings = with_age(findings=["recent-trauma"], date_of_birth=date(1950, 1, 1), today=date(2026, 3, 2))
    assert screen(findings=findings).blocks_plan


@given(findings=FINDINGS, cleared=FINDINGS)
def test_a_clearance_covers_what_was_looked_at_and_never_an_emergency(
    findings: set[Finding], cleared: set[Finding]
) -> None:
    before = screen(findings=findings)
    after = apply_clearance(screening=before, cleared=cleared, rule=RULES.clearance)
    if not before.blocks_plan or before.disposition == "emergency" or findings - cleared:
        assert after == before
    else:
        assert (after.disposition, after.blocks_plan, after.findings) == ("pt-72h", False, before.findings)
        assert set(after.instruction) == {"en", "es"}
        assert (after.rule_id, after.rule_version) == ("enrollment.clearance", 1)
