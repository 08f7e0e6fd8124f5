"""What happens in the life of one simulated member, day by day: sessions, pain, messages, lapses. Pure and seeded.

A life depends on its seed alone. What the system or its staff do in answer never feeds back into it.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from deploy.simulator.bodies import Body, BodyDay, read_pain
from deploy.simulator.parameters import Parameters
from deploy.simulator.people import Cohort, Member, chance, pick
from deploy.simulator.training import Training
from shared.events import ExerciseResult
from shared.events.vocabulary import Finding, PainContext, PainScore
from shared.red_flags import screen

LAST_START_MIN: Final = 23 * 60 + 45
"""Minute of the day of the last session to begin."""
MessageTopic = Literal["flare", "question", "news"]


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The member answers the intake."""

    at: datetime
    sent_at: datetime


@dataclass(frozen=True, kw_only=True)
class SessionDone:
    """`at` is the end of the session, UTC; `sent_at` is when the phone found a signal."""

    at: datetime
    sent_at: datetime
    started_at: datetime
    duration_min: int
    exercises: tuple[ExerciseResult, ...]
    pain_before: PainScore
    pain_during: PainScore
    pain_last_morning: PainScore | None
    findings: tuple[Finding, ...]
    spiked: bool
    """By the plans' rule, it is to alert somebody."""


@dataclass(frozen=True, kw_only=True)
class PainTold:
    at: datetime
    sent_at: datetime
    score: PainScore
    context: PainContext
    spiked: bool


@dataclass(frozen=True, kw_only=True)
class MessageWritten:
    at: datetime
    sent_at: datetime
    topic: MessageTopic
    variant: int
    """Which of the sentences about this topic."""


Happening = Joined | SessionDone | PainTold | MessageWritten


def at_local(day: date, *, minute: int, zone: ZoneInfo) -> datetime:
    """UTC instant of a minute of a local day; minutes past midnight run on into the next day."""
    moment = datetime.combine(day, time(0)) + timedelta(minutes=minute)
    return moment.replace(tzinfo=zone).astimezone(UTC)


@dataclass(kw_only=True)
class _Absence:
    """Days on which nothing is heard from a member."""

    until: date | None = None

    def lasts_on(self, day: date) -> bool:
        return self.until is not None and day < self.until


