"""Who may see whom, and how a refusal of the domain is answered."""

from typing import Annotated, Final, NoReturn
from uuid import UUID

from fastapi import Depends, Header

from services.messaging.store.alerts import load_alerts
from services.messaging.store.members import find_visible_members
from services.messaging.store.visits import load_visits
from shared.auth import Principal, require
from shared.events.vocabulary import Practitioner, PractitionerRole
from shared.http import Problem
from shared.outcomes import Refusal
from shared.service import Service, this_service

This = Annotated[Service, Depends(this_service)]
Anyone = Annotated[Principal, Depends(require("member", "coach", "pt", "oncall"))]
"""A member or a clinician; each route asks which."""
Clinician = Annotated[Principal, Depends(require("coach", "pt", "oncall"))]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]
"""Chosen by the caller: a request sent again with the same key, after a lost answer, happens once."""

MISSING: Final = frozenset({"no-such-alert", "no-such-visit", "no-such-message", "not-their-team"})
INVALID: Final = frozenset({"not-ahead", "too-long", "too-soon", "too-far", "emergency"})


def refuse(refusal: Refusal) -> NoReturn:
    """Raise the Problem that a refusal is: 404 what is not there, 422 what cannot be meant, 409 what came too late."""
    status = 404 if refusal.reason in MISSING else 422 if refusal.reason in INVALID else 409
    raise Problem(status, refusal.reason, refusal.detail)


def not_found() -> Problem:
    """The same answer for what does not exist and for what the caller may not see."""
    return Problem(404, "not-found", "There is nothing here that you may see.")


def role_of(principal: Principal) -> PractitionerRole:
    """The role in which a clinician acts: their own on the team before the on-call one."""
    for role in ("pt", "coach", "oncall"):
        if role in principal.roles:
            return role
    raise Problem(403, "forbidden", "This is for clinicians.")


def practitioner_of(principal: Principal) -> Practitioner:
    """The clinician who acts. Problem 403 for everyone else."""
    role = role_of(principal)
    return Practitioner(practitioner_id=principal.person_id, role=role, name=principal.name or role)


async def check_member(service: Service, principal: Principal, member_id: UUID) -> bool:
    """Whether the caller is the member themself (True) or a clinician who may see them (False). Problem 404 otherwise:
    whether such a member exists is not told."""
    if "member" in principal.roles and principal.subject == member_id:
        return True
    if not principal.roles & {"pt", "coach", "oncall"}:
        raise not_found()
    async with service.requests.acquire() as connection:
        visible = await find_visible_members(
            connection, practitioner_id=principal.person_id, oncall="oncall" in principal.roles, member_ids=[member_id]
        )
    if member_id not in visible:
        raise not_found()
    return False


async def member_of_alert(service: Service, principal: Principal, alert_id: UUID) -> UUID:
    """The member of an alert that this clinician may see; Problem 404 otherwise."""
    async with service.requests.acquire() as connection:
        alert = (await load_alerts(connection, alert_ids=[alert_id])).get(alert_id)
    if alert is None or await check_member(service, principal, alert.member_id):
        raise not_found()
    return alert.member_id


async def member_of_visit(service: Service, principal: Principal, visit_id: UUID) -> tuple[UUID, bool]:
    """The member of a visit that the caller may see, and whether the caller is that member; Problem 404 otherwise."""
    async with service.requests.acquire() as connection:
        visit = (await load_visits(connection, visit_ids=[visit_id])).get(visit_id)
    if visit is None:
        raise not_found()
    return visit.member_id, await check_member(service, principal, visit.member_id)
