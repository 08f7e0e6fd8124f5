"""What happens to a member after intake: pause, resume, leave, a new address, other consents, a clinician's
clearance."""

from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, Field

from services.enrollment.api.access import find_membership, not_found
from services.enrollment.api.fields import Body, Email, Line80, Line300, Phone, Zone
from services.enrollment.domain.membership import Membership
from services.enrollment.handlers.change_consents import change_consents
from services.enrollment.handlers.change_contact import change_contact
from services.enrollment.handlers.clear_screening import clear_screening
from services.enrollment.handlers.disenrol_members import LeavingReason, disenrol_member
from services.enrollment.handlers.pause_members import pause_member, resume_member
from services.enrollment.store.intake_rules import load_intake_rules
from services.enrollment.store.memberships import load_consents, load_contacts
from shared.auth import Principal, require
from shared.commands import Work
from shared.events.members import ConsentChangedData, ContactChangedData
from shared.events.vocabulary import Channel, Language, NotificationTopic
from shared.http import Problem
from shared.outcomes import Outcomes, Refusal
from shared.service import Service, this_service

router = APIRouter(prefix="/v1/members/{member_id}", tags=["members"])
Anyone = Annotated[Principal, Depends(require("member", "app", "operator", "pt", "coach", "oncall"))]
Self = Annotated[Principal, Depends(require("member", "app", "operator"))]
OnCall = Annotated[Principal, Depends(require("oncall"))]
ThisService = Annotated[Service, Depends(this_service)]


class PauseBody(Body):
    reason: Line80
    until: AwareDatetime | None = None
    """When the pause ends by itself; left out: when somebody resumes."""


class ReasonBody(Body):
    reason: Line80


class DisenrolBody(Body):
    reason: Literal["member-left", "completed", "operator"]


class ContactBody(Body):
    """The whole contact: what is left out is no longer known."""

    given_name: Line80
    family_name: Line80
    email: Email | None = None
    phone: Phone | None = None
    time_zone: Zone
    language: Language


class ConsentBody(Body):
    channel: Channel
    topic: NotificationTopic | Literal["all"] = "all"
    granted: Annotated[bool, Field(strict=True)]


class ConsentsBody(Body):
    consents: Annotated[tuple[ConsentBody, ...], Field(min_length=1, max_length=40)]


class ClearanceBody(Body):
    reason: Line300
    """What the clinician found; kept with the clearance, published nowhere."""


@router.get("")
async def get_member(member_id: UUID, service: ThisService, principal: Anyone) -> dict[str, Any]:
    """Where a member stands, their care team, contact and consents."""
    async with service.requests.acquire() as connection:
        membership = await find_membership(connection, principal=principal, member_id=member_id)
        contact = (await load_contacts(connection, member_ids=[member_id])).get(member_id)
        consents = await load_consents(connection, member_ids=[member_id])
    return {
        **_standing(membership),
        "contact": None if contact is None else contact.model_dump(mode="json"),
        "consents": [
            {"channel": channel, "topic": topic, "granted": granted}
            for (_, channel, topic), granted in sorted(consents.items())
        ],
    }


@router.post("/pause")
async def post_pause(
    member_id: UUID, body: PauseBody, request: Request, service: ThisService, principal: Anyone
) -> dict[str, Any]:
    """Nothing is asked of the member until the pause ends."""
    await _check(service, principal, member_id)
    async with service.command("pause-member", member_ids=[member_id], request=request) as work:
        _settle(
            work,
            await pause_member(
                work.connection,
                member_id=member_id,
                reason=body.reason,
                until=body.until,
                command=work.command,
                now=work.now,
            ),
        )
    return await _answer(service, principal, member_id)


@router.post("/resume")
async def post_resume(
    member_id: UUID, body: ReasonBody, request: Request, service: ThisService, principal: Anyone
) -> dict[str, Any]:
    await _check(service, principal, member_id)
    async with service.command("resume-member", member_ids=[member_id], request=request) as work:
        _settle(
            work,
            await resume_member(
                work.connection, member_id=member_id, reason=body.reason, command=work.command, now=work.now
            ),
        )
    return await _answer(service, principal, member_id)


