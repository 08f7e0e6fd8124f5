"""What the member page shows. Every function takes a member that the reader was found to be allowed to see."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.database import Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberHeader:
    member_id: UUID
    name: str | None
    status: str
    state: str | None
    time_zone: str | None
    language: str
    cause: str | None
    goals: tuple[str, ...]
    usual_pain: int | None
    enrolled_at: datetime | None
    paused_until: datetime | None
    consents: dict[str, bool]
    pt_id: UUID | None
    pt_name: str | None
    coach_id: UUID | None
    coach_name: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PainRow:
    felt_at: datetime
    score: int
    context: str
    event_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionRow:
    completed_at: datetime
    duration_min: int
    pain_during: int
    exercises: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeRow:
    started_at: datetime
    settled_at: datetime | None
    score_max: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UsualRow:
    told_at: datetime
    level: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """Twelve weeks of a member's pain and sessions."""

    readings: tuple[PainRow, ...]
    sessions: tuple[SessionRow, ...]
    episodes: tuple[EpisodeRow, ...]
    usual: tuple[UsualRow, ...]
    """What was usual: the latest from before, then each from since then."""
    spike_event_ids: frozenset[str]
    """Readings in which a spike was found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    version: int
    pathway: str | None
    elements: list[dict[str, Any]]
    items: list[dict[str, Any]]
    schedule: dict[str, Any]
    sessions_per_week: int
    reason: str
    rule_id: str
    rule_version: int
    issued_at: datetime
    changed_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanChangeRow:
    exercise: str
    action: str
    from_step: int
    to_step: int
    reason: str
    rule_id: str
    rule_version: int
    changed_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineRow:
    source: str
    event_id: str
    event_type: str
    service: str
    occurred_at: datetime
    correlation_id: str
    caused_by_source: str | None
    caused_by_id: str | None
    summary: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainRow:
    """A chain in the list to choose from: its most telling event and how long it is."""

    correlation_id: str
    started_at: datetime
    event_type: str
    summary: str
    events: int


async def load_member_header(
    connection: Connection, *, member_id: UUID, practitioner_id: UUID, oncall: bool
) -> MemberHeader | None:
    """The member, if this person may see them: of the care team, or on call while the on-call role is asked about
    them. None otherwise, and for a member that does not exist: both look the same."""
    record = await connection.fetchrow(
        """
        select m.member_id, c.given_name || ' ' || c.family_name as name, coalesce(p.status, 'known') as status,
               p.state, coalesce(c.time_zone, p.time_zone) as time_zone,
               coalesce(c.language, p.language, 'en') as language,
               p.cause, coalesce(p.goals, '{}') as goals, p.usual_pain, p.enrolled_at, p.paused_until,
               coalesce(p.consents, '{}'::jsonb) as consents, p.pt_id, pt.name as pt_name, p.coach_id,
               coach.name as coach_name
        from (select $1::uuid as member_id) m
        left join member_profiles p using (member_id)
        left join member_contacts c using (member_id)
        left join practitioners pt on pt.practitioner_id = p.pt_id
        left join practitioners coach on coach.practitioner_id = p.coach_id
        where p.pt_id = $2 or p.coach_id = $2 or exists (
            select from alerts a where a.member_id = $1 and a.status <> 'resolved'
            and $3 and a.owner_role = 'oncall')
        """,
        member_id,
        practitioner_id,
        oncall,
    )
    if record is None:
        return None
    return MemberHeader(**{**dict(record), "goals": tuple(record["goals"])})


async def load_course(connection: Connection, *, member_id: UUID, since: datetime) -> Course:
    """Readings, sessions, flares and usual pain since then, in order of time."""
    readings = await connection.fetch(
        "select felt_at, score, context, event_id from pain_readings"
        " where member_id = $1 and felt_at >= $2 order by felt_at",
        member_id,
        since,
    )
    sessions = await connection.fetch(
        "select completed_at, duration_min, pain_during, exercises from sessions"
        " where member_id = $1 and completed_at >= $2 order by completed_at",
        member_id,
        since,
    )
    episodes = await connection.fetch(
        "select started_at, settled_at, score_max from pain_episodes"
        " where member_id = $1 and coalesce(settled_at, 'infinity') >= $2 order by started_at",
        member_id,
        since,
    )
    usual = await connection.fetch(
        """select told_at, level::float8 as level from usual_pain_levels
        where member_id = $1 and told_at >= coalesce(
            (select max(told_at) from usual_pain_levels where member_id = $1 and told_at < $2), $2)
        order by told_at""",
        member_id,
        since,
    )
    spikes = await connection.fetch(
        "select caused_by_id from timeline"
        " where member_id = $1 and event_type = 'pain.spiked' and occurred_at >= $2 and caused_by_id is not null",
        member_id,
        since,
    )
    return Course(
        readings=tuple(PainRow(**dict(record)) for record in readings),
        sessions=tuple(SessionRow(**dict(record)) for record in sessions),
        episodes=tuple(EpisodeRow(**dict(record)) for record in episodes),
        usual=tuple(UsualRow(**dict(record)) for record in usual),
        spike_event_ids=frozenset(record["caused_by_id"] for record in spikes),
    )


async def load_plan(connection: Connection, *, member_id: UUID) -> PlanRow | None:
    """The current plan, or None before one was issued."""
    record = await connection.fetchrow(
        "select version, pathway, elements, items, schedule, sessions_per_week, reason, rule_id, rule_version,"
        " issued_at, changed_at from plan_snapshots where member_id = $1",
        member_id,
    )
    return PlanRow(**dict(record)) if record else None


async def load_plan_changes(connection: Connection, *, member_id: UUID, limit: int = 200) -> list[PlanChangeRow]:
    """What moved in the plan, latest first."""
    records = await connection.fetch(
        "select exercise, action, from_step, to_step, reason, rule_id, rule_version, changed_at from plan_changes"
        " where member_id = $1 order by changed_at desc, version desc, place limit $2",
        member_id,
        limit,
    )
    return [PlanChangeRow(**dict(record)) for record in records]


async def load_chains(connection: Connection, *, member_id: UUID, limit: int = 12) -> list[ChainRow]:
    """The chains worth looking at, latest first: those in which something was decided about the member, each under
    its most telling event. A chain of nothing but reminders is not among them."""
    records = await connection.fetch(
        """
        with ranked as (
            select correlation_id, event_type, summary, occurred_at,
                   case event_type when 'safety.flagged' then 0 when 'member.screened' then 1 when 'pain.spiked' then 2
                       when 'alert.raised' then 3 when 'member.lapsed' then 4 when 'visit.booked' then 5
                       when 'plan.revised' then 6 when 'plan.issued' then 7 when 'milestone.reached' then 8
                       when 'message.sent' then 9 else 20 end as weight
            from timeline where member_id = $1
        ), chains as (
            select correlation_id, min(occurred_at) as started_at, max(occurred_at) as latest_at, count(*) as events,
                   (array_agg(event_type order by weight, occurred_at))[1] as event_type,
                   (array_agg(summary order by weight, occurred_at))[1] as summary, min(weight) as weight
            from ranked group by correlation_id
        )
        select correlation_id, started_at, event_type, summary, events
        from chains where weight < 20 and events > 1
        order by latest_at desc
        limit $2
        """,
        member_id,
        limit,
    )
    return [ChainRow(**dict(record)) for record in records]


async def load_chain_events(
    connection: Connection, *, member_id: UUID, correlation_id: str, limit: int = 500
) -> list[TimelineRow]:
    """The events of one chain of this member, in order of time."""
    records = await connection.fetch(
        "select source, event_id, event_type, service, occurred_at, correlation_id, caused_by_source, caused_by_id,"
        " summary from timeline where member_id = $1 and correlation_id = $2"
        " order by occurred_at desc, event_id limit $3",
        member_id,
        correlation_id,
        limit,
    )
    return [TimelineRow(**dict(record)) for record in reversed(records)]


async def find_chain_of_alert(connection: Connection, *, alert_id: UUID) -> str | None:
    """The correlation id of an alert's chain."""
    chain: str | None = await connection.fetchval("select cause_chain from alerts where alert_id = $1", alert_id)
    return chain
