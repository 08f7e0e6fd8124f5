"""The rules as data: quiet hours, jitter, leads, caps. Values come from library/notifications.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from typing import Any, get_args
from zoneinfo import ZoneInfo

from shared.events.vocabulary import Channel, NotificationTopic


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


def read_policy(*, rules: Mapping[str, Any], zones: Mapping[str, Any]) -> Policy:
    """The policy of two parsed library files. Raises KeyError, ValueError or TypeError where they are not what they
    should be: a service does not start on rules it cannot read."""
    topics = {topic: _topic(rules["topics"][topic]) for topic in get_args(NotificationTopic)}
    if unknown := set(rules["topics"]) - set(topics):
        raise ValueError(f"no such notification topics: {sorted(unknown)}")
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
        caps=tuple(_cap(cap) for cap in rules["caps"]),
        topics=topics,
        state_zones={state: _zones(names) for state, names in zones["states"].items()},
        anywhere=_zones(zones["anywhere"]),
    )


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


def _cap(fields: Mapping[str, Any]) -> Cap:
    return Cap(
        channel=fields["channel"],
        topics=frozenset(fields["topics"]),
        per_day=fields["per_day"],
        per_week=fields["per_week"],
    )


def _zones(names: Sequence[str]) -> tuple[ZoneInfo, ...]:
    return tuple(ZoneInfo(name) for name in names)
