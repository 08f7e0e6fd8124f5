"""The member page: what is going on with this person, on one page, each part its own fragment."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, get_args
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from services.messaging.domain.slots import Span
from services.messaging.handlers.plan_visits import list_slots
from services.messaging.pages.chain_view import chain_values
from services.messaging.pages.course_view import course_values
from services.messaging.pages.page_route import PageRoute
from services.messaging.pages.plan_view import plan_values
from services.messaging.pages.rendering import Page
from services.messaging.pages.saying import toast_of
from services.messaging.pages.times import zone_of
from services.messaging.pages.viewer import Viewer, signed_in
from services.messaging.pages.wording import Wording
from services.messaging.store.conversations import load_conversations, load_messages
from services.messaging.store.pages_members import MemberHeader, load_member_header, load_plan
from services.messaging.store.pages_queue import load_feed_number, load_member_alerts, load_queue
from services.messaging.store.visits import load_member_visits
from shared.database import Connection
from shared.events.visits import VisitReason
from shared.http import Problem
from shared.outcomes import Refusal
from shared.service import Service, this_service

SLOT_DAYS: Final = 10
SLOT_DAYS_SHOWN: Final = 5
VISITS_SHOWN: Final = 8
MESSAGES_SHOWN: Final = 100
RECOMMENDATIONS: Final = ("continue", "step-back", "hold", "reviewed")

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request about one member that the viewer may see."""

    request: Request
    connection: Connection
    page: Page
    member: MemberHeader


async def find_member(connection: Connection, *, page: Page, member_id: UUID) -> MemberHeader:
    """The member; Problem 404 for one that does not exist and for one that this person may not see."""
    member = await load_member_header(
        connection, member_id=member_id, practitioner_id=page.viewer.practitioner_id, oncall=page.viewer.oncall
    )
    if member is None:
        raise Problem(404, "not-found", "There is nothing here that you may see.")
    return member


async def _header(asked: Asked) -> Values:
    member, page = asked.member, asked.page
    plan = await load_plan(asked.connection, member_id=member.member_id)
    granted = {key.split(" ")[0] for key, given in member.consents.items() if given}
    return {
        "week": (page.now - plan.issued_at).days // 7 + 1 if plan else None,
        "member_zone": zone_of(member.time_zone),
        "channels": [page.say.word("channel", c) for c in ("email", "sms", "push") if c in granted],
    }


async def _pain(asked: Asked) -> Values:
    member = asked.member
    return await course_values(
        asked.connection,
        page=asked.page,
        member_id=member.member_id,
        usual_at_intake=member.usual_pain,
        enrolled_at=member.enrolled_at,
        zone_name=member.time_zone,
    )


async def _plan(asked: Asked) -> Values:
    return await plan_values(asked.connection, page=asked.page, member_id=asked.member.member_id)


async def _chain(asked: Asked) -> Values:
    query = asked.request.query_params
    return await chain_values(
        asked.connection,
        member_id=asked.member.member_id,
        chain_id=query.get("chain", "")[:128] or None,
        event=(query.get("source", ""), query.get("event", "")),
    )


async def _conversation(asked: Asked) -> Values:
    member_id = asked.member.member_id
    conversation = (await load_conversations(asked.connection, member_ids=[member_id])).get(member_id)
    messages = await load_messages(asked.connection, member_ids=[member_id], limit=MESSAGES_SHOWN)
    return {"messages": messages, "awaiting_since": conversation.awaiting_since if conversation else None}


async def _visits(asked: Asked) -> Values:
    visits = await load_member_visits(asked.connection, member_ids=[asked.member.member_id], limit=VISITS_SHOWN * 2)
    shown = [visit for visit in visits if visit.status != "held"][:VISITS_SHOWN]
    return {"visits": shown, "recommendations": RECOMMENDATIONS}


async def _alerts(asked: Asked) -> Values:
    viewer = asked.page.viewer
    alerts = await load_member_alerts(
        asked.connection, practitioner_id=viewer.practitioner_id, oncall=viewer.oncall, member_id=asked.member.member_id
    )
    return {"alerts": alerts}


