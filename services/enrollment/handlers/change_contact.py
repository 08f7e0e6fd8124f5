"""A member's contact as a whole: changed by them, and announced again before the topic forgets it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.enrollment.domain.enrolment import contact_timer
from services.enrollment.store.memberships import load_contacts, load_memberships, save_contacts, save_memberships
from shared.database import Connection
from shared.events import ContactChanged
from shared.events.members import ContactChangedData
from shared.outcomes import Command, Outcomes, Refusal, Timer
from shared.timers import save_timers


async def change_contact(
    connection: Connection, *, member_id: UUID, contact: ContactChangedData, command: Command, now: datetime
) -> Outcomes | Refusal:
    """Replace the contact. The same again changes nothing and publishes nothing."""
    membership = (await load_memberships(connection, member_ids=[member_id])).get(member_id)
    if membership is None:
        return Refusal("not-found", "No such member.")
    if (await load_contacts(connection, member_ids=[member_id])).get(member_id) == contact:
        return Outcomes()
    await save_contacts(connection, {member_id: contact})
    await save_memberships(connection, [replace(membership, language=contact.language, time_zone=contact.time_zone)])
    outcomes = Outcomes()
    outcomes.publish(ContactChanged, contact, because=command)
    if membership.in_care:
        await save_timers(connection, [contact_timer(member_id=member_id, because=command, now=now)])
    return outcomes


async def announce_contacts(connection: Connection, timers: Sequence[Timer], /, *, now: datetime) -> Outcomes:
    """Publish the whole contact of these members again, and set when it is next due. Not for someone who has left."""
    member_ids = [timer.member_id for timer in timers]
    memberships = await load_memberships(connection, member_ids=member_ids)
    contacts = await load_contacts(connection, member_ids=member_ids)
    outcomes = Outcomes()
    again: list[Timer] = []
    for timer in timers:
        membership, contact = memberships.get(timer.member_id), contacts.get(timer.member_id)
        if membership is None or contact is None or not membership.in_care:
            continue
        outcomes.publish(ContactChanged, contact, because=timer)
        again.append(contact_timer(member_id=timer.member_id, because=timer, now=now))
    await save_timers(connection, again)
    return outcomes
