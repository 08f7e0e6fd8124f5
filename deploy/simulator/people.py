"""Who the simulated people are: members, their sponsors and the clinicians who care for them. Pure and seeded.

Names are placeholders on purpose ("Robin Sample 17"): nobody may take one for a patient.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Final, TypeVar
from uuid import UUID, uuid5

from deploy.simulator.parameters import Parameters
from shared.events import NAMESPACE
from shared.events.vocabulary import Cause, Finding, Intent, Language, PainScore, PractitionerRole, Sign

T = TypeVar("T")

GIVEN_NAMES: Final = (
    "Alex",
    "Blake",
    "Casey",
    "Devon",
    "Emery",
    "Finley",
    "Gray",
    "Harper",
    "Indigo",
    "Jules",
    "Kai",
    "Lane",
    "Morgan",
    "Noel",
    "Oakley",
    "Parker",
    "Quinn",
    "Robin",
    "Sage",
    "Taylor",
)
FAMILY_NAMES: Final = ("Sample", "Example", "Placeholder", "Simulated", "Fixture", "Testcase")
STATES: Final[Mapping[str, tuple[str, ...]]] = {
    "ET": ("NY", "NJ", "PA", "GA", "NC", "OH"),
    "CT": ("IL", "WI", "MN", "MO"),
    "MT": ("CO", "UT", "NM"),
    "PT": ("CA", "WA"),
}
"""States that lie in one time zone; states in two would need a county."""
ZONES: Final[Mapping[str, str]] = {
    "ET": "America/New_York",
    "CT": "America/Chicago",
    "MT": "America/Denver",
    "PT": "America/Los_Angeles",
}
SIGNS: Final[tuple[Sign, ...]] = ("pain-daily", "limited-motion", "instability", "return-to-activity", "persistent")
GOALS: Final = (
    "Climb the stairs at home without stopping",
    "Walk the dog for half an hour",
    "Kneel in the garden",
    "Get back to tennis",
    "Stand through a shift at work",
    "Sleep through the night",
)
BLOCKING_AT_INTAKE: Final[tuple[Finding, ...]] = (
    "hot-swollen-joint",
    "locked-knee",
    "progressive-weakness",
    "cannot-take-4-steps",
)
MILD_AT_INTAKE: Final[tuple[Finding, ...]] = ("giving-way", "catching")
LOOKS_AROUND: Final[frozenset[Intent]] = frozenset({"researching", "what-is-this"})
"""Intents that lead to something to read and to nothing else."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """A population and the period in which it joins. Equal cohorts have equal lives; any difference makes others."""

    seed: int
    members: int
    days: int
    starts_on: date

    @property
    def name(self) -> str:
        """What chance and identities derive from. The start only moves it in time."""
        return f"{self.seed}-{self.members}-{self.days}"

    @property
    def starts_at(self) -> datetime:
        return datetime.combine(self.starts_on, time(0), tzinfo=UTC)


def chance(cohort: str, *what: object) -> random.Random:
    """A generator of its own for each thing that happens, so that a new one does not shift the others."""
    return random.Random("/".join(str(part) for part in (cohort, *what)))


def pick(rng: random.Random, weights: Mapping[T, float]) -> T:
    return rng.choices(list(weights), weights=list(weights.values()))[0]


@dataclass(frozen=True, kw_only=True)
class Sponsor:
    sponsor_id: UUID
    name: str


@dataclass(frozen=True, kw_only=True)
class Clinician:
    """A simulated professional."""

    practitioner_id: UUID
    role: PractitionerRole
    name: str
    states: tuple[str, ...]
    languages: tuple[Language, ...]
    time_zone: str
    panel_size_max: int = 500

    @property
    def email(self) -> str:
        return f"{self.name.split(',')[0].lower().replace(' ', '.')}@clinic.example.org"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A simulated member as their intake tells it, and what only the simulation knows of them."""

    index: int
    member_id: UUID
    given_name: str
    family_name: str
    birth_date: date
    email: str
    phone: str
    sponsor: Sponsor
    sponsor_reference: str
    """Their number on the sponsor's roster."""
    state: str
    time_zone: str
    language: Language
    cause: Cause
    intent: Intent
    signs: tuple[Sign, ...]
    findings: tuple[Finding, ...]
    goal: str
    usual_pain: float
    days_per_week: int
    hour: int
    minute: int
    joins_on_day: int
    joins_at_min: int
    """Minute of the local day of their intake."""
    leaves_after_days: int | None

    @property
    def preferred_time(self) -> str:
        return f"{self.hour:02}:{self.minute:02}"

    @property
    def usual_pain_told(self) -> PainScore:
        """What they say of their usual pain at intake."""
        return round(self.usual_pain)

    @property
    def starts(self) -> bool:
        """Whether a life in the programme follows the intake."""
        return self.intent not in LOOKS_AROUND and not set(self.findings) & set(BLOCKING_AT_INTAKE)


