"""What a clinician does on the member page: write, book, cancel and complete visits."""

from datetime import datetime
from typing import Annotated, Any, Final, cast, get_args
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from services.messaging.handlers.plan_visits import book_visit, cancel_booking, complete_booking, hold_slot
from services.messaging.handlers.send_message import Sender, send_message
from services.messaging.pages.actions import answer
from services.messaging.pages.member import RECOMMENDATIONS, find_member
from services.messaging.pages.page_route import PageRoute
from services.messaging.pages.rendering import Page
from services.messaging.pages.viewer import Viewer, own_form
from services.messaging.store.pages_queue import load_member_alerts
from shared.database import Connection
from shared.events.visits import VisitReason, VisitRecommendation
from shared.http import Problem
from shared.outcomes import Refusal
from shared.service import Service, this_service

MESSAGE_LENGTH_MAX: Final = 4_000

router = APIRouter(route_class=PageRoute, include_in_schema=False)


async def _check(service: Service, viewer: Viewer, member_id: UUID) -> UUID | None:
    """Problem 404 unless the viewer may see the member. Answers the alert that they work on, the one that what they do
    belongs to: the member's latest unresolved one, if there is any."""
    page = Page(viewer=viewer, now=service.clock.now())
    async with service.requests.acquire() as connection:
        await find_member(connection, page=page, member_id=member_id)
        return await _alert_in_hand(connection, viewer=viewer, member_id=member_id)


async def _alert_in_hand(connection: Connection, *, viewer: Viewer, member_id: UUID) -> UUID | None:
    alerts = await load_member_alerts(
        connection, practitioner_id=viewer.practitioner_id, oncall=viewer.oncall, member_id=member_id, limit=1
    )
    return alerts[0].alert_id if alerts and alerts[0].status != "resolved" else None


def _answer(
    request: Request,
    viewer: Viewer,
    service: Service,
    member_id: UUID,
    result: Any,
    *,
    said: str,
    refresh: str,
    place: str,
) -> Response:
    page = Page(viewer=viewer, now=service.clock.now())
    code = f"refused-{result.reason}" if isinstance(result, Refusal) else said
    return answer(request, page, said=code, refresh=refresh, return_to=f"/console/members/{member_id}#{place}")


@router.post("/console/members/{member_id}/messages")
async def post_message(
    member_id: UUID,
    request: Request,
    body: Annotated[str, Form()] = "",
    message_id: Annotated[UUID | None, Form()] = None,
    viewer: Viewer = Depends(own_form),
    service: Service = Depends(this_service),
) -> Response:
    alert_id = await _check(service, viewer, member_id)
    text = body.replace("\x00", "").replace("\r\n", "\n").strip()
    result: Any = None
    if not text:
        result = Refusal("empty", "Nothing was written.")
    elif len(text) > MESSAGE_LENGTH_MAX:
        result = Refusal("too-long-text", "The message is too long.")
    else:
        sender = Sender(role=viewer.role, sender_id=viewer.practitioner_id, name=viewer.practitioner.name)
        async with service.command("send-message", member_ids=[member_id], request=request) as work:
            result = await send_message(
                work.connection,
                sender=sender,
                message_id=message_id or uuid4(),
                body=text,
                alert_id=alert_id,
                command=work.command,
                now=work.now,
            )
            if not isinstance(result, Refusal):
                work.take(result.outcomes)
    return _answer(
        request, viewer, service, member_id, result, said="sent", refresh="conversation alert member", place="talk"
    )


@router.post("/console/members/{member_id}/visits")
async def post_visit(
    member_id: UUID,
    request: Request,
    practitioner_id: Annotated[UUID, Form()],
    starts_at: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "other",
    viewer: Viewer = Depends(own_form),
    service: Service = Depends(this_service),
) -> Response:
    """Hold and book in one step: the clinician has the member in front of them, or on the line."""
    alert_id = await _check(service, viewer, member_id)
    try:
        start = datetime.fromisoformat(starts_at)
    except ValueError:
        start = None
    if start is None or start.tzinfo is None or reason not in get_args(VisitReason):
        result: Any = Refusal("choose", "No time was chosen.")
    else:
        async with service.command("book-visit", member_ids=[member_id], request=request) as work:
            visit_id = uuid4()
            result = await hold_slot(
                work.connection,
                visit_id=visit_id,
                practitioner_id=practitioner_id,
                starts_at=start,
                reason=cast(VisitReason, reason),
                alert_id=alert_id,
                command=work.command,
                now=work.now,
            )
            if not isinstance(result, Refusal):
                result = await book_visit(
                    work.connection, visit_id=visit_id, reason=None, command=work.command, now=work.now
                )
            if not isinstance(result, Refusal):
                work.take(result.outcomes)
    return _answer(request, viewer, service, member_id, result, said="booked", refresh="visit", place="visits")


@router.post("/console/members/{member_id}/visits/{visit_id}/cancel")
async def post_cancel(
    member_id: UUID,
    visit_id: UUID,
    request: Request,
    viewer: Viewer = Depends(own_form),
    service: Service = Depends(this_service),
) -> Response:
    await _check(service, viewer, member_id)
    async with service.command("cancel-visit", member_ids=[member_id], request=request) as work:
        result = await cancel_booking(
            work.connection, visit_id=visit_id, by_member=False, command=work.command, now=work.now
        )
        if isinstance(result, Refusal) and result.reason == "no-such-visit":
            raise Problem(404, "not-found", "There is no such visit.")
        if not isinstance(result, Refusal):
            work.take(result.outcomes)
    return _answer(request, viewer, service, member_id, result, said="cancelled", refresh="visit", place="visits")


@router.post("/console/members/{member_id}/visits/{visit_id}/complete")
async def post_complete(
    member_id: UUID,
    visit_id: UUID,
    request: Request,
    recommendation: Annotated[str, Form()] = "",
    note: Annotated[str, Form(max_length=8_000)] = "",
    viewer: Viewer = Depends(own_form),
    service: Service = Depends(this_service),
) -> Response:
    await _check(service, viewer, member_id)
    result: Any
    if recommendation not in RECOMMENDATIONS:
        result = Refusal("choose", "No recommendation was chosen.")
    else:
        async with service.command("complete-visit", member_ids=[member_id], request=request) as work:
            result = await complete_booking(
                work.connection,
                visit_id=visit_id,
                recommendation=VisitRecommendation(action=cast(Any, recommendation)),
                note=note.replace("\x00", "").strip() or None,
                command=work.command,
                now=work.now,
            )
            if isinstance(result, Refusal) and result.reason == "no-such-visit":
                raise Problem(404, "not-found", "There is no such visit.")
            if not isinstance(result, Refusal):
                work.take(result.outcomes)
    return _answer(request, viewer, service, member_id, result, said="completed", refresh="visit", place="visits")
