"""Why somebody else is asked about an alert, or the same person again, as its event tells it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from services.messaging.domain.alert import Alert, AlertRules
from shared.events.envelope import Decision, EventRef
from shared.events.vocabulary import PractitionerRole

LADDER_RULE: Final = "messaging.ladder"
FOLLOW_UP_RULE: Final = "messaging.follow-up"
SPOKEN: Final[Mapping[PractitionerRole, str]] = {
    "pt": "the physical therapist",
    "coach": "the coach",
    "oncall": "whoever is on call",
}


def explain_escalation(*, before: Alert, after: Alert, rules: AlertRules) -> Decision:
    """Nobody acknowledged in the time that alerts of this priority have."""
    given = _spoken(rules.respond_within[before.priority])
    what = f"Nobody acknowledged this {before.priority} alert within {given}"
    return _explain(LADDER_RULE, rules.ladder_version, what, before=before, after=after)


def explain_reminder(*, before: Alert, after: Alert, rules: AlertRules) -> Decision:
    """Nothing came of it in the time that alerts of this priority have."""
    given = _spoken(rules.resolve_within[before.priority])
    what = f"Acknowledged, but neither resolved nor put off within {given}"
    return _explain(FOLLOW_UP_RULE, rules.follow_up_version, what, before=before, after=after)


def _explain(rule: str, version: int, what: str, *, before: Alert, after: Alert) -> Decision:
    """Evidence: the event that asked last."""
    again = " again" if after.owner == before.owner else ""
    return Decision(
        rule_id=rule,
        rule_version=version,
        reason=f"{what}: {SPOKEN[after.owner.role]} is asked{again}.",
        evidence=(EventRef(source=before.cause.source, id=before.cause.id),),
    )


def _spoken(span: timedelta) -> str:
    if span >= timedelta(days=3):
        return f"{span / timedelta(days=1):g} days"
    hours = span / timedelta(hours=1)
    return f"{hours:g} hours" if hours > 1 else f"{span / timedelta(minutes=1):g} minutes"
