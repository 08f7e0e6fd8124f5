"""Who takes part in a run, and what enrollment publishes about them. A pure function of the seed and of the opening."""

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from uuid import UUID

from shared.events import CareTeamAssigned, CloudEvent, ConsentChanged, ContactChanged, MemberEnrolled
from shared.events.envelope import Decision
from shared.events.members import (
    CareTeamAssignedData,
    ConsentChangedData,
    ContactChangedData,
    MemberEnrolledData,
    PainIntake,
)
from shared.events.vocabulary import Practitioner

Part = Literal["steady", "late", "unreadable", "bug", "walk-in", "turned-away"]
"""steady: enrolled before the run, with everything that apps do. late: comes to be known after their own events.
unreadable: one of their events blocks the rest of them for good. bug: a handler fails at one of their events until it
is mended. walk-in: enrols over HTTP during the run, with an app that tells of earlier days. turned-away: tries to, and
is sent to a hospital."""
COUNTS: dict[Part, int] = {"steady": 22, "late": 8, "unreadable": 3, "bug": 2, "walk-in": 5, "turned-away": 1}
ENROLLMENT = "urn:careloop:enrollment"
ENROLLED_BEFORE = timedelta(hours=1)
OPENS_ON, OPENS_AT = 3, time(15, tzinfo=UTC)
"""A Wednesday, ten in the morning or later in New York: mail may be sent, and the reminders of the day are to come."""
DAYS_BEHIND = 9
"""Clinic time stays so far behind the machine's that it can be moved forward."""


def opening_of(today: date) -> datetime:
    """When clinic time begins, for a run on this day: always the same weekday and hour."""
    day = today - timedelta(days=DAYS_BEHIND)
    return datetime.combine(day - timedelta(days=(day.isoweekday() - OPENS_ON) % 7), OPENS_AT)


@dataclass(frozen=True)
class Person:
    member_id: UUID
    index: int
    part: Part
    usual: int
    days_per_week: int

    @property
    def comes_later(self) -> bool:
        """Their events may come before anybody knows them: none of them asks for a person."""
        return self.part in ("late", "walk-in", "turned-away")

    @property
    def email(self) -> str:
        return f"sim{self.index}@example.org"


@dataclass(frozen=True)
class Cast:
    """Everybody of a run."""

    people: tuple[Person, ...]
    pt: Practitioner
    coach: Practitioner

    @property
    def known(self) -> list[Person]:
        """Whom enrollment is said to have enrolled; it knows nothing of them."""
        return self.of("steady", "late", "unreadable", "bug")

    def of(self, *parts: Part) -> list[Person]:
        return [person for person in self.people if person.part in parts]


def draw_uuid(chance: random.Random) -> UUID:
    return UUID(int=chance.getrandbits(128), version=4)


def draw_cast(seed: int) -> Cast:
    chance = random.Random(f"{seed} people")
    people: list[Person] = []
    for part, count in COUNTS.items():
        for _ in range(count):
            people.append(
                Person(draw_uuid(chance), len(people), part, chance.randint(1, 4), chance.choice((2, 3, 3, 5)))
            )
    return Cast(
        tuple(people),
        Practitioner(practitioner_id=draw_uuid(chance), role="pt", name="Petra Sim"),
        Practitioner(practitioner_id=draw_uuid(chance), role="coach", name="Cora Sim"),
    )


def joining(person: Person, cast: Cast, opening: datetime) -> list[tuple[str, CloudEvent]]:
    """What enrollment publishes when they join, as (topic, event)."""
    at, member = opening - ENROLLED_BEFORE, person.member_id
    enrolled = MemberEnrolledData(
        sponsor_id=UUID(int=7), intent="seeking-treatment", region="knee", cause="overuse", signs=("pain-daily",),
        pain=PainIntake(now=person.usual, average_24h=person.usual, usual=person.usual), goals=("walk",),
        days_per_week=person.days_per_week, preferred_time="17:00", time_zone="America/New_York", state="NY",
        language="en", disposition="none", consented_channels=("email",),
    )  # fmt: skip
    team = CareTeamAssignedData(
        pt=cast.pt,
        coach=cast.coach,
        decision=Decision(rule_id="enrollment.care-team", rule_version=1, reason="licence, language, load"),
    )
    contact = ContactChangedData(
        given_name="Sim", family_name="Person", email=person.email, time_zone="America/New_York", language="en"
    )
    consent = ConsentChangedData(channel="email", topic="all", granted=True, given_by="intake")

    def about(number: int) -> dict[str, object]:
        return {"id": f"{member}-{number}", "source": ENROLLMENT, "time": at, "subject": member}

    return [
        ("careloop.members", CareTeamAssigned.model_validate({**about(2), "data": team})),
        ("careloop.members", ConsentChanged.model_validate({**about(4), "data": consent})),
        ("careloop.contacts", ContactChanged.model_validate({**about(3), "data": contact})),
        ("careloop.members", MemberEnrolled.model_validate({**about(1), "data": enrolled})),
    ]
