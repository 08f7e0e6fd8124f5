"""Alerts, what was done about them, and the timers and feed entries that go with each change."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from services.messaging.domain.alert import Alert, AlertChange, Owner, Trigger
from services.messaging.domain.alert_view import AlertStep
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.people import CareTeam
from services.messaging.store.feed import save_feed_entries
from services.messaging.store.json_rows import json_row
from services.messaging.store.members import load_care_teams
from shared.database import Connection
from shared.events.envelope import Decision, EventRef
from shared.events.vocabulary import AlertKind, Practitioner
from shared.outcomes import Cause, Timer
from shared.timers import cancel_timers, save_timers

ESCALATION = "alert.escalation"
"""Timer kind; key: the alert's id; due when nobody acknowledged in time."""
SNOOZE = "alert.snooze"
"""Timer kind; key: the alert's id; due when a snooze ends."""

SAVE = """
insert into alerts select * from jsonb_populate_recordset(null::alerts, $1)
on conflict (alert_id) do update set (
    priority, status, summary, reason, rule_id, rule_version, evidence, raised_at, last_raised_at, repeats, owner_id,
    owner_role, owner_name, level, respond_by, snoozed_until, settled_at, acknowledged_by, acknowledged_by_role,
    acknowledged_by_name, acknowledged_at, resolved_by, resolved_by_name, resolved_at, outcome, note, cause_source,
    cause_id, cause_chain, cause_traceparent
) = (
    excluded.priority, excluded.status, excluded.summary, excluded.reason, excluded.rule_id, excluded.rule_version,
    excluded.evidence, excluded.raised_at, excluded.last_raised_at, excluded.repeats, excluded.owner_id,
    excluded.owner_role, excluded.owner_name, excluded.level, excluded.respond_by, excluded.snoozed_until,
    excluded.settled_at, excluded.acknowledged_by, excluded.acknowledged_by_role, excluded.acknowledged_by_name,
    excluded.acknowledged_at, excluded.resolved_by, excluded.resolved_by_name, excluded.resolved_at, excluded.outcome,
    excluded.note, excluded.cause_source, excluded.cause_id, excluded.cause_chain, excluded.cause_traceparent
)
"""

QUEUE = """
select * from alerts a
where a.status <> 'resolved' and (a.snoozed_until is null or $3)
    and (exists (select from member_profiles p where p.member_id = a.member_id and $1 in (p.pt_id, p.coach_id))
        or ($2 and a.owner_role = 'oncall'))
order by array_position(array['emergency', 'urgent', 'soon', 'routine'], a.priority), a.respond_by, a.alert_id limit $4
"""


def _alert(row: asyncpg.Record) -> Alert:
    owner = (
        Practitioner(practitioner_id=row["owner_id"], role=row["owner_role"], name=row["owner_name"])
        if row["owner_id"]
        else None
    )
    acknowledged_by = (
        Practitioner(
            practitioner_id=row["acknowledged_by"], role=row["acknowledged_by_role"], name=row["acknowledged_by_name"]
        )
        if row["acknowledged_by"]
        else None
    )
    decision = Decision(
        rule_id=row["rule_id"],
        rule_version=row["rule_version"],
        reason=row["reason"],
        evidence=tuple(EventRef(**ref) for ref in row["evidence"]),
    )
    same = (
        "alert_id",
        "member_id",
        "kind",
        "episode_key",
        "priority",
        "status",
        "summary",
        "raised_at",
        "last_raised_at",
        "repeats",
        "level",
        "respond_by",
        "snoozed_until",
        "settled_at",
        "acknowledged_at",
        "resolved_by_name",
        "resolved_at",
        "outcome",
        "note",
    )
    return Alert(
        **{name: row[name] for name in same},
        decision=decision,
        acknowledged_by=acknowledged_by,
        owner=Owner(role=row["owner_role"], practitioner=owner),
        resolved_by_id=row["resolved_by"],
        cause=Cause(
            source=row["cause_source"],
            id=row["cause_id"],
            chain=row["cause_chain"],
            traceparent=row["cause_traceparent"],
        ),
    )


def _row(alert: Alert) -> dict[str, Any]:
    owner, acknowledged_by = alert.owner.practitioner, alert.acknowledged_by
    same = (
        "alert_id",
        "member_id",
        "kind",
        "episode_key",
        "priority",
        "status",
        "summary",
        "raised_at",
        "last_raised_at",
        "repeats",
        "level",
        "respond_by",
        "snoozed_until",
        "settled_at",
        "acknowledged_at",
        "resolved_by_name",
        "resolved_at",
        "outcome",
        "note",
    )
    return {
        **{name: getattr(alert, name) for name in same},
        "reason": alert.decision.reason,
        "rule_id": alert.decision.rule_id,
        "rule_version": alert.decision.rule_version,
        "evidence": [{"source": ref.source, "id": ref.id} for ref in alert.decision.evidence],
        "owner_id": owner.practitioner_id if owner else None,
        "owner_role": alert.owner.role,
        "owner_name": owner.name if owner else None,
        "acknowledged_by": acknowledged_by.practitioner_id if acknowledged_by else None,
        "acknowledged_by_role": acknowledged_by.role if acknowledged_by else None,
        "acknowledged_by_name": acknowledged_by.name if acknowledged_by else None,
        "resolved_by": alert.resolved_by_id,
        "cause_source": alert.cause.source,
        "cause_id": alert.cause.id,
        "cause_chain": alert.cause.chain,
        "cause_traceparent": alert.cause.traceparent,
    }


