"""The oracle of visits finds what is lost, doubled, invented, out of order or not as it was told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from uuid import UUID, uuid4, uuid5

import pytest

from shared.events import CloudEvent, VisitBooked, VisitCancelled, VisitRescheduled
from shared.events.envelope import NAMESPACE, Record
from shared.events.visits import VisitBookedData, VisitCancelledData, VisitRescheduledData
from tests.chaos.clients import Told, VisitTold, practitioner_of
from tests.chaos.errands import SLOT, ZONE, VisitErrand
from tests.chaos.findings import Findings
from tests.chaos.people import Cast, draw_cast, opening_of
from tests.chaos.visits_oracle import COMMANDS, VisitsOracle

CAST = draw_cast(1)
OPENING = opening_of(date(2026, 3, 4))
STARTS, MOVES = OPENING + timedelta(days=5), OPENING + timedelta(days=6)
ERRAND = VisitErrand(
    at_s=1.0, number=1, member_id=CAST.people[0].member_id, role="pt", starts_at=STARTS, reason="other",
    is_of_team=False, then="move and cancel", moves_to=MOVES, pause_s=0.0,
)  # fmt: skip
Change = Callable[[list[CloudEvent]], list[CloudEvent]]


def told(number: int = 1, **errand: object) -> VisitTold:
    one = replace(ERRAND, number=number, **errand)  # type: ignore[arg-type]
    return VisitTold(one, uuid4(), is_held=True, steps=["booked", "moved", "cancelled"])


def events_of(one: VisitTold) -> list[CloudEvent]:
    """As messaging tells them."""
    visit_id, who = one.visit_id, practitioner_of(CAST, one.errand)
    span = {"starts_at": STARTS, "ends_at": STARTS + SLOT}
    moved = {"starts_at": MOVES, "ends_at": MOVES + SLOT, "previous_starts_at": STARTS, "rescheduled_by": "member"}
    same = {"visit_id": visit_id, "practitioner": who, "time_zone": str(ZONE)}
    data: list[tuple[type[CloudEvent], Record]] = [
        (VisitBooked, VisitBookedData.model_validate({**same, **span, "reason": "other"})),
        (VisitRescheduled, VisitRescheduledData.model_validate({**same, **moved})),
        (VisitCancelled, VisitCancelledData(visit_id=visit_id, starts_at=MOVES, cancelled_by="member")),
    ]
    chain = str(uuid5(NAMESPACE, f"{COMMANDS} {visit_id}"))
    cause, events = (COMMANDS, str(visit_id)), list[CloudEvent]()
    for kind, record in data:
        event = kind.model_validate(
            {
                "id": str(uuid4()), "source": "urn:careloop:messaging", "time": OPENING, "data": record,
                "subject": one.errand.member_id, "correlationid": chain, "causationsource": cause[0],
                "causationid": cause[1],
            }
        )  # fmt: skip
        events.append(event)
        cause = (event.source, event.id)
    return events


def judged(several: list[VisitTold], events: list[CloudEvent], *, now: datetime = OPENING, cast: Cast = CAST) -> str:
    findings = Findings()
    VisitsOracle(cast, Told(visits=several), events, now, findings).judge()
    return "\n".join(map(str, findings.found))


def test_what_follows_is_found_right() -> None:
    one = told()
    assert judged([one], events_of(one)) == ""


def _of_another_cause(events: list[CloudEvent]) -> list[CloudEvent]:
    return [events[0], events[1].model_copy(update={"causationid": "another"}), events[2]]


@pytest.mark.parametrize(
    "change",
    [
        lambda events: events[:2],
        lambda events: events[1:],
        lambda events: [*events, events[2]],
        lambda events: [events[0], events[2], events[1]],
        _of_another_cause,
        lambda _: [],
    ],
    ids=["lost", "the first lost", "doubled", "out of order", "of another cause", "all lost"],
)
def test_what_does_not_follow_is_found(change: Change) -> None:
    one = told()
    assert "visits: " in judged([one], change(events_of(one)))


def test_a_visit_that_nobody_was_told_of_is_found() -> None:
    one = told()
    assert "nobody was told of" in judged([], events_of(one))


def test_one_who_is_told_less_than_happened_is_found() -> None:
    one = told()
    events = events_of(one)
    one.steps.pop()
    assert "its events say" in judged([one], events)


def test_nobody_is_in_two_visits_at_once() -> None:
    first, second = told(1), told(2, member_id=CAST.people[1].member_id)
    events = [*events_of(first)[:1], *events_of(second)[:1]]
    first.steps[1:] = second.steps[1:] = []
    assert "in two visits" in judged([first, second], events)


def test_a_time_that_nobody_else_wanted_is_not_refused() -> None:
    one = VisitTold(ERRAND, UUID(int=1), refused=["slot-taken"])
    assert "nobody else wanted" in judged([one], [])


def test_one_of_two_who_want_the_same_has_it() -> None:
    both = [VisitTold(replace(ERRAND, number=n, races=3 - n), UUID(int=n), refused=["slot-taken"]) for n in (1, 2)]
    assert "neither got it" in judged(both, [])
