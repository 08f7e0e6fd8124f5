"""Pain, sessions, flares and plans of members, as the events told them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from services.messaging.domain.course import PainEpisode, PainReading, PlanSnapshot, PlanStep, SessionDone, UsualPain
from services.messaging.store.columns import columns_of
from services.messaging.store.json_rows import inserting, json_row
from shared.database import Connection
from shared.events.vocabulary import PlanItem, Schedule
from shared.outcomes import Write

SAVE_PLANS = f"""
{inserting("plan_snapshots", columns_of(PlanSnapshot))}
on conflict (member_id) do update set plan_id = excluded.plan_id, version = excluded.version,
    pathway = excluded.pathway, elements = excluded.elements, items = excluded.items,
    schedule = excluded.schedule, sessions_per_week = excluded.sessions_per_week, reason = excluded.reason,
    rule_id = excluded.rule_id, rule_version = excluded.rule_version, issued_at = excluded.issued_at,
    changed_at = excluded.changed_at
where plan_snapshots.plan_id <> excluded.plan_id or plan_snapshots.version < excluded.version
"""
SAVE_STEPS = f"{inserting('plan_changes', columns_of(PlanStep))} on conflict do nothing"
LOAD_PLANS = f"select {columns_of(PlanSnapshot)} from plan_snapshots where member_id = any($1::uuid[])"  # noqa: S608


def saving_pain_readings(readings: Sequence[PainReading]) -> Write:
    """Add readings; one that is there already stays as it is."""
    return Write(
        """insert into pain_readings (member_id, source, event_id, context, felt_at, score)
        select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::int[])
        on conflict do nothing""",
        [
            [r.member_id for r in readings],
            [r.source for r in readings],
            [r.event_id for r in readings],
            [r.context for r in readings],
            [r.felt_at for r in readings],
            [r.score for r in readings],
        ],
    )


async def load_last_sessions(connection: Connection, *, member_ids: Collection[UUID]) -> dict[UUID, datetime]:
    """When these members completed their last session; who has done none is missing."""
    rows = await connection.fetch(
        """select m.member_id, s.completed_at from unnest($1::uuid[]) as m(member_id), lateral (
            select completed_at from sessions where member_id = m.member_id order by completed_at desc limit 1) as s""",
        list(member_ids),
    )
    return {row["member_id"]: row["completed_at"] for row in rows}


def saving_sessions(sessions: Sequence[SessionDone]) -> Write:
    """Add sessions; one that is there already stays as it is."""
    return Write(
        """insert into sessions (member_id, session_id, completed_at, duration_min, pain_during, exercises)
        select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::int[], $5::int[], $6::int[])
        on conflict do nothing""",
        [
            [s.member_id for s in sessions],
            [s.session_id for s in sessions],
            [s.completed_at for s in sessions],
            [s.duration_min for s in sessions],
            [s.pain_during for s in sessions],
            [s.exercises for s in sessions],
        ],
    )


def saving_pain_spikes(episodes: Sequence[PainEpisode]) -> Write:
    """Open episodes, or raise the peak of open ones. In log order; the first spike of an episode gives its start."""
    return Write(
        """insert into pain_episodes (episode_id, member_id, started_at, baseline, score_max)
        select episode_id, (array_agg(member_id))[1], min(started_at), (array_agg(baseline order by started_at))[1],
            max(score_max)
        from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::real[], $5::int[])
            as n(episode_id, member_id, started_at, baseline, score_max)
        group by episode_id
        on conflict (episode_id) do update set
            score_max = greatest(pain_episodes.score_max, excluded.score_max)""",
        [
            [e.episode_id for e in episodes],
            [e.member_id for e in episodes],
            [e.started_at for e in episodes],
            [e.baseline for e in episodes],
            [e.score_max for e in episodes],
        ],
    )


def saving_usual_pains(levels: Sequence[UsualPain]) -> Write:
    """Add what was told to be usual; what is there already stays as it is."""
    return Write(
        """insert into usual_pain_levels (member_id, source, event_id, told_at, level)
        select * from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::real[])
        on conflict do nothing""",
        [
            [level.member_id for level in levels],
            [level.source for level in levels],
            [level.event_id for level in levels],
            [level.told_at for level in levels],
            [level.level for level in levels],
        ],
    )


async def settle_pain_episodes(connection: Connection, settled_at: Mapping[UUID, datetime]) -> None:
    """The pain of these episodes went back to usual at these times."""
    await connection.execute(
        """update pain_episodes e set settled_at = n.settled_at
        from unnest($1::uuid[], $2::timestamptz[]) as n(episode_id, settled_at) where e.episode_id = n.episode_id""",
        list(settled_at),
        list(settled_at.values()),
    )


def saving_plan_snapshots(snapshots: Sequence[PlanSnapshot]) -> Write:
    """Insert or replace plans. An event of the same plan with a lower version changes nothing."""
    latest = {snapshot.member_id: snapshot for snapshot in snapshots}
    rows = [
        {
            **json_row(_fields(s)),
            "items": [item.model_dump(mode="json") for item in s.items],
            "schedule": s.schedule.model_dump(mode="json"),
            "elements": list(s.elements),
        }
        for s in latest.values()
    ]
    return Write(SAVE_PLANS, [rows])


def _fields(row: PlanSnapshot | PlanStep) -> dict[str, Any]:
    """Not a copy: what is in it is only read."""
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def saving_plan_steps(steps: Sequence[PlanStep]) -> Write:
    """Add what moved; what is there already stays as it is."""
    return Write(SAVE_STEPS, [[json_row(_fields(step)) for step in steps]])


async def load_plan_snapshots(connection: Connection, *, member_ids: Collection[UUID]) -> dict[UUID, PlanSnapshot]:
    """The current plan by member; members without one are missing."""
    rows = await connection.fetch(LOAD_PLANS, list(member_ids))
    return {row["member_id"]: _snapshot(row) for row in rows}


def _snapshot(row: asyncpg.Record) -> PlanSnapshot:
    fields = dict(row)
    fields["items"] = tuple(PlanItem.model_validate(item) for item in fields["items"])
    schedule = fields["schedule"]
    fields["schedule"] = Schedule(**{**schedule, "weekdays": tuple(schedule["weekdays"])})
    fields["elements"] = tuple(fields["elements"])
    return PlanSnapshot(**fields)
