"""A small service that keeps, for each member, what took effect in which order: the runtime seen from outside.

Its table is the oracle's counterpart: one row an effect, numbered per member. A score of 9 raises (a bug), while the
file BUG_FIXED does not exist in the database; a score of 8 waits until the member has been enrolled; 7 is refused.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg

from shared.database import Connection
from shared.events import MemberPaused, PainReported, PainSettled, SafetyFlagged
from shared.events.activity import PainReportedData
from shared.events.envelope import Decision
from shared.events.members import MemberPausedData
from shared.events.plans import PainSettledData, SafetyFlaggedData
from shared.outcomes import Outcomes
from shared.service import Service, run
from shared.settings import ServiceSettings
from shared.subscriptions import EventHandler, Subscription

TABLES = """
create table effects (
    effect_id bigint generated always as identity primary key, member_id uuid, event_id text, score int
);
create table known_members (member_id uuid primary key);
create table switches (name text primary key);
"""
ACTIVITY, MEMBERS = "careloop.activity", "careloop.members"
DECISION = Decision(rule_id="probe", rule_version=1, reason="probe")


class ProbeBug(Exception):
    pass


async def follow_activity(connection: Connection, events: Sequence[PainReported], /, *, now: datetime) -> Outcomes:
    outcomes = Outcomes()
    fixed = await connection.fetchval("select exists (select from switches where name = 'fixed')")
    members = list({event.subject for event in events})
    rows = await connection.fetch("select member_id from known_members where member_id = any($1::uuid[])", members)
    known, stopped = {row["member_id"] for row in rows}, set()
    effects = []
    for event in events:
        if event.subject in stopped:
            continue
        score = event.data.score
        if score == 9 and not fixed:
            raise ProbeBug
        if score == 8 and event.subject not in known:
            outcomes.wait(event, needs="member")
            stopped.add(event.subject)
        elif score == 7:
            outcomes.refuse(event, reason="seven")
        else:
            effects.append((event.subject, event.id, score))
            data = PainSettledData(episode_id=event.subject, score=score, baseline=1.0, decision=DECISION)
            outcomes.publish(PainSettled, data, because=event)
    await connection.executemany("insert into effects (member_id, event_id, score) values ($1, $2, $3)", effects)
    return outcomes


async def raise_red_flags(connection: Connection, events: Sequence[PainReported], /, *, now: datetime) -> Outcomes:
    outcomes = Outcomes()
    for event in events:
        if event.data.findings:
            flag = SafetyFlaggedData(
                flag_id=event.subject, disposition="emergency", findings=event.data.findings, decision=DECISION
            )
            outcomes.publish(SafetyFlagged, flag, because=event)
    return outcomes


async def follow_members(connection: Connection, events: Sequence[MemberPaused], /, *, now: datetime) -> Outcomes:
    await connection.executemany(
        "insert into known_members values ($1) on conflict do nothing", [(event.subject,) for event in events]
    )
    return Outcomes()


def reports_nothing(value: bytes) -> bool:
    return b'"findings":[]' in value


def build(
    settings: ServiceSettings,
    *,
    activity: EventHandler = follow_activity,
    safety: EventHandler = raise_red_flags,
    safety_gathers_ms: int = 30,
) -> Service:
    return Service(
        name="probe",
        settings=settings,
        subscriptions=[
            Subscription(topic=ACTIVITY, group="probe.activity", run=activity, events=(PainReported,)),
            Subscription(
                topic=ACTIVITY,
                group="probe.safety",
                run=safety,
                events=(PainReported,),
                stateless=True,
                patient=reports_nothing,
                gather_ms=safety_gathers_ms,
            ),
            Subscription(topic=MEMBERS, group="probe.members", run=follow_members, events=(MemberPaused,)),
        ],
    )


def pain(member_id: UUID, score: int, *, event_id: str | None = None, **data: object) -> PainReported:
    return PainReported(
        id=event_id or str(uuid4()),
        source="urn:test:app",
        time=datetime.now(UTC),
        subject=member_id,
        data=PainReportedData(score=score, context="now", **data),  # type: ignore[arg-type]
    )


def paused(member_id: UUID) -> MemberPaused:
    return MemberPaused(
        id=str(uuid4()),
        source="urn:careloop:enrollment",
        time=datetime.now(UTC),
        subject=member_id,
        data=MemberPausedData(reason="probe"),
    )


async def add_tables(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(TABLES)
    finally:
        await connection.close()


__all__ = ["ACTIVITY", "MEMBERS", "add_tables", "build", "pain", "paused"]


if __name__ == "__main__":
    run(build(ServiceSettings()))
