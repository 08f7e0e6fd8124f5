"""Probes that tell the truth, metrics, and how far a service has come.

Live: the event loop answers, the poll tasks run, and what the Kafka client does beside them; never the broker or the
database. Ready: assigned once, not refused by a group, database answers, no chunk stuck or endless, no partition that
cannot be opened or is paused by an alarm or for lack of room.
"""

import asyncio
from typing import Any

from aiokafka.errors import KafkaError
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.clock import monotonic
from shared.database import is_transient
from shared.hosting import Host
from shared.intake import STUCK_S, Intake
from shared.lag import load_all_positions
from shared.outbox import load_outbox_age
from shared.telemetry import NOT_READY
from shared.timers import count_due, count_given_up

ANSWERS_S = 2.0
"""The database answers within this."""
LOG_ENDS_S = 10.0
"""And the broker within this, or the lag is not told."""
COUNT_OUTBOX = "select count(*) from (select from delivery.outbox limit 10001) as counted"
COUNT_ALARMS = """
select count(*) filter (where state = 'dead') as dead, count(*) filter (where state = 'parked') as parked,
    count(*) filter (where state = 'waiting') as waiting from delivery.held_events
"""


def health_routes(service: Host) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/health/live")
    async def live() -> Response:
        ended = [i.subscription.group for i in service.intakes if i.polling_ended()]
        return JSONResponse({"live": not ended, "ended": ended}, status_code=503 if ended else 200)

    @router.get("/health/ready")
    async def ready() -> Response:
        reasons = await _reasons(service)
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    @router.get("/health/progress")
    async def progress() -> Response:
        try:
            return JSONResponse(await _progress(service))
        except Exception as error:
            if not is_transient(error):
                raise
            return JSONResponse({"settled": False, "why": f"database: {type(error).__name__}"})

    @router.get("/metrics")
    async def metrics() -> Response:
        NOT_READY.labels(service.name).set(len(await _reasons(service)))
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _reasons(service: Host) -> list[str]:
    health = service.health
    if health.stopping:
        return ["stopping"]
    if not health.started:
        return [health.why]
    reasons = [reason for intake in service.intakes for reason in _reasons_of(intake)]
    try:
        async with asyncio.timeout(ANSWERS_S):  # waiting for a connection, too: they may all be held
            await service.database.fetchval("select 1")
    except Exception as error:
        if not is_transient(error):
            raise
        reasons.append(f"database: {type(error).__name__}")
    return reasons


def _reasons_of(intake: Intake) -> list[str]:
    reasons: list[str] = []
    group, since = intake.subscription.group, intake.stuck_since()
    if not intake.assigned_once:
        reasons.append(f"{group}: no partitions assigned yet")
    if intake.paused_by_alarm:
        reasons.append(f"{group}: {len(intake.paused_by_alarm)} partitions paused, the position lies outside the log")
    if (refused_s := intake.refused_for_s()) > STUCK_S:
        reasons.append(f"{group}: Kafka has refused each poll for {refused_s:.0f} s")
    if undelivered := intake.undelivered():
        reasons.append(f"{group}: polling brings nothing of {len(undelivered)} partitions")
    if unopened := intake.unopened():
        reasons.append(f"{group}: {len(unopened)} partitions cannot be opened")
    if full := intake.full():
        what = "the group" if "group" in full else "a member's queue"
        reasons.append(f"{group}: {len(full)} partitions wait for room, {what} holds as many events as it may")
    if endless := intake.endless():
        reasons.append(f"{group}: {len(endless)} partitions have a chunk in hand for long")
    if since is not None and monotonic() - since > STUCK_S:
        reasons.append(f"{group}: a chunk has failed for {monotonic() - since:.0f} s")
    return reasons


async def _progress(service: Host) -> dict[str, Any]:
    """What is under way: lag, outbox, due timers, queued and pending work; `settled` when there is none. `why` where it
    cannot be told; without Kafka only the lag is missing. Raises what the database raises.

    Work moves from log to timers to outbox and back to the log. One snapshot sees it in one place, and the ends of the
    log are read after it: what left the outbox before the snapshot is behind them, so nothing under way goes unseen.
    """
    if not service.health.started:
        return {"settled": False, "why": service.health.why}
    async with (
        service.database.acquire(timeout=10) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        now = service.clock.now()
        outbox = await connection.fetchval(COUNT_OUTBOX)
        outbox_age = await load_outbox_age(connection)
        due = await count_due(connection, kinds=list(service.timers), now=now)
        given_up = await count_given_up(connection, now=now)
        held = await connection.fetchrow(COUNT_ALARMS)
        pending = {work.name: await work.count(connection, now) for work in service.pending}
        positions = await load_all_positions(connection)
    lag, why = None, {}
    try:
        async with asyncio.timeout(LOG_ENDS_S):
            lag = sum(one.records for one in (await service.find_unread(positions)).values())
    except (KafkaError, TimeoutError) as error:
        why = {"why": f"kafka: {type(error).__name__}"}
    assert held is not None
    starting = sum(intake.opening() for intake in service.intakes)
    settled = not (why or outbox or due or lag or starting or any(pending.values()))
    return {
        "settled": settled,
        **why,
        "now": now.isoformat(),
        "lag": lag,
        "outbox": outbox,
        "outbox_oldest_s": round(outbox_age, 1),
        "due_timers": due,
        "given_up_timers": given_up,
        "pending": pending,
        "partitions_opening": starting,
        "dead": held["dead"],
        "parked": held["parked"],
        "waiting": held["waiting"],
    }
