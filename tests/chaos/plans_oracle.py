"""What plans must have decided: the accepted events, folded by its pure rules."""

from collections.abc import Mapping, Sequence
from functools import partial
from uuid import UUID, uuid5

from services.plans.domain.activity import SESSION_BITS, PainReport, Session, Taken, take_pain_report, take_session
from services.plans.domain.announcements import (
    decide,
    decision_of,
    milestone_reached,
    pain_settled,
    pain_spiked,
    plan_issued,
    plan_revised,
    usual_pain_changed,
)
from services.plans.domain.care_plan import CarePlan
from services.plans.domain.clinician import follow_visit
from services.plans.domain.plan_issue import Intake, issue_plan
from services.plans.store.rules import load_library
from shared.events import (
    CloudEvent,
    MemberEnrolled,
    MilestoneReached,
    PainReported,
    PainSettled,
    PainSpiked,
    PlanIssued,
    PlanRevised,
    SafetyFlagged,
    SessionCompleted,
    UsualPainChanged,
    VisitCompleted,
)
from shared.events.envelope import NAMESPACE, Record
from shared.events.plans import SafetyFlaggedData
from shared.inbox import inbox_identity
from shared.red_flags import screen
from tests.chaos.findings import Derived, Findings, derive_id
from tests.chaos.ways import PLANS, Given, Told, Way, Ways


