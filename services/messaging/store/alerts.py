"""Alerts, what was done about them, and the timers and feed entries that go with each change.

Whoever loads alerts in order to change them locks them: a safety group holds no member's lock, so that lock alone
does not keep two apart. First, to raise one of the kind that the safety groups raise, what does not exist yet
(`alert_locks`), then the rows, each in one statement and in order, so that no two wait for each other in a circle. What
is loaded to be shown is not locked.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from services.messaging.domain.alert import Alert, AlertChange, Owner, Trigger
from services.messaging.domain.alert_view import AlertStep
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.people import CareTeam
from services.messaging.store.feed import saving_feed_entries
from services.messaging.store.json_rows import inserting, json_row
from services.messaging.store.members import CARE_TEAMS, care_teams_of
from services.messaging.store.rules import load_alert_rules
from shared.database import Connection
from shared.events.envelope import Decision, EventRef
from shared.events.vocabulary import AlertKind, Practitioner
from shared.outcomes import Cause, Command, Timer, Write
from shared.timers import replacing_timers

ESCALATION = "alert.escalation"
"""Timer kind; key: the alert's id; due when nobody acknowledged in time."""
SNOOZE = "alert.snooze"
"""Timer kind; key: the alert's id; due when a snooze ends."""
FOLLOW_UP = "alert.follow-up"
"""Timer kind; key: the alert's id; due when it was taken on and nothing has come of it."""

TIMER_KINDS = (ESCALATION, SNOOZE, FOLLOW_UP)

RAISED_BY_SAFETY_GROUPS: Final[AlertKind] = "safety"
"""The one kind of alert that is raised without the member's lock; who raises another one holds that."""

