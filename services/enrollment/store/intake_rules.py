"""The versioned data of how an intake is read, from library/intake.yaml, read once and checked."""

from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml

from services.enrollment.domain.intake import Article, IntakeRules, IntentRule, SignRule
from shared.events.vocabulary import Intent, Language, Sign

FILE = Path(__file__).resolve().parent.parent / "library/intake.yaml"


@cache
def load_intake_rules() -> IntakeRules:
    """Raises ValueError when the file leaves out an intent, a sign or a language."""
    return parse_intake_rules(yaml.safe_load(FILE.read_text("utf-8")))


def parse_intake_rules(data: dict[str, Any]) -> IntakeRules:
    for name, words in (("intents", get_args(Intent)), ("signs", get_args(Sign))):
        if set(data[name]) != set(words):
            raise ValueError(f"{name} of the intake rules are not those of the vocabulary")
    if any(set(article["title"]) != set(get_args(Language)) for article in data["education"]):
        raise ValueError("an article has no title in one of the languages")
    return IntakeRules(
        version=data["version"],
        intents={
            intent: IntentRule(route=rule["route"], without_signs=rule.get("without_signs", rule["route"]))
            for intent, rule in data["intents"].items()
        },
        signs={sign: SignRule(finding=rule["finding"], goal=rule["goal"]) for sign, rule in data["signs"].items()},
        education=tuple(Article(id=article["id"], title=article["title"]) for article in data["education"]),
        clearance_days=data["clearance"]["days"],
    )
