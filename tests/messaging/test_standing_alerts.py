"""Which alerts are locked to raise another one, and how many others are read for it."""

from collections.abc import Sequence
from itertools import product
from uuid import UUID, uuid4

from services.messaging.domain.alert_raising import raise_alerts
from services.messaging.store.alerts import load_alert_book, lock_standing_alerts, saving_alert_changes
from services.messaging.store.rules import load_alert_rules
from shared.database import Connection
from shared.events.vocabulary import AlertKind
from shared.writing import write
from tests.messaging.conftest import Clinic
from tests.messaging.given import MEMBER, NOW, OTHER_MEMBER, trigger

ENTRIES_READ = """
select coalesce(sum(idx_tup_read), 0)::bigint from pg_stat_user_indexes where relname = 'alerts'
"""
MANY = 400


async def raise_for(connection: Connection, members: Sequence[UUID], *kinds: AlertKind) -> None:
    triggers = [trigger(kind, member_id=member) for member, kind in product(members, kinds)]
    changes = raise_alerts(triggers=triggers, known=[], teams={}, rules=load_alert_rules(), now=NOW)
    await write(connection, saving_alert_changes(changes, now=NOW))


async def test_only_what_was_asked_for_is_known(clinic: Clinic) -> None:
    """The statement finds alerts of these members, kinds and episodes, whichever belongs to which."""
    async with clinic.transaction(MEMBER, OTHER_MEMBER) as connection:
        await raise_for(connection, [MEMBER, OTHER_MEMBER], "pain-spike", "lapse")
        pairs: list[tuple[UUID, AlertKind]] = [(MEMBER, "pain-spike"), (OTHER_MEMBER, "lapse")]
        standing = await lock_standing_alerts(connection, of=pairs)
        book = await load_alert_book(connection, triggers=[trigger("lapse", member_id=OTHER_MEMBER)], now=NOW)
    assert sorted((alert.member_id, alert.kind) for alert in standing) == sorted(pairs)
    assert [(alert.member_id, alert.kind) for alert in book.known] == [(OTHER_MEMBER, "lapse")]


async def test_a_resolved_alert_is_known_by_its_episode_alone(clinic: Clinic) -> None:
    async with clinic.transaction(MEMBER) as connection:
        await raise_for(connection, [MEMBER], "pain-spike")
        await connection.execute(
            "update alerts set status = 'resolved', resolved_at = $1, outcome = 'no-action-needed'", NOW
        )
        for key, known in (("episode", 1), ("another", 0)):
            book = await load_alert_book(connection, triggers=[trigger(key=key)], now=NOW)
            assert len(book.known) == known, key


async def test_alerts_of_others_are_not_read(clinic: Clinic) -> None:
    """Although the plan that is kept was made while the table had been counted as empty."""
    await clinic.database.execute("analyze alerts")
    async with clinic.database.acquire() as connection:
        await connection.execute("set plan_cache_mode = 'force_generic_plan'")
        async with connection.transaction():
            await load_alert_book(connection, triggers=[trigger()], now=NOW)
            await raise_for(connection, [uuid4() for _ in range(MANY)], "pain-spike")
        await connection.execute("select pg_stat_force_next_flush()")
        before = await connection.fetchval(ENTRIES_READ)
        async with connection.transaction():
            await load_alert_book(connection, triggers=[trigger()], now=NOW)
            await lock_standing_alerts(connection, of=[(MEMBER, "lapse")])
        await connection.execute("select pg_stat_force_next_flush()")
        assert await connection.fetchval(ENTRIES_READ) - before < MANY / 10
