"""The triage page: who needs me now, why, and what did I already do about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from services.messaging.pages.course_view import course_values
from services.messaging.pages.page_route import PageRoute
from services.messaging.pages.rendering import Page, Toast
from services.messaging.pages.saying import toast_of
from services.messaging.pages.viewer import Viewer, signed_in
from services.messaging.store.pages_members import find_chain_of_alert, load_member_header
from services.messaging.store.pages_queue import (
    RESOLVED_SHOWN,
    QueueRow,
    find_team_members,
    load_alert,
    load_alert_actions,
    load_feed_number,
    load_queue,
)
from shared.database import Connection
from shared.events.conversations import AlertOutcome
from shared.http import Problem
from shared.service import Service, this_service

OUTCOMES: Final[tuple[str, ...]] = get_args(AlertOutcome)
SNOOZES: Final = ("30m", "2h", "4h", "tomorrow")

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@dataclass(frozen=True, kw_only=True)
class QueuePart:
    """One heading of the queue and its rows."""

    key: str
    rows: tuple[QueueRow, ...]


def part_of(row: QueueRow, *, viewer_id: UUID, oncall: bool) -> str:
    """Under which heading an alert stands for this viewer."""
    if row.status == "resolved":
        return "resolved"
    if row.status == "acknowledged":
        return "snoozed" if row.snoozed_until else "taken"
    mine = row.owner_id == viewer_id or (row.owner_id is None and oncall)
    # An emergency is for whoever sees it first, whoever is asked.
    return "now" if mine or row.priority == "emergency" else "team"


def queue_parts(rows: Sequence[QueueRow], *, viewer: Viewer) -> list[QueuePart]:
    """The queue under its headings, each in the order given."""
    keys = ("now", "team", "taken", "snoozed", "resolved")
    return [
        QueuePart(
            key=key,
            rows=tuple(r for r in rows if part_of(r, viewer_id=viewer.practitioner_id, oncall=viewer.oncall) == key),
        )
        for key in keys
    ]


async def load_parts(connection: Connection, *, page: Page) -> list[QueuePart]:
    rows = await load_queue(
        connection,
        practitioner_id=page.viewer.practitioner_id,
        oncall=page.viewer.oncall,
        resolved_since=page.now - RESOLVED_SHOWN,
    )
    return queue_parts(rows, viewer=page.viewer)


def waiting_in(parts: Sequence[QueuePart]) -> int:
    """How many alerts nobody has taken on yet."""
    return sum(len(part.rows) for part in parts if part.key in {"now", "team"})


async def alert_values(connection: Connection, *, page: Page, alert_id: UUID, return_to: str) -> dict[str, Any] | None:
    """What the alert's detail shows; None when there is no such alert for this viewer."""
    viewer = page.viewer
    alert = await load_alert(
        connection, practitioner_id=viewer.practitioner_id, oncall=viewer.oncall, alert_id=alert_id
    )
    if alert is None:
        return None
    actions = await load_alert_actions(connection, alert_ids=[alert_id])
    header = await load_member_header(
        connection, member_id=alert.member_id, practitioner_id=viewer.practitioner_id, oncall=viewer.oncall
    )
    people = [("coach", header.coach_name), ("pt", header.pt_name)] if header else []
    return {
        "alert": alert,
        "form_key": uuid4(),
        "actions": actions[alert_id],
        "outcomes": OUTCOMES,
        "snoozes": SNOOZES,
        "hand_over_to": [
            {"role": role, "label": f"{name}, {page.say.word('role', role)}"}
            for role, name in people
            if name and not (role == viewer.role and alert.owner_id == viewer.practitioner_id)
        ]
        + [{"role": "oncall", "label": page.say.word("role", "oncall")}],
        "return_to": return_to,
        "cause_chain": await find_chain_of_alert(connection, alert_id=alert_id),
        **await course_values(
            connection,
            page=page,
            member_id=alert.member_id,
            usual_at_intake=header.usual_pain if header else None,
            enrolled_at=header.enrolled_at if header else None,
            zone_name=alert.member_zone,
        ),
    }


@router.get("/console/")
async def show_triage(
    alert: UUID | None = None,
    q: str | None = None,
    said: str = "",
    viewer: Viewer = Depends(signed_in),
    service: Service = Depends(this_service),
) -> Response:
    page = Page(viewer=viewer, now=service.clock.now())
    return await render_triage(service, page=page, alert=alert, words=q, said=said)


async def render_triage(
    service: Service,
    *,
    page: Page,
    alert: UUID | None,
    words: str | None = None,
    said: str = "",
    typed: Mapping[str, str] | None = None,
    status_code: int = 200,
) -> Response:
    """The whole page. `typed`: what stood in the form of the alert's detail, which is to stand there again."""
    viewer = page.viewer
    async with service.requests.acquire() as connection:
        cursor = await load_feed_number(connection)
        parts = await load_parts(connection, page=page)
        return_to = f"/console/?alert={alert}" if alert else "/console/"
        detail = await alert_values(connection, page=page, alert_id=alert, return_to=return_to) if alert else None
        found = (
            await find_team_members(connection, practitioner_id=viewer.practitioner_id, words=words[:80])
            if words is not None
            else []
        )
    toast: Toast | None = toast_of(said, page=page, alert=detail["alert"] if detail else None)
    return page.render(
        "triage.html",
        status_code=status_code,
        room="triage",
        cursor=cursor,
        parts=parts,
        waiting=waiting_in(parts),
        words=words,
        found=found,
        toast=toast,
        typed=typed or {},
        gone=alert is not None and detail is None,
        **(detail or {"alert": None}),
    )


@router.get("/console/fragments/queue")
async def show_queue(viewer: Viewer = Depends(signed_in), service: Service = Depends(this_service)) -> Response:
    page = Page(viewer=viewer, now=service.clock.now())
    async with service.requests.acquire() as connection:
        parts = await load_parts(connection, page=page)
    return page.render("parts/queue.html", parts=parts, alert=None)


@router.get("/console/fragments/{what}")
async def show_number(
    what: str, viewer: Viewer = Depends(signed_in), service: Service = Depends(this_service)
) -> Response:
    """How many wait: as a sentence for the page's head, as a number for the rail."""
    page = Page(viewer=viewer, now=service.clock.now())
    if what not in {"waiting", "count"}:
        raise Problem(404, "not-found", "No such fragment.")
    async with service.requests.acquire() as connection:
        waiting = waiting_in(await load_parts(connection, page=page))
    return page.render("parts/waiting.html", what=what, waiting=waiting)


@router.get("/console/fragments/alerts/{alert_id}")
async def show_alert(
    alert_id: UUID, viewer: Viewer = Depends(signed_in), service: Service = Depends(this_service)
) -> Response:
    page = Page(viewer=viewer, now=service.clock.now())
    async with service.requests.acquire() as connection:
        values = await alert_values(connection, page=page, alert_id=alert_id, return_to=f"/console/?alert={alert_id}")
    if values is None:
        raise Problem(404, "not-found", "No such alert.")
    return page.render("parts/alert.html", **values)
