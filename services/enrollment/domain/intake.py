"""How an intake is read: where an intent leads, what signs mean, whether a screening stops it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, Literal
from uuid import UUID

from services.enrollment.domain.rules import CareTeamRule, Rule
from shared.events.members import ContactChangedData, PainIntake, Surgery
from shared.events.vocabulary import Cause, Channel, Finding, Intent, Sign
from shared.red_flags import Screening

Route = Literal["enrolment", "pt-visit", "education"]
GOALS_MAX: Final = 10
"""Goals that member.enrolled holds: the member's own first, then those of their signs."""
NEVER_ENROLS: Final[frozenset[Intent]] = frozenset({"researching"})


@dataclass(frozen=True, kw_only=True, slots=True)
class IntentRule:
    route: Route
    without_signs: Route


@dataclass(frozen=True, kw_only=True, slots=True)
class SignRule:
    finding: str
    goal: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Article:
    id: str
    title: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class IntakeRules:
    """The versioned data of library/intake.yaml."""

    intents: Mapping[Intent, IntentRule]
    signs: Mapping[Sign, SignRule]
    education: Sequence[Article]
    clearance: Rule
    clearance_days: int
    care_team: CareTeamRule


@dataclass(frozen=True, kw_only=True, slots=True)
class IntakeAnswers:
    """What a person who may be enrolled answered, complete and checked."""

    sponsor_id: UUID
    person_id: str
    date_of_birth: date
    intent: Intent
    signs: tuple[Sign, ...]
    findings: tuple[Finding, ...]
    cause: Cause
    surgery: Surgery | None
    pain: PainIntake
    goals: tuple[str, ...]
    days_per_week: int
    preferred_time: str
    state: str
    contact: ContactChangedData
    channels: tuple[Channel, ...]


def route_intent(*, intent: Intent, signs: Collection[Sign], rules: IntakeRules) -> Route:
    """Where this intent leads. "Just researching" is education whatever else is said."""
    if intent in NEVER_ENROLS:
        return "education"
    rule = rules.intents[intent]
    return rule.route if signs else rule.without_signs


def plan_goals(*, own: Sequence[str], signs: Sequence[Sign], rules: IntakeRules) -> tuple[str, ...]:
    """The member's own goals, then the goal of each sign, each once, at most GOALS_MAX."""
    return tuple(dict.fromkeys([*own, *(rules.signs[sign].goal for sign in signs)]))[:GOALS_MAX]


def with_age(*, findings: Collection[Finding], date_of_birth: date, today: date) -> tuple[Finding, ...]:
    """The findings, and that the person is 55 or older (an Ottawa knee rule item) where the roster says so."""
    had_birthday = (today.month, today.day) >= (date_of_birth.month, date_of_birth.day)
    age = today.year - date_of_birth.year - (not had_birthday)
    return tuple(dict.fromkeys([*findings, "age-55-plus"] if age >= 55 else findings))


def apply_clearance(*, screening: Screening, cleared: Collection[Finding], rule: Rule) -> Screening:
    """The screening after a clinician's clearance of the findings `cleared` (still valid ones only).

    Findings that a clinician has looked at no longer block; one more than those blocks as before, and an emergency
    always does: chest pain today is not the chest pain that was looked at.
    """
    if not screening.blocks_plan or screening.disposition == "emergency" or not set(screening.findings) <= set(cleared):
        return screening
    # pt-72h, not none: a PT still looks at it within days.
    return replace(
        screening,
        disposition="pt-72h",
        rule_id=rule.id,
        rule_version=rule.version,
        reason="A clinician has looked at these answers and you may start.",
        instruction={
            "en": "A clinician has looked at your answers and you may start. Tell us at once if anything gets worse.",
            "es": "Un profesional clínico revisó sus respuestas y puede empezar. Avísenos enseguida si algo empeora.",
        },
    )
