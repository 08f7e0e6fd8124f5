"""Physical therapists and coaches, their panels, and who waits for one."""

from dataclasses import asdict
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from services.enrollment.api.access import not_found, wrong_field
from services.enrollment.api.fields import Body, Count, Line80, State, Zone
from services.enrollment.domain.care_team import PanelMember
from services.enrollment.handlers.hand_over_panels import close_panel, hand_over_panel
from services.enrollment.handlers.place_waiting import hurry_waiting
from services.enrollment.store.memberships import list_unplaced
from services.enrollment.store.practitioners import load_practitioners, lock_panels, save_practitioners
from shared.auth import Principal, require
from shared.events.vocabulary import Language
from shared.http import Problem
from shared.service import Service, this_service

router = APIRouter(prefix="/v1", tags=["practitioners"])
Operator = Annotated[Principal, Depends(require("operator"))]
ThisService = Annotated[Service, Depends(this_service)]
PANEL_MAX = 5_000


class PractitionerBody(Body):
    practitioner_id: UUID
    """Also the subject of their tokens."""
    role: Literal["pt", "coach"]
    name: Line80
    licensed_states: Annotated[tuple[State, ...], Field(max_length=60)] = ()
    """Where a PT may treat; a coach needs none."""
    languages: Annotated[tuple[Language, ...], Field(min_length=1, max_length=2)]
    time_zone: Zone
    panel_limit: Annotated[Count, Field(ge=1, le=PANEL_MAX)]
    """Most members at once."""
    accepting: bool = True
    """False: takes no new members."""


class HandOverBody(Body):
    reason: Line80


@router.post("/practitioners", status_code=201)
async def post_practitioner(
    body: PractitionerBody, request: Request, response: Response, service: ThisService, _: Operator
) -> dict[str, Any]:
    """Add a PT or coach, or change one (same id). People on the waiting list are tried again at once."""
    if body.role == "pt" and not body.licensed_states:
        raise wrong_field("body.licensed_states", "a PT needs at least one")
    fields = body.model_dump(exclude={"licensed_states", "languages"})
    practitioner = PanelMember(
        **fields, licensed_states=frozenset(body.licensed_states), languages=frozenset(body.languages), panel_size=0
    )
    async with service.command("change-practitioner", member_ids=[], request=request) as work:
        await lock_panels(work.connection)
        known = (await load_practitioners(work.connection, practitioner_ids=[body.practitioner_id])).get(
            body.practitioner_id
        )
        if known is not None and known.role != body.role:
            raise Problem(
                409,
                "role-cannot-change",
                "This practitioner has another role.",
                errors=[{"field": "body.role", "message": f"is {known.role}"}],
            )
        await save_practitioners(work.connection, [practitioner], now=work.now)
    # A transaction of its own: whoever places members holds their timers before the panels, and we must not wait for
    # those while we hold the panels. Cut off between the two, the waiting come with their own timer.
    async with service.command("hurry-waiting", member_ids=[], request=request) as work:
        await hurry_waiting(work.connection, cause=work.command.cause, now=work.now)
        saved = (await load_practitioners(work.connection, practitioner_ids=[body.practitioner_id]))[
            body.practitioner_id
        ]
    response.status_code = 201 if known is None else 200
    return _practitioner(saved)


@router.get("/practitioners")
async def get_practitioners(
    service: ThisService, _: Annotated[Principal, Depends(require("operator", "pt", "coach", "oncall", "app"))]
) -> dict[str, Any]:
    """Every practitioner with the load of their panel."""
    async with service.requests.acquire() as connection:
        found = await load_practitioners(connection)
    return {"practitioners": [_practitioner(each) for each in found.values()]}


@router.post("/practitioners/{practitioner_id}/hand-over", status_code=202)
async def post_hand_over(
    practitioner_id: UUID, body: HandOverBody, request: Request, service: ThisService, principal: Operator
) -> dict[str, Any]:
    """Close this panel and move every member of it to somebody else, in batches. A member for whom nobody is found
    stays, is tried again, and is listed under /v1/waitlist until then."""
    async with service.command("close-panel", member_ids=[], request=request) as work:
        if practitioner_id not in await load_practitioners(work.connection, practitioner_ids=[practitioner_id]):
            raise not_found()
        await close_panel(work.connection, practitioner_id=practitioner_id, now=work.now)
    # Only now is it certain that nobody is added any more; and no timer may be waited for under the panels' lock.
    async with service.command("hand-over-panel", member_ids=[], request=request) as work:
        members = await hand_over_panel(
            work.connection,
            practitioner_id=practitioner_id,
            reason=body.reason,
            done_by=str(principal.subject),
            cause=work.command.cause,
            now=work.now,
        )
    return {"practitioner_id": str(practitioner_id), "members_to_move": members}


@router.get("/waitlist")
async def get_waitlist(
    service: ThisService,
    principal: Annotated[Principal, Depends(require("operator", "oncall"))],
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Who has no care team, and what is missing; for an operator also who has one that should have changed."""
    async with service.requests.acquire() as connection:
        found = await list_unplaced(connection, with_team="operator" in principal.roles, limit=limit)
    return {"waiting": [asdict(each) for each in found]}


def _practitioner(each: PanelMember) -> dict[str, Any]:
    return {
        "practitioner_id": str(each.practitioner_id),
        "role": each.role,
        "name": each.name,
        "licensed_states": sorted(each.licensed_states),
        "languages": sorted(each.languages),
        "time_zone": each.time_zone,
        "panel_limit": each.panel_limit,
        "panel_size": each.panel_size,
        "accepting": each.accepting,
    }
