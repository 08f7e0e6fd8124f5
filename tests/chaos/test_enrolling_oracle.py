"""The oracle of enrolments finds what is lost, doubled, of another intake or not as it was submitted."""

from collections.abc import Callable
from datetime import date
from uuid import uuid4, uuid5

import pytest

from shared.events import CareTeamAssigned, CloudEvent, MemberEnrolled
from shared.events.codec import encode
from shared.events.envelope import NAMESPACE
from tests.chaos.asking import Answer
from tests.chaos.enrolling import Enrolment, EnrolmentTold
from tests.chaos.enrolling_oracle import EnrollingOracle
from tests.chaos.findings import Findings
from tests.chaos.log import Record
from tests.chaos.people import ENROLLMENT, Part, draw_cast, opening_of

CAST = draw_cast(1)
OPENING = opening_of(date(2026, 3, 4))
INTAKE = str(uuid4())
Change = Callable[[list[CloudEvent]], list[CloudEvent]]


def told(part: Part = "walk-in", *others: Answer) -> EnrolmentTold:
    person = CAST.of(part)[0]
    outcome = "blocked" if part == "turned-away" else "enrolled"
    body = {"outcome": outcome, "member_id": str(person.member_id), "intake_id": INTAKE}
    return EnrolmentTold(Enrolment(1.0, person, is_impatient=False), [Answer(201, body, 0), *others])


def events_of(one: EnrolmentTold) -> list[CloudEvent]:
    """As enrollment tells them."""
    commands = f"{ENROLLMENT}:commands"
    same = {
        "source": ENROLLMENT, "time": OPENING, "subject": one.enrolment.person.member_id,
        "causationsource": commands, "causationid": INTAKE,
        "correlationid": str(uuid5(NAMESPACE, f"{commands} {INTAKE}")),
    }  # fmt: skip
    follows = EnrollingOracle(CAST, [one], Findings())._follows(one.enrolment.person, INTAKE, OPENING)
    return [kind.model_validate({**same, "id": event_id, "data": data}) for kind, event_id, data in follows]


def judged(one: EnrolmentTold, events: list[CloudEvent]) -> str:
    findings = Findings()
    records = [Record("careloop.members", 0, place, None, encode(e), e) for place, e in enumerate(events)]
    EnrollingOracle(CAST, [one], findings).judge(records)
    return "\n".join(map(str, findings.found))


@pytest.mark.parametrize(("part", "count"), [("walk-in", 5), ("turned-away", 2)])
def test_what_follows_is_found_right(part: Part, count: int) -> None:
    one = told(part)
    events = events_of(one)
    assert len(events) == count
    assert judged(one, events) == ""
    assert judged(one, [*events, events[-1]]) == "", "a copy that the relay sent again"


def _of(events: list[CloudEvent], kind: type[CloudEvent]) -> CloudEvent:
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda events: events[:-1],
        lambda events: [*events, _of(events, MemberEnrolled).model_copy(update={"id": str(uuid4())})],
        lambda events: [*events, _of(events, CareTeamAssigned).model_copy(update={"id": str(uuid4())})],
        lambda events: [*events[:-2], events[-1], events[-2]],
        lambda events: [*events, events[-1].model_copy(update={"correlationid": "another"})],
        lambda _: [],
    ],
    ids=["lost", "enrolled twice", "a team twice", "out of order", "told in two ways", "all lost"],
)
def test_what_does_not_follow_is_found(change: Change) -> None:
    one = told()
    assert "enrolling: " in judged(one, change(events_of(one)))


def test_one_who_is_enrolled_after_an_emergency_is_found() -> None:
    turned_away, enrolled = told("turned-away"), told()
    events = [
        event.model_copy(update={"subject": turned_away.enrolment.person.member_id}) for event in events_of(enrolled)
    ]
    assert "enrolling: " in judged(turned_away, events)


def test_two_answers_to_one_key_are_found() -> None:
    one = told("walk-in", Answer(201, {"intake_id": "another"}, 0))
    assert "not one answer" in judged(one, events_of(one))