@router.post("/disenroll")
async def post_disenrol(
    member_id: UUID, body: DisenrolBody, request: Request, service: ThisService, principal: Anyone
) -> dict[str, Any]:
    """Out of care. A new intake can enrol the person again."""
    membership = await _check(service, principal, member_id)
    _check_leaving(principal, body.reason)
    async with service.command("disenroll-member", member_ids=[member_id], request=request) as work:
        _settle(
            work,
            await disenrol_member(
                work.connection, member_id=member_id, reason=body.reason, command=work.command, now=work.now
            ),
        )
    # A clinician of the former team may no longer read the member: the answer is made of what they knew.
    return {"member_id": str(membership.member_id), "status": "disenrolled", "status_reason": body.reason}


@router.put("/contact")
async def put_contact(
    member_id: UUID, body: ContactBody, request: Request, service: ThisService, principal: Self
) -> dict[str, Any]:
    """Replace the whole contact."""
    await _check(service, principal, member_id)
    contact = ContactChangedData(**body.model_dump())
    async with service.command("change-contact", member_ids=[member_id], request=request) as work:
        _settle(
            work,
            await change_contact(
                work.connection, member_id=member_id, contact=contact, command=work.command, now=work.now
            ),
        )
    return contact.model_dump(mode="json")


@router.put("/consents")
async def put_consents(
    member_id: UUID, body: ConsentsBody, request: Request, service: ThisService, principal: Self
) -> dict[str, Any]:
    """Say what the member agrees to, or no longer, by channel and topic. What is not named stays."""
    await _check(service, principal, member_id)
    given_by: Literal["member", "operator"] = "operator" if "operator" in principal.roles else "member"
    # The last word about one channel and topic counts.
    last = {(each.channel, each.topic): each.granted for each in body.consents}
    consents = [
        ConsentChangedData(channel=channel, topic=topic, granted=granted, given_by=given_by)
        for (channel, topic), granted in last.items()
    ]
    async with service.command("change-consents", member_ids=[member_id], request=request) as work:
        _settle(
            work,
            await change_consents(
                work.connection, member_id=member_id, consents=consents, command=work.command, now=work.now
            ),
        )
    return {"consents": [each.model_dump(mode="json", exclude={"given_by"}) for each in consents]}


@router.post("/clearance")
async def post_clearance(
    member_id: UUID, body: ClearanceBody, request: Request, service: ThisService, principal: OnCall
) -> dict[str, Any]:
    """Who is on call has looked at what blocked this person, who has no care team yet: a new intake may enrol them."""
    await _check(service, principal, member_id)
    async with service.command("clear-screening", member_ids=[member_id], request=request) as work:
        _settle(
            work,
            await clear_screening(
                work.connection,
                member_id=member_id,
                clearance_id=uuid4(),
                cleared_by=principal.person_id,
                reason=body.reason,
                rules=load_intake_rules(),
                now=work.now,
            ),
        )
    return {"member_id": str(member_id), "status": "cleared"}


async def _check(service: Service, principal: Principal, member_id: UUID) -> Membership:
    async with service.requests.acquire() as connection:
        return await find_membership(connection, principal=principal, member_id=member_id)


def _check_leaving(principal: Principal, reason: LeavingReason) -> None:
    """Who may give this reason. A member leaves; a PT or coach says that care is complete; an operator may say all."""
    allowed = {
        "member-left": {"member", "app", "operator"},
        "completed": {"pt", "coach", "operator"},
        "operator": {"operator"},
    }[reason]
    if not principal.roles & allowed:
        raise Problem(
            403,
            "forbidden",
            "This reason is not yours to give.",
            errors=[{"field": "body.reason", "message": f"for {', '.join(sorted(allowed))}"}],
        )


def _settle(work: Work, result: Outcomes | Refusal) -> None:
    """Publish what was decided, or say why not. A problem raised here rolls the command back."""
    if isinstance(result, Outcomes):
        work.take(result)
    elif result.reason == "not-found":
        raise not_found()
    else:
        raise Problem(409, result.reason, result.detail)


async def _answer(service: Service, principal: Principal, member_id: UUID) -> dict[str, Any]:
    return _standing(await _check(service, principal, member_id))


def _standing(membership: Membership) -> dict[str, Any]:
    return {
        "member_id": str(membership.member_id),
        "sponsor_id": str(membership.sponsor_id),
        "status": membership.status,
        "status_reason": membership.status_reason,
        "status_since": membership.status_since.isoformat(),
        "paused_until": membership.paused_until.isoformat() if membership.paused_until else None,
        "state": membership.state,
        "pt_id": str(membership.pt_id) if membership.pt_id else None,
        "coach_id": str(membership.coach_id) if membership.coach_id else None,
        "reassignment_problem": membership.reassignment_problem,
    }
