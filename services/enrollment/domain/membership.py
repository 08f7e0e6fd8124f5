"""Where a person stands with us, and which step is possible from there.

blocked     a screening stopped them: a clinician looks first
cleared     the clinician let them go on: a new intake may enrol them
waitlisted  nobody can care for them yet; tried again by itself
enrolled    covered, with a care team
paused      enrolled, but nothing is asked of them
disenrolled no longer; a new intake may enrol them again
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from shared.events.vocabulary import Language
from shared.outcomes import Refusal

Status = Literal["blocked", "cleared", "waitlisted", "enrolled", "paused", "disenrolled"]
IN_CARE: Final[frozenset[Status]] = frozenset({"enrolled", "paused"})
PAUSE_MAX: Final = timedelta(days=180)
"""(A) A longer pause is a disenrolment with a new intake: the body has changed by then."""
CONTACT_PERIOD: Final = timedelta(days=30)
"""How often a whole contact is announced again, so that retention of its topic (31 days) can end."""
CONTACT_SPREAD: Final = timedelta(hours=20)
WAITLIST_PERIOD: Final = timedelta(hours=6)
"""How often a waitlisted person is tried again; a new or freed practitioner makes it at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Membership:
    member_id: UUID
    sponsor_id: UUID
    person_id: str
    status: Status
    status_reason: str
    status_since: datetime
    state: str
    language: Language
    time_zone: str
    intake_id: UUID
    pt_id: UUID | None = None
    coach_id: UUID | None = None
    reassignment_problem: str | None = None
    paused_until: datetime | None = None

    @property
    def in_care(self) -> bool:
        return self.status in IN_CARE

    @property
    def awaits_team(self) -> bool:
        """On the way into care with nobody who cares for them yet. Who has left is nobody's any more."""
        return self.pt_id is None and self.coach_id is None and self.status != "disenrolled"


def decide_intake(*, known: Membership | None, sponsor_id: UUID, person_id: str, blocks: bool) -> Refusal | None:
    """Whether this person may take an intake now. `blocks`: its screening does.

    Someone in care has had one. Someone whom a screening stopped cannot answer their way past it: until a clinician has
    looked, only answers that block as well are taken, because they may be worse.
    """
    if known is None:
        return None
    if (known.sponsor_id, known.person_id) != (sponsor_id, person_id):
        return Refusal("member-is-another", "This member id belongs to another person.")
    if known.in_care:
        return Refusal("already-enrolled", "This person is already enrolled.")
    if known.status == "blocked" and not blocks:
        return Refusal("screening-open", "A clinician must look at the earlier answers first.")
    return None


def clear(*, membership: Membership, now: datetime) -> Membership | Refusal:
    """A clinician has looked at what blocked them."""
    if membership.status != "blocked":
        return Refusal("not-blocked", "No screening of this person is open.")
    return replace(membership, status="cleared", status_reason="clinician-cleared", status_since=now)


def pause(*, membership: Membership, reason: str, until: datetime | None, now: datetime) -> Membership | Refusal:
    """Paused, or moved to another end of the pause."""
    if not membership.in_care:
        return Refusal("not-enrolled", "Only an enrolled member can be paused.")
    if until is not None and until <= now:
        return Refusal("until-in-the-past", "`until` must be in the future.")
    if until is not None and until > now + PAUSE_MAX:
        return Refusal("until-too-far", f"A pause lasts at most {PAUSE_MAX.days} days.")
    return replace(membership, status="paused", status_reason=reason, status_since=now, paused_until=until)


def resume(*, membership: Membership, reason: str, now: datetime) -> Membership | Refusal:
    if membership.status != "paused":
        return Refusal("not-paused", "Only a paused member can be resumed.")
    return replace(membership, status="enrolled", status_reason=reason, status_since=now, paused_until=None)


def disenrol(*, membership: Membership, reason: str, now: datetime) -> Membership | Refusal:
    """Out of care, or off the waiting list."""
    if not membership.in_care and membership.status != "waitlisted":
        return Refusal("not-enrolled", "Only an enrolled or waitlisted member can be disenrolled.")
    return replace(
        membership,
        status="disenrolled",
        status_reason=reason,
        status_since=now,
        paused_until=None,
        pt_id=None,
        coach_id=None,
        reassignment_problem=None,
    )


def next_announcement(*, member_id: UUID, after: datetime) -> datetime:
    """When this member's contact is announced again: within CONTACT_PERIOD, spread so that a day's enrolments do
    not come back as one herd, and always before the topic forgets the last one."""
    share = (member_id.int % 1000) / 1000
    return after + CONTACT_PERIOD - CONTACT_SPREAD * share
