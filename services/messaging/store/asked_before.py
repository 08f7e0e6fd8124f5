"""Whether somebody was asked because of an event before its group has read it: by another group, of another release."""

from collections.abc import Sequence
from typing import Final

from services.messaging.domain.alert import Trigger, raised_event
from shared.database import Connection
from shared.outcomes import cause_of

# An alert that the event raised bears its key. One that it joined names it as what asked last, or did so when it told
# of it. The words must be the same, too: another body under the identity of the first may hold something worse.
FIND: Final = """
select w.place::int - 1 as place, a.alert_id, a.cause_id, a.episode_key = w.episode_key or exists (
    select from timeline t
    where t.member_id = w.member_id and t.correlation_id = w.chain and t.event_type = 'alert.raised'
        and t.caused_by_source = w.source and t.caused_by_id = w.event_id
) as is_told
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    with ordinality as w(member_id, kind, episode_key, source, event_id, chain, words, place)
join alerts a on a.member_id = w.member_id and a.kind = w.kind
where exists (
    select from alert_actions d
    where d.alert_id = a.alert_id and d.action in ('raised', 'repeated') and d.detail = w.words
)
"""


async def asked_before(connection: Connection, *, triggers: Sequence[Trigger]) -> set[int]:
    """Which of these triggers, by their place, have asked before, in the same words. The caller holds what
    load_alert_book locks."""
    if not triggers:
        return set()
    causes = [cause_of(trigger.because) for trigger in triggers]
    rows = await connection.fetch(
        FIND,
        [trigger.member_id for trigger in triggers],
        [trigger.kind for trigger in triggers],
        [trigger.episode_key for trigger in triggers],
        [cause.source for cause in causes],
        [cause.id for cause in causes],
        [cause.chain for cause in causes],
        [trigger.summary for trigger in triggers],
    )
    return {
        row["place"]
        for row in rows
        if row["is_told"]
        or row["cause_id"] == raised_event(alert_id=row["alert_id"], because=triggers[row["place"]].because).id
    }
