"""What enrollment must have told of the people who walked in: what they submitted, by its pure rules.

The moment is taken from the events; the intake's identity, of which all others are derived, from the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid5

from services.enrollment.domain.care_team import CareNeed, CareTeam, PanelMember, choose_care_team
from services.enrollment.domain.enrolment import screening_of
from services.enrollment.domain.intake import plan_goals, with_age
from services.enrollment.store.intake_rules import load_intake_rules
from shared.database import Connection
from shared.events import (
    CareTeamAssigned,
    CloudEvent,
    ConsentChanged,
    ContactChanged,
    MemberEnrolled,
    MemberScreened,
)
from shared.events.envelope import NAMESPACE, Record
from shared.events.members import (
    CareTeamAssignedData,
    ConsentChangedData,
    ContactChangedData,
    MemberEnrolledData,
    MemberScreenedData,
    PainIntake,
)
from shared.red_flags import Screening, screen
from tests.chaos.enrolling import (
    BORN,
    EMERGENCY,
    PREFERRED_TIME,
    SPONSOR,
    STATE,
    ZONE,
    EnrolmentTold,
    panel_limit,
)
from tests.chaos.findings import Findings, derive_id
from tests.chaos.log import Record as LogRecord
from tests.chaos.people import ENROLLMENT, Cast, Person

Told = tuple[type[CloudEvent], str, Record]
"""Kind, identity and data of an event."""


@dataclass
class EnrollingOracle:
    cast: Cast
    told: Sequence[EnrolmentTold]
    findings: Findings
    outcomes: dict[UUID, str] = field(default_factory=dict)
    """What each person was told."""

    def judge(self, records: Sequence[LogRecord]) -> None:
        """`records`: what lies in careloop.members and careloop.contacts of these people, in log order."""
        first: dict[tuple[str, str], LogRecord] = {}
        for record in records:
            if record.event is None:
                self.findings.add("enrolling", f"{record.topic} {record.partition} {record.offset} cannot be read")
                continue
            copy = first.setdefault((record.event.source, record.event.id), record)
            if copy.value != record.value:
                self.findings.add("enrolling", f"{record.event.type} {record.event.id} was told in two ways")
        by_member: dict[UUID, list[CloudEvent]] = {}
        for record in first.values():
            assert record.event is not None
            by_member.setdefault(record.event.subject, []).append(record.event)
        for one in self.told:
            person = one.enrolment.person
            self._hold(one, by_member.get(person.member_id, []))

    def _hold(self, one: EnrolmentTold, events: Sequence[CloudEvent]) -> None:
        person, bodies = one.enrolment.person, [answer.body for answer in one.answers]
        outcome = "blocked" if person.part == "turned-away" else "enrolled"
        if any(answer.status != 201 for answer in one.answers) or any(body != bodies[0] for body in bodies):
            said = [(answer.status, answer.reason) for answer in one.answers]
            self.findings.add("enrolling", f"one who walked in was told {said}, not one answer")
            return
        body = bodies[0]
        self.outcomes[person.member_id] = outcome
        self.findings.same(
            "enrolling", "an answer", (outcome, str(person.member_id)), (body["outcome"], body["member_id"])
        )
        if not events:
            self.findings.add("enrolling", f"one who was told {outcome} is told of nowhere")
            return
        follows = self._follows(person, body["intake_id"], events[0].time)
        for is_contact in (False, True):
            wanted = [told for told in follows if (told[0] is ContactChanged) == is_contact]
            of_topic = [event for event in events if isinstance(event, ContactChanged) == is_contact]
            there = [(type(event), event.id, event.data) for event in of_topic]
            self.findings.same("enrolling", "what was told of one who walked in", wanted, there)
        identity = body["intake_id"]
        cause = (f"{ENROLLMENT}:commands", identity, str(uuid5(NAMESPACE, f"{ENROLLMENT}:commands {identity}")))
        for event in events:
            found = (event.causationsource, event.causationid, event.correlationid)
            self.findings.same("enrolling", f"the cause of {event.type}", (*cause, ENROLLMENT), (*found, event.source))

    def _follows(self, person: Person, intake_id: str, at: datetime) -> list[Told]:
        """In the order in which the member's log tells it."""
        rules, ref = load_intake_rules(), screening_of(UUID(intake_id))
        screening = _screening(person, at)
        cause = f"{ENROLLMENT}:commands {intake_id}"
        told: list[Told] = [
            (
                MemberScreened, ref.id,
                MemberScreenedData(
                    disposition=screening.disposition, findings=screening.findings, state=STATE,
                    decision=screening.decision,
                ),
            ),
        ]  # fmt: skip
        data: list[tuple[type[CloudEvent], Record]] = [(ContactChanged, _contact(person))]
        if not screening.blocks_plan:
            enrolled = MemberEnrolledData(
                sponsor_id=SPONSOR, intent="seeking-treatment", region="knee", cause="overuse", signs=("pain-daily",),
                pain=PainIntake(now=person.usual, average_24h=person.usual, usual=person.usual),
                goals=plan_goals(own=("walk",), signs=("pain-daily",), rules=rules), days_per_week=person.days_per_week,
                preferred_time=PREFERRED_TIME, time_zone=ZONE, state=STATE, language="en",
                disposition=screening.disposition, consented_channels=("email",),
            )  # fmt: skip
            need = CareNeed(state=STATE, language="en", time_zone=ZONE)
            team = choose_care_team(need=need, practitioners=_panels(self.cast), rule=rules.care_team, now=at)
            assert isinstance(team, CareTeam)
            data += [
                (MemberEnrolled, enrolled),
                (ConsentChanged, ConsentChangedData(channel="email", topic="all", granted=True, given_by="intake")),
                (
                    CareTeamAssigned,
                    CareTeamAssignedData(
                        pt=team.pt.as_practitioner, coach=team.coach.as_practitioner,
                        decision=team.rule.rule.decide(team.reason, evidence=[ref]),
                    ),
                ),
            ]  # fmt: skip
        step = f"enrollment command take-intake {intake_id} {cause}"
        told += [(kind, derive_id(f"{step} {place}"), record) for place, (kind, record) in enumerate(data)]
        return told

    async def look_at(self, connection: Connection) -> None:
        """Who is a member, and how full the panels are."""
        rows = await connection.fetch("select member_id, status, pt_id, coach_id from memberships")
        pt, coach = self.cast.pt.practitioner_id, self.cast.coach.practitioner_id
        wanted = [
            (member_id, status, *((pt, coach) if status == "enrolled" else (None, None)))
            for member_id, status in self.outcomes.items()
        ]
        self.findings.same_all("enrolling", "memberships", wanted, [tuple(row) for row in rows])
        intakes = await connection.fetch("select member_id from intakes")
        self.findings.same_all("enrolling", "intakes", self.outcomes, [row["member_id"] for row in intakes])
        count = sum(status == "enrolled" for status in self.outcomes.values())
        sizes = await connection.fetch("select practitioner_id, panel_size from practitioners")
        self.findings.same_all("enrolling", "panels", [(pt, count), (coach, count)], [tuple(row) for row in sizes])


def _screening(person: Person, at: datetime) -> Screening:
    findings = (EMERGENCY,) if person.part == "turned-away" else ()
    return screen(findings=with_age(findings=findings, date_of_birth=BORN, today=at.date()))  # type: ignore[arg-type]


def _contact(person: Person) -> ContactChangedData:
    return ContactChangedData(given_name="Sim", family_name="Walkin", email=person.email, time_zone=ZONE, language="en")


def _panels(cast: Cast) -> list[PanelMember]:
    return [
        PanelMember(
            practitioner_id=who.practitioner_id, role=who.role, name=who.name,
            licensed_states=frozenset((STATE,) if who.role == "pt" else ()), languages=frozenset(("en",)),
            time_zone=ZONE, panel_limit=panel_limit(cast), panel_size=0, accepting=True,
        )
        for who in (cast.pt, cast.coach)
    ]  # fmt: skip
