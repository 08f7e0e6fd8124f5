"""The rules as data: quiet hours, jitter, leads, caps, why something is not sent. Values come from library/*.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from typing import Any, Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

from shared.events.vocabulary import Channel, NotificationTopic

SuppressedReason: TypeAlias = Literal[
    "no-consent", "paused", "moot", "stale", "frequency-cap", "disenrolled", "no-address"
]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What every rule has, as the rule book lists it."""

    id: str
    version: int
    owner: str
    mark: str
    """V seen in published text, D derived, A our assumption, U unverified."""
    source: str
    says: str
    """In one line that a member can read."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Local wall-clock hours in which what can wait may be sent: `opens` <= local time < `closes`."""

    opens: time
    closes: time


@dataclass(frozen=True, kw_only=True)
class VisitLead:
    """One reminder before a visit, and when it is stale, both counted back from the start."""

    name: str
    before: timedelta
    stale_before: timedelta


@dataclass(frozen=True, kw_only=True)
class Cap:
    """At most so many notifications of these topics together on one channel to one member."""

    rule: Rule
    channel: Channel
    topics: frozenset[NotificationTopic]
    per_day: int
    per_week: int


@dataclass(frozen=True, kw_only=True)
class TopicPolicy:
    urgent: bool
    """Sent at any hour and counted by no cap."""
    needs_consent: bool
    sent_while_paused: bool
    stale_after: timedelta
    channels: tuple[Channel, ...]
    """Preferred first."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    window: Window
    jitter_max: timedelta
    visit_leads: tuple[VisitLead, ...]
    look_again_after: timedelta
    retry_first_after: timedelta
    attempts_max: int
    caps: tuple[Cap, ...]
    topics: Mapping[NotificationTopic, TopicPolicy]
    state_zones: Mapping[str, tuple[ZoneInfo, ...]]
    """Candidate zones of a US state, where a member's own is not known."""
    anywhere: tuple[ZoneInfo, ...]
    endings: Mapping[SuppressedReason, Rule]
    """The rule of each reason not to send; a cap is a rule of its own."""


def read_policy(*, rules: Mapping[str, Any], zones: Mapping[str, Any]) -> Policy:
    """The policy of two parsed library files. Raises KeyError, ValueError or TypeError where they are not what they
    should be: a service does not start on rules it cannot read."""
    policies = rules["topics"]["policies"]
    topics = {topic: _topic(policies[topic]) for topic in get_args(NotificationTopic)}
    if unknown := set(policies) - set(topics):
        raise ValueError(f"no such notification topics: {sorted(unknown)}")
    if set(rules["endings"]) != set(get_args(SuppressedReason)) - {"frequency-cap"}:
        raise ValueError("the endings are not the reasons of notification.suppressed")
    return Policy(
        window=Window(
            opens=time.fromisoformat(rules["quiet_hours"]["opens"]),
            closes=time.fromisoformat(rules["quiet_hours"]["closes"]),
        ),
        jitter_max=timedelta(minutes=rules["jitter"]["up_to_min"]),
        visit_leads=tuple(_lead(lead) for lead in rules["visit_leads"]["leads"]),
        look_again_after=timedelta(minutes=rules["patience"]["look_again_min"]),
        retry_first_after=timedelta(minutes=rules["retries"]["first_after_min"]),
        attempts_max=int(rules["retries"]["attempts_max"]),
        caps=tuple(_cap(cap, owner=rules["owner"]) for cap in rules["caps"]),
        topics=topics,
        state_zones={state: _zones(names) for state, names in zones["states"].items()},
        anywhere=_zones(zones["anywhere"]),
        endings={reason: read_rule(fields, owner=rules["owner"]) for reason, fields in rules["endings"].items()},
    )


def read_rule(fields: Mapping[str, Any], *, owner: str) -> Rule:
    """What every rule has. Raises KeyError when one lacks its version, mark, source or text."""
    return Rule(owner=owner, **{key: fields[key] for key in ("id", "version", "mark", "source", "says")})


def _topic(fields: Mapping[str, Any]) -> TopicPolicy:
    return TopicPolicy(
        urgent=fields["urgent"],
        needs_consent=fields["needs_consent"],
        sent_while_paused=fields["sent_while_paused"],
        stale_after=timedelta(minutes=fields["stale_after_min"]),
        channels=tuple(fields["channels"]),
    )


def _lead(fields: Mapping[str, Any]) -> VisitLead:
    return VisitLead(
        name=fields["name"],
        before=timedelta(minutes=fields["before_min"]),
        stale_before=timedelta(minutes=fields["stale_before_min"]),
    )


def _cap(fields: Mapping[str, Any], *, owner: str) -> Cap:
    return Cap(
        rule=read_rule(fields, owner=owner),
        channel=fields["channel"],
        topics=frozenset(fields["topics"]),
        per_day=fields["per_day"],
        per_week=fields["per_week"],
    )


def _zones(names: Sequence[str]) -> tuple[ZoneInfo, ...]:
    return tuple(ZoneInfo(name) for name in names)
