"""A member's plan, and what is told of it, in each order of what apps told and of what the physical therapist changed
that explains the log. An override names the version that it was decided on, and lies in the log between what else is
told of the plan; where it was between events of an app from which nothing followed, no event tells."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from services.plans.domain.announcements import decision_of, plan_revised
from services.plans.domain.care_plan import CarePlan
from services.plans.domain.clinician import override_item
from services.plans.domain.rules import Library
from shared.events import CloudEvent, PlanRevised, SafetyFlagged
from shared.outcomes import Cause
from tests.chaos.findings import Derived, Findings, body, derive_id
from tests.chaos.overriding import OverrideTold

PLANS = "urn:careloop:plans"
COMMANDS = "urn:careloop:plans:commands"


@dataclass(frozen=True)
class Given:
    """An override as the log tells of it, and the request that it answers."""

    event: PlanRevised
    request: OverrideTold


def match_overrides(
    told: Sequence[OverrideTold], events: Sequence[CloudEvent], findings: Findings
) -> dict[UUID, list[Given]]:
    """By member, in the order of their log. What somebody was told of is there once, as they were told; what nobody
    knows of at most once; and nothing else."""
    left, given = list(told), dict[UUID, list[Given]]()
    for event in events:
        if not isinstance(event, PlanRevised) or event.causationsource != COMMANDS:
            continue
        fits = [one for one in left if _fits(one, event)]
        if not fits:
            findings.add("plans", f"version {event.data.version} of a plan was asked for by nobody, or twice")
            continue
        one = next((one for one in fits if one.revised is not None), fits[0])
        left.remove(one)
        if one.revised is not None:
            findings.same("plans", "what is told of an override", one.revised, event.data)
        given.setdefault(event.subject, []).append(Given(event, one))
    for one in left:
        if one.revised is not None:
            findings.add("plans", f"an override of version {one.expected_version} was told, and is not in the log")
    return given


def _fits(one: OverrideTold, event: PlanRevised) -> bool:
    wanted = (one.member_id, one.expected_version + 1, [one.override.exercise])
    return wanted == (event.subject, event.data.version, [change.exercise for change in event.data.changes])


class Way(NamedTuple):
    plan: CarePlan
    told: tuple[Derived, ...] = ()
    given: int = 0
    """So many overrides have been carried out."""
    place: int = -1
    """In the log, of what was told last."""
    fits: bool = True
    """The log tells of the last step so."""


class Told:
    """What lies in careloop.plans about plans: red flags have an order of their own."""

    def __init__(self, there: Iterable[CloudEvent]) -> None:
        self.events = {event.id: event for event in there if not isinstance(event, SafetyFlagged)}
        self.places = {event_id: place for place, event_id in enumerate(self.events)}
        self._because: dict[tuple[str | None, str | None], set[str]] = {}
        for event in self.events.values():
            self._because.setdefault((event.causationsource, event.causationid), set()).add(event.id)

    def because_of(self, cause: CloudEvent | Cause) -> set[str]:
        return self._because.get((cause.source, cause.id), set())


class Ways:
    """Of one member."""

    def __init__(self, way: Way, given: Sequence[Given], *, told: Told, library: Library) -> None:
        self.all = [way]
        """The likeliest first."""
        self._given, self._told, self._library = given, told, library

    @property
    def plans(self) -> list[CarePlan]:
        return [way.plan for way in self.all]

    @property
    def told(self) -> list[Derived]:
        return list(self.all[0].told)

    def take(self, event: CloudEvent, follow: Callable[[CarePlan], tuple[CarePlan, list[Derived]]]) -> None:
        """After an event: `follow` says what becomes of a plan, and what is told."""
        after = [self._after(way, event, *follow(way.plan)) for before in self.all for way in self._overridden(before)]
        if len(after) > 1:
            after = [way for way in after if way.fits] or after[:1]
        self.all = list({(way.plan, way.given): way for way in reversed(after)}.values())[::-1]

    def finish(self, findings: Findings) -> None:
        """Nothing more is overridden."""
        ends = [way for before in self.all for way in self._overridden(before)]
        whole = [way for way in ends if way.given == len(self._given)]
        if not whole:
            findings.add("plans", "an override does not follow from the plan that it names")
        self.all = whole or self.all[:1]

    def _overridden(self, way: Way) -> list[Way]:
        """It, and it after each number of the overrides that come next."""
        several = [way]
        while (next_one := self._override(several[-1])) is not None:
            several.append(next_one)
        return several

    def _override(self, way: Way) -> Way | None:
        """After the next override, if it may have been then."""
        if way.given == len(self._given) or self._next(way).expected_version != way.plan.version:
            return None
        event, request = self._given[way.given].event, self._next(way)
        command = event.causationid or ""
        revision = override_item(
            plan=way.plan, override=request.override, event=(COMMANDS, command), library=self._library
        )
        if revision.refused:
            return None
        revised = plan_revised(
            plan=revision.plan, changes=revision.changes, decision=decision_of(reason=revision.changes[0].reason),
            library=self._library, revised_by=request.by,
        )  # fmt: skip
        cause = Cause(COMMANDS, command, derive_id(f"{COMMANDS} {command}"))
        derived = Derived(
            event=PlanRevised, id=derive_id(f"plans command override-plan {command} {COMMANDS} {command} 0"),
            source=PLANS, subject=event.subject, data=revised, cause=cause,
        )  # fmt: skip
        after = self._after(way._replace(given=way.given + 1), cause, revision.plan, [derived])
        return after if after.fits else None

    def _after(self, way: Way, cause: CloudEvent | Cause, plan: CarePlan, told: Sequence[Derived]) -> Way:
        """`told`: all that is told because of this."""
        if not self._given:
            return way._replace(plan=plan, told=(*way.told, *told))
        place, fits = way.place, way.given == len(self._given) or plan.version <= self._next(way).expected_version
        fits = fits and {one.id for one in told} == self._told.because_of(cause)
        for one in told:
            found, at = self._told.events.get(one.id), self._told.places.get(one.id, -1)
            fits = fits and found is not None and place < at and body(one.at(found.time)) == body(found)
            place = max(place, at)
        return Way(plan, (*way.told, *told), way.given, place, fits)

    def _next(self, way: Way) -> OverrideTold:
        return self._given[way.given].request