class PlansOracle:
    """State and events that follow, member by member. `given`: what the physical therapist changed; `there`: what lies
    in careloop.plans."""

    def __init__(self, given: Mapping[UUID, Sequence[Given]], there: Sequence[CloudEvent]) -> None:
        self.library = load_library()
        self.ways: dict[UUID, Ways] = {}
        self.flags: dict[UUID, list[Derived]] = {}
        """Red flags, in an order of their own."""
        self._given, self._there = given, Told(there)

    @property
    def told(self) -> dict[UUID, list[Derived]]:
        """In order for each member."""
        return {member_id: ways.told for member_id, ways in self.ways.items()}

    @property
    def plans(self) -> dict[UUID, CarePlan]:
        """Of several that may be, the likeliest: they differ in what an exercise has been done well."""
        return {member_id: ways.plans[0] for member_id, ways in self.ways.items()}

    def all_events(self) -> list[Derived]:
        return [one for several in (self.told, self.flags) for events in several.values() for one in events]

    def enrol(self, event: MemberEnrolled) -> None:
        data = event.data
        intake = Intake(
            member_id=event.subject, event=(event.source, event.id), at_s=int(event.time.timestamp()),
            cause=data.cause, usual_pain=data.pain.usual, days_per_week=data.days_per_week,
            local_time=data.preferred_time, time_zone=data.time_zone, disposition=data.disposition,
        )  # fmt: skip
        plan_id = uuid5(NAMESPACE, f"plan {event.source} {event.id}")
        issue = issue_plan(intake=intake, plan_id=plan_id, library=self.library)
        issued = plan_issued(plan=issue.plan, rule=issue.rule, evidence=(intake.event,), library=self.library)
        told = self._derive("plans.members", event, [(PlanIssued, issued)])
        self.ways[event.subject] = Ways(
            Way(issue.plan, tuple(told)), self._given.get(event.subject, ()), told=self._there, library=self.library
        )  # fmt: skip

    def take(self, event: CloudEvent) -> None:
        """An event of an app, in log order."""
        assert isinstance(event, SessionCompleted | PainReported)
        self.ways[event.subject].take(event, partial(self._take_activity, event))

    def finish(self, findings: Findings) -> None:
        """All that apps told has been taken, and all overrides were before it came to rest."""
        for ways in self.ways.values():
            ways.finish(findings)

    def _take_activity(self, event: SessionCompleted | PainReported, plan: CarePlan) -> tuple[CarePlan, list[Derived]]:
        taken = self._take(event, plan)
        if taken.refused:
            return taken.plan, []
        return taken.plan, self._derive("plans.activity", event, self._follows(event, taken))

    def visit(self, event: VisitCompleted) -> None:
        """A visit that was documented, after all that apps told of the member."""
        if event.data.practitioner.role != "coach":
            self.ways[event.subject].take(event, partial(self._take_visit, event))

    def _take_visit(self, event: VisitCompleted, plan: CarePlan) -> tuple[CarePlan, list[Derived]]:
        data, library = event.data, self.library
        revision = follow_visit(
            plan=plan, action=data.recommendation.action, exercises=data.recommendation.exercises,
            event=(event.source, event.id), at_s=int(event.time.timestamp()),
            began_s=None if data.starts_at is None else int(data.starts_at.timestamp()), library=library,
        )  # fmt: skip
        plan, ref = revision.plan, (event.source, event.id)
        follows: list[tuple[type[CloudEvent], Record]] = []
        if revision.re_anchored and plan.pain.episode is not None:
            episode, rule = plan.pain.episode, library.pain.re_anchor
            settled = pain_settled(
                episode_id=episode.id, score=episode.recent[-1][1], baseline=plan.pain.usual, rule=rule, evidence=(ref,)
            )
            follows.append((PainSettled, settled))
        if revision.usual is not None:
            usual = usual_pain_changed(usual=revision.usual, rule=library.pain.told, evidence=(ref,))
            follows.append((UsualPainChanged, usual))
        if revision.changes:
            revised = plan_revised(
                plan=plan, changes=revision.changes, decision=decision_of(reason=revision.changes[0].reason),
                library=library, revised_by=data.practitioner.practitioner_id,
            )  # fmt: skip
            follows.append((PlanRevised, revised))
        return plan, self._derive("plans.visits", event, follows)

    def flag(self, event: CloudEvent, *, is_valid: bool) -> None:
        """What the safety group says of it; also of what only was to be an event."""
        assert isinstance(event, SessionCompleted | PainReported)
        screening = screen(findings=event.data.findings) if event.data.findings else None
        if screening is None or screening.disposition == "none":
            return
        flagged = SafetyFlaggedData(
            flag_id=uuid5(NAMESPACE, f"safety-flag {event.source} {event.id}"),
            disposition=screening.disposition,
            findings=screening.findings,
            decision=screening.decided_on(event.ref),
        )
        flags = self.flags.setdefault(event.subject, [])
        group = "plans.safety"
        scope = group if is_valid else f"{group} {inbox_identity(group, f'loosely {event.source}', event.id).hex()}"
        flags += self._derive(scope, event, [(SafetyFlagged, flagged)])

    def _take(self, event: SessionCompleted | PainReported, plan: CarePlan) -> Taken:
        ref, at_s = (event.source, event.id), int(event.time.timestamp())
        disposition = screen(findings=event.data.findings).disposition if event.data.findings else "none"
        if isinstance(event, PainReported):
            report = PainReport(
                event=ref, at_s=at_s, score=event.data.score, context=event.data.context, disposition=disposition
            )
            return take_pain_report(plan=plan, report=report, library=self.library)
        data = event.data
        session = Session(
            event=ref, at_s=at_s, session_id=data.session_id.int & SESSION_BITS, plan_id=data.plan_id,
            chain=event.correlationid, pain=data.pain_during, pain_last_morning=data.pain_last_morning,
            results=data.exercises, disposition=disposition,
        )  # fmt: skip
        return take_session(plan=plan, session=session, library=self.library)

    def _follows(
        self, event: SessionCompleted | PainReported, taken: Taken
    ) -> Sequence[tuple[type[CloudEvent], Record]]:
        """First what pain means, then what changes, then what was reached."""
        ref, plan, pain, library = (event.source, event.id), taken.plan, taken.pain, self.library
        score = event.data.score if isinstance(event, PainReported) else event.data.pain_during
        follows: list[tuple[type[CloudEvent], Record]] = []
        episode = plan.pain.episode
        if pain is not None and episode is not None:
            if pain.alert is not None:
                spiked = pain_spiked(
                    episode_id=episode.id, score=score, baseline=pain.baseline, repeated=pain.repeated,
                    rule=pain.alert, evidence=(ref,),
                )  # fmt: skip
                follows.append((PainSpiked, spiked))
            if pain.settled is not None:
                settled = pain_settled(
                    episode_id=episode.id, score=score, baseline=pain.baseline, rule=pain.settled, evidence=(ref,)
                )  # fmt: skip
                follows.append((PainSettled, settled))
        if taken.usual is not None:
            usual = usual_pain_changed(usual=taken.usual, rule=library.pain.told, evidence=(ref,))
            follows.append((UsualPainChanged, usual))
        if taken.changes or taken.review is not None:
            decision = (
                decide(rule=taken.review, evidence=(ref,))
                if taken.review is not None
                else decision_of(reason=taken.changes[0].reason)
            )
            revised = plan_revised(plan=plan, changes=taken.changes, decision=decision, library=library)
            follows.append((PlanRevised, revised))
        rule = library.engagement.milestones
        for milestone in taken.milestones:
            reached = milestone_reached(milestone=milestone, rule=rule, evidence=(ref,))
            follows.append((MilestoneReached, reached))
        return follows

    def _derive(
        self, scope: str, event: CloudEvent, follows: Sequence[tuple[type[CloudEvent], Record]]
    ) -> list[Derived]:
        return [
            Derived(
                event=kind,
                id=derive_id(f"plans {scope} {event.source} {event.id} {ordinal}"),
                source=PLANS,
                subject=event.subject,
                data=data,
                cause=event,
            )
            for ordinal, (kind, data) in enumerate(follows)
        ]
