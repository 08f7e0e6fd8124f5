"""careloop.members: who is a member, who cares for them. A blocking screening alerts at once."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.messaging.domain.alert import AlertChange
from services.messaging.domain.alert_events import announce_alerts
from services.messaging.domain.alert_handling import follow_care_team
from services.messaging.domain.alert_raising import raise_alerts
from services.messaging.domain.feed import NewFeedEntry
from services.messaging.domain.member_events import apply_member_event
from services.messaging.domain.people import MemberProfile
from services.messaging.domain.slots import is_time_zone
from services.messaging.domain.timeline import describe_event
from services.messaging.domain.triggers import on_member_screened
from services.messaging.store.alerts import load_alert_book, load_standing_alerts, save_alert_changes
from services.messaging.store.members import (
    load_care_teams,
    load_member_profiles,
    save_member_profiles,
    save_practitioners,
)
from services.messaging.store.rules import load_alert_rules, load_trigger_rules, load_visit_rules
from services.messaging.store.timeline import save_timeline
from shared.database import Connection
from shared.events import CareTeamAssigned, CloudEvent, MemberScreened
from shared.outcomes import Outcomes


async def follow_members(connection: Connection, events: Sequence[CloudEvent], /, *, now: datetime) -> Outcomes:
    """Keep profiles and the timeline; raise what a screening asks for; move alerts of people who left a team."""
    outcomes = Outcomes()
    profiles = await load_member_profiles(connection, member_ids={event.subject for event in events})
    former: list[tuple[UUID, UUID]] = []
    for event in events:
        before = profiles.get(event.subject, MemberProfile(member_id=event.subject, status="known"))
        if isinstance(event, CareTeamAssigned):
            former += [(event.subject, p.practitioner_id) for p in (before.pt, before.coach) if p]
        profiles[event.subject] = apply_member_event(profile=before, event=event)
    teams = {event.subject: event for event in events if isinstance(event, CareTeamAssigned)}
    people = [
        (person, profiles[member].time_zone) for member, e in teams.items() for person in (e.data.pt, e.data.coach)
    ]
    await save_practitioners(
        connection,
        [person for person, _ in people],
        # A zone that this machine's database does not know must not break the offering of slots.
        time_zones=[zone if zone and is_time_zone(name=zone) else None for _, zone in people],
        default_hours=load_visit_rules().default_hours,
    )
    await save_member_profiles(connection, profiles.values())
    await save_timeline(connection, [describe_event(event, service="enrollment") for event in events])

    rules, trigger_rules = load_alert_rules(), load_trigger_rules()
    asked = [on_member_screened(event=e, rules=trigger_rules) for e in events if isinstance(e, MemberScreened)]
    triggers = [trigger for trigger in asked if trigger]
    book = await load_alert_book(connection, triggers=triggers, now=now)
    changes = raise_alerts(triggers=triggers, known=book.known, teams=book.teams, rules=rules, now=now)
    changes += await _move_alerts(connection, teams, unless={c.alert.alert_id for c in changes}, now=now)
    announce_alerts(outcomes=outcomes, changes=changes)

    left = {(member, person) for member, person in former if person not in _ids(profiles[member])}
    feed = [
        NewFeedEntry(
            kind="member",
            change="team" if member in teams else "profile",
            member_id=member,
            subject_id=member,
            also=tuple(person for of, person in left if of == member),
        )
        for member in dict.fromkeys(event.subject for event in events)
    ]
    await save_alert_changes(connection, changes, now=now, feed=feed)
    return outcomes


def _ids(profile: MemberProfile) -> set[UUID]:
    return {person.practitioner_id for person in (profile.pt, profile.coach) if person}


async def _move_alerts(
    connection: Connection, teams: dict[UUID, CareTeamAssigned], *, unless: set[UUID], now: datetime
) -> list[AlertChange]:
    if not teams:
        return []
    current = await load_care_teams(connection, member_ids=teams, now=now)
    moved = [
        follow_care_team(
            alert=alert,
            team=current[alert.member_id],
            because=teams[alert.member_id],
            rules=load_alert_rules(),
            now=now,
        )
        for alert in await load_standing_alerts(connection, member_ids=teams, episodes=[])
        if alert.alert_id not in unless
    ]
    return [change for change in moved if change]