SAME: Final = (
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
"""Columns that are fields of an Alert as they are."""
COLUMNS = f"""{", ".join(SAME)}, reason, rule_id, rule_version, evidence, owner_id, owner_role, owner_name,
    acknowledged_by, acknowledged_by_role, acknowledged_by_name, resolved_by, cause_source, cause_id, cause_chain,
    cause_traceparent"""
SELECT = f"select {COLUMNS} from alerts"  # noqa: S608 - only our own parts
LOAD = f"{SELECT} where alert_id = any($1::uuid[])"
LOCK = f"{LOAD} order by alert_id for update"
CLAIM = f"{LOCK} skip locked"
LOAD_OF_MEMBERS = f"{SELECT} where member_id = any($1::uuid[]) order by raised_at desc limit $2"

# A conflicting row is locked even though the condition never lets the update happen.
LOCK_RAISING = """
insert into alert_locks (member_id, kind)
select member_id, kind from unnest($1::uuid[], $2::text[]) as wanted(member_id, kind) order by member_id, kind
on conflict (member_id, kind) do update set member_id = excluded.member_id where false
"""

# Which rows is found first and locked then: a union cannot be locked. Both parts ask for their members, join nothing
# and may find the same: a plan that was made while there were few alerts would go on reading all of an index. So of
# these members they also find what another pair or episode asks for, which `_standing` leaves out. A row that somebody
# changed while this waited comes as it is now.
LOCK_STANDING = f"""
{SELECT} where alert_id = any(array(
    select alert_id from alerts where member_id = any($1::uuid[]) and status <> 'resolved' and kind = any($2::text[])
    union all
    select alert_id from alerts where member_id = any($3::uuid[]) and episode_key = any($4::text[])
)) order by alert_id for update
"""  # noqa: S608 - only our own parts

# One statement for both: who is of a team changes only under the member's lock and, for a red flag, under the lock to
# raise one, and whoever comes here holds one of them since before. An absence that is entered while this waits for a
# row counts from the next step on.
LOCK_BOOK = f"""
with standing as materialized ({LOCK_STANDING}),
teams as ({CARE_TEAMS.format(members="$5::uuid[]", now="$6::timestamptz")})
select * from standing s full join teams t on t.team_of = s.member_id order by s.alert_id
"""  # noqa: S608 - only our own parts

SAVE = f"""
{inserting("alerts", COLUMNS)}
on conflict (alert_id) do update set (
    priority, status, summary, reason, rule_id, rule_version, evidence, raised_at, last_raised_at, repeats,
    owner_id, owner_role, owner_name, level, respond_by, snoozed_until, settled_at, acknowledged_by,
    acknowledged_by_role, acknowledged_by_name, acknowledged_at, resolved_by, resolved_by_name, resolved_at,
    outcome, note, cause_source, cause_id, cause_chain, cause_traceparent
) = (
    excluded.priority, excluded.status, excluded.summary, excluded.reason, excluded.rule_id,
    excluded.rule_version, excluded.evidence, excluded.raised_at, excluded.last_raised_at, excluded.repeats,
    excluded.owner_id, excluded.owner_role, excluded.owner_name, excluded.level, excluded.respond_by,
    excluded.snoozed_until, excluded.settled_at, excluded.acknowledged_by, excluded.acknowledged_by_role,
    excluded.acknowledged_by_name, excluded.acknowledged_at, excluded.resolved_by, excluded.resolved_by_name,
    excluded.resolved_at, excluded.outcome, excluded.note, excluded.cause_source, excluded.cause_id,
    excluded.cause_chain, excluded.cause_traceparent
)
"""
SAVE_ACTIONS = """
insert into alert_actions (alert_id, action, done_at, by_id, by_name, detail, command_id)
select * from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], $7::text[])
"""

QUEUE = f"""
{SELECT} a
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
    return Alert(
        **{name: row[name] for name in SAME},
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
    return {
        **{name: getattr(alert, name) for name in SAME},
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
    rows = await connection.fetch(LOAD, list(alert_ids))
    return {row["alert_id"]: _alert(row) for row in rows}


async def lock_alerts(connection: Connection, *, alert_ids: Collection[UUID]) -> dict[UUID, Alert]:
    """Alerts by id, to change them: nobody else does until the transaction ends. Unknown ones are missing."""
    rows = await connection.fetch(LOCK, list(alert_ids))
    return {row["alert_id"]: _alert(row) for row in rows}


async def claim_alerts(connection: Connection, *, alert_ids: Collection[UUID]) -> tuple[dict[UUID, Alert], set[UUID]]:
    """Alerts by id, locked to change them, but for those that somebody is changing now: their ids come second. For
    timers: they hold their own rows when they come here, which others take after the alert."""
    ids = list(alert_ids)
    claimed = {row["alert_id"]: _alert(row) for row in await connection.fetch(CLAIM, ids)}
    left = [alert_id for alert_id in ids if alert_id not in claimed]
    return claimed, set(await load_alerts(connection, alert_ids=left)) if left else set()


async def was_handled(connection: Connection, *, alert_id: UUID, command_id: str) -> bool:
    """Whether this command has done something about the alert before. The caller holds the alert's lock."""
    done = await connection.fetchval(
        "select true from alert_actions where alert_id = $1 and command_id = $2 limit 1", alert_id, command_id
    )
    return done is not None


async def has_asked(connection: Connection, *, member_id: UUID, kind: AlertKind, command_id: str) -> bool:
    """Whether this command has raised an alert of this kind of its member before, or joined one, whatever became of
    that. The caller holds what `load_alert_book` locks."""
    asked = await connection.fetchval(
        """select true from alert_actions where command_id = $3
        and alert_id = any(array(select alert_id from alerts where member_id = $1 and kind = $2)) limit 1""",
        member_id,
        kind,
        command_id,
    )
    return asked is not None


async def lock_standing_alerts(
    connection: Connection,
    *,
    of: Collection[tuple[UUID, AlertKind]],
    episodes: Collection[tuple[UUID, AlertKind, str]] = (),
) -> list[Alert]:
    """All unresolved alerts of these (member, kind), and the alerts (resolved too) of these (member, kind, episode
    key), to change them: nobody else does until the transaction ends.
    Always in the same order: the identity of what is published about them follows from it."""
    return _standing(await connection.fetch(LOCK_STANDING, *_columns(of, episodes)), of, episodes)


def _columns(
    of: Collection[tuple[UUID, AlertKind]], episodes: Collection[tuple[UUID, AlertKind, str]]
) -> list[list[Any]]:
    """The arguments of LOCK_STANDING."""
    return [
        [member_id for member_id, _ in of],
        list({kind for _, kind in of}),
        [member_id for member_id, _, _ in episodes],
        [key for _, _, key in episodes],
    ]


def _standing(
    rows: Sequence[asyncpg.Record],
    of: Collection[tuple[UUID, AlertKind]],
    episodes: Collection[tuple[UUID, AlertKind, str]],
) -> list[Alert]:
    """Those that were asked for. One that was unresolved when it was found may have been resolved while this waited for
    its lock."""
    known, pairs, asked = [_alert(row) for row in rows], set(of), set(episodes)
    return [
        a for a in known
        if (a.status != "resolved" and (a.member_id, a.kind) in pairs) or (a.member_id, a.kind, a.episode_key) in asked
    ]  # fmt: skip


async def load_alert_queue(
    connection: Connection, *, practitioner_id: UUID, oncall: bool, include_snoozed: bool = False, limit: int = 200
) -> list[Alert]:
    """Unresolved alerts of the practitioner's members, and for who is on call those that ask the on-call role: most
    urgent first, then the one whose time runs out first."""
    rows = await connection.fetch(QUEUE, practitioner_id, oncall, include_snoozed, limit)
    return [_alert(row) for row in rows]


async def load_member_alerts(connection: Connection, *, member_ids: Collection[UUID], limit: int = 100) -> list[Alert]:
    """Alerts of these members, newest first, resolved ones too."""
    return [_alert(row) for row in await connection.fetch(LOAD_OF_MEMBERS, list(member_ids), limit)]


async def load_alert_steps(connection: Connection, *, alert_ids: Collection[UUID]) -> list[AlertStep]:
    """What was done about these alerts, oldest first."""
    rows = await connection.fetch(
        """select alert_id, action, done_at, by_id, by_name, detail from alert_actions
        where alert_id = any($1::uuid[]) order by action_id""",
        list(alert_ids),
    )
    return [AlertStep(**dict(row)) for row in rows]


def saving_alert_changes(
    changes: Sequence[AlertChange], *, now: datetime, feed: Sequence[NewFeedEntry] = ()
) -> list[Write | None]:
    """The alerts as they are after these changes (the last one of each wins), every step of their history and their
    timers; the feed entries for who must see it, and `feed`, what else the transaction enters there."""
    entered = saving_feed_entries([*map(_entry, changes), *feed], now=now)
    return [*(_saving(changes, now=now) if changes else ()), entered]


def _saving(changes: Sequence[AlertChange], *, now: datetime) -> list[Write | None]:
    latest = {change.alert.alert_id: change.alert for change in changes}
    actions = [
        [c.alert.alert_id for c in changes],
        [c.action for c in changes],
        [now] * len(changes),
        [c.by.practitioner_id if c.by else None for c in changes],
        [c.by.name if c.by else None for c in changes],
        [c.detail for c in changes],
        [c.because.id if isinstance(c.because, Command) else None for c in changes],
    ]
    timers = [timer for alert in latest.values() if (timer := timer_of(alert))]
    return [
        Write(SAVE, [[json_row(_row(alert)) for alert in latest.values()]]),
        Write(SAVE_ACTIONS, actions),
        *replacing_timers(kinds=TIMER_KINDS, keys=[str(alert_id) for alert_id in latest], timers=timers),
    ]


def timer_of(alert: Alert) -> Timer | None:
    """The one timer of an alert as it stands now."""
    if alert.status == "resolved":
        return None
    if alert.status == "open":
        kind, due_at = ESCALATION, alert.respond_by
    elif alert.snoozed_until is not None:
        kind, due_at = SNOOZE, alert.snoozed_until
    else:
        assert alert.acknowledged_at is not None, "the table demands it"
        kind, due_at = FOLLOW_UP, alert.acknowledged_at + load_alert_rules().resolve_within[alert.priority]
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


async def load_alert_book(
    connection: Connection,
    *,
    triggers: Sequence[Trigger],
    others: Collection[tuple[UUID, AlertKind]] = (),
    now: datetime,
) -> AlertBook:
    """The alerts of these triggers' episodes, the unresolved ones of their members and kinds and of `others`, and the
    care teams of the triggers' members. Until the transaction ends nobody else changes or raises such an alert. Who has
    no care team is missing there: nothing waits for it, the on-call role is asked."""
    wanted = {*others, *((trigger.member_id, trigger.kind) for trigger in triggers)}
    if not wanted:
        return AlertBook(known=[], teams={})
    contested = [pair for pair in wanted if pair[1] == RAISED_BY_SAFETY_GROUPS]
    if contested:
        await connection.execute(LOCK_RAISING, [pair[0] for pair in contested], [pair[1] for pair in contested])
    episodes = [(trigger.member_id, trigger.kind, trigger.episode_key) for trigger in triggers]
    members = {trigger.member_id for trigger in triggers}
    rows = await connection.fetch(LOCK_BOOK, *_columns(wanted, episodes), list(members), now)
    known = _standing([row for row in rows if row["alert_id"] is not None], wanted, episodes)
    return AlertBook(known=known, teams=care_teams_of(rows))
