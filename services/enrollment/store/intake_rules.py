"""The versioned data of how an intake is read, from library/intake.yaml, read once and checked."""

from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml

from services.enrollment.domain.intake import Article, IntakeRules, IntentRule, SignRule
from services.enrollment.domain.rules import CareTeamRule, Rule
from shared.events.vocabulary import Intent, Language, Sign

FILE = Path(__file__).resolve().parent.parent / "library/intake.yaml"


@cache
def load_intake_rules() -> IntakeRules:
    """Raises ValueError when the file leaves out an intent, a sign or a language."""
    return parse_intake_rules(_read())


def list_rules() -> list[Rule]:
    """Every rule of the file in its order; KeyError when one lacks its version, mark, source or text."""
    return [_rule(_read(), name) for name, value in _read().items() if isinstance(value, dict)]


@cache
def _read() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return content


def _rule(data: dict[str, Any], name: str) -> Rule:
    return Rule(owner=data["owner"], **{key: data[name][key] for key in ("id", "version", "mark", "source", "says")})


def parse_intake_rules(data: dict[str, Any]) -> IntakeRules:
    intents, signs, team = data["intents"]["routes"], data["signs"]["meanings"], data["care_team"]
    for name, found, words in (("intents", intents, get_args(Intent)), ("signs", signs, get_args(Sign))):
        if set(found) != set(words):
            raise ValueError(f"{name} of the intake rules are not those of the vocabulary")
    if any(set(article["title"]) != set(get_args(Language)) for article in data["education"]):
        raise ValueError("an article has no title in one of the languages")
    return IntakeRules(
        intents={
            intent: IntentRule(route=rule["route"], without_signs=rule.get("without_signs", rule["route"]))
            for intent, rule in intents.items()
        },
        signs={sign: SignRule(finding=rule["finding"], goal=rule["goal"]) for sign, rule in signs.items()},
        education=tuple(Article(id=article["id"], title=article["title"]) for article in data["education"]),
        clearance=_rule(data, "clearance"),
        clearance_days=data["clearance"]["days"],
        care_team=CareTeamRule(rule=_rule(data, "care_team"), near_within=timedelta(hours=team["near_within_h"])),
    )
