"""Rule data is complete and says where it comes from."""

from typing import get_args

from services.messaging.domain.alert import PRIORITIES
from services.messaging.store.rules import list_rules, load_alert_rules, load_trigger_rules
from shared.events.vocabulary import AlertKind, Disposition


def test_every_rule_has_its_owner_mark_source_and_a_line_of_its_own() -> None:
    rules = list_rules()
    assert len({rule.id for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert rule.mark in {"V", "D", "A", "U"}, rule
        assert rule.owner, rule
        assert len(rule.source) > 10, rule
        assert 10 < len(rule.says) <= 300, rule


def test_every_kind_and_priority_has_somebody_to_ask_and_a_time() -> None:
    rules = load_alert_rules()
    assert set(rules.respond_within) == set(PRIORITIES) == set(rules.safety_ladders)
    assert set(rules.ladders) | {"safety"} == set(get_args(AlertKind))
    times = [rules.respond_within[priority] for priority in PRIORITIES]
    assert times == sorted(times, reverse=True), "more urgent is sooner"
    assert set(rules.resolve_within) == set(PRIORITIES)
    follow_up = [rules.resolve_within[priority] for priority in PRIORITIES]
    assert follow_up == sorted(follow_up, reverse=True)
    assert all(rules.resolve_within[p] > rules.respond_within[p] for p in PRIORITIES), "longer than to answer at all"
    assert all(ladder[-1] == "oncall" for ladder in rules.safety_ladders.values())


def test_every_disposition_that_needs_somebody_has_its_priority() -> None:
    assert set(load_trigger_rules().safety_priorities) == set(get_args(Disposition)) - {"none"}
