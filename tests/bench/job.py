"""The light job that every contestant does for each event, exactly once in effect.

De-duplicate by identity, load the member's state, fold the event by a pure rule, save the state, put one event in the
outbox: all in one transaction with the position. The SQL here is shared, so that only the way of driving it differs.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from shared.database import Connection
from shared.events import PainSettled, SessionCompleted
from shared.events.envelope import Decision
from shared.events.plans import PainSettledData
from shared.outcomes import Outcomes

TOPIC = "careloop.activity"
TABLES = """
create table member_states (
    member_id uuid primary key, sessions int not null, pain_sum int not null, pain_max int not null
) with (fillfactor = 50);
"""
LOAD = "select member_id, sessions, pain_sum, pain_max from member_states where member_id = any($1::uuid[])"
SAVE = """
insert into member_states (member_id, sessions, pain_sum, pain_max)
select * from unnest($1::uuid[], $2::int[], $3::int[], $4::int[])
on conflict (member_id) do update set sessions = excluded.sessions, pain_sum = excluded.pain_sum,
    pain_max = excluded.pain_max
"""
DECISION = Decision(rule_id="bench", rule_version=1, reason="bench")


class MemberState(NamedTuple):
    sessions: int = 0
    pain_sum: int = 0
    pain_max: int = 0


def fold(state: MemberState, event: SessionCompleted) -> tuple[MemberState, PainSettledData]:
    """The rule: pure, and the same for everybody."""
    pain = event.data.pain_during
    state = MemberState(state.sessions + 1, state.pain_sum + pain, max(state.pain_max, pain))
    told = PainSettledData(
        episode_id=event.subject, score=pain, baseline=state.pain_sum / state.sessions, decision=DECISION
    )
    return state, told


async def load_states(connection: Connection, member_ids: Sequence[UUID]) -> dict[UUID, MemberState]:
    return {row[0]: MemberState(row[1], row[2], row[3]) for row in await connection.fetch(LOAD, member_ids)}


async def save_states(connection: Connection, states: dict[UUID, MemberState]) -> None:
    chosen = sorted(states.items())
    await connection.execute(
        SAVE,
        [member for member, _ in chosen],
        [state.sessions for _, state in chosen],
        [state.pain_sum for _, state in chosen],
        [state.pain_max for _, state in chosen],
    )


async def follow_sessions(connection: Connection, events: Sequence[SessionCompleted], /, *, now: datetime) -> Outcomes:
    """The job as a handler: load all, fold each, save all."""
    outcomes = Outcomes()
    states = await load_states(connection, list({event.subject for event in events}))
    for event in events:
        state, told = fold(states.get(event.subject, MemberState()), event)
        states[event.subject] = state
        outcomes.publish(PainSettled, told, because=event)
    await save_states(connection, states)
    return outcomes