async def load_alerts(connection: Connection, *, alert_ids: Collection[UUID]) -> dict[UUID, Alert]:
    """Alerts by id; unknown ones are missing. Whoever asks checks that the member may be seen."""
    rows = await connection.fetch("select * from alerts where alert_id = any($1::uuid[])", list(alert_ids))
    return {row["alert_id"]: _alert(row) for row in rows}


async def load_standing_alerts(
    connection: Connection, *, member_ids: Collection[UUID], episodes: Sequence[tuple[UUID, AlertKind, str]]
) -> list[Alert]:
    """All unresolved alerts of these members, and the alerts (resolved too) of these (member, kind, episode key).
    Always in the same order: the identity of what is published about them follows from it."""
    rows = await connection.fetch(
        """select * from alerts where member_id = any($1::uuid[]) and status <> 'resolved'
        union all
        select * from alerts where status = 'resolved' and (member_id, kind, episode_key) in
            (select * from unnest($2::uuid[], $3::text[], $4::text[]))
        order by alert_id""",
        list(member_ids),
        [e[0] for e in episodes],
        [e[1] for e in episodes],
        [e[2] for e in episodes],
    )
    return [_alert(row) for row in rows]


async def load_alert_queue(
    connection: Connection, *, practitioner_id: UUID, oncall: bool, include_snoozed: bool = False, limit: int = 200
) -> list[Alert]:
    """Unresolved alerts of the practitioner's members, and for who is on call those that ask the on-call role: most
    urgent first, then the one whose time runs out first."""
    rows = await connection.fetch(QUEUE, practitioner_id, oncall, include_snoozed, limit)
    return [_alert(row) for row in rows]


async def load_member_alerts(connection: Connection, *, member_ids: Collection[UUID], limit: int = 100) -> list[Alert]:
    """Alerts of these members, newest first, resolved ones too."""
    rows = await connection.fetch(
        "select * from alerts where member_id = any($1::uuid[]) order by raised_at desc limit $2",
        list(member_ids),
        limit,
    )
    return [_alert(row) for row in rows]


async def load_alert_steps(connection: Connection, *, alert_ids: Collection[UUID]) -> list[AlertStep]:
    """What was done about these alerts, oldest first."""
    rows = await connection.fetch(
        """select alert_id, action, done_at, by_id, by_name, detail from alert_actions
        where alert_id = any($1::uuid[]) order by action_id""",
        list(alert_ids),
    )
    return [AlertStep(**dict(row)) for row in rows]


async def save_alert_changes(
    connection: Connection, changes: Sequence[AlertChange], *, now: datetime, feed: Sequence[NewFeedEntry] = ()
) -> None:
    """Write the alerts as they are after these changes (the last one of each wins), every step of their history, their
    timers, and the feed entries for who must see it. `feed` holds further entries of the same transaction: the feed is
    written once, last."""
    latest = {change.alert.alert_id: change.alert for change in changes}
    if changes:
        await connection.execute(SAVE, [json_row(_row(alert)) for alert in latest.values()])
        await connection.execute(
            """insert into alert_actions (alert_id, action, done_at, by_id, by_name, detail)
            select * from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[])""",
            [c.alert.alert_id for c in changes],
            [c.action for c in changes],
            [now] * len(changes),
            [c.by.practitioner_id if c.by else None for c in changes],
            [c.by.name if c.by else None for c in changes],
            [c.detail for c in changes],
        )
        await _set_timers(connection, list(latest.values()))
    await save_feed_entries(connection, [_entry(change) for change in changes] + list(feed), now=now)


async def _set_timers(connection: Connection, alerts: Sequence[Alert]) -> None:
    asking = [a for a in alerts if a.status == "open"]
    asleep = [a for a in alerts if a.status != "resolved" and a.snoozed_until is not None]
    await cancel_timers(connection, kind=ESCALATION, keys=[str(a.alert_id) for a in alerts if a not in asking])
    await cancel_timers(connection, kind=SNOOZE, keys=[str(a.alert_id) for a in alerts if a not in asleep])
    await save_timers(
        connection,
        [_timer(a, kind=ESCALATION, due_at=a.respond_by) for a in asking]
        + [_timer(a, kind=SNOOZE, due_at=a.snoozed_until) for a in asleep if a.snoozed_until],
    )


def _timer(alert: Alert, *, kind: str, due_at: datetime) -> Timer:
    return Timer(kind=kind, key=str(alert.alert_id), member_id=alert.member_id, due_at=due_at, cause=alert.cause)


def _entry(change: AlertChange) -> NewFeedEntry:
    owner = change.alert.owner
    return NewFeedEntry(
        kind="alert",
        change=change.action,
        member_id=change.alert.member_id,
        subject_id=change.alert.alert_id,
        also=(owner.practitioner.practitioner_id,) if owner.practitioner else (),
        oncall="oncall" in (owner.role, change.previous_role),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertBook:
    """What raising alerts needs to know."""

    known: list[Alert]
    teams: dict[UUID, CareTeam]


async def load_alert_book(connection: Connection, *, triggers: Sequence[Trigger], now: datetime) -> AlertBook:
    """The alerts of these triggers' episodes, the unresolved ones of their members, and the members' care teams. A
    member without a team is missing there: nothing waits for it, the on-call role is asked."""
    if not triggers:
        return AlertBook(known=[], teams={})
    members = {trigger.member_id for trigger in triggers}
    episodes = [(trigger.member_id, trigger.kind, trigger.episode_key) for trigger in triggers]
    return AlertBook(
        known=await load_standing_alerts(connection, member_ids=members, episodes=episodes),
        teams=await load_care_teams(connection, member_ids=members, now=now),
    )
