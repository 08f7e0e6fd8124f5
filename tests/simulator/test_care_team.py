"""What simulated staff leave to whoever really sits at the console, and what they do about an alert that asks again."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
from hypothesis import given
from hypothesis import strategies as st

from deploy.simulator.access import Access
from deploy.simulator.care_team import CareTeam, LeftToOthers, draw_delay
from deploy.simulator.parameters import load_parameters
from deploy.simulator.people import LOOKS_AROUND, Cohort, chance, clinicians, population

P = load_parameters()
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ages = st.lists(st.floats(min_value=-24, max_value=24 * 84), max_size=60)


def at_end(hours_ago: list[float]) -> LeftToOthers:
    return LeftToOthers.at_end(NOW, P, [NOW - timedelta(hours=hours) for hours in hours_ago])


def test_the_last_days_are_left_open_after_seeding() -> None:
    assert NOW - at_end([]).untouched_after == timedelta(hours=P.open_for_a_person_h)
    assert NOW - at_end([5, 6, 7, 100]).untouched_after == timedelta(hours=P.open_for_a_person_h)


def test_where_little_happened_lately_older_spikes_are_left_open() -> None:
    left = at_end([60, 80, 100, 110])
    assert left.untouched_after < NOW - timedelta(hours=100)
    assert left.untouched_after > NOW - timedelta(hours=110)


def test_nothing_is_left_that_the_staff_would_take_on_the_next_day() -> None:
    assert NOW - at_end([P.open_for_a_person_max_h - 1]).untouched_after == timedelta(hours=P.open_for_a_person_h)


@given(ages)
def test_what_is_left_after_seeding_stays_left_while_the_population_lives_on(hours_ago: list[float]) -> None:
    end, a_day_later = at_end(hours_ago), LeftToOthers.in_life(NOW + timedelta(hours=23), P)
    assert end.untouched_after >= a_day_later.untouched_after
    assert end.unresolved_after <= end.untouched_after <= NOW


def test_members_are_answered_before_their_message_becomes_an_alert() -> None:
    assert NOW - LeftToOthers.in_life(NOW, P).unanswered_after < timedelta(hours=24)


def test_delays_have_their_median() -> None:
    median = timedelta(minutes=25)
    drawn = sorted(draw_delay(chance("test", number), median=median) for number in range(2001))
    assert abs(drawn[1000] / median - 1) < 0.1
    assert drawn[0] > timedelta(0)


@dataclass
class OneAlert:
    """Stands for messaging with one alert in the queue; what it is told is kept."""

    alert: dict[str, Any]
    told: list[tuple[str, Any]] = field(default_factory=list)

    async def as_staff(self, practitioner_id: UUID) -> dict[str, str]:
        return {"caller": str(practitioner_id)}

    async def as_member(self, member_id: UUID) -> dict[str, str]:
        return {"caller": str(member_id)}

    async def as_operator(self) -> dict[str, str]:
        return {}

    async def ask(self, method: str, service: str, path: str, **options: Any) -> httpx.Response:
        what = path.rpartition("/")[2]
        if method == "POST":
            self.told.append((what, options.get("json")))
        if what == "acknowledge":
            self.alert |= {"status": "acknowledged", "acknowledged_at": NOW.isoformat()}
        person = clinicians()[0].practitioner_id
        visit = {
            "visit_id": str(uuid4()), "reason": "safety", "ends_at": (NOW + timedelta(days=400)).isoformat(),
            "practitioner": {"practitioner_id": str(person)},
        }  # fmt: skip
        answers: dict[str, Any] = {
            "alerts": [self.alert],
            "slots": {"slots": [{"starts_at": (NOW + timedelta(days=1)).isoformat()}]},
            "holds": visit,
            "messages": {"awaiting_since": None},
            "visits": [],
        }
        return httpx.Response(200, json=answers.get(what, {"pt_id": str(person), "coach_id": str(person)}))

    def heard(self, what: str) -> list[Any]:
        return [body for word, body in self.told if word == what]


async def team_with_alert(priority: str) -> tuple[CareTeam, OneAlert]:
    cohort = Cohort(seed=1, members=8, days=10, starts_on=date(2026, 11, 1))
    member = next(m for m in population(cohort, P) if m.intent not in LOOKS_AROUND)
    owner = {"practitioner_id": str(clinicians()[0].practitioner_id)}
    messaging = OneAlert({
        "alert_id": str(UUID(int=7)), "member_id": str(member.member_id), "kind": "safety", "priority": priority,
        "status": "open", "owner": owner, "level": 1, "repeats": 2, "acknowledged_at": None,
        "last_raised_at": (NOW - timedelta(hours=1)).isoformat(),
    })  # fmt: skip
    team = CareTeam(access=cast("Access", messaging), p=P)
    await team.add_members(cohort.name, [member])
    return team, messaging


YOUNG = LeftToOthers(
    untouched_after=NOW + timedelta(days=9), unresolved_after=NOW - timedelta(days=7), unanswered_after=NOW
)


async def test_an_alert_that_asks_again_is_taken_again_without_another_visit() -> None:
    team, messaging = await team_with_alert("soon")
    for days in (0, 3, 6):
        messaging.alert["status"] = "open"
        for hours in (1, 2):
            await team.act(NOW + timedelta(days=days, hours=hours), left=YOUNG, look=True)
    assert messaging.heard("acknowledge") == [{"seen": 2}] * 3
    assert len(messaging.heard("holds")) == len(messaging.heard("messages")) == 1
    assert messaging.heard("resolve") == [], "what came of it is left to be said"


async def test_staff_that_start_anew_do_not_book_for_an_alert_that_was_taken_before() -> None:
    team, messaging = await team_with_alert("soon")
    messaging.alert["acknowledged_at"] = (NOW - timedelta(minutes=30)).isoformat()
    for hours in (1, 2):
        await team.act(NOW + timedelta(hours=hours), left=YOUNG, look=True)
    assert messaging.heard("acknowledge") == [{"seen": 2}]
    assert messaging.heard("holds") == []


async def test_what_came_of_a_pressing_alert_is_said_soon() -> None:
    team, messaging = await team_with_alert("emergency")
    await team.act(NOW, left=YOUNG, look=True)
    acknowledge_at = team.next_due(after=NOW)
    assert acknowledge_at is not None
    await team.act(acknowledge_at, left=YOUNG, look=False)
    resolve_at = team.next_due(after=acknowledge_at)
    assert resolve_at is not None, "the clock does not run past it"
    await team.act(resolve_at, left=YOUNG, look=False)
    (said,) = messaging.heard("resolve")
    assert (said["seen"], said["outcome"]) == (2, "visit-booked")


def test_most_emergencies_are_resolved_before_they_ask_again() -> None:
    assert P.resolve_pressing_median_min <= 15
