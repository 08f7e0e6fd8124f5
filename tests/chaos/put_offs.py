"""What was put off: no event tells of it. Messaging's record of what was done about an alert says after which of its
events it was."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from services.messaging.domain.alert import Alert
from services.messaging.domain.alert_handling import snooze_alert
from services.messaging.store.alerts import SNOOZE
from services.messaging.store.rules import load_alert_rules
from shared.database import Connection
from shared.events.vocabulary import Practitioner
from shared.outcomes import Command, Refusal, Timer
from tests.chaos.people import Cast

LOAD = """
select alert_id, by_id, detail, done_at, (
    select count(*) from alert_actions b
    where b.alert_id = a.alert_id and b.action_id < a.action_id and b.action not in ('settled', 'snoozed')
)::int as behind
from alert_actions a where action = 'snoozed' order by action_id
"""


@dataclass(frozen=True)
class PutOff:
    by: Practitioner
    until: datetime
    at: datetime
    behind: int
    """So many events tell of the alert before it."""

    def put(self, alert: Alert) -> Alert | Refusal:
        because = Command(name="handle-alert", id="", member_id=alert.member_id, cause=alert.cause)
        change = snooze_alert(
            alert=alert, by=self.by, until=self.until, seen=alert.repeats, because=because, rules=load_alert_rules(),
            now=self.at,
        )  # fmt: skip
        return change if isinstance(change, Refusal) else change.alert


async def load_put_offs(connection: Connection, cast: Cast) -> dict[UUID, list[PutOff]]:
    """By alert, in their order."""
    people = {person.practitioner_id: person for person in (cast.pt, cast.coach)}
    found: dict[UUID, list[PutOff]] = {}
    for row in await connection.fetch(LOAD):
        until = datetime.fromisoformat(row["detail"]).astimezone(UTC)
        one = PutOff(people[row["by_id"]], until, row["done_at"], row["behind"])
        found.setdefault(row["alert_id"], []).append(one)
    return found


def end_of(alert: Alert) -> Timer:
    """The timer with which an alert that is put off comes back."""
    assert alert.snoozed_until is not None
    due_at = alert.snoozed_until.astimezone(UTC)
    return Timer(kind=SNOOZE, key=str(alert.alert_id), member_id=alert.member_id, due_at=due_at, cause=alert.cause)
