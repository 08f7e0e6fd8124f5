"""Roster files: sent by a sponsor as CSV, taken in as a stream, applied as a whole."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from services.enrollment.api.access import find_sponsor, not_found
from services.enrollment.handlers.receive_roster import receive_roster
from services.enrollment.store.imports import (
    REJECTIONS_KEPT_MAX,
    RosterImport,
    confirm_import,
    finish_import,
    list_imports,
    load_imports,
    load_rejections,
)
from shared.auth import Principal, require
from shared.http import Problem
from shared.service import Service, this_service

router = APIRouter(prefix="/v1", tags=["roster imports"])
Staff = Annotated[Principal, Depends(require("operator", "sponsor-admin"))]
ThisService = Annotated[Service, Depends(this_service)]
UPLOADS_MAX: Final = 2
"""Files taken in at once per process: each holds a connection to the database while it comes."""
BLOCK_WAIT_S: Final = 60.0
"""Longest silence of a sender before the upload is given up."""
ARRIVAL_MAX: Final = 2**62
LINE_MAX: Final = 2**62
_uploads = asyncio.Semaphore(UPLOADS_MAX)

CSV_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {
                "schema": {"type": "string", "format": "binary"},
                "example": (
                    "person_id,date_of_birth,state,effective_from,effective_to\nE-1001,1971-04-02,NY,2026-01-01,\n"
                ),
            }
        },
    }
}


@router.post("/sponsors/{sponsor_id}/imports", status_code=202, openapi_extra=CSV_BODY)
async def post_import(
    sponsor_id: UUID,
    request: Request,
    service: ThisService,
    principal: Staff,
    mode: Literal["full", "delta"],
    rows: Annotated[
        int | None, Query(ge=1, description="How many rows the sender means to send, to notice a cut.")
    ] = None,
) -> JSONResponse:
    """Send a roster: UTF-8 CSV with a header line. `full` names everyone covered, and ends the coverage of whoever
    it leaves out; `delta` names changes only, and an end is said by `effective_to`. 202: received, applied
    soon; GET tells."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "text/csv":
        raise Problem(415, "not-csv", "Send the roster as Content-Type: text/csv.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "compressed", "Send the roster uncompressed.")
    async with service.requests.acquire() as connection:
        await find_sponsor(connection, principal=principal, sponsor_id=sponsor_id)
    if _uploads.locked():
        raise Problem(503, "busy", "Other files are being taken in; try again.", headers={"Retry-After": "30"})
    import_id = uuid4()
    async with _uploads:
        try:
            refusal = await receive_roster(
                service.requests,
                blocks=_blocks(request),
                import_id=import_id,
                sponsor_id=sponsor_id,
                mode=mode,
                rows_announced=rows,
                received_by=str(principal.subject),
                now=service.clock.now(),
            )
        except (ClientDisconnect, TimeoutError):
            raise Problem(408, "upload-interrupted", "The file did not come through; nothing was changed.") from None
    if refusal is not None:
        raise Problem(
            422,
            "invalid-roster",
            "The file cannot be taken as a roster; nothing was changed.",
            errors=[{"field": refusal.field, "message": refusal.reason}],
        )
    async with service.requests.acquire() as connection:
        received = (await load_imports(connection, import_ids=[import_id]))[import_id]
    return JSONResponse(_import(received), status_code=202, headers={"Location": f"/v1/imports/{import_id}"})


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    stream = aiter(request.stream())
    while True:
        async with asyncio.timeout(BLOCK_WAIT_S):
            try:
                block = await anext(stream)
            except StopAsyncIteration:
                return
        if block:
            yield block


@router.get("/sponsors/{sponsor_id}/imports")
async def get_imports(
    sponsor_id: UUID,
    service: ThisService,
    principal: Staff,
    before: Annotated[int, Query(ge=1, le=ARRIVAL_MAX)] = ARRIVAL_MAX,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """A sponsor's files, latest first; `next` is the `before` of the next page."""
    async with service.requests.acquire() as connection:
        await find_sponsor(connection, principal=principal, sponsor_id=sponsor_id)
        found = await list_imports(connection, sponsor_id=sponsor_id, before=before, limit=limit)
    return {"imports": [_import(each) for each in found], "next": found[-1].arrival if len(found) == limit else None}


@router.get("/imports/{import_id}")
async def get_import(
    import_id: UUID,
    service: ThisService,
    principal: Staff,
    after_line: Annotated[int, Query(ge=0, le=LINE_MAX)] = 0,
    limit: Annotated[int, Query(ge=0, le=1000)] = 100,
) -> dict[str, Any]:
    """What became of a file, with a page of its rejected rows by line, field and reason."""
    async with service.requests.acquire() as connection:
        found = await _find_import(service, principal, import_id)
        rejections = await load_rejections(connection, import_id=import_id, after_line=after_line, limit=limit)
    return {
        **_import(found),
        "rejections": [{"line": r.line, "field": r.field, "reason": r.reason} for r in rejections],
        "rejections_listed_max": REJECTIONS_KEPT_MAX,
        "next": rejections[-1].line if limit and len(rejections) == limit else None,
    }


@router.post("/imports/{import_id}/confirm")
async def confirm(import_id: UUID, service: ThisService, principal: Staff, request: Request) -> dict[str, Any]:
    """Apply a held file after all: whoever it leaves out loses coverage. Who confirmed is kept."""
    found = await _find_import(service, principal, import_id)
    async with service.command("confirm-import", member_ids=[], request=request) as work:
        if not await confirm_import(work.connection, import_id=import_id, confirmed_by=str(principal.subject)):
            raise Problem(409, "not-held", f"The file is not held: it is {found.state}.")
    return _import(await _find_import(service, principal, import_id))


@router.post("/imports/{import_id}/discard")
async def discard(import_id: UUID, service: ThisService, principal: Staff, request: Request) -> dict[str, Any]:
    """Give up a held file; nothing of it is applied."""
    await _find_import(service, principal, import_id)
    async with service.command("discard-import", member_ids=[], request=request) as work:
        if not await confirm_import(work.connection, import_id=import_id, confirmed_by=str(principal.subject)):
            raise Problem(409, "not-held", "The file is not held.")
        await finish_import(work.connection, import_id=import_id, state="discarded", reason=None, now=work.now)
    return _import(await _find_import(service, principal, import_id))


async def _find_import(service: Service, principal: Principal, import_id: UUID) -> RosterImport:
    async with service.requests.acquire() as connection:
        found = (await load_imports(connection, import_ids=[import_id])).get(import_id)
        if found is None:
            raise not_found()
        await find_sponsor(connection, principal=principal, sponsor_id=found.sponsor_id)
    return found


def _import(each: RosterImport) -> dict[str, Any]:
    return {
        "import_id": str(each.import_id),
        "sponsor_id": str(each.sponsor_id),
        "mode": each.mode,
        "state": each.state,
        "reason": each.reason,
        "received_at": each.received_at.isoformat(),
        "finished_at": each.finished_at.isoformat() if each.finished_at else None,
        "confirmed_by": each.confirmed_by,
        "ignored_columns": list(each.ignored_columns),
        "rows": {"read": each.rows_read, "accepted": each.rows_accepted, "rejected": each.rows_rejected},
        "persons": {
            "added": each.persons_added,
            "changed": each.persons_changed,
            "unchanged": each.persons_unchanged,
            "ended": each.persons_ended,
        },
        "members_whose_coverage_ends": each.members_ending,
    }
