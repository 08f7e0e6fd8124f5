"""The oracle of plans finds an override that was lost, doubled or invented, or that does not follow from the plan that
it names; where it was between events of which nothing follows it leaves open."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from uuid import uuid4

import pytest
from msgspec import structs

from services.plans.domain.announcements import decision_of, plan_revised
from services.plans.domain.care_plan import CarePlan
from services.plans.domain.clinician import Override, override_item
from services.plans.store.rules import load_library
from shared.events import CloudEvent, MemberEnrolled, PlanRevised
from tests.chaos.findings import Derived, Findings, derive_id
from tests.chaos.overriding import REASON, OverrideTold
from tests.chaos.people import draw_cast, joining, opening_of
from tests.chaos.plans_oracle import PlansOracle
from tests.chaos.ways import COMMANDS, PLANS, Told, Way, Ways, match_overrides

CAST = draw_cast(1)
PERSON = CAST.people[0]
MEMBER = PERSON.member_id
AT = opening_of(date(2026, 3, 4))
ENROLLED = next(e for _, e in joining(PERSON, CAST, AT) if isinstance(e, MemberEnrolled))
Change = Callable[[list[PlanRevised]], list[PlanRevised]]


def fresh() -> PlansOracle:
    oracle = PlansOracle({}, [])
    oracle.enrol(ENROLLED)
    return oracle


FIRST = fresh().plans[MEMBER]
EXERCISE = FIRST.items[0].exercise
MORE = Override(exercise=EXERCISE, action="edit", reason=REASON, sets=FIRST.items[0].sets + 1)
LOCK = Override(exercise=EXERCISE, action="lock", reason=REASON)


def overridden(plan: CarePlan, override: Override, *, command: str) -> tuple[CarePlan, PlanRevised, OverrideTold]:
    """As plans carries it out, and as whoever asked was told."""
    revision = override_item(plan=plan, override=override, event=(COMMANDS, command), library=load_library())
    data = plan_revised(
        plan=revision.plan, changes=revision.changes, decision=decision_of(reason=revision.changes[0].reason),
        library=load_library(), revised_by=CAST.pt.practitioner_id,
    )  # fmt: skip
    event = PlanRevised(
        id=derive_id(f"plans command override-plan {command} {COMMANDS} {command} 0"), source=PLANS,
        time=AT + timedelta(minutes=plan.version), subject=MEMBER, causationsource=COMMANDS, causationid=command,
        correlationid=derive_id(f"{COMMANDS} {command}"), data=data,
    )  # fmt: skip
    told = OverrideTold(MEMBER, plan.version, override, CAST.pt.practitioner_id, data)
    return revision.plan, event, told


SECOND, MORE_EVENT, MORE_TOLD = overridden(FIRST, MORE, command="first")
THIRD, LOCK_EVENT, LOCK_TOLD = overridden(SECOND, LOCK, command="second")
TOLD = [MORE_TOLD, LOCK_TOLD]


def judged(events: Sequence[PlanRevised], told: Sequence[OverrideTold]) -> tuple[PlansOracle, str]:
    findings = Findings()
    issued = fresh().told[MEMBER][0].at(AT)
    there: list[CloudEvent] = [issued, *events]
    oracle = PlansOracle(match_overrides(told, there, findings), there)
    oracle.enrol(ENROLLED)
    oracle.finish(findings)
    findings.same_all("events", "careloop.plans", [e.id for e in oracle.all_events()], [e.id for e in there])
    return oracle, "\n".join(map(str, findings.found))


def test_what_follows_is_found_right() -> None:
    oracle, wrong = judged([MORE_EVENT, LOCK_EVENT], TOLD)
    assert (wrong, oracle.plans[MEMBER]) == ("", THIRD)
    assert oracle.told[MEMBER][1].at(MORE_EVENT.time) == MORE_EVENT


@pytest.mark.parametrize(
    "change",
    [
        lambda there: there[:1],
        lambda there: there[1:],
        lambda there: [],
        lambda there: [*there, there[1].model_copy(update={"id": str(uuid4())})],
        lambda there: [there[1], there[0]],
        lambda there: [there[0], there[1].model_copy(update={"subject": uuid4()})],
        lambda there: [there[0], there[1].model_copy(update={"causationid": "another"})],
        lambda there: [there[0], there[1].model_copy(update={"data": there[0].data})],
        lambda there: [there[0].model_copy(update={"data": replaced(there[0])}), there[1]],
    ],
    ids=[
        "last lost", "first lost", "both lost", "told twice", "out of order", "of another member", "of another cause",
        "of another version", "by somebody else",
    ],
)  # fmt: skip
def test_what_does_not_follow_is_found(change: Change) -> None:
    assert judged(change([MORE_EVENT, LOCK_EVENT]), TOLD)[1] != ""


def replaced(event: PlanRevised) -> object:
    return event.data.model_copy(update={"revised_by": uuid4()})


def test_an_override_that_was_told_and_is_lost_or_that_nobody_asked_for_is_found() -> None:
    assert "is not in the log" in judged([MORE_EVENT], TOLD)[1]
    assert "asked for by nobody" in judged([MORE_EVENT, LOCK_EVENT], TOLD[:1])[1]
    assert "is not in the log" in judged([MORE_EVENT], [MORE_TOLD, MORE_TOLD])[1], "the same request, carried out twice"
    merged = replace(LOCK_TOLD, expected_version=1)
    assert "asked for by nobody" in judged([MORE_EVENT, LOCK_EVENT], [MORE_TOLD, merged])[1]


def test_what_nobody_knows_of_may_have_been_done_or_not() -> None:
    unknown = replace(LOCK_TOLD, revised=None)
    oracle, wrong = judged([MORE_EVENT, LOCK_EVENT], [MORE_TOLD, unknown])
    assert (wrong, oracle.plans[MEMBER]) == ("", THIRD)
    oracle, wrong = judged([MORE_EVENT], [MORE_TOLD, unknown])
    assert (wrong, oracle.plans[MEMBER]) == ("", SECOND)
    step = replace(unknown, override=replace(LOCK, action="edit", step=1))
    assert "does not follow" in judged([MORE_EVENT, LOCK_EVENT], [MORE_TOLD, step])[1]


def session(plan: CarePlan) -> tuple[CarePlan, list[Derived]]:
    """One from which nothing follows but that an exercise was done well: an edit makes nothing of that."""
    first, *others = plan.items
    calm = structs.replace(first, good=(*first.good, ("app", "calm")))
    return structs.replace(plan, items=(calm, *others)), []


def session_of(number: int) -> CloudEvent:
    return ENROLLED.model_copy(update={"id": f"session-{number}"})


def ways_of(there: list[CloudEvent]) -> Ways:
    given = match_overrides([LOCK_TOLD], there, Findings())[MEMBER]
    return Ways(Way(SECOND), given, told=Told(there), library=load_library())


def test_between_events_of_which_nothing_follows_it_may_be_anywhere() -> None:
    ways, findings = ways_of([LOCK_EVENT]), Findings()
    ways.take(session_of(1), session)
    ways.take(session_of(2), session)
    ways.finish(findings)
    assert findings.found == []
    assert sorted(len(plan.items[0].good) for plan in ways.plans) == [0, 1, 2]
    assert all(plan.items[0].locked for plan in ways.plans)


def followed(number: int) -> Derived:
    """Something that is told because of a session."""
    return replace(fresh().told[MEMBER][0], id="follows", cause=session_of(number))


def test_what_the_log_tells_beside_it_says_where_it_was() -> None:
    """What follows from the second session lies behind it."""
    other = followed(2)
    ways, findings = ways_of([LOCK_EVENT, other.at(AT)]), Findings()
    ways.take(session_of(1), session)
    ways.take(session_of(2), lambda plan: (session(plan)[0], [other]))
    ways.finish(findings)
    assert findings.found == []
    assert sorted(len(plan.items[0].good) for plan in ways.plans) == [1, 2]


def test_where_nothing_would_follow_and_something_did_it_was_not() -> None:
    """Only of what is locked is anything told."""
    other = followed(1)
    ways, findings = ways_of([LOCK_EVENT, other.at(AT)]), Findings()
    ways.take(session_of(1), lambda plan: (plan, [other] if plan.items[0].locked else []))
    ways.finish(findings)
    assert findings.found == []
    assert [one.id for one in ways.told] == [LOCK_EVENT.id, other.id]
