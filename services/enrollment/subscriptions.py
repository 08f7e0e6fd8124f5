"""What enrollment reacts to. It consumes no topic: its facts come from sponsors, apps and people, by HTTP."""

from typing import Final

from services.enrollment.domain.enrolment import (
    CONTACT_TIMER,
    COVERAGE_TIMER,
    PAUSE_TIMER,
    REASSIGNMENT_TIMER,
    WAITLIST_TIMER,
)
from services.enrollment.handlers.change_contact import announce_contacts
from services.enrollment.handlers.disenrol_members import end_coverages
from services.enrollment.handlers.hand_over_panels import reassign_members
from services.enrollment.handlers.pause_members import end_pauses
from services.enrollment.handlers.place_waiting import place_waiting
from shared.subscriptions import Subscription, TimerSubscription

SUBSCRIPTIONS: Final[tuple[Subscription, ...]] = ()
TIMERS: Final = (
    TimerSubscription(kind=CONTACT_TIMER, run=announce_contacts),
    TimerSubscription(kind=COVERAGE_TIMER, run=end_coverages),
    TimerSubscription(kind=PAUSE_TIMER, run=end_pauses),
    TimerSubscription(kind=REASSIGNMENT_TIMER, run=reassign_members),
    TimerSubscription(kind=WAITLIST_TIMER, run=place_waiting),
)
