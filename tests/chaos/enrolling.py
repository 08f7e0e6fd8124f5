"""Walk-ins: people who enrol over HTTP during a run, and the clinic that they come to.

Each asks whether they are covered and then sends their intake with a key, again until an answer is definite; some send
it twice at once, as an impatient app does.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from shared.clock import monotonic
from tests.chaos.asking import Answer, Asker
from tests.chaos.faults import Fault, Point
from tests.chaos.people import Cast, Person
from tests.fixtures.eventually import eventually

SPONSOR = UUID(int=7)
BORN = date(1985, 4, 2)
COVERED_BEFORE = timedelta(days=400)
EMERGENCY = "chest-pain-breathless"
STATE, ZONE, PREFERRED_TIME = "NY", "America/New_York", "17:00"
IMPORTED_S = 60.0
POINTS: tuple[Point, ...] = ("command-done", "command-undone", "before-publish", "after-publish")


@dataclass(frozen=True)
class Enrolment:
    """When somebody walks in."""

    at_s: float
    person: Person
    is_impatient: bool

    @property
    def key(self) -> str:
        return f"intake-{self.person.index}"


@dataclass
class EnrolmentTold:
    """What the answers said."""

    enrolment: Enrolment
    answers: list[Answer] = field(default_factory=list)


def draw_enrolments(seed: int, *, seconds: float, cast: Cast) -> tuple[Enrolment, ...]:
    chance = random.Random(f"{seed} enrolments")
    several = [
        Enrolment(chance.uniform(0.05, 0.7) * seconds, person, chance.random() < 0.4)
        for person in cast.of("walk-in", "turned-away")
    ]
    return tuple(sorted(several, key=lambda one: one.at_s))


def draw_enrolling_faults(seed: int, enrolments: Sequence[Enrolment]) -> list[Fault]:
    """Some are enrolled by a process that dies at it."""
    chance = random.Random(f"{seed} enrolling")
    return [Fault(max(0.1, one.at_s - 0.5), "kill-at", "enrollment", chance.choice(POINTS)) for one in enrolments[::3]]


class Enroller:
    def __init__(self, asker: Asker, cast: Cast) -> None:
        self._asker, self._cast = asker, cast
        self.told: list[EnrolmentTold] = []

    async def prepare(self, opening: datetime) -> None:
        """The sponsor, its roster and the care team, before anything is hurt."""
        covered_from = (opening - COVERED_BEFORE).date().isoformat()
        terms = {"name": "Simulated", "covers_from": covered_from, "states": [STATE]}
        await self._operate("PUT", f"/v1/sponsors/{SPONSOR}", json=terms)
        for who in (self._cast.pt, self._cast.coach):
            body = {
                "practitioner_id": str(who.practitioner_id), "role": who.role, "name": who.name,
                "licensed_states": [STATE] if who.role == "pt" else [], "languages": ["en"], "time_zone": ZONE,
                "panel_limit": panel_limit(self._cast),
            }  # fmt: skip
            await self._operate("POST", "/v1/practitioners", json=body)
        rows = [
            f"{person_id(one)},{BORN.isoformat()},{STATE},{covered_from},"
            for one in self._cast.of("walk-in", "turned-away")
        ]
        roster = "\n".join(("person_id,date_of_birth,state,effective_from,effective_to", *rows, ""))
        path = f"/v1/sponsors/{SPONSOR}/imports?mode=delta&rows={len(rows)}"
        answer = await self._operate("POST", path, content=roster.encode(), headers={"Content-Type": "text/csv"})

        async def is_applied() -> bool:
            state = (await self._operate("GET", f"/v1/imports/{answer.body['import_id']}")).body["state"]
            assert state == "applied", state
            return True

        await eventually(is_applied, within=IMPORTED_S, what="the roster is applied")

    async def _operate(self, method: Literal["GET", "PUT", "POST"], path: str, **what: Any) -> Answer:
        answer = await self._asker.ask("enrollment", method, path, token=self._asker.operator(), **what)
        assert answer.status < 300, f"{method} {path.partition('?')[0]}: {answer.status} {answer.reason}"
        return answer

    async def play(self, enrolments: Sequence[Enrolment]) -> None:
        """Each at their time."""
        began = monotonic()

        async def walk_in(one: Enrolment) -> None:
            await asyncio.sleep(max(0.0, one.at_s - (monotonic() - began)))
            await self._enrol(one)

        await asyncio.gather(*(walk_in(one) for one in enrolments))

    async def _enrol(self, one: Enrolment) -> None:
        told = EnrolmentTold(one)
        self.told.append(told)
        who = {"sponsor_id": str(SPONSOR), "person": _person(one.person)}
        check = await self._asker.ask("enrollment", "POST", "/v1/eligibility-checks", token=self._asker.app(), json=who)
        if not (check.status == 200 and check.body["eligible"]):
            told.answers.append(check)
            return
        again = [self._send(one) for _ in range(2 if one.is_impatient else 1)]
        told.answers += await asyncio.gather(*again)

    async def _send(self, one: Enrolment) -> Answer:
        headers = {"Idempotency-Key": one.key}
        return await self._asker.ask(
            "enrollment", "POST", "/v1/intakes", token=self._asker.app(), headers=headers, json=intake_body(one.person)
        )


def panel_limit(cast: Cast) -> int:
    """Room for exactly everybody who can be enrolled: a place that is given twice is missed by somebody."""
    return len(cast.of("walk-in"))


def person_id(person: Person) -> str:
    return f"SIM-{person.index}"


def _person(person: Person) -> dict[str, str]:
    return {"person_id": person_id(person), "date_of_birth": BORN.isoformat()}


def intake_body(person: Person) -> dict[str, Any]:
    return {
        "intent": "seeking-treatment", "language": "en", "signs": ["pain-daily"],
        "findings": [EMERGENCY] if person.part == "turned-away" else [],
        "member_id": str(person.member_id), "sponsor_id": str(SPONSOR), "person": _person(person), "state": STATE,
        "time_zone": ZONE, "cause": "overuse",
        "pain": {"now": person.usual, "average_24h": person.usual, "usual": person.usual}, "goals": ["walk"],
        "days_per_week": person.days_per_week, "preferred_time": PREFERRED_TIME,
        "contact": {"given_name": "Sim", "family_name": "Walkin", "email": person.email}, "consents": ["email"],
    }  # fmt: skip
