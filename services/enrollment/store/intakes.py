"""What people answered at intake, and what a clinician cleared of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from services.enrollment.domain.membership import Membership
from shared.database import Connection
from shared.events.members import MemberEnrolledData
from shared.events.vocabulary import Channel, Finding

SAVE = """
insert into intakes (intake_id, member_id, taken_at, findings, disposition, rule_id, rule_version, enrolment, channels)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
LOAD = """
select intake_id, member_id, taken_at, findings, disposition, rule_id, rule_version, enrolment, channels
from intakes where intake_id = any($1::uuid[])
"""
SAVE_CLEARANCE = """
insert into clearances (clearance_id, member_id, intake_id, findings, cleared_by, reason, cleared_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (intake_id) do nothing returning clearance_id
"""
LOAD_CLEARED = """
select member_id, array_agg(distinct finding) as findings
from clearances cross join unnest(findings) as finding
where member_id = any($1::uuid[]) and cleared_at <= $2 and expires_at > $2 group by member_id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Intake:
    intake_id: UUID
    member_id: UUID
    taken_at: datetime
    findings: tuple[Finding, ...]
    disposition: str
    rule_id: str
    rule_version: int
    enrolment: MemberEnrolledData | None
    """What member.enrolled will say; None when a screening stopped it."""
    channels: tuple[Channel, ...]


async def save_intake(connection: Connection, intake: Intake) -> None:
    enrolment = None if intake.enrolment is None else intake.enrolment.model_dump(mode="json")
    await connection.execute(
        SAVE,
        intake.intake_id,
        intake.member_id,
        intake.taken_at,
        intake.findings,
        intake.disposition,
        intake.rule_id,
        intake.rule_version,
        enrolment,
        intake.channels,
    )


async def load_intakes(connection: Connection, *, memberships: Sequence[Membership]) -> dict[UUID, Intake]:
    """By member: the intake that their present status rests on."""
    rows = await connection.fetch(LOAD, [m.intake_id for m in memberships])
    return {row["member_id"]: _intake(row) for row in rows}


async def save_clearance(
    connection: Connection,
    *,
    clearance_id: UUID,
    intake: Intake,
    cleared_by: UUID,
    reason: str,
    now: datetime,
    expires_at: datetime,
) -> bool:
    """False when this intake was cleared before."""
    row = await connection.fetchval(
        SAVE_CLEARANCE,
        clearance_id,
        intake.member_id,
        intake.intake_id,
        intake.findings,
        cleared_by,
        reason,
        now,
        expires_at,
    )
    return row is not None


async def load_cleared(
    connection: Connection, *, member_ids: Sequence[UUID], now: datetime
) -> dict[UUID, frozenset[Finding]]:
    """By member: findings that a clinician has looked at and whose clearance still holds."""
    rows = await connection.fetch(LOAD_CLEARED, member_ids, now)
    return {row["member_id"]: frozenset(row["findings"]) for row in rows}


def _intake(row: asyncpg.Record) -> Intake:
    enrolment = row["enrolment"]
    return Intake(
        intake_id=row["intake_id"],
        member_id=row["member_id"],
        taken_at=row["taken_at"],
        findings=tuple(row["findings"]),
        disposition=row["disposition"],
        rule_id=row["rule_id"],
        rule_version=row["rule_version"],
        # As JSON, where a strict contract takes dates and UUIDs as text.
        enrolment=None if enrolment is None else MemberEnrolledData.model_validate_json(orjson.dumps(enrolment)),
        channels=tuple(row["channels"]),
    )
