"""Which events ask for a person, how urgently, and in which words."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.messaging.domain.alert import Trigger
from services.messaging.domain.timeline import summarize_event, words
from shared.events import MemberLapsed, MemberScreened, NotificationFailed, PainSpiked, SafetyFlagged, VisitMissed
from shared.events.envelope import Decision
from shared.events.vocabulary import AlertPriority, Disposition
from shared.outcomes import Command, Timer
from shared.red_flags import BLOCKING, Screening


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggerRules:
    """Priorities, from library/alert_rules.yaml."""

    versions: Mapping[str, int]
    """By rule id: of the rules that a decision names."""
    safety_priorities: Mapping[Disposition, AlertPriority]
    spike_priority: AlertPriority
    lapse_rungs: frozenset[int]
    other_priority: AlertPriority


def on_pain_spiked(*, event: PainSpiked, rules: TriggerRules) -> Trigger:
    """One alert per flare episode; a repeated spike asks again."""
    return Trigger(
        member_id=event.subject,
        kind="pain-spike",
        priority=rules.spike_priority,
        episode_key=str(event.data.episode_id),
        summary=summarize_event(event),
        decision=event.data.decision,
        because=event,
    )


def on_safety_flagged(*, event: SafetyFlagged, rules: TriggerRules) -> Trigger | None:
    """Every disposition but `none`. Flags of a member who has an unresolved safety alert join it."""
    if event.data.disposition == "none":
        return None
    return Trigger(
        member_id=event.subject,
        kind="safety",
        priority=rules.safety_priorities[event.data.disposition],
        episode_key=f"{event.source} {event.id}",
        summary=summarize_event(event),
        decision=event.data.decision,
        because=event,
    )


def on_member_screened(*, event: MemberScreened, rules: TriggerRules) -> Trigger | None:
    """Only what blocks a plan: for the rest the plan's own visit is booked."""
    if event.data.disposition not in BLOCKING:
        return None
    return Trigger(
        member_id=event.subject,
        kind="safety",
        priority=rules.safety_priorities[event.data.disposition],
        episode_key=f"{event.source} {event.id}",
        summary=summarize_event(event),
        decision=event.data.decision,
        because=event,
    )


def on_member_lapsed(*, event: MemberLapsed, rules: TriggerRules) -> Trigger | None:
    """The later rungs of the ladder; the earlier ones are nudges, not work for a person."""
    if event.data.rung_days not in rules.lapse_rungs:
        return None
    return Trigger(
        member_id=event.subject,
        kind="lapse",
        priority=rules.other_priority,
        episode_key=event.data.missed_since.isoformat(),
        summary=summarize_event(event),
        decision=event.data.decision,
        because=event,
    )


def on_visit_missed(*, event: VisitMissed, rules: TriggerRules) -> Trigger:
    decision = Decision(
        rule_id="messaging.missed-visit",
        rule_version=rules.versions["messaging.missed-visit"],
        evidence=(event.ref,),
        reason="Nobody completed the visit in time.",
    )
    return Trigger(
        member_id=event.subject,
        kind="missed-visit",
        priority=rules.other_priority,
        episode_key=str(event.data.visit_id),
        summary=summarize_event(event),
        decision=decision,
        because=event,
    )


def on_contact_bounced(*, event: NotificationFailed, rules: TriggerRules) -> Trigger | None:
    """Only a bounce says that the address is wrong; other failures may be ours or the provider's."""
    if event.data.reason != "bounced":
        return None
    decision = Decision(
        rule_id="messaging.bounced-contact",
        rule_version=rules.versions["messaging.bounced-contact"],
        evidence=(event.ref,),
        reason=f"What we sent by {event.data.channel} came back.",
    )
    return Trigger(
        member_id=event.subject,
        kind="bounced-contact",
        priority=rules.other_priority,
        episode_key=f"{event.source} {event.id}",
        summary=f"{event.data.channel} bounced",
        decision=decision,
        because=event,
    )


def on_message_unanswered(
    *, timer: Timer, message_id: str, since: datetime, waited_hours: int, rules: TriggerRules
) -> Trigger:
    """Nobody answered a member's message in time."""
    decision = Decision(
        rule_id="messaging.first-response",
        rule_version=rules.versions["messaging.first-response"],
        reason=f"A message of {since:%Y-%m-%d %H:%M} UTC has waited {waited_hours} h for an answer.",
    )
    return Trigger(
        member_id=timer.member_id,
        kind="unanswered-message",
        priority=rules.other_priority,
        episode_key=message_id,
        summary=f"message unanswered for {waited_hours} h",
        decision=decision,
        because=timer,
    )


def on_red_flag_phrases(
    *,
    screening: Screening,
    command: Command,
    message_id: str,
    is_taken: bool = True,
    phrases_version: int,
    rules: TriggerRules,
) -> Trigger:
    """A message holds words that are treated as red flags. The command names the member. `is_taken`: the message can be
    read in the conversation."""
    assert command.member_id is not None, "a message is a command about one member"
    findings, what = words(screening.findings), "message" if is_taken else "message that could not be taken"
    decision = Decision(
        rule_id="messaging.red-flag-phrases",
        rule_version=phrases_version,
        reason=f"A {what} to the care team may tell of: {findings}."[:300],
    )
    return Trigger(
        member_id=command.member_id,
        kind="safety",
        priority=rules.safety_priorities[screening.disposition],
        episode_key=message_id,
        summary=f"{screening.disposition} in a {what}: {findings}",
        decision=decision,
        because=command,
    )
