"""The rule book on the page is the rules in force."""

from pathlib import Path

from deploy.rule_book.page import MARKS, ListedRule, rule_book
from services.enrollment.store.intake_rules import list_rules as list_intake_rules
from services.messaging.store.rules import list_rules as list_messaging_rules
from services.notifications.store.library import list_rules as list_notification_rules
from services.plans.store.rules import load_library
from shared.red_flags import load_red_flag_rules
from tests.plans.test_library import rules_of

PAGE = Path(__file__).parents[2] / "docs/reference/rules.md"


def test_the_page_is_what_the_data_says() -> None:
    assert PAGE.read_text("utf-8") == rule_book(), "run `.venv/bin/python -m deploy.contracts.generate`"


def test_the_page_holds_every_rule_with_its_mark_and_source() -> None:
    rows = [line.split(" | ") for line in rule_book().splitlines() if line.startswith("| `")]
    marks = {row[0].strip("| `"): row[2] for row in rows}
    for rule in rules_of(load_library()):
        assert marks.pop(rule.id) == rule.mark
        assert rule.source.replace("|", "\\|") in rule_book()
    for flag in load_red_flag_rules().rules:
        assert marks.pop(flag.id) == flag.mark
    entries: list[ListedRule] = [*list_intake_rules(), *list_messaging_rules(), *list_notification_rules()]
    for entry in entries:
        assert marks.pop(entry.id) == entry.mark
        assert entry.mark in MARKS
        assert entry.owner
        assert entry.source
    assert list(marks) == ["red-flag.none"]


def test_the_page_says_that_nobody_signed_it_off() -> None:
    assert "not a clinical sign-off" in rule_book()
    for owner in load_library().owners.values():
        assert owner in rule_book()