async def _slots(asked: Asked) -> Values:
    """Free times of one of the team in the days ahead, by day, as the viewer's clock shows them."""
    wanted = asked.request.query_params.get("with")
    bookable = bookable_of(asked.member, say=asked.page.say)
    if wanted is None or wanted not in {person["id"] for person in bookable}:
        return {"slots": None, "with_id": None, "slot_days": [], "reasons": get_args(VisitReason)}
    now = asked.page.now
    free = await list_slots(
        asked.connection,
        member_id=asked.member.member_id,
        practitioner_id=UUID(wanted),
        window=Span(starts_at=now, ends_at=now + timedelta(days=SLOT_DAYS)),
        now=now,
    )
    slots: Sequence[Span] = [] if isinstance(free, Refusal) else free
    days: dict[str, list[Span]] = {}
    for slot in slots:
        days.setdefault(asked.page.day(slot.starts_at), []).append(slot)
    shown = [{"label": label, "slots": day} for label, day in list(days.items())[:SLOT_DAYS_SHOWN]]
    return {"slots": slots, "with_id": wanted, "slot_days": shown, "reasons": get_args(VisitReason)}


def bookable_of(member: MemberHeader, *, say: Wording) -> list[dict[str, str]]:
    """With whom a visit can be booked: the member's own care team."""
    team = [("pt", member.pt_id, member.pt_name), ("coach", member.coach_id, member.coach_name)]
    return [
        {"id": str(person_id), "label": f"{name}, {say.word('role', role)}"}
        for role, person_id, name in team
        if person_id and name
    ]


PARTS: Final[dict[str, tuple[str, Callable[[Asked], Awaitable[Values]]]]] = {
    "header": ("parts/member_header.html", _header),
    "pain": ("parts/pain.html", _pain),
    "plan": ("parts/plan.html", _plan),
    "chain": ("parts/chain.html", _chain),
    "conversation": ("parts/conversation.html", _conversation),
    "visits": ("parts/visits.html", _visits),
    "alerts": ("parts/member_alerts.html", _alerts),
    "slots": ("parts/slots.html", _slots),
}
"""Each fragment: its template, and what it needs."""


@router.get("/console/members/{member_id}")
async def show_member(
    member_id: UUID,
    request: Request,
    said: str = "",
    viewer: Viewer = Depends(signed_in),
    service: Service = Depends(this_service),
) -> Response:
    page = Page(viewer=viewer, now=service.clock.now())
    async with service.requests.acquire() as connection:
        cursor = await load_feed_number(connection)
        member = await find_member(connection, page=page, member_id=member_id)
        asked = Asked(request=request, connection=connection, page=page, member=member)
        values: Values = {}
        for _, load in PARTS.values():
            values |= await load(asked)
        queue = await load_queue(
            connection, practitioner_id=viewer.practitioner_id, oncall=viewer.oncall, resolved_since=page.now
        )
    chain = {name: request.query_params[name] for name in ("chain", "source", "event") if name in request.query_params}
    return page.render(
        "member.html",
        room="member",
        cursor=cursor,
        member=member,
        waiting=sum(row.status == "open" for row in queue),
        chain_query=f"?{urlencode(chain)}" if chain else "",
        bookable=bookable_of(member, say=page.say),
        message_id=uuid4(),
        wording_for_member=Wording(member.language),
        toast=toast_of(said, page=page, alert=None),
        **values,
    )


@router.get("/console/fragments/members/{member_id}/{part}")
async def show_part(
    member_id: UUID,
    part: str,
    request: Request,
    viewer: Viewer = Depends(signed_in),
    service: Service = Depends(this_service),
) -> Response:
    if part not in PARTS:
        raise Problem(404, "not-found", "No such fragment.")
    page = Page(viewer=viewer, now=service.clock.now())
    template, load = PARTS[part]
    async with service.requests.acquire() as connection:
        member = await find_member(connection, page=page, member_id=member_id)
        values = await load(Asked(request=request, connection=connection, page=page, member=member))
    return page.render(template, member=member, **values)