def member_id_of(cohort: Cohort, index: int) -> UUID:
    return uuid5(NAMESPACE, f"simulated-member/{cohort.name}/{index}")


@cache
def sponsors() -> tuple[Sponsor, ...]:
    names = ("Example Mills", "Sample Foods", "Placeholder Transit")
    return tuple(Sponsor(sponsor_id=uuid5(NAMESPACE, f"simulated-sponsor/{name}"), name=name) for name in names)


@cache
def clinicians() -> tuple[Clinician, ...]:
    """Physical therapists for every state used, coaches in both languages, and who is on call."""
    rows: tuple[tuple[PractitionerRole, str, tuple[str, ...], tuple[Language, ...]], ...] = (
        ("pt", "Avery Demo, PT", ("ET",), ("en",)),
        ("pt", "Bela Demo, PT", ("ET", "CT"), ("en", "es")),
        ("pt", "Cleo Demo, PT", ("CT", "MT"), ("en",)),
        ("pt", "Dale Demo, PT", ("MT", "PT"), ("en", "es")),
        ("coach", "Ellis Demo", ("ET",), ("en",)),
        ("coach", "Fran Demo", ("CT",), ("en", "es")),
        ("coach", "Gale Demo", ("PT",), ("en", "es")),
        ("oncall", "Hollis Demo, PT", ("ET", "CT", "MT", "PT"), ("en", "es")),
    )
    every = tuple(state for states in STATES.values() for state in states)
    return tuple(
        Clinician(
            practitioner_id=uuid5(NAMESPACE, f"simulated-practitioner/{name}"),
            role=role,
            name=name,
            states=tuple(state for zone in zones for state in STATES[zone]) if role == "pt" else every,
            languages=languages,
            time_zone=ZONES[zones[0]],
        )
        for role, name, zones, languages in rows
    )


def joining(rng: random.Random, *, days: int, p: Parameters) -> tuple[int, int]:
    """Day of the period and minute of the local day of an intake."""
    first_week = rng.random() < p.joined_at_once_share
    day = rng.randrange(min(7, days)) if first_week else rng.randrange(max(1, days - 2))
    return day, rng.randrange(7 * 60, 21 * 60)


def findings_at_intake(rng: random.Random, p: Parameters) -> tuple[Finding, ...]:
    luck = rng.random()
    if luck < p.blocking_intake_share:
        return (rng.choice(BLOCKING_AT_INTAKE),)
    return (rng.choice(MILD_AT_INTAKE),) if luck < p.blocking_intake_share + p.mild_intake_share else ()


def make_member(*, cohort: Cohort, index: int, p: Parameters) -> Member:
    """Member number `index` of a population, who joins within its days."""
    rng = chance(cohort.name, index, "person")
    given, family = rng.choice(GIVEN_NAMES), rng.choice(FAMILY_NAMES)
    zone = pick(rng, p.zone_weights)
    causes: dict[Cause, float] = p.cause_weights  # type: ignore[assignment]  # closed words, held by a test
    intents: dict[Intent, float] = p.intent_weights  # type: ignore[assignment]  # closed words, held by a test
    age = min(80.0, max(19.0, rng.gauss(p.age_mean, p.age_sd)))
    day, minute = joining(rng, days=cohort.days, p=p)
    stays = rng.random() < p.completion_share
    member_id, number = member_id_of(cohort, index), f"{cohort.name}-{index + 1:05}"
    return Member(
        index=index,
        member_id=member_id,
        given_name=given,
        family_name=f"{family} {index + 1}",
        birth_date=cohort.starts_on - timedelta(days=round(age * 365.25)),
        email=f"{given}.{family}.{number}@members.example.org".lower(),
        phone=f"+1555{member_id.int % 10_000_000:07}",
        sponsor=rng.choices(sponsors(), weights=(60, 30, 10))[0],
        sponsor_reference=f"SIM-{number}",
        state=rng.choice(STATES[zone]),
        time_zone=ZONES[zone],
        language="es" if rng.random() < p.spanish_share else "en",
        cause=pick(rng, causes),
        intent=pick(rng, intents),
        signs=tuple(sign for sign in SIGNS if rng.random() < 0.45) or ("pain-daily",),
        findings=findings_at_intake(rng, p),
        goal=rng.choice(GOALS),
        usual_pain=min(9.0, max(2.0, rng.gauss(p.usual_pain_mean, p.usual_pain_sd))),
        days_per_week=pick(rng, p.planned_days_weights),
        hour=rng.choices(range(24), weights=p.hour_weights)[0],
        minute=rng.choice((0, 15, 30, 45)),
        joins_on_day=day,
        joins_at_min=minute,
        leaves_after_days=None if stays else rng.randint(10, 77),
    )


def population(cohort: Cohort, p: Parameters) -> tuple[Member, ...]:
    return tuple(make_member(cohort=cohort, index=index, p=p) for index in range(cohort.members))
