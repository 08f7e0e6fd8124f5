"""The physical therapist changes plans against the engine, over HTTP, and keeps what they were told. Each request names
the version that they had read; what they want with it follows from the plan as it is then."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

import orjson

from services.plans.domain.clinician import Override
from shared.clock import monotonic
from shared.events.plans import PlanRevisedData
from tests.chaos.asking import Answer, Asker
from tests.chaos.people import Cast
from tests.chaos.world import Crew

OVERRIDES_PER_SECOND = 0.3
Does = Literal["step", "dose", "lock", "stale"]
"""lock: or unlock what is locked. stale: as `dose`, of a version that has passed."""
REASON = "As we talked about."


@dataclass(frozen=True)
class OverrideErrand:
    at_s: float
    member_id: UUID
    place: int
    """Of the exercise in the plan."""
    does: Does
    is_doubled: bool
    """The same request is sent twice at once."""


@dataclass(frozen=True)
class OverrideTold:
    """A request, and what the answer said of the plan: None where nobody knows whether it was carried out."""

    member_id: UUID
    expected_version: int
    override: Override
    by: UUID
    revised: PlanRevisedData | None = None


def draw_overrides(seed: int, *, seconds: float, cast: Cast) -> tuple[OverrideErrand, ...]:
    chance = random.Random(f"{seed} overrides")
    members = [person.member_id for person in cast.known]
    errands = [
        OverrideErrand(
            at_s=chance.uniform(0.05, 0.95) * seconds,
            member_id=chance.choice(members),
            place=chance.randint(0, 9),
            does=chance.choice(("step", "step", "dose", "dose", "lock", "lock", "stale")),
            is_doubled=chance.random() < 0.3,
        )
        for _ in range(int(seconds * OVERRIDES_PER_SECOND))
    ]
    return tuple(sorted(errands, key=lambda one: one.at_s))


@dataclass
class Overrider:
    """One after the other, and none while the database of plans may be set back: what was asked for over HTTP is in no
    log."""

    asker: Asker
    cast: Cast
    crew: Crew
    told: list[OverrideTold] = field(default_factory=list)

    async def play(self, errands: Sequence[OverrideErrand]) -> None:
        began = monotonic()
        for errand in errands:
            await asyncio.sleep(max(0.0, errand.at_s - (monotonic() - began)))
            async with self.crew.commanded:
                await self._override(errand)

    async def _override(self, errand: OverrideErrand) -> None:
        plan = (await self._ask("GET", errand.member_id, "")).body
        if not plan.get("items"):
            return  # nobody has told of the member yet
        item = plan["items"][errand.place % len(plan["items"])]
        override = override_of(errand.does, item)
        version = plan["version"] - (errand.does == "stale")
        if version < 1:
            return
        wanted = {"action": override.action, "step": override.step, "sets": override.sets}
        body = {
            "expected_version": version, "exercise": override.exercise, "reason": override.reason,
            **{name: value for name, value in wanted.items() if value is not None},
        }  # fmt: skip
        asking = [self._ask("POST", errand.member_id, "/overrides", json=body) for _ in range(1 + errand.is_doubled)]
        for answer in await asyncio.gather(*asking):
            self._note(OverrideTold(errand.member_id, version, override, self.cast.pt.practitioner_id), answer)

    def _note(self, one: OverrideTold, answer: Answer) -> None:
        """A request that is sent again names a version that has passed if it was carried out before."""
        if answer.status == 200:
            revised = PlanRevisedData.model_validate_json(orjson.dumps(answer.body))
            self.told.append(replace(one, revised=revised))
        elif answer.unknown:
            self.told.append(one)

    async def _ask(self, method: str, member_id: UUID, path: str, **what: Any) -> Answer:
        token = self.asker.clinician(self.cast.pt)
        return await self.asker.ask("plans", method, f"/v1/members/{member_id}/plan{path}", token=token, **what)


def override_of(does: Does, item: dict[str, Any]) -> Override:
    """What somebody wants who sees the item as it is."""
    exercise = item["exercise"]
    match does:
        case "step":
            step = (item["step"] + 1) % item["steps"]
            return Override(exercise=exercise, action="edit", reason=REASON, step=step)
        case "lock":
            return Override(exercise=exercise, action="unlock" if item["locked"] else "lock", reason=REASON)
        case _:
            return Override(exercise=exercise, action="edit", reason=REASON, sets=item["sets"] % 5 + 1)
