"""The service's rule data, read once from library/: each rule with its owner, version, mark and source."""

from dataclasses import dataclass
from datetime import time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from services.messaging.domain.alert import AlertRules
from services.messaging.domain.conversation import PhraseRules, RedFlagPhrase, normalize_text
from services.messaging.domain.slots import WeeklyHours
from services.messaging.domain.triggers import TriggerRules
from services.messaging.domain.visit import VisitRules

LIBRARY = Path(__file__).resolve().parent.parent / "library"


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleEntry:
    """A rule as the rule book lists it."""

    id: str
    version: int
    owner: str
    mark: str
    """V seen in published text, D derived, A our assumption, U unverified."""
    source: str
    says: str


@cache
def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((LIBRARY / name).read_text(encoding="utf-8"))
    return content


def list_rules() -> list[RuleEntry]:
    """Every rule in force, by file and then in its order; KeyError when one lacks its version, mark, source or text."""
    return [
        RuleEntry(owner=content["owner"], **{key: rule[key] for key in ("id", "version", "mark", "source", "says")})
        for content in (_read(file.name) for file in sorted(LIBRARY.glob("*.yaml")))
        for name, rule in content.items()
        if name != "owner"
    ]


@cache
def load_alert_rules() -> AlertRules:
    """library/alert_rules.yaml; KeyError when a kind or priority has no value."""
    data = _read("alert_rules.yaml")
    return AlertRules(
        respond_within={p: timedelta(minutes=m) for p, m in data["respond"]["minutes"].items()},
        resolve_within={p: timedelta(minutes=m) for p, m in data["follow_up"]["minutes"].items()},
        ladders={kind: tuple(roles) for kind, roles in data["ladder"]["kinds"].items()},
        safety_ladders={priority: tuple(roles) for priority, roles in data["ladder"]["safety"].items()},
        grouped_while_open=frozenset(data["grouping"]["while_open"]),
        undo_within=timedelta(seconds=data["handling"]["undo_s"]),
        snooze_max=timedelta(days=data["handling"]["snooze_days_max"]),
        first_response_within=timedelta(minutes=data["first_response"]["minutes"]),
        ladder_version=data["ladder"]["version"],
        follow_up_version=data["follow_up"]["version"],
    )


@cache
def load_trigger_rules() -> TriggerRules:
    """Priorities of library/alert_rules.yaml, and the rules that a decision of ours names."""
    data = _read("alert_rules.yaml")
    return TriggerRules(
        safety_priorities=data["priority"]["safety"],
        spike_priority=data["priority"]["spike"],
        other_priority=data["priority"]["other"],
        lapse_rungs=frozenset(data["lapse"]["rungs_d"]),
        versions={rule["id"]: rule["version"] for name, rule in data.items() if name != "owner"},
    )


@cache
def load_visit_rules() -> VisitRules:
    """library/visit_rules.yaml."""
    data = _read("visit_rules.yaml")
    slots, attendance, week = data["slots"], data["attendance"], data["default_hours"]
    starts_at, ends_at = time.fromisoformat(week["starts_at"]), time.fromisoformat(week["ends_at"])
    return VisitRules(
        length=timedelta(minutes=slots["length_minutes"]),
        hold_for=timedelta(minutes=slots["hold_minutes"]),
        lead_min=timedelta(minutes=slots["lead_minutes"]),
        ahead_max=timedelta(days=slots["ahead_days"]),
        join_before=timedelta(minutes=attendance["join_before_minutes"]),
        missed_after=timedelta(minutes=attendance["missed_after_minutes"]),
        default_hours=tuple(
            WeeklyHours(weekday=weekday, starts_at=starts_at, ends_at=ends_at) for weekday in week["weekdays"]
        ),
    )


@cache
def load_phrase_rules() -> PhraseRules:
    """library/red_flag_phrases.yaml."""
    rule = _read("red_flag_phrases.yaml")["phrases"]
    phrases = [
        RedFlagPhrase(language=language, words=tuple(normalize_text(text)), finding=entry["finding"])
        for entry in rule["findings"]
        for language in ("en", "es")
        for text in entry[language]
    ]
    return PhraseRules(version=rule["version"], gap_words_max=rule["gap_words_max"], phrases=tuple(phrases))
