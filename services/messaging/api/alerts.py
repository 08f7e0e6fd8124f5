"""Alerts: the queue, and what a clinician does about one."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from services.messaging.api.access import (
    Clinician,
    IdempotencyKey,
    This,
    check_member,
    member_of_alert,
    practitioner_of,
    refuse,
)
from services.messaging.api.bodies import (
    Acknowledgement,
    AlertAnswer,
    ChainAnswer,
    ChainEntry,
    HandOver,
    Resolution,
    Snooze,
)
from services.messaging.handlers.handle_alerts import (
    AlertHandled,
    acknowledge,
    hand_over,
    resolve,
    snooze,
    undo_acknowledge,
)
from services.messaging.store.alerts import load_alert_queue, load_alerts, load_member_alerts
from services.messaging.store.timeline import load_chain
from shared.auth import Principal
from shared.commands import Work, identity_of
from shared.events.envelope import NO_NUL
from shared.outcomes import Refusal
from shared.service import Service

router = APIRouter(prefix="/v1", tags=["alerts"])


@router.get("/alerts")
async def get_alerts(
    caller: Clinician,
    service: This,
    snoozed: bool = False,
    limit: Annotated[int, Query(ge=1, le=500)] = 200,
) -> list[AlertAnswer]:
    """The caller's queue: unresolved alerts of their members, and of the on-call role for who holds it."""
    async with service.requests.acquire() as connection:
        queue = await load_alert_queue(
            connection,
            practitioner_id=caller.person_id,
            oncall="oncall" in caller.roles,
            include_snoozed=snoozed,
            limit=limit,
        )
    return [AlertAnswer.of(alert) for alert in queue]


@router.get("/members/{member_id}/alerts")
async def get_member_alerts(member_id: UUID, caller: Clinician, service: This) -> list[AlertAnswer]:
    """All alerts of a member, newest first."""
    await check_member(service, caller, member_id)
    async with service.requests.acquire() as connection:
        return [AlertAnswer.of(alert) for alert in await load_member_alerts(connection, member_ids=[member_id])]


@router.get("/members/{member_id}/chain", tags=["timeline"])
async def get_chain(
    member_id: UUID,
    caller: Clinician,
    service: This,
    correlationid: Annotated[str | None, Query(max_length=128, pattern=NO_NUL)] = None,
    limit: Annotated[int, Query(ge=1, le=2000)] = 500,
) -> ChainAnswer:
    """Why did this happen, and what came of it: the member's events with what caused each."""
    await check_member(service, caller, member_id)
    async with service.requests.acquire() as connection:
        entries = await load_chain(connection, member_ids=[member_id], correlation_id=correlationid, limit=limit)
    return ChainAnswer(member_id=member_id, events=[ChainEntry.of(entry) for entry in entries])


@router.get("/alerts/{alert_id}")
async def get_alert(alert_id: UUID, caller: Clinician, service: This) -> AlertAnswer:
    """One alert."""
    await member_of_alert(service, caller, alert_id)
    async with service.requests.acquire() as connection:
        return AlertAnswer.of((await load_alerts(connection, alert_ids=[alert_id]))[alert_id])


async def _handle(
    name: str,
    alert_id: UUID,
    caller: Principal,
    service: Service,
    request: Request,
    key: str | None,
    run: Callable[[Work], Awaitable[AlertHandled | Refusal]],
) -> AlertAnswer:
    member_id = await member_of_alert(service, caller, alert_id)
    command_id = str(identity_of(name, caller.subject, key))
    async with service.command(name, member_ids=[member_id], request=request, command_id=command_id) as work:
        answer = await run(work)
        if isinstance(answer, Refusal):
            refuse(answer)
        work.take(answer.outcomes)
    return AlertAnswer.of(answer.alert)


@router.post("/alerts/{alert_id}/acknowledge")
async def post_acknowledge(
    alert_id: UUID,
    caller: Clinician,
    service: This,
    request: Request,
    what: Acknowledgement | None = None,
    key: IdempotencyKey = None,
) -> AlertAnswer:
    """Take it on. 409 names who was first, or says that the alert asked again after the caller looked."""

    async def run(work: Work) -> AlertHandled | Refusal:
        return await acknowledge(
            work.connection,
            alert_id=alert_id,
            by=practitioner_of(caller),
            seen=what.seen if what else None,
            command=work.command,
            now=work.now,
        )

    return await _handle("acknowledge-alert", alert_id, caller, service, request, key, run)


@router.delete("/alerts/{alert_id}/acknowledge")
async def delete_acknowledge(
    alert_id: UUID, caller: Clinician, service: This, request: Request, key: IdempotencyKey = None
) -> AlertAnswer:
    """Undo it, within some seconds, by the same person."""

    async def run(work: Work) -> AlertHandled | Refusal:
        return await undo_acknowledge(
            work.connection, alert_id=alert_id, by=practitioner_of(caller), command=work.command, now=work.now
        )

    return await _handle("undo-acknowledge-alert", alert_id, caller, service, request, key, run)


@router.post("/alerts/{alert_id}/snooze")
async def post_snooze(
    alert_id: UUID, until: Snooze, caller: Clinician, service: This, request: Request, key: IdempotencyKey = None
) -> AlertAnswer:
    """Out of the queue until then; it comes back to the caller."""

    async def run(work: Work) -> AlertHandled | Refusal:
        return await snooze(
            work.connection,
            alert_id=alert_id,
            by=practitioner_of(caller),
            until=until.until,
            seen=until.seen,
            command=work.command,
            now=work.now,
        )

    return await _handle("snooze-alert", alert_id, caller, service, request, key, run)


@router.post("/alerts/{alert_id}/hand-over")
async def post_hand_over(
    alert_id: UUID, to: HandOver, caller: Clinician, service: This, request: Request, key: IdempotencyKey = None
) -> AlertAnswer:
    """Ask another of the care team, or the on-call role."""

    async def run(work: Work) -> AlertHandled | Refusal:
        return await hand_over(
            work.connection,
            alert_id=alert_id,
            by=practitioner_of(caller),
            to_role=to.to_role,
            seen=to.seen,
            command=work.command,
            now=work.now,
        )

    return await _handle("hand-over-alert", alert_id, caller, service, request, key, run)


@router.post("/alerts/{alert_id}/resolve")
async def post_resolve(
    alert_id: UUID, what: Resolution, caller: Clinician, service: This, request: Request, key: IdempotencyKey = None
) -> AlertAnswer:
    """Say what came of it."""

    async def run(work: Work) -> AlertHandled | Refusal:
        return await resolve(
            work.connection,
            alert_id=alert_id,
            by=practitioner_of(caller),
            outcome=what.outcome,
            note=what.note,
            seen=what.seen,
            command=work.command,
            now=work.now,
        )

    return await _handle("resolve-alert", alert_id, caller, service, request, key, run)
