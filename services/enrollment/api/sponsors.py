"""Sponsors, and whether a person is covered."""

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from services.enrollment.api.access import find_sponsor, wrong_field
from services.enrollment.api.fields import Body, Line64, Line80, State
from services.enrollment.domain.coverage import MEMBER_COST, Eligibility, Sponsor, decide_eligibility
from services.enrollment.handlers.change_sponsor import change_sponsor
from services.enrollment.store.coverages import load_coverages
from services.enrollment.store.sponsors import list_sponsors, load_sponsors
from shared.auth import Principal, require
from shared.service import Service, this_service

router = APIRouter(prefix="/v1", tags=["sponsors"])
Operator = Annotated[Principal, Depends(require("operator"))]
SponsorStaff = Annotated[Principal, Depends(require("operator", "sponsor-admin"))]
FIRST = UUID(int=0)
ThisService = Annotated[Service, Depends(this_service)]


class SponsorBody(Body):
    name: Line80
    states: Annotated[tuple[State, ...], Field(min_length=1, max_length=60)]
    """Where the benefit may be used."""
    covers_from: date
    covers_until: date | None = None
    """Last day of the contract; left out: open."""
    administrators: Annotated[tuple[Line80, ...], Field(max_length=50)] = ()
    """Subjects of the identity issuer that may send files and ask about coverage for this sponsor."""


class PersonBody(Body):
    """The identifiers by which a sponsor's roster names a person."""

    person_id: Line64
    date_of_birth: date


class EligibilityBody(Body):
    sponsor_id: UUID
    person: PersonBody
    state: State | None = None
    """Where they live now; the roster's state if left out."""


@router.put("/sponsors/{sponsor_id}")
async def put_sponsor(
    sponsor_id: UUID, body: SponsorBody, request: Request, response: Response, service: ThisService, _: Operator
) -> dict[str, Any]:
    """Add a sponsor or replace its terms. An end date ends its members' coverage when it comes."""
    if body.covers_until is not None and body.covers_until < body.covers_from:
        raise wrong_field("body.covers_until", "is before covers_from")
    sponsor = Sponsor(
        sponsor_id=sponsor_id,
        name=body.name,
        states=tuple(sorted(set(body.states))),
        covers_from=body.covers_from,
        covers_until=body.covers_until,
        administrators=body.administrators,
    )
    async with service.command("change-sponsor", member_ids=[], request=request) as work:
        added = await change_sponsor(work.connection, sponsor=sponsor, cause=work.command.cause, now=work.now)
    response.status_code = 201 if added else 200
    return _sponsor(sponsor)


@router.get("/sponsors")
async def get_sponsors(
    service: ThisService,
    principal: SponsorStaff,
    after: UUID = FIRST,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """All sponsors for an operator, their own for an administrator; `next` is the `after` of the next page."""
    administrator = None if "operator" in principal.roles else str(principal.subject)
    async with service.requests.acquire() as connection:
        found = await list_sponsors(connection, after=after, administrator=administrator, limit=limit)
    return {
        "sponsors": [_sponsor(sponsor) for sponsor in found],
        "next": str(found[-1].sponsor_id) if len(found) == limit else None,
    }


@router.get("/sponsors/{sponsor_id}")
async def get_sponsor(sponsor_id: UUID, service: ThisService, principal: SponsorStaff) -> dict[str, Any]:
    async with service.requests.acquire() as connection:
        return _sponsor(await find_sponsor(connection, principal=principal, sponsor_id=sponsor_id))


@router.post("/eligibility-checks")
async def check_eligibility(
    body: EligibilityBody,
    service: ThisService,
    principal: Annotated[Principal, Depends(require("app", "operator", "sponsor-admin"))],
) -> dict[str, Any]:
    """Whether a person is covered now, and why (not). A POST so that identifiers stay out of addresses and logs."""
    person = (body.sponsor_id, body.person.person_id)
    async with service.requests.acquire() as connection:
        if not principal.roles & {"app", "operator"}:
            await find_sponsor(connection, principal=principal, sponsor_id=body.sponsor_id)
        sponsor = (await load_sponsors(connection, sponsor_ids=[body.sponsor_id])).get(body.sponsor_id)
        coverage = (await load_coverages(connection, persons=[person])).get(person)
    now = service.clock.now()
    decided = decide_eligibility(
        sponsor=sponsor, coverage=coverage, date_of_birth=body.person.date_of_birth, state=body.state, now=now
    )
    return {"sponsor_id": str(body.sponsor_id), "checked_at": now.isoformat(), **eligibility_body(decided)}


def eligibility_body(decided: Eligibility) -> dict[str, Any]:
    return {
        "eligible": decided.eligible,
        "reason": decided.reason,
        "effective_from": decided.effective_from.isoformat() if decided.effective_from else None,
        "effective_to": decided.effective_to.isoformat() if decided.effective_to else None,
        "member_cost": MEMBER_COST,
    }


def _sponsor(sponsor: Sponsor) -> dict[str, Any]:
    return {
        "sponsor_id": str(sponsor.sponsor_id),
        "name": sponsor.name,
        "states": list(sponsor.states),
        "covers_from": sponsor.covers_from.isoformat(),
        "covers_until": sponsor.covers_until.isoformat() if sponsor.covers_until else None,
        "administrators": list(sponsor.administrators),
        "member_cost": MEMBER_COST,
    }
