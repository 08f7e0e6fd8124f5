"""An intake that may enrol somebody: eligibility, screening, then enrolment with a care team, or why not."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from services.enrollment.domain.care_team import CareTeam, NoCareTeam
from services.enrollment.domain.coverage import (
    Coverage,
    Eligibility,
    Sponsor,
    coverage_end,
    decide_eligibility,
)
from services.enrollment.domain.enrolment import (
    MEMBER_TIMERS,
    announce_enrolment,
    care_need,
    consents_at_enrolment,
    contact_timer,
    coverage_timers,
    screening_of,
    screening_of_refused,
    waitlist_timer,
)
from services.enrollment.domain.intake import IntakeAnswers, IntakeRules, apply_clearance, plan_goals, with_age
from services.enrollment.domain.membership import Membership, Status, decide_intake
from services.enrollment.store.care_teams import assign_care_teams
from services.enrollment.store.coverages import load_coverages, lock_coverages
from services.enrollment.store.intakes import Intake, load_cleared, save_intake
from services.enrollment.store.memberships import (
    Consent,
    load_memberships,
    save_consents,
    save_contacts,
    save_memberships,
)
from services.enrollment.store.sponsors import keep_sponsors, load_sponsors
from shared.database import Connection
from shared.events import ContactChanged, MemberScreened
from shared.events.envelope import EventRef
from shared.events.members import MemberEnrolledData, MemberScreenedData
from shared.outcomes import Command, Outcomes, Refusal
from shared.red_flags import Screening, screen
from shared.timers import cancel_member_timers, save_timers


@dataclass(frozen=True, kw_only=True, slots=True)
class IntakeTaken:
    """What came of an intake. `refusal` set: nothing is kept, but the screening is told all the same: to the person,
    and, of somebody in our care, to who cares for them."""

    outcome: Literal["enrolled", "blocked", "waitlisted", "refused"]
    member_id: UUID
    screening: Screening
    eligibility: Eligibility
    team: CareTeam | None = None
    waiting_for: str | None = None
    refusal: Refusal | None = None
    outcomes: Outcomes = field(default_factory=Outcomes)


async def take_intake(
    connection: Connection,
    *,
    answers: IntakeAnswers,
    member_id: UUID,
    intake_id: UUID,
    rules: IntakeRules,
    command: Command,
    now: datetime,
    refused: Refusal | None = None,
) -> IntakeTaken:
    """Enrol, stop by the screening, or refuse; `refused`: what it is refused for already, whatever is in it."""
    known = (await load_memberships(connection, member_ids=[member_id])).get(member_id)
    cleared = (await load_cleared(connection, member_ids=[member_id], now=now)).get(member_id, frozenset())
    findings = with_age(findings=answers.findings, date_of_birth=answers.date_of_birth, today=now.date())
    screening = apply_clearance(screening=screen(findings=findings), cleared=cleared, rule=rules.clearance)
    # Nobody is enrolled whose screening blocks: they wait for no file that is being applied.
    sponsor, coverage = await _load_coverage(connection, answers, to_enrol=not screening.blocks_plan)
    eligibility = decide_eligibility(
        sponsor=sponsor, coverage=coverage, date_of_birth=answers.date_of_birth, state=answers.state, now=now
    )
    refusal = refused or decide_intake(
        known=known, sponsor_id=answers.sponsor_id, person_id=answers.person_id, blocks=screening.blocks_plan
    )
    if refused is None and not eligibility.eligible:
        refusal = Refusal("not-eligible", "This person is not covered; `eligibility` says why.")
    if refusal is not None:
        outcomes = Outcomes()
        if known is not None and screening.blocks_plan and _is_in_our_care(known, answers):
            told = " ".join((screening.disposition, *screening.findings))
            ref = screening_of_refused(member_id, told=told, day=now.date())
            # Whatever the intake is refused for; the same findings once a day, however often they are sent.
            _tell_screening(outcomes, screening, ref=ref, state=known.state, command=command)
        return IntakeTaken(
            outcome="refused", member_id=member_id, screening=screening, eligibility=eligibility, refusal=refusal,
            outcomes=outcomes,
        )  # fmt: skip
    assert sponsor is not None
    assert coverage is not None
    taken = _Taking(connection, answers, member_id, intake_id, screening, eligibility, command, now)
    await taken.note_screening()
    if screening.blocks_plan:
        return await taken.block()
    enrolment = _enrolment(answers, screening, rules)
    return await taken.enrol(enrolment, last_covered_day=coverage_end(sponsor=sponsor, coverage=coverage))


def _is_in_our_care(known: Membership, answers: IntakeAnswers) -> bool:
    return known.in_care and (known.sponsor_id, known.person_id) == (answers.sponsor_id, answers.person_id)


def _tell_screening(outcomes: Outcomes, screening: Screening, *, ref: EventRef, state: str, command: Command) -> None:
    screened = MemberScreenedData(
        disposition=screening.disposition, findings=screening.findings, state=state, decision=screening.decision
    )
    named = command.cause._replace(source=ref.source, id=ref.id)
    # Somebody is alerted because of what blocks a plan: it does not wait for what else is on its way out.
    outcomes.publish(MemberScreened, screened, because=command, named=named, urgent=screening.blocks_plan)


async def _load_coverage(
    connection: Connection, answers: IntakeAnswers, *, to_enrol: bool
) -> tuple[Sponsor | None, Coverage | None]:
    person = (answers.sponsor_id, answers.person_id)
    if to_enrol:
        await keep_sponsors(connection, sponsor_ids=[answers.sponsor_id])
        await lock_coverages(connection, persons=[person])
    sponsors = await load_sponsors(connection, sponsor_ids=[answers.sponsor_id])
    return sponsors.get(answers.sponsor_id), (await load_coverages(connection, persons=[person])).get(person)


def _enrolment(answers: IntakeAnswers, screening: Screening, rules: IntakeRules) -> MemberEnrolledData:
    return MemberEnrolledData(
        sponsor_id=answers.sponsor_id,
        intent=answers.intent,
        region="knee",
        cause=answers.cause,
        signs=answers.signs,
        surgery=answers.surgery,
        pain=answers.pain,
        goals=plan_goals(own=answers.goals, signs=answers.signs, rules=rules),
        days_per_week=answers.days_per_week,
        preferred_time=answers.preferred_time,
        time_zone=answers.contact.time_zone,
        state=answers.state,
        language=answers.contact.language,
        disposition=screening.disposition,
        consented_channels=answers.channels,
    )


@dataclass(slots=True)
class _Taking:
    """The writes of one intake, in the order in which the member's log tells them."""

    connection: Connection
    answers: IntakeAnswers
    member_id: UUID
    intake_id: UUID
    screening: Screening
    eligibility: Eligibility
    command: Command
    now: datetime
    outcomes: Outcomes = field(default_factory=Outcomes)

    async def note_screening(self) -> None:
        """Screening first: nothing that follows may hold it back. The contact goes along, for the clinician who
        calls."""
        ref, state = screening_of(self.intake_id), self.answers.state
        _tell_screening(self.outcomes, self.screening, ref=ref, state=state, command=self.command)
        self.outcomes.publish(ContactChanged, self.answers.contact, because=self.command)
        # What an earlier enrolment or a waiting list left due is moot.
        await cancel_member_timers(self.connection, kinds=MEMBER_TIMERS, member_ids=[self.member_id])

    async def block(self) -> IntakeTaken:
        await self._save("blocked", self.screening.disposition, enrolment=None)
        return self._taken("blocked")

    async def enrol(self, enrolment: MemberEnrolledData, *, last_covered_day: date | None) -> IntakeTaken:
        """Enrolled with a care team; on the waiting list when nobody can have them."""
        need = care_need(self._membership("enrolled", "intake"))
        team = (await assign_care_teams(self.connection, needs={self.member_id: need}, now=self.now))[self.member_id]
        member_id, command = self.member_id, self.command
        due = coverage_timers(member_id=member_id, last_covered_day=last_covered_day, because=command)
        if isinstance(team, NoCareTeam):
            await self._save("waitlisted", team.reason, enrolment=enrolment)
            await save_timers(
                self.connection, [*due, waitlist_timer(member_id=member_id, because=command, now=self.now)]
            )
            return self._taken("waitlisted", waiting_for=team.reason)
        await self._save("enrolled", "intake", enrolment=enrolment, team=team)
        announce_enrolment(
            self.outcomes,
            enrolment=enrolment,
            consents=consents_at_enrolment(channels=self.answers.channels),
            team=team,
            intake_id=self.intake_id,
            because=command,
        )
        await save_timers(self.connection, [*due, contact_timer(member_id=member_id, because=command, now=self.now)])
        return self._taken("enrolled", team=team)

    async def _save(
        self, status: Status, reason: str, *, enrolment: MemberEnrolledData | None, team: CareTeam | None = None
    ) -> None:
        answers, now = self.answers, self.now
        await save_memberships(self.connection, [self._membership(status, reason, team)])
        await save_intake(
            self.connection,
            Intake(
                intake_id=self.intake_id,
                member_id=self.member_id,
                taken_at=now,
                findings=self.screening.findings,
                disposition=self.screening.disposition,
                rule_id=self.screening.rule_id,
                rule_version=self.screening.rule_version,
                enrolment=enrolment,
                channels=answers.channels,
            ),
        )
        await save_contacts(self.connection, {self.member_id: answers.contact})
        if enrolment is not None:  # also of who waits: what they then take back is a change
            await save_consents(
                self.connection,
                [
                    Consent(member_id=self.member_id, channel=channel, topic="all", granted=True, given_by="intake")
                    for channel in answers.channels
                ],
                now=now,
            )

    def _membership(self, status: Status, reason: str, team: CareTeam | None = None) -> Membership:
        answers = self.answers
        return Membership(
            member_id=self.member_id,
            sponsor_id=answers.sponsor_id,
            person_id=answers.person_id,
            status=status,
            status_reason=reason,
            status_since=self.now,
            state=answers.state,
            language=answers.contact.language,
            time_zone=answers.contact.time_zone,
            intake_id=self.intake_id,
            pt_id=team.pt.practitioner_id if team else None,
            coach_id=team.coach.practitioner_id if team else None,
        )

    def _taken(
        self,
        outcome: Literal["enrolled", "blocked", "waitlisted"],
        *,
        team: CareTeam | None = None,
        waiting_for: str | None = None,
    ) -> IntakeTaken:
        return IntakeTaken(
            outcome=outcome,
            member_id=self.member_id,
            screening=self.screening,
            eligibility=self.eligibility,
            team=team,
            waiting_for=waiting_for,
            outcomes=self.outcomes,
        )
