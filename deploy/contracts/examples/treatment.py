"""What happens at home: enrolment, sessions, pain, and the plan that follows them."""

from datetime import date
from typing import Final

from deploy.contracts.examples.member import COACH, PT, SPIKE_DAY, START, at, decision, example, example_id
from shared.events import (
    CareTeamAssigned,
    CloudEvent,
    ConsentChanged,
    ContactChanged,
    ExerciseResult,
    MemberDisenrolled,
    MemberEnrolled,
    MemberLapsed,
    MemberPaused,
    MemberResumed,
    MemberScreened,
    MilestoneReached,
    OutcomeRecorded,
    PainReported,
    PainSettled,
    PainSpiked,
    PlanIssued,
    PlanRevised,
    SafetyFlagged,
    SessionCompleted,
    UsualPainChanged,
)
from shared.events.activity import PainReportedData, SessionCompletedData
from shared.events.members import (
    CareTeamAssignedData,
    ConsentChangedData,
    ContactChangedData,
    MemberDisenrolledData,
    MemberEnrolledData,
    MemberPausedData,
    MemberResumedData,
    MemberScreenedData,
    PainIntake,
)
from shared.events.plans import (
    MemberLapsedData,
    MilestoneReachedData,
    OutcomeRecordedData,
    PainSettledData,
    PainSpikedData,
    PlanChange,
    PlanElement,
    PlanIssuedData,
    PlanRevisedData,
    SafetyFlaggedData,
    UsualPainChangedData,
)
from shared.events.vocabulary import PlanItem, Schedule


def member_examples() -> list[CloudEvent]:
    screened = example(
        MemberScreened,
        MemberScreenedData(
            disposition="pt-72h",
            findings=("giving-way",),
            state="NY",
            decision=decision(
                "red-flags.knee", "Your knee gives way: a physical therapist looks at it within 72 hours."
            ),
        ),
        at=at(START, 14),
    )
    enrolled = example(
        MemberEnrolled,
        MemberEnrolledData(
            sponsor_id=example_id("sponsor"),
            intent="seeking-treatment",
            region="knee",
            cause="arthritis",
            signs=("pain-daily", "instability"),
            pain=PainIntake(now=4, average_24h=4, usual=4),
            goals=("Climb the stairs to my flat without stopping",),
            days_per_week=3,
            preferred_time="07:30",
            time_zone="America/New_York",
            state="NY",
            language="en",
            disposition="pt-72h",
            consented_channels=("email", "push"),
        ),
        at=at(START, 14, 1),
        because=screened,
    )
    return [
        screened,
        enrolled,
        example(
            CareTeamAssigned,
            CareTeamAssignedData(
                pt=PT,
                coach=COACH,
                decision=decision(
                    "enrollment.care-team",
                    "Your physical therapist is licensed in NY; both speak English. Your physical therapist works near "
                    "your hours and has room for you. Your coach works near your hours and has room for you.",
                    screened,
                ),
            ),
            at=at(START, 14, 1),
            because=enrolled,
        ),
        example(
            ContactChanged,
            ContactChangedData(
                given_name="Ada",
                family_name="Simulated",
                email="ada.simulated@example.com",
                phone="+12025550143",
                time_zone="America/New_York",
                language="en",
            ),
            at=at(START, 14, 1),
            because=enrolled,
        ),
        *_later_changes(),
    ]


def _later_changes() -> list[CloudEvent]:
    return [
        example(
            ConsentChanged,
            ConsentChangedData(channel="sms", topic="all", granted=False, given_by="member"),
            at=at(date(2026, 9, 3), 18),
        ),
        example(
            MemberPaused,
            MemberPausedData(reason="travelling", until=at(date(2026, 11, 9), 5)),
            at=at(date(2026, 11, 2), 12),
        ),
        example(MemberResumed, MemberResumedData(reason="back home"), at=at(date(2026, 11, 8), 16)),
        example(
            MemberDisenrolled,
            MemberDisenrolledData(reason="coverage-ended", effective_on=date(2026, 12, 31)),
            at=at(date(2026, 11, 20), 9),
        ),
    ]


def activity_examples() -> list[CloudEvent]:
    return [
        example(
            SessionCompleted,
            SessionCompletedData(
                session_id=example_id("session"),
                plan_id=example_id("plan"),
                plan_version=4,
                started_at=at(SPIKE_DAY, 11, 30),
                duration_min=22,
                exercises=(
                    ExerciseResult(
                        exercise="quad-stretch", step=1, sets_prescribed=2, sets_done=2, last_set_hold_s=30, rpe=2
                    ),
                    ExerciseResult(
                        exercise="mini-squat", step=2, sets_prescribed=3, sets_done=2, last_set_reps=8, rpe=7
                    ),
                ),
                pain_before=5,
                pain_during=8,
                pain_last_morning=5,
                findings=("catching",),
            ),
            at=at(SPIKE_DAY, 11, 52),
        ),
        example(
            PainReported,
            PainReportedData(region="knee", score=8, context="now", findings=("giving-way",)),
            at=at(SPIKE_DAY, 17, 5),
        ),
    ]


