"""Whether a person is covered at a moment. The member pays nothing, whatever the answer."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal
from uuid import UUID

MEMBER_COST: Final = 0
"""What a covered member pays, in US dollars."""

EligibilityReason = Literal[
    "covered",
    "sponsor-unknown",
    "sponsor-not-started",
    "sponsor-ended",
    "person-not-found",
    "coverage-not-started",
    "coverage-ended",
    "state-not-served",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sponsor:
    sponsor_id: UUID
    name: str
    states: tuple[str, ...]
    covers_from: date
    covers_until: date | None
    administrators: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """A person on a sponsor's roster. Both dates are covered days."""

    sponsor_id: UUID
    person_id: str
    date_of_birth: date
    state: str
    effective_from: date
    effective_to: date | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Eligibility:
    eligible: bool
    reason: EligibilityReason
    effective_from: date | None = None
    effective_to: date | None = None


def starts_at(day: date) -> datetime:
    """When coverage from this day begins: 00:00 UTC, before the day begins in any state served."""
    return datetime.combine(day, time(0), UTC)


def ends_at(day: date) -> datetime:
    """When coverage through this day is over: 12:00 UTC of the next day, when the day has ended in every US time zone
    (the last, American Samoa, at 11:00 UTC). (A) Nobody is cut off on a day that is still theirs."""
    return datetime.combine(day + timedelta(days=1), time(12), UTC)


def coverage_end(*, sponsor: Sponsor, coverage: Coverage) -> date | None:
    """The last day covered: the person's or the contract's, whichever is first; None: open."""
    return min((day for day in (coverage.effective_to, sponsor.covers_until) if day is not None), default=None)


def decide_eligibility(
    *, sponsor: Sponsor | None, coverage: Coverage | None, date_of_birth: date, state: str | None, now: datetime
) -> Eligibility:
    """Eligible or not, and why. `state` is where the person lives now; the roster's when it is not known.

    A date of birth that does not match answers as if the person were not there: no telling who is on a roster.
    """
    if sponsor is None:
        return Eligibility(eligible=False, reason="sponsor-unknown")
    if coverage is None or coverage.date_of_birth != date_of_birth:
        return Eligibility(eligible=False, reason="person-not-found")
    starts = max(coverage.effective_from, sponsor.covers_from)
    ends = coverage_end(sponsor=sponsor, coverage=coverage)
    return Eligibility(
        eligible=(reason := _reason(sponsor, coverage, state, now)) == "covered",
        reason=reason,
        effective_from=starts,
        effective_to=ends,
    )


def _reason(sponsor: Sponsor, coverage: Coverage, state: str | None, now: datetime) -> EligibilityReason:
    if now < starts_at(sponsor.covers_from):
        return "sponsor-not-started"
    if sponsor.covers_until is not None and now >= ends_at(sponsor.covers_until):
        return "sponsor-ended"
    if now < starts_at(coverage.effective_from):
        return "coverage-not-started"
    if coverage.effective_to is not None and now >= ends_at(coverage.effective_to):
        return "coverage-ended"
    if (state or coverage.state) not in sponsor.states:
        return "state-not-served"
    return "covered"
