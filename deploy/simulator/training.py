"""How a simulated member does the exercises that their app shows. Pure.

A plan is a function of its member's own answers, so the app's plan is computed here by the plans' own pure rules
instead of being asked for: what a phone sends must not depend on how fast a running system is. Answers count when they
were sent, as they do there; only what staff change by hand is not known here.
"""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from deploy.simulator.parameters import Parameters
from deploy.simulator.people import Member
from services.plans.domain.activity import PainReport, Session, take_pain_report, take_session
from services.plans.domain.care_plan import CarePlan, Item, Ref
from services.plans.domain.plan_issue import Intake, issue_plan
from services.plans.store.rules import load_library
from shared.events import ExerciseResult
from shared.events.vocabulary import Exercise, Finding, PainContext, PainScore
from shared.red_flags import screen

NOBODY: Final = UUID(int=0)
"""Of plans that never leave the simulation."""


def _plan_of(member: Member, joined_at: datetime) -> CarePlan:
    intake = Intake(
        member_id=member.member_id,
        event=("simulated", "intake"),
        at_s=int(joined_at.timestamp()),
        cause=member.cause,
        usual_pain=member.usual_pain_told,
        days_per_week=member.days_per_week,
        local_time=member.preferred_time,
        time_zone=member.time_zone,
        disposition=screen(findings=member.findings).disposition,
    )
    return issue_plan(intake=intake, plan_id=NOBODY, library=load_library()).plan


@dataclass(kw_only=True)
class Training:
    """One member's exercises, session after session."""

    rng: random.Random
    member: Member
    joined_at: datetime
    p: Parameters

    def __post_init__(self) -> None:
        self._plan = _plan_of(self.member, self.joined_at)
        self._unsent: list[tuple[datetime, Session | PainReport]] = []
        self._practised: dict[Exercise, tuple[int, int]] = {}
        """Step of the last session, and how many sessions it has been practised."""

    @property
    def weekdays(self) -> tuple[int, ...]:
        """ISO weekdays on which a session is planned."""
        return self._plan.week.weekdays

    def do_session(self, *, at: datetime, weekday: int, rise: float) -> tuple[ExerciseResult, ...]:
        """The answers of one session that begins now; `rise` is how far a flare lifts pain, in points."""
        self._receive(at)
        strong_day = weekday in self._plan.week.strength_weekdays
        exercises = load_library().exercises
        wanted = [item for item in self._plan.items if strong_day or exercises[item.exercise].kind == "stretch"]
        return tuple(self._do_exercise(item, rise=rise) for item in wanted)

    def send_session(
        self,
        *,
        sent_at: datetime,
        ended_at: datetime,
        results: tuple[ExerciseResult, ...],
        pain: PainScore,
        last_morning: PainScore | None,
        findings: tuple[Finding, ...],
    ) -> bool:
        """The app sends the answers at `sent_at`: from then on its plan follows them. True where they are a pain spike,
        unless the phone was late."""
        ref = self._ref()
        self._unsent.append(
            (
                sent_at,
                Session(
                    event=ref,
                    at_s=int(ended_at.timestamp()),
                    session_id=self.rng.getrandbits(48),
                    plan_id=None,
                    pain=pain,
                    pain_last_morning=last_morning,
                    disposition=screen(findings=findings).disposition,
                    results=results,
                ),
            )
        )
        return sent_at == ended_at and self._receive(sent_at)

    def send_pain(self, *, sent_at: datetime, at: datetime, score: PainScore, context: PainContext) -> bool:
        """As for a session."""
        at_s, ref = int(at.timestamp()), self._ref()
        report = PainReport(event=ref, at_s=at_s, score=score, context=context, disposition="none")
        self._unsent.append((sent_at, report))
        return sent_at == at and self._receive(sent_at)

    def _ref(self) -> Ref:
        return "simulated", str(self.rng.getrandbits(64))

    def _receive(self, now: datetime) -> bool:
        """What was sent until now has moved the plan, in the order it was sent. Whether any of it was a spike."""
        library, spiked = load_library(), False
        self._unsent.sort(key=lambda sent: sent[0])
        while self._unsent and self._unsent[0][0] <= now:
            activity = self._unsent.pop(0)[1]
            if isinstance(activity, Session):
                taken = take_session(plan=self._plan, session=activity, library=library)
            else:
                taken = take_pain_report(plan=self._plan, report=activity, library=library)
            self._plan = taken.plan
            spiked = spiked or (taken.pain is not None and taken.pain.alert is not None)
        return spiked

    def _do_exercise(self, item: Item, *, rise: float) -> ExerciseResult:
        rng, p = self.rng, self.p
        step, practised = self._practised.get(item.exercise, (item.step, 0))
        # A step up begins anew; a step down is one that was practised before.
        practised = practised + 1 if step == item.step else 0 if step < item.step else 3
        self._practised[item.exercise] = (item.step, practised)
        rpe = p.rpe_start - p.rpe_gain_per_session * practised + p.rpe_rise_per_flare_point * rise + rng.gauss(0, 0.7)
        complete = rng.random() < (p.complete_share if rise == 0 else p.complete_share_in_flare)
        extra = round(p.extra_reps_per_session * practised - 0.5 * rise + rng.gauss(0, 0.8))
        held = item.hold_s if complete or item.hold_s is None else item.hold_s // 2
        return ExerciseResult(
            exercise=item.exercise,
            step=item.step,
            sets_prescribed=item.sets,
            sets_done=item.sets if complete else item.sets - 1,
            last_set_reps=None if item.reps is None else max(1, item.reps + extra),
            last_set_hold_s=held,
            rpe=min(10, max(1, round(rpe))),
        )
