"""What comes in one chunk for several members, or several times for one, is told apart as if it came one by one."""

from services.messaging.handlers.follow_activity import follow_activity
from services.messaging.handlers.follow_members import follow_members
from services.messaging.handlers.follow_plans import follow_plans
from services.messaging.handlers.follow_visits import follow_visits
from services.messaging.handlers.plan_visits import complete_booking
from services.messaging.store.rules import load_visit_rules
from shared.events.visits import VisitRecommendation
from tests.messaging.conftest import Clinic
from tests.messaging.given import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    OTHER_MEMBER,
    enrolled,
    lapsed,
    session,
    team_assigned,
)
from tests.messaging.test_alerts import the_alert
from tests.messaging.test_visits import TUESDAY_10, book


async def test_who_is_back_ends_their_own_lapse_and_nobody_elses(clinic: Clinic) -> None:
    await clinic.take(follow_members, enrolled(OTHER_MEMBER), team_assigned(OTHER_MEMBER))
    await clinic.take(follow_plans, lapsed(14), lapsed(14, member_id=OTHER_MEMBER))
    clinic.now += HOUR
    old, back = session(at=NOW - DAY), session(OTHER_MEMBER, pain=2, at=clinic.now)
    (resolved,) = await clinic.take(follow_activity, old, back)
    assert (resolved.subject, resolved.causationid) == (OTHER_MEMBER, back.id)
    assert (await the_alert(clinic)).status == "open"


async def test_a_visit_that_is_documented_before_its_miss_is_read_is_nobodys_work(clinic: Clinic) -> None:
    visit = await book(clinic)
    clinic.is_behind = True
    (missed,) = await clinic.pass_time(TUESDAY_10 - NOW + 30 * MINUTE + load_visit_rules().missed_after)
    advice = VisitRecommendation(action="continue")
    await clinic.command(complete_booking, visit_id=visit.visit_id, recommendation=advice, note=None)
    raised, resolved = await clinic.take(follow_visits, missed, clinic.published[-1])
    assert (raised.data.kind, resolved.data.outcome) == ("missed-visit", "reached-member")
    assert (await the_alert(clinic)).status == "resolved"
    assert await clinic.due_timers() == {}
