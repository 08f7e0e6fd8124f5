"""What a clinician does on the pages: forms in, one command each, a toast (or a redirect, without script) out.

Each form says which of the alert's repeats it was shown with (`seen`): what asked again since is not done with unseen.
Each has a key, by which a form that is sent twice acts once.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, cast
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from services.messaging.handlers.handle_alerts import (
    AlertHandled,
    acknowledge,
    hand_over,
    resolve,
    snooze,
    undo_acknowledge,
)
from services.messaging.pages.page_route import SCRIPT_HEADER, PageRoute
from services.messaging.pages.rendering import Page
from services.messaging.pages.saying import toast_of
from services.messaging.pages.sign_in import inside
from services.messaging.pages.triage import OUTCOMES, render_triage
from services.messaging.pages.viewer import Viewer, own_form
from services.messaging.store.pages_queue import QueueRow, load_alert
from shared.commands import Work, identity_of
from shared.events.conversations import AlertOutcome
from shared.events.vocabulary import PractitionerRole
from shared.http import Problem
from shared.outcomes import Refusal
from shared.service import Service, this_service

NOTE_LENGTH_MAX: Final = 2_000
MORNING_HOUR: Final = 8
WAITS: Final = {"30m": timedelta(minutes=30), "2h": timedelta(hours=2), "4h": timedelta(hours=4)}
ASKED_AGAIN: Final = "refused-asked-again"
Run = Callable[[Work], Awaitable[AlertHandled | Refusal]]

router = APIRouter(route_class=PageRoute, include_in_schema=False)


def answer(
    request: Request, page: Page, *, said: str, refresh: str, return_to: str, alert: QueueRow | None = None
) -> Response:
    """The toast for the script, with the kinds of fragments to fetch again; a redirect to the page without it."""
    if SCRIPT_HEADER in request.headers:
        refused = said.startswith("refused-")
        headers = {"X-Refresh": refresh, "X-Fresh-Id": str(uuid4())}
        if said == ASKED_AGAIN:
            headers["X-Look-Again"] = "1"
        toast = toast_of(said, page=page, alert=alert)
        return page.render("parts/toast.html", status_code=409 if refused else 200, headers=headers, toast=toast)
    address, hash_, place = inside(return_to).partition("#")
    joint = "&" if "?" in address else "?"
    return RedirectResponse(f"{address}{joint}said={said}{hash_}{place}", status_code=303)


async def _alert_of(service: Service, viewer: Viewer, alert_id: UUID) -> QueueRow:
    async with service.requests.acquire() as connection:
        alert = await load_alert(
            connection, practitioner_id=viewer.practitioner_id, oncall=viewer.oncall, alert_id=alert_id
        )
    if alert is None:
        raise Problem(404, "not-found", "There is nothing here that you may see.")
    return alert


def wakes_at(wait: str, *, page: Page) -> datetime | None:
    """When a snooze ends: after a while, or tomorrow morning in the viewer's zone. None for a choice there is not."""
    if wait == "tomorrow":
        local = page.now.astimezone(page.zone) + timedelta(days=1)
        return local.replace(hour=MORNING_HOUR, minute=0, second=0, microsecond=0)
    return page.now + WAITS[wait] if wait in WAITS else None


NOTHING_SEEN: Final = -1
"""A form that does not say counts as one that was shown before everything."""


@dataclass(frozen=True, kw_only=True)
class AlertForm:
    """A form about one alert: which, who sent it, what they had seen of it, and where they go back to."""

    alert_id: UUID
    request: Request
    seen: int
    key: UUID | None
    return_to: str
    viewer: Viewer
    service: Service

    async def handle(self, name: str, said: str, run: Run, *, typed: Mapping[str, str] | None = None) -> Response:
        """Carry out one command; `typed` is what the person must not lose where it is refused."""
        alert = await _alert_of(self.service, self.viewer, self.alert_id)
        command_id = str(identity_of(name, self.viewer.practitioner_id, self.key))
        async with self.service.command(
            name, member_ids=[alert.member_id], request=self.request, command_id=command_id
        ) as work:
            result = await run(work)
            if isinstance(result, Refusal):
                said = f"refused-{result.reason}"
            elif result.is_repeat:
                said = "refused-done-before"
            else:
                work.take(result.outcomes)
        page = Page(viewer=self.viewer, now=self.service.clock.now())
        back = self.return_to or f"/console/?alert={self.alert_id}"
        try:
            after = await _alert_of(self.service, self.viewer, self.alert_id)
        except Problem:  # handed to somebody whose alerts this person does not see: what it was a moment ago
            after = alert
        if said == ASKED_AGAIN and SCRIPT_HEADER not in self.request.headers:
            # A redirect would lose what was typed.
            return await render_triage(
                self.service, page=page, alert=self.alert_id, said=said, typed=typed, status_code=409
            )
        return answer(self.request, page, said=said, refresh="alert", return_to=back, alert=after)


