"""What the triage page shows, in one statement each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from shared.database import Connection

QUEUE_MAX = 200
"""Rows of one page. A coach has at most 15 alerts a day; more means that somebody must be told, not scroll."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueRow:
    """One alert as its row and its detail show it."""

    alert_id: UUID
    member_id: UUID
    member_name: str | None
    member_zone: str | None
    kind: str
    priority: str
    status: str
    summary: str
    reason: str
    rule_id: str
    rule_version: int
    raised_at: datetime
    last_raised_at: datetime
    repeats: int
    owner_id: UUID | None
    owner_role: str
    owner_name: str | None
    level: int
    respond_by: datetime
    snoozed_until: datetime | None
    settled_at: datetime | None
    acknowledged_by: UUID | None
    acknowledged_by_name: str | None
    acknowledged_at: datetime | None
    resolved_by_name: str | None
    resolved_at: datetime | None
    outcome: str | None
    note: str | None
    in_team: bool
    """The reader is of the member's care team, not only on call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertAction:
    alert_id: UUID
    action: str
    done_at: datetime
    by_name: str | None
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundMember:
    member_id: UUID
    name: str | None
    status: str
    cause: str | None
    unresolved: int


_COLUMNS = """
    a.alert_id, a.member_id, c.given_name || ' ' || c.family_name as member_name,
    coalesce(c.time_zone, p.time_zone) as member_zone, a.kind, a.priority, a.status, a.summary, a.reason, a.rule_id,
    a.rule_version, a.raised_at, a.last_raised_at, a.repeats, a.owner_id, a.owner_role, a.owner_name, a.level,
    a.respond_by, a.snoozed_until, a.settled_at, a.acknowledged_by, a.acknowledged_by_name, a.acknowledged_at,
    a.resolved_by_name, a.resolved_at, a.outcome, a.note,
    coalesce($1 in (p.pt_id, p.coach_id), false) as in_team
"""
_VISIBLE = "(p.pt_id = $1 or p.coach_id = $1 or ($2 and a.owner_role = 'oncall'))"


def _row(record: asyncpg.Record) -> QueueRow:
    return QueueRow(**dict(record))


async def load_queue(
    connection: Connection, *, practitioner_id: UUID, oncall: bool, resolved_since: datetime
) -> list[QueueRow]:
    """Alerts that this person sees: unresolved ones, most pressing first, then those resolved lately."""
    records = await connection.fetch(
        f"""
        select {_COLUMNS}
        from alerts a
        left join member_profiles p using (member_id)
        left join member_contacts c using (member_id)
        where {_VISIBLE} and (a.status <> 'resolved' or a.resolved_at >= $3)
        order by a.status = 'resolved',
                 case a.priority when 'emergency' then 0 when 'urgent' then 1 when 'soon' then 2 else 3 end,
                 case when a.status = 'resolved' then null else a.respond_by end, a.resolved_at desc, a.alert_id
        limit {QUEUE_MAX}
        """,  # noqa: S608 - the parts are constants above
        practitioner_id,
        oncall,
        resolved_since,
    )
    return [_row(record) for record in records]


async def load_member_alerts(
    connection: Connection, *, practitioner_id: UUID, oncall: bool, member_id: UUID, limit: int = 30
) -> list[QueueRow]:
    """Alerts of one member that this person sees, unresolved first, then the latest."""
    records = await connection.fetch(
        f"""
        select {_COLUMNS}
        from alerts a
        left join member_profiles p using (member_id)
        left join member_contacts c using (member_id)
        where {_VISIBLE} and a.member_id = $3
        order by a.status = 'resolved', a.raised_at desc
        limit $4
        """,  # noqa: S608
        practitioner_id,
        oncall,
        member_id,
        limit,
    )
    return [_row(record) for record in records]


async def load_alert(connection: Connection, *, practitioner_id: UUID, oncall: bool, alert_id: UUID) -> QueueRow | None:
    """One alert; None when there is none that this person may see."""
    record = await connection.fetchrow(
        f"""
        select {_COLUMNS}
        from alerts a
        left join member_profiles p using (member_id)
        left join member_contacts c using (member_id)
        where {_VISIBLE} and a.alert_id = $3
        """,  # noqa: S608
        practitioner_id,
        oncall,
        alert_id,
    )
    return _row(record) if record else None


async def load_alert_actions(connection: Connection, *, alert_ids: Sequence[UUID]) -> dict[UUID, list[AlertAction]]:
    """What was done about each alert, in order."""
    records = await connection.fetch(
        "select alert_id, action, done_at, by_name, detail from alert_actions"
        " where alert_id = any($1) order by action_id",
        list(alert_ids),
    )
    actions: dict[UUID, list[AlertAction]] = {alert_id: [] for alert_id in alert_ids}
    for record in records:
        actions[record["alert_id"]].append(AlertAction(**dict(record)))
    return actions


async def find_team_members(
    connection: Connection, *, practitioner_id: UUID, words: str, limit: int = 20
) -> list[FoundMember]:
    """Members of this person's care teams whose name holds these words; all of them, by name, for no words."""
    records = await connection.fetch(
        r"""
        select p.member_id, c.given_name || ' ' || c.family_name as name, p.status, p.cause,
               (select count(*) from alerts a where a.member_id = p.member_id and a.status <> 'resolved') as unresolved
        from member_profiles p
        left join member_contacts c using (member_id)
        where (p.pt_id = $1 or p.coach_id = $1)
          and ($2 = '' or c.given_name || ' ' || c.family_name ilike
               '%' || replace(replace(replace($2, '\', '\\'), '%', '\%'), '_', '\_') || '%')
        order by name nulls last, p.member_id
        limit $3
        """,
        practitioner_id,
        words.strip(),
        limit,
    )
    return [FoundMember(**dict(record)) for record in records]


async def load_feed_number(connection: Connection) -> int:
    """Where the feed ends now: a page read after this misses nothing that comes later."""
    number: int = await connection.fetchval("select last_number from feed_head")
    return number


async def load_practitioner_zone(connection: Connection, *, practitioner_id: UUID) -> str | None:
    """The zone of a practitioner's working hours; None for one that no care team has named yet."""
    zone: str | None = await connection.fetchval(
        "select time_zone from practitioners where practitioner_id = $1", practitioner_id
    )
    return zone


RESOLVED_SHOWN = timedelta(hours=24)
"""How long a resolved alert stays on the triage page, to answer "what did I already do about it"."""