@dataclass(kw_only=True)
class Life:
    """One member's life in the programme, from the intake until they leave, or without end."""

    member: Member
    cohort: Cohort
    p: Parameters
    _absence: _Absence = field(default_factory=_Absence)
    _session_yesterday: bool = False
    _last_morning: PainScore | None = None

    def __post_init__(self) -> None:
        self._zone = ZoneInfo(self.member.time_zone)
        self._will = self._chance("will")
        self._answers = self._chance("answers")
        self._voice = self._chance("voice")
        self._body = Body(self._chance("body"), usual_pain=self.member.usual_pain, p=self.p)
        self._phone = self._chance("phone")
        joined_on = self.cohort.starts_on + timedelta(days=self.member.joins_on_day)
        self._joined_at = at_local(joined_on, minute=self.member.joins_at_min, zone=self._zone)
        self._training = Training(rng=self._chance("training"), member=self.member, joined_at=self._joined_at, p=self.p)

    def _chance(self, what: str) -> random.Random:
        return chance(self.cohort.name, self.member.index, what)

    def happenings(self) -> Iterator[Happening]:
        """Everything that happens, day by day; within a day in no particular order."""
        joined_on = self.cohort.starts_on + timedelta(days=self.member.joins_on_day)
        yield Joined(at=self._joined_at, sent_at=self._joined_at)
        if not self.member.starts:
            return
        day_number = 1
        while self.member.leaves_after_days is None or day_number <= self.member.leaves_after_days:
            yield from self.live_day(joined_on + timedelta(days=day_number))
            day_number += 1

    def live_day(self, day: date) -> Iterator[Happening]:
        body = self._body.live_day()
        if self._session_yesterday:
            self._last_morning = self._answer_morning(body)
            self._session_yesterday = False
        if self._is_absent(day):
            return
        if self._does_session(day, body):
            session = self._do_session(day, body)
            yield session
            self._session_yesterday = True
            if screen(findings=session.findings).blocks_plan:
                # The app says to stop and be seen first.
                self._absence.until = day + timedelta(days=self.p.rest_after_red_flag_days)
        elif self._will.random() < self._report_chance():
            yield self._tell_pain(day, body)
        yield from self._write_messages(day, body)

    def _is_absent(self, day: date) -> bool:
        lapse_days = self._will.randint(self.p.lapse_days_min, self.p.lapse_days_max)
        begins = self._will.random() < self.p.lapses_per_100_person_days / 100
        if not self._absence.lasts_on(day) and begins:
            self._absence.until = day + timedelta(days=lapse_days)
        return self._absence.lasts_on(day)

    def _does_session(self, day: date, body: BodyDay) -> bool:
        # After surgery a PT signs each phase first, so the app shows no session.
        if day.isoweekday() not in self._training.weekdays or self.member.cause == "post-surgical":
            return False
        return self._will.random() < adherence(self.p) * (self.p.adherence_in_flare if body.flaring else 1)

    def _report_chance(self) -> float:
        """Per day without a session, so that the week has as many reports as wanted."""
        return self.p.pain_reports_per_week / (7 - self.p.sessions_per_week)

    def _answer_morning(self, body: BodyDay) -> PainScore | None:
        score = read_pain(self._answers, level=body.level, p=self.p)
        return score if self._answers.random() < self.p.morning_answers_share else None

    def _do_session(self, day: date, body: BodyDay) -> SessionDone:
        rng = self._answers
        before = read_pain(rng, level=body.level, p=self.p)
        during = read_pain(rng, level=body.level, p=self.p)
        if rng.random() < self.p.same_hour_share:
            minute = self.member.hour * 60 + self.member.minute + rng.randint(-40, 30)
        else:
            minute = rng.choices(range(24), weights=self.p.hour_weights)[0] * 60 + rng.randrange(60)
        started_at = at_local(day, minute=min(max(0, minute), LAST_START_MIN), zone=self._zone)
        duration_min = rng.randint(14, 32)
        ended_at = started_at + timedelta(minutes=duration_min, seconds=rng.randrange(60))
        sent_at = ended_at + self._delay()
        last_morning, self._last_morning = self._last_morning, None
        findings = self._findings(body)
        results = self._training.do_session(at=started_at, weekday=day.isoweekday(), rise=body.rise)
        spiked = self._training.send_session(
            sent_at=sent_at,
            ended_at=ended_at,
            results=results,
            pain=during,
            last_morning=last_morning,
            findings=findings,
        )
        return SessionDone(
            at=ended_at,
            sent_at=sent_at,
            started_at=started_at,
            duration_min=duration_min,
            exercises=results,
            pain_before=before,
            pain_during=during,
            pain_last_morning=last_morning,
            findings=findings,
            spiked=spiked,
        )

    def _delay(self) -> timedelta:
        """Mostly none; now and then a phone without signal."""
        late, hours = self._phone.random() < self.p.late_share, self._phone.uniform(0.5, self.p.late_h_max)
        return timedelta(hours=hours) if late else timedelta(0)

    def _findings(self, body: BodyDay) -> tuple[Finding, ...]:
        """Rarely one. In a flare the knee buckles more often, by the published odds ratio."""
        weights: dict[Finding, float] = self.p.finding_weights  # type: ignore[assignment]  # closed words, held by a test
        name, luck = pick(self._answers, weights), self._answers.random()
        share = self.p.findings_per_1000_sessions / 1000
        buckling = share * weights["giving-way"] / sum(weights.values())
        odds = buckling / (1 - buckling) * (self.p.buckling_odds_ratio_in_flare if body.flaring else 1)
        if luck < odds / (1 + odds):
            return ("giving-way",)
        return (name,) if name != "giving-way" and luck > 1 - share else ()

    def _tell_pain(self, day: date, body: BodyDay) -> PainTold:
        rng = self._answers
        context: PainContext = rng.choice(("now", "average-24h"))
        minute = rng.choices(range(24), weights=self.p.hour_weights)[0] * 60 + rng.randrange(60)
        at, score = at_local(day, minute=minute, zone=self._zone), read_pain(rng, level=body.level, p=self.p)
        sent_at = at + self._delay()
        spiked = self._training.send_pain(sent_at=sent_at, at=at, score=score, context=context)
        return PainTold(at=at, sent_at=sent_at, context=context, score=score, spiked=spiked)

    def _write_messages(self, day: date, body: BodyDay) -> Iterator[MessageWritten]:
        rng = self._voice
        luck, minute, variant = rng.random(), rng.randrange(7 * 60, 22 * 60), rng.randrange(1000)
        weekly = self.p.messages_per_active_week * self.p.member_share_of_messages
        worse = body.flare_begins is not None
        if luck < (0.5 if worse else weekly / 7):
            topic: MessageTopic = "flare" if worse else "question" if variant % 3 else "news"
            at = at_local(day, minute=minute, zone=self._zone)
            yield MessageWritten(at=at, sent_at=at, topic=topic, variant=variant)


def adherence(p: Parameters) -> float:
    """Share of planned sessions done on a day without a flare, so that the mean week has as many as published."""
    weights = p.planned_days_weights
    planned = sum(days * weight for days, weight in weights.items()) / sum(weights.values())
    in_flare = p.flares_per_100_person_days / 100 * p.flare_median_days * 1.15
    return p.sessions_per_week / planned / (1 - in_flare * (1 - p.adherence_in_flare))