def form_of(
    alert_id: UUID,
    request: Request,
    seen: Annotated[int, Form()] = NOTHING_SEEN,
    key: Annotated[UUID | None, Form()] = None,
    return_to: Annotated[str, Form(max_length=400)] = "",
    viewer: Viewer = Depends(own_form),
    service: Service = Depends(this_service),
) -> AlertForm:
    return AlertForm(
        alert_id=alert_id, request=request, seen=seen, key=key, return_to=return_to, viewer=viewer,
        service=service,
    )  # fmt: skip


Sent = Annotated[AlertForm, Depends(form_of)]


@router.post("/console/alerts/{alert_id}/acknowledge")
async def post_acknowledge(form: Sent) -> Response:
    async def run(work: Work) -> AlertHandled | Refusal:
        return await acknowledge(
            work.connection,
            alert_id=form.alert_id,
            by=form.viewer.practitioner,
            seen=form.seen,
            command=work.command,
            now=work.now,
        )

    return await form.handle("acknowledge-alert", "acknowledged", run)


@router.post("/console/alerts/{alert_id}/undo")
async def post_undo(form: Sent) -> Response:
    async def run(work: Work) -> AlertHandled | Refusal:
        return await undo_acknowledge(
            work.connection,
            alert_id=form.alert_id,
            by=form.viewer.practitioner,
            command=work.command,
            now=work.now,
        )

    return await form.handle("undo-acknowledge-alert", "undone", run)


@router.post("/console/alerts/{alert_id}/snooze")
async def post_snooze(form: Sent, wait: Annotated[str, Form()] = "") -> Response:
    until = wakes_at(wait, page=Page(viewer=form.viewer, now=form.service.clock.now()))

    async def run(work: Work) -> AlertHandled | Refusal:
        if until is None:
            return Refusal("choose", "No such choice.")
        return await snooze(
            work.connection,
            alert_id=form.alert_id,
            by=form.viewer.practitioner,
            until=until,
            seen=form.seen,
            command=work.command,
            now=work.now,
        )

    return await form.handle("snooze-alert", "snoozed", run, typed={"wait": wait})


@router.post("/console/alerts/{alert_id}/hand-over")
async def post_hand_over(form: Sent, to_role: Annotated[str, Form()] = "") -> Response:
    async def run(work: Work) -> AlertHandled | Refusal:
        if to_role not in ("pt", "coach", "oncall"):
            return Refusal("choose", "No such role.")
        return await hand_over(
            work.connection,
            alert_id=form.alert_id,
            by=form.viewer.practitioner,
            to_role=cast(PractitionerRole, to_role),
            seen=form.seen,
            command=work.command,
            now=work.now,
        )

    return await form.handle("hand-over-alert", "handed-over", run, typed={"to_role": to_role})


@router.post("/console/alerts/{alert_id}/resolve")
async def post_resolve(form: Sent, outcome: Annotated[str, Form()] = "", note: Annotated[str, Form()] = "") -> Response:
    text = note.replace("\x00", "").strip()

    async def run(work: Work) -> AlertHandled | Refusal:
        if outcome not in OUTCOMES:
            return Refusal("choose", "No such outcome.")
        if len(text) > NOTE_LENGTH_MAX:
            return Refusal("too-long-text", "The note is too long.")
        return await resolve(
            work.connection,
            alert_id=form.alert_id,
            by=form.viewer.practitioner,
            outcome=cast(AlertOutcome, outcome),
            note=text or None,
            seen=form.seen,
            command=work.command,
            now=work.now,
        )

    return await form.handle("resolve-alert", "resolved", run, typed={"outcome": outcome, "note": text})
