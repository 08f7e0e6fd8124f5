"""careloop.members: who is a member, who cares for them. What a screening asks for is raised by a group of its own."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import get_args
from uuid import UUID

from services.messaging.domain.alert import AlertChange
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import follow_care_team
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.member_events import apply_member_event
from services.messaging.domain.people import MemberProfile
from services.messaging.domain.slots import is_time_zone
from services.messaging.domain.timeline import describe_event
from services.messaging.domain.visit_events import announce_visit
from services.messaging.store.alerts import load_alert_book, saving_alert_changes
from services.messaging.store.members import (
    load_care_teams,
    load_member_profiles,
    save_member_profiles,
    save_practitioners,
)
from services.messaging.store.rules import load_alert_rules, load_visit_rules
from services.messaging.store.timeline import saving_timeline
from services.messaging.store.visits import MISSED, load_visits_ahead, save_visits
from shared.database import Connection
from shared.events import CareTeamAssigned, CloudEvent, MemberDisenrolled
from shared.events.vocabulary import AlertKind
from shared.outcomes import Outcomes
from shared.timers import cancel_timers


async def follow_members(connection: Connection, events: Sequence[CloudEvent], /, *, now: datetime) -> Outcomes:
    """Keep profiles and the timeline; move alerts of people who left a team, or that no team was known for; cancel the
    visits of members who left."""
    outcomes = Outcomes()
    teams = {event.subject: event for event in events if isinstance(event, CareTeamAssigned)}
    former, newcomers = await _keep_profiles(connection, events, teams)
    timeline = saving_timeline([describe_event(event, service="enrollment") for event in events])

    changes = await _move_alerts(connection, teams, newcomers, now=now)
    announce_alerts(outcomes=outcomes, changes=changes)

    feed = await _cancel_visits(connection, events, outcomes, now=now)
    feed += [
        NewFeedEntry(
            kind="member",
            change="team" if member in teams else "profile",
            member_id=member,
            subject_id=member,
            also=tuple(former.get(member, ())),
        )
        for member in dict.fromkeys(event.subject for event in events)
    ]
    outcomes.writes += [timeline, *saving_alert_changes(changes, now=now, feed=feed)]
    return outcomes


async def _keep_profiles(
    connection: Connection, events: Sequence[CloudEvent], teams: Mapping[UUID, CareTeamAssigned]
) -> tuple[dict[UUID, set[UUID]], set[UUID]]:
    """Fold the events into the profiles, save them; by member, the people who left their team: they must see it. And
    the members who had no team before."""
    profiles = await load_member_profiles(connection, member_ids={event.subject for event in events})
    newcomers = {member for member in teams if member not in profiles or not _ids(profiles[member])}
    former: dict[UUID, set[UUID]] = {}
    for event in events:
        before = profiles.get(event.subject, MemberProfile(member_id=event.subject, status="known"))
        if isinstance(event, CareTeamAssigned):
            former.setdefault(event.subject, set()).update(_ids(before))
        profiles[event.subject] = apply_member_event(profile=before, event=event)
    people = [(person, member) for member, event in teams.items() for person in (event.data.pt, event.data.coach)]
    zones = [profiles[member].time_zone for _, member in people]
    await save_practitioners(
        connection,
        [person for person, _ in people],
        # A zone that this machine's database does not know must not break the offering of slots.
        time_zones=[zone if zone and is_time_zone(name=zone) else None for zone in zones],
        default_hours=load_visit_rules().default_hours,
    )
    await save_member_profiles(connection, profiles.values())
    return {member: people_before - _ids(profiles[member]) for member, people_before in former.items()}, newcomers


def _ids(profile: MemberProfile) -> set[UUID]:
    return {person.practitioner_id for person in (profile.pt, profile.coach) if person}


async def _cancel_visits(
    connection: Connection, events: Sequence[CloudEvent], outcomes: Outcomes, *, now: datetime
) -> list[NewFeedEntry]:
    """Who has left is not expected any more: their times are free, and nobody is reminded of them."""
    gone = {event.subject: event for event in events if isinstance(event, MemberDisenrolled)}
    if not gone:
        return []
    ahead = await load_visits_ahead(connection, member_ids=gone, now=now)
    cancelled = [
        announce_visit(
            outcomes=outcomes,
            visit=replace(visit, status="cancelled"),
            before=visit,
            because=gone[visit.member_id],
            by="system",
        )
        for visit in ahead
    ]
    await save_visits(connection, cancelled)
    await cancel_timers(connection, kind=MISSED, keys=[str(visit.visit_id) for visit in ahead])
    return [
        NewFeedEntry(
            kind="visit",
            change="cancelled",
            member_id=visit.member_id,
            subject_id=visit.visit_id,
            also=(visit.practitioner.practitioner_id,),
        )
        for visit in ahead
    ]


async def _move_alerts(
    connection: Connection, teams: Mapping[UUID, CareTeamAssigned], newcomers: Container[UUID], *, now: datetime
) -> list[AlertChange]:
    if not teams:
        return []
    every: list[tuple[UUID, AlertKind]] = [(member, kind) for member in teams for kind in get_args(AlertKind)]
    standing = (await load_alert_book(connection, triggers=[], others=every, now=now)).known
    current = await load_care_teams(connection, member_ids=teams, now=now)
    moved = [
        follow_care_team(
            alert=alert,
            team=current[alert.member_id],
            is_first=alert.member_id in newcomers,
            because=teams[alert.member_id],
            rules=load_alert_rules(),
            now=now,
        )
        for alert in standing
    ]
    return [change for change in moved if change]
