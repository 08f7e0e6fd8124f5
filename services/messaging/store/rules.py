"""The service's rule data, read once from library/: versioned files, each value with its mark."""

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


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((LIBRARY / name).read_text(encoding="utf-8"))
    return content


@cache
def load_alert_rules() -> AlertRules:
    """library/alert_rules.yaml; KeyError when a kind or priority has no value."""
    data = _read("alert_rules.yaml")
    return AlertRules(
        version=data["version"],
        respond_within={p: timedelta(minutes=m) for p, m in data["respond_within_minutes"].items()},
        ladders={kind: tuple(roles) for kind, roles in data["ladders"].items()},
        safety_ladders={priority: tuple(roles) for priority, roles in data["safety_ladders"].items()},
        grouped_while_open=frozenset(data["grouped_while_open"]),
        undo_within=timedelta(seconds=data["undo_seconds"]),
        snooze_max=timedelta(days=data["snooze_days_max"]),
        first_response_within=timedelta(minutes=data["first_response_minutes"]),
    )


@cache
def load_trigger_rules() -> TriggerRules:
    """Priorities of library/alert_rules.yaml."""
    data = _read("alert_rules.yaml")
    return TriggerRules(
        version=data["version"],
        safety_priorities=data["safety_priorities"],
        spike_priority=data["spike_priority"],
        lapse_rungs=frozenset(data["lapse_rungs"]),
        other_priority=data["other_priority"],
    )


@cache
def load_visit_rules() -> VisitRules:
    """library/visit_rules.yaml."""
    data = _read("visit_rules.yaml")
    week = data["default_hours"]
    return VisitRules(
        version=data["version"],
        length=timedelta(minutes=data["length_minutes"]),
        hold_for=timedelta(minutes=data["hold_minutes"]),
        lead_min=timedelta(minutes=data["lead_minutes"]),
        ahead_max=timedelta(days=data["ahead_days"]),
        join_before=timedelta(minutes=data["join_before_minutes"]),
        missed_after=timedelta(minutes=data["missed_after_minutes"]),
        default_hours=tuple(
            WeeklyHours(
                weekday=weekday,
                starts_at=time.fromisoformat(week["starts_at"]),
                ends_at=time.fromisoformat(week["ends_at"]),
            )
            for weekday in week["weekdays"]
        ),
    )


@cache
def load_phrase_rules() -> PhraseRules:
    """library/red_flag_phrases.yaml."""
    data = _read("red_flag_phrases.yaml")
    phrases = [
        RedFlagPhrase(language=language, words=tuple(normalize_text(text)), finding=entry["finding"])
        for entry in data["phrases"]
        for language in ("en", "es")
        for text in entry[language]
    ]
    return PhraseRules(version=data["version"], gap_words_max=data["gap_words_max"], phrases=tuple(phrases))
