"""What a clinician does about an alert. Everything done names the alert.raised event as its cause.

`seen` is the alert's `repeats` as the caller saw them, None where the caller does not say (domain/alert_handling.py).
A command that comes again under its id changes nothing: a copy that was held up on its way must not take on once more
an alert that was given back meanwhile, and so keep it from asking the next in line.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from services.messaging.domain.alert import Alert, AlertChange
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import (
    acknowledge_alert,
    close_alert,
    hand_over_alert,
    snooze_alert,
    undo_acknowledgement,
)
from services.messaging.domain.conversation import end_wait
from services.messaging.domain.people import NO_TEAM, CareTeam, acting_as
from services.messaging.store.alerts import lock_alerts, saving_alert_changes, was_handled
from services.messaging.store.conversations import (
    FIRST_RESPONSE,
    find_later_message,
    load_conversations,
    save_conversations,
)
from services.messaging.store.members import load_care_teams
from services.messaging.store.rules import load_alert_rules
from shared.database import Connection
from shared.events.conversations import AlertOutcome
from shared.events.vocabulary import Practitioner, PractitionerRole
from shared.outcomes import Command, Outcomes, Refusal, Timer
from shared.timers import save_timers

UNKNOWN = Refusal("no-such-alert", "There is no such alert.")


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertHandled:
    """The alert as it is now; `is_repeat`: the command had been carried out before."""

    alert: Alert
    outcomes: Outcomes
    is_repeat: bool = False


async def acknowledge(
    connection: Connection, *, alert_id: UUID, by: Practitioner, seen: int | None, command: Command, now: datetime
) -> AlertHandled | Refusal:
    """Take it on. Refusals: no-such-alert, already-acknowledged, already-resolved, asked-again."""

    def decide(alert: Alert, team: CareTeam, by: Practitioner, because: Command) -> AlertChange | Refusal:
        return acknowledge_alert(alert=alert, by=by, seen=seen, because=because, now=now)

    return await _handle(connection, alert_id, by, command, decide, now)


async def undo_acknowledge(
    connection: Connection, *, alert_id: UUID, by: Practitioner, command: Command, now: datetime
) -> AlertHandled | Refusal:
    """Give it back within some seconds. Refusals: no-such-alert, not-acknowledged, not-yours, too-late."""

    def decide(alert: Alert, team: CareTeam, by: Practitioner, because: Command) -> AlertChange | Refusal:
        return undo_acknowledgement(alert=alert, by=by, because=because, rules=load_alert_rules(), now=now)

    return await _handle(connection, alert_id, by, command, decide, now)


async def snooze(
    connection: Connection,
    *,
    alert_id: UUID,
    by: Practitioner,
    until: datetime,
    seen: int | None,
    command: Command,
    now: datetime,
) -> AlertHandled | Refusal:
    """Put it off. Refusals: no-such-alert, already-resolved, asked-again, not-seen, emergency, not-ahead, too-long."""

    def decide(alert: Alert, team: CareTeam, by: Practitioner, because: Command) -> AlertChange | Refusal:
        rules = load_alert_rules()
        return snooze_alert(alert=alert, by=by, until=until, seen=seen, because=because, rules=rules, now=now)

    return await _handle(connection, alert_id, by, command, decide, now)


async def hand_over(
    connection: Connection,
    *,
    alert_id: UUID,
    by: Practitioner,
    to_role: PractitionerRole,
    seen: int | None,
    command: Command,
    now: datetime,
) -> AlertHandled | Refusal:
    """Ask another of the team, or the on-call role. Refusals: no-such-alert, already-resolved, asked-again, not-seen,
    already-theirs, nobody-there."""

    def decide(alert: Alert, team: CareTeam, by: Practitioner, because: Command) -> AlertChange | Refusal:
        return hand_over_alert(
            alert=alert,
            by=by,
            to_role=to_role,
            team=team,
            seen=seen,
            because=because,
            rules=load_alert_rules(),
            now=now,
        )

    return await _handle(connection, alert_id, by, command, decide, now)


async def resolve(
    connection: Connection,
    *,
    alert_id: UUID,
    by: Practitioner,
    outcome: AlertOutcome,
    note: str | None,
    seen: int | None,
    command: Command,
    now: datetime,
) -> AlertHandled | Refusal:
    """Say what came of it. Refusals: no-such-alert, already-resolved, asked-again, not-seen."""

    def decide(alert: Alert, team: CareTeam, by: Practitioner, because: Command) -> AlertChange | Refusal:
        return close_alert(alert=alert, by=by, outcome=outcome, note=note, seen=seen, because=because, now=now)

    handled = await _handle(connection, alert_id, by, command, decide, now)
    if isinstance(handled, AlertHandled) and handled.alert.kind == "unanswered-message" and not handled.is_repeat:
        await _end_wait(connection, handled.alert)
    return handled


async def _end_wait(connection: Connection, alert: Alert) -> None:
    """The message needs no answer any more; one that the member has written since the alert asked does."""
    conversation = (await load_conversations(connection, member_ids=[alert.member_id])).get(alert.member_id)
    if (
        conversation is None
        or conversation.awaiting_since is None
        or conversation.awaiting_since > alert.last_raised_at
    ):
        return
    later = await find_later_message(connection, member_id=alert.member_id, after=alert.last_raised_at)
    await save_conversations(connection, [end_wait(conversation=conversation, later=later)])
    if later is not None:
        due_at = later.sent_at + load_alert_rules().first_response_within
        timer = Timer(
            kind=FIRST_RESPONSE, key=str(alert.member_id), member_id=alert.member_id, due_at=due_at, cause=alert.cause
        )
        await save_timers(connection, [timer])


async def _handle(
    connection: Connection,
    alert_id: UUID,
    by: Practitioner,
    command: Command,
    decide: Callable[[Alert, CareTeam, Practitioner, Command], AlertChange | Refusal],
    now: datetime,
) -> AlertHandled | Refusal:
    alert = (await lock_alerts(connection, alert_ids=[alert_id])).get(alert_id)
    if alert is None or alert.member_id != command.member_id:
        return UNKNOWN
    if await was_handled(connection, alert_id=alert_id, command_id=command.id):
        return AlertHandled(alert=alert, outcomes=Outcomes(), is_repeat=True)
    team = (await load_care_teams(connection, member_ids=[alert.member_id], now=now)).get(alert.member_id, NO_TEAM)
    acting = acting_as(person=by, team=team)
    change = decide(alert, team, acting, replace(command, cause=alert.cause))
    if isinstance(change, Refusal):
        return change
    outcomes = Outcomes()
    announce_alerts(outcomes=outcomes, changes=[change])
    outcomes.writes += saving_alert_changes([change], now=now)
    return AlertHandled(alert=change.alert, outcomes=outcomes)
