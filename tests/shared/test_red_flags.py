"""Red flags: the table of dispositions, its combinations, and that it always errs upward."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.events.vocabulary import Disposition, Finding
from shared.red_flags import URGENCY, RedFlagRules, load_red_flag_rules, screen

FINDINGS = st.frozensets(st.sampled_from(get_args(Finding)))


@pytest.mark.parametrize(
    ("findings", "disposition"),
    [
        ((), "none"),
        (("hot-swollen-joint",), "emergency"),
        (("deformity",), "emergency"),
        (("cold-numb-foot",), "emergency"),
        (("chest-pain-breathless",), "emergency"),
        (("saddle-numbness",), "emergency"),
        (("suicidal-thoughts",), "emergency"),
        (("recent-trauma", "age-55-plus"), "same-day"),
        (("recent-trauma", "bone-tenderness"), "same-day"),
        (("recent-trauma", "cannot-flex-90"), "same-day"),
        (("recent-trauma", "cannot-take-4-steps"), "same-day"),
        (("cannot-take-4-steps",), "same-day"),
        (("old-trauma", "cannot-take-4-steps"), "same-day"),
        (("dvt-risk",), "same-day"),
        (("rapid-swelling",), "same-day"),
        (("locked-knee",), "same-day"),
        (("cannot-straighten",), "same-day"),
        (("old-trauma", "age-55-plus"), "clinician-72h"),
        (("old-trauma", "bone-tenderness"), "clinician-72h"),
        (("old-trauma", "cannot-flex-90"), "clinician-72h"),
        (("cancer-history", "night-pain"), "clinician-72h"),
        (("cancer-history", "weight-loss"), "clinician-72h"),
        (("morning-stiffness-30",), "clinician-72h"),
        (("many-joints",), "clinician-72h"),
        (("progressive-weakness",), "clinician-72h"),
        (("giving-way",), "pt-72h"),
        (("catching",), "pt-72h"),
        (("fall",), "pt-72h"),
        (("age-55-plus",), "none"),
        (("cancer-history",), "none"),
        (("giving-way", "morning-stiffness-30", "deformity"), "emergency"),
    ],
)
def test_disposition_of(findings: tuple[Finding, ...], disposition: Disposition) -> None:
    assert screen(findings=findings).disposition == disposition


@given(FINDINGS, FINDINGS)
def test_one_more_finding_never_makes_it_milder(some: frozenset[Finding], more: frozenset[Finding]) -> None:
    fewer, all_of_them = screen(findings=some), screen(findings=some | more)
    assert URGENCY.index(all_of_them.disposition) >= URGENCY.index(fewer.disposition)


@given(FINDINGS)
def test_a_trigger_is_never_none_and_every_answer_says_what_to_do(findings: frozenset[Finding]) -> None:
    screening = screen(findings=findings)
    if findings - load_red_flag_rules().context.findings:
        assert screening.disposition != "none"
    assert screening.blocks_plan == (screening.disposition in ("clinician-72h", "same-day", "emergency"))
    assert set(screening.findings) == findings
    assert screening.decision.rule_id == screening.rule_id
    assert set(screening.instruction) == {"en", "es"}
    assert all(screening.instruction.values())


def test_emergencies_name_the_number_to_call_in_both_languages() -> None:
    for language in ("en", "es"):
        assert "911" in screen(findings=["deformity"]).instruction[language]
        assert "988" in screen(findings=["suicidal-thoughts"]).instruction[language]
        both = screen(findings=["suicidal-thoughts", "deformity"]).instruction[language]
        assert "911" in both
        assert "988" in both


@given(FINDINGS)
def test_who_reads_one_language_is_told_nothing_in_the_other(findings: frozenset[Finding]) -> None:
    rules = load_red_flag_rules()
    said = [*rules.dispositions.values(), *(rule.instruction for rule in rules.rules if rule.instruction)]
    told = screen(findings=findings).instruction
    for sentences, text in (({one.en for one in said}, told["en"]), ({one.es for one in said}, told["es"])):
        for sentence in sorted(sentences, key=len, reverse=True):
            text = text.replace(sentence, "")
        assert text.strip() == ""


def test_the_order_of_the_findings_does_not_matter() -> None:
    assert screen(findings=["fall", "deformity"]) == screen(findings=["deformity", "fall", "fall"])


def test_a_finding_that_no_rule_knows_stops_the_start() -> None:
    rules = load_red_flag_rules().model_dump()
    rules["rules"] = [rule for rule in rules["rules"] if rule["id"] != "red-flag.fall"]
    with pytest.raises(ValidationError, match="every finding"):
        RedFlagRules.model_validate(rules)
