"""What must have come of visits: the steps that clients were told of, carried out by the pure rules of messaging.

The moment of a step and the random part of its identity are taken from the event that tells of it; all else follows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import combinations
from uuid import UUID, uuid5

from services.messaging.domain.slots import Span
from services.messaging.domain.visit import (
    Visit,
    book_held,
    cancel_visit,
    complete_visit,
    miss_visit,
    move_visit,
)
from services.messaging.domain.visit_events import announce_visit
from services.messaging.store.rules import load_visit_rules
from services.messaging.store.visits import MISSED, load_visits
from services.notifications.domain.announcements import visit_reminder_times
from services.notifications.domain.notification import notification_id_of
from services.notifications.store.library import load_policy
from shared.database import Connection
from shared.events import (
    CloudEvent,
    VisitBooked,
    VisitCancelled,
    VisitCompleted,
    VisitMissed,
    VisitRescheduled,
)
from shared.events.envelope import NAMESPACE
from shared.events.visits import VisitRecommendation
from shared.outcomes import Cause, Command, Outcomes, Refusal, Timer
from tests.chaos.clients import NOTE, Told, VisitTold, practitioner_of
from tests.chaos.errands import ZONE
from tests.chaos.findings import Findings
from tests.chaos.people import Cast

COMMANDS = "urn:careloop:messaging:commands"
REMINDER = "reminder.visit"
NAMES: dict[type[CloudEvent], str] = {
    VisitBooked: "booked", VisitRescheduled: "moved", VisitCancelled: "cancelled", VisitCompleted: "completed",
    VisitMissed: "missed",
}  # fmt: skip
STANDS = {"booked": "booked", "moved": "booked", "cancelled": "cancelled", "completed": "completed", "missed": "missed"}


@dataclass
class VisitsOracle:
    cast: Cast
    told: Told
    observed: Sequence[CloudEvent]
    """What lies in careloop.visits, first copies, in log order."""
    now: datetime
    findings: Findings
    visits: dict[UUID, Visit] = field(default_factory=dict)
    """As they must stand at the end."""

    def judge(self) -> None:
        by_visit: dict[UUID, list[CloudEvent]] = {}
        for event in self.observed:
            by_visit.setdefault(event.data.visit_id, []).append(event)  # type: ignore[attr-defined]
        for one in self.told.visits:
            self._follow(one, by_visit.pop(one.visit_id, []))
        for events in by_visit.values():
            self.findings.add("visits", f"{len(events)} events of a visit that nobody was told of: {events[0].type}")
        self._refusals()
        self._nobody_twice()

    def completed(self) -> list[VisitCompleted]:
        return [event for event in self.observed if isinstance(event, VisitCompleted)]

    def of_member(self, member_id: UUID) -> list[CloudEvent]:
        return [event for event in self.observed if event.subject == member_id]

    def _follow(self, one: VisitTold, events: Sequence[CloudEvent]) -> None:
        """The events of a visit are the steps that were told, and that nobody came, in order and once each."""
        steps: list[str] = list(one.steps)
        rules, errand = load_visit_rules(), one.errand
        starts_at = errand.moves_to if "moved" in steps and errand.moves_to else errand.starts_at
        is_over = starts_at + rules.length + rules.missed_after <= self.now
        if steps and "cancelled" not in steps and is_over:
            steps.insert(len(steps) - (steps[-1] == "completed"), "missed")
        there = [NAMES[type(event)] for event in events]
        if there != steps:
            self.findings.add("visits", f"a visit was told to be {steps}, its events say {there}")
            return
        if not steps:
            return
        visit = self._held(one)
        for step, event in zip(steps, events, strict=True):
            after = self._step(visit, step, one, event)
            if isinstance(after, Refusal) or after is None:
                self.findings.add("visits", f"{step} does not follow for a visit that is {visit.status}: {after}")
                return
            visit = self._compare(visit, after, step, one, event)
        self.visits[visit.visit_id] = visit

    def _held(self, one: VisitTold) -> Visit:
        errand, identity = one.errand, str(one.visit_id)
        return Visit(
            visit_id=one.visit_id, member_id=errand.member_id, practitioner=practitioner_of(self.cast, errand),
            starts_at=errand.starts_at, ends_at=errand.starts_at + load_visit_rules().length, time_zone=str(ZONE),
            reason=errand.reason, status="held", hold_expires_at=datetime.max.replace(tzinfo=UTC),
            cause=Cause(COMMANDS, identity, str(uuid5(NAMESPACE, f"{COMMANDS} {identity}"))),
        )  # fmt: skip

    def _step(self, visit: Visit, step: str, one: VisitTold, event: CloudEvent) -> Visit | Refusal | None:
        errand, now, rules = one.errand, event.time, load_visit_rules()
        match step:
            case "booked":
                return book_held(visit=visit, reason=errand.reason, now=now)
            case "moved":
                assert errand.moves_to is not None
                to = Span(starts_at=errand.moves_to, ends_at=errand.moves_to + rules.length)
                return move_visit(visit=visit, to=to, practitioner=visit.practitioner, now=now)
            case "cancelled":
                return cancel_visit(visit=visit, now=now)
            case "missed":
                return miss_visit(visit=visit, rules=rules, now=now)
            case _:
                assert errand.documented is not None
                advice = VisitRecommendation(action=errand.documented)
                return complete_visit(visit=visit, recommendation=advice, note=NOTE, now=now)

    def _compare(self, before: Visit, after: Visit, step: str, one: VisitTold, event: CloudEvent) -> Visit:
        """Hold the event against what follows; the visit as it must be kept."""
        assert before.cause is not None
        because: Command | Timer = Command(name=step, id="", member_id=before.member_id, cause=before.cause)
        if step == "missed":
            due_at = before.ends_at + load_visit_rules().missed_after
            because = Timer(
                kind=MISSED, key=str(before.visit_id), member_id=before.member_id, due_at=due_at, cause=before.cause
            )
        by = "practitioner" if one.errand.is_of_team else "member"
        outcomes = Outcomes()
        kept = announce_visit(outcomes=outcomes, visit=after, before=before, because=because, by=by)  # type: ignore[arg-type]
        (draft,) = outcomes.published
        assert kept.cause is not None
        wanted = (draft.data, draft.member_id, before.cause[:3])
        cause = (event.causationsource, event.causationid, event.correlationid)
        self.findings.same("visits", step, wanted, (event.data, event.subject, cause))
        if step == "missed":
            self.findings.same("visits", "the identity of a missed visit", kept.cause.id, event.id)
        return replace(kept, cause=kept.cause._replace(id=event.id, traceparent=None))

    def _refusals(self) -> None:
        """Nobody is refused a time that nobody else wanted; of two who want the same one at once one has it."""
        by_number = {one.errand.number: one for one in self.told.visits}
        for one in self.told.visits:
            reasons = [reason for reason in one.refused if reason not in ("hold-expired", "no-such-visit")]
            if one.errand.races is None:
                if reasons:
                    self.findings.add("visits", f"what nobody else wanted was refused: {reasons}")
                continue
            other = by_number[one.errand.races]
            if reasons and not other.is_held:
                self.findings.add("visits", f"two wanted the same time, and neither got it: {reasons} {other.refused}")

    def _nobody_twice(self) -> None:
        standing = [visit for visit in self.visits.values() if visit.status != "cancelled"]
        for first, second in combinations(standing, 2):
            people = {first.member_id, first.practitioner.practitioner_id}
            if first.span.overlaps(second.span) and people & {second.member_id, second.practitioner.practitioner_id}:
                self.findings.add("visits", f"somebody is in two visits at {first.starts_at}")

    # -- stores

    async def look_at_messaging(self, connection: Connection) -> None:
        ids = [row["visit_id"] for row in await connection.fetch("select visit_id from visits")]
        self.findings.same_all("visits", "visits in messaging", self.visits, ids)
        for visit_id, there in (await load_visits(connection, visit_ids=ids)).items():
            bare = replace(there, cause=there.cause._replace(traceparent=None) if there.cause else None)
            self.findings.same("visits", "a visit", self.visits.get(visit_id), bare)

    def missed_timers(self) -> dict[str, datetime]:
        after = load_visit_rules().missed_after
        return {str(v.visit_id): v.ends_at + after for v in self.visits.values() if v.status == "booked"}

    async def look_at_notifications(self, connection: Connection) -> None:
        rows = await connection.fetch("select visit_id, member_id, starts_at, status from visits")
        wanted = [(v.visit_id, v.member_id, v.starts_at, v.status) for v in self.visits.values()]
        self.findings.same_all("visits", "visits in notifications", wanted, [tuple(row) for row in rows])

    def reminder_timers(self) -> dict[str, datetime]:
        return {
            f"{visit.visit_id} {lead}": due_at
            for visit in self.visits.values()
            if visit.status == "booked"
            for lead, due_at in _leads(visit, self.now)
        }

    def reminders(self, opening: datetime) -> tuple[set[UUID], set[UUID]]:
        """Those that must have been planned, and those of visits that were missed in the same moment as they were due:
        whoever came first decides."""
        must, may = set[UUID](), set[UUID]()
        for visit in self.visits.values():
            for lead, due_at in _leads(visit, opening):
                if due_at <= self.now and visit.status != "cancelled":
                    occasion = f"{visit.visit_id} {visit.starts_at.isoformat()} {lead}"
                    reminder = notification_id_of(topic="visit-reminder", member_id=visit.member_id, occasion=occasion)
                    (must if visit.status == "booked" else may).add(reminder)
        return must, may


def _leads(visit: Visit, after: datetime) -> Iterator[tuple[str, datetime]]:
    times = visit_reminder_times(starts_at=visit.starts_at, policy=load_policy(), booked_at=after, now=after)
    for lead, due_at, _ in times:
        yield lead, due_at
