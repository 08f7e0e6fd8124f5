"""Who may act for whom. Whoever may not, hears 404: that someone is a member is itself health information."""

from uuid import UUID

from services.enrollment.domain.coverage import Sponsor
from services.enrollment.domain.membership import Membership
from services.enrollment.store.memberships import load_memberships
from services.enrollment.store.sponsors import load_sponsors
from shared.auth import Principal
from shared.database import Connection
from shared.http import Problem


def not_found() -> Problem:
    return Problem(404, "not-found", "There is nothing here for you.")


def wrong_field(field: str, message: str) -> Problem:
    """A field that is well formed but does not fit another."""
    return Problem(422, "invalid-request", "Some fields are not valid.", errors=[{"field": field, "message": message}])


async def find_membership(connection: Connection, *, principal: Principal, member_id: UUID) -> Membership:
    """The member, if this caller may act for them: themself, the platform, an operator, their own care team, or who is
    on call while nobody cares for them (docs/decisions/0008). Raises Problem 404."""
    membership = (await load_memberships(connection, member_ids=[member_id])).get(member_id)
    if membership is None:
        raise not_found()
    roles, subject = principal.roles, principal.subject
    if roles & {"app", "operator"}:
        return membership
    if "member" in roles and subject == member_id:
        return membership
    if ("pt" in roles and subject == membership.pt_id) or ("coach" in roles and subject == membership.coach_id):
        return membership
    if "oncall" in roles and membership.awaits_team:
        return membership
    raise not_found()


async def find_sponsor(connection: Connection, *, principal: Principal, sponsor_id: UUID) -> Sponsor:
    """The sponsor, if this caller may act for it: an operator, or one of its administrators. Raises Problem 404."""
    sponsor = (await load_sponsors(connection, sponsor_ids=[sponsor_id])).get(sponsor_id)
    if sponsor is None:
        raise not_found()
    if "operator" in principal.roles or str(principal.subject) in sponsor.administrators:
        return sponsor
    raise not_found()