_ELEMENTS: Final = (
    PlanElement(element="assessment", content="Your answers of 1 September, and a visit with Ines within 72 hours."),
    PlanElement(element="strengthening", content="Knee extension, mini squat and bridge, three days a week."),
    PlanElement(element="stretching", content="Quad and hamstring stretches, four days a week."),
    PlanElement(element="education", content="What arthritis is, and why movement helps it."),
    PlanElement(element="pain-relief", content="Heat before and cold after, and what pain during exercise means."),
    PlanElement(element="prevention", content="How to keep the strength that you gain."),
)
_ITEMS: Final = (
    PlanItem(exercise="quad-stretch", step=1, step_name="30 s standing", sets=2, hold_s=30, days_per_week=4),
    PlanItem(exercise="mini-squat", step=1, step_name="0-30 degrees", sets=3, reps=10, days_per_week=3),
)
_SCHEDULE: Final = Schedule(weekdays=(1, 3, 5), local_time="07:30", time_zone="America/New_York")


def plan_examples(enrolled: CloudEvent, session: CloudEvent, pain: CloudEvent) -> list[CloudEvent]:
    return [*_plan_and_revision(enrolled, session), *_what_pain_means(session, pain), *_progress(session, pain)]


def _plan_and_revision(enrolled: CloudEvent, session: CloudEvent) -> list[CloudEvent]:
    easier = decision("progression.pain-red", "Squats hurt at 8 of 10, so they go back one step.", session)
    return [
        example(
            PlanIssued,
            PlanIssuedData(
                plan_id=example_id("plan"),
                version=1,
                pathway="knee-arthritis",
                elements=_ELEMENTS,
                items=_ITEMS,
                schedule=_SCHEDULE,
                sessions_per_week=3,
                decision=decision("programme.knee-arthritis", "Made for arthritis of the knee.", enrolled),
            ),
            at=at(START, 14, 2),
            because=enrolled,
        ),
        example(
            PlanRevised,
            PlanRevisedData(
                plan_id=example_id("plan"),
                version=5,
                changes=(PlanChange(exercise="mini-squat", action="regress", from_step=2, to_step=1, decision=easier),),
                items=_ITEMS,
                schedule=_SCHEDULE,
                sessions_per_week=3,
                decision=easier,
            ),
            at=at(SPIKE_DAY, 11, 52),
            because=session,
        ),
    ]


def _what_pain_means(session: CloudEvent, pain: CloudEvent) -> list[CloudEvent]:
    return [
        example(
            PainSpiked,
            PainSpikedData(
                episode_id=example_id("episode"),
                score=8,
                baseline=4.5,
                repeated=False,
                decision=decision("pain.spike", "Your pain is 3 or more above your usual 4.5.", session),
            ),
            at=at(SPIKE_DAY, 11, 52),
            because=session,
        ),
        example(
            UsualPainChanged,
            UsualPainChangedData(
                usual_pain=3.5,
                before=4.5,
                decision=decision("pain.usual-told", "3.5, was 4.5. Usual pain has moved by 1 or more.", session),
            ),
            at=at(SPIKE_DAY, 11, 52),
            because=session,
        ),
        example(
            SafetyFlagged,
            SafetyFlaggedData(
                flag_id=example_id("flag"),
                disposition="pt-72h",
                findings=("giving-way",),
                decision=decision("red-flags.knee", "Your knee gives way: a PT looks at it within 72 hours.", pain),
            ),
            at=at(SPIKE_DAY, 17, 5),
            because=pain,
        ),
        example(
            PainSettled,
            PainSettledData(
                episode_id=example_id("episode"),
                score=5,
                baseline=4.5,
                decision=decision("pain.settle", "Three readings in a row near your usual, over five days.", pain),
            ),
            at=at(date(2026, 10, 16), 12),
            because=pain,
        ),
    ]


def _progress(session: CloudEvent, pain: CloudEvent) -> list[CloudEvent]:
    return [
        example(
            MemberLapsed,
            MemberLapsedData(
                rung_days=3,
                missed_since=date(2026, 10, 23),
                decision=decision("lapse.ladder", "No session since the one planned for 23 October."),
            ),
            at=at(date(2026, 10, 26), 11, 30),
        ),
        example(
            MilestoneReached,
            MilestoneReachedData(
                milestone="sessions-10", decision=decision("milestones", "Ten sessions done.", session)
            ),
            at=at(SPIKE_DAY, 11, 52),
            because=session,
        ),
        example(
            OutcomeRecorded,
            OutcomeRecordedData(
                week=6, pain=3, function=7, decision=decision("outcomes.week", "Your answers of week 6.", pain)
            ),
            at=at(date(2026, 10, 13), 12),
            because=pain,
        ),
    ]
