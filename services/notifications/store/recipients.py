"""What is known of members as readers: enrollments, contacts, consents, opt-outs."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from services.notifications.domain.consent import Consent
from services.notifications.domain.membership import Membership
from services.notifications.domain.recipient import Contact, Recipient
from shared.database import Connection
from shared.events.vocabulary import Channel, NotificationTopic

LOAD_MEMBERSHIPS = """
select member_id, status, paused_until, state, time_zone, language, pt_id, coach_id
from enrollments where member_id = any($1::uuid[])
"""

SAVE_MEMBERSHIPS = """
insert into enrollments (member_id, status, paused_until, state, time_zone, language, pt_id, coach_id)
select * from unnest(
    $1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::uuid[]
)
on conflict (member_id) do update set status = excluded.status, paused_until = excluded.paused_until,
    state = excluded.state, time_zone = excluded.time_zone, language = excluded.language,
    pt_id = excluded.pt_id, coach_id = excluded.coach_id
"""

SAVE_CONTACTS = """
insert into contacts (member_id, given_name, email, phone, time_zone, language)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
on conflict (member_id) do update set given_name = excluded.given_name, email = excluded.email,
    phone = excluded.phone, time_zone = excluded.time_zone, language = excluded.language
"""

# An older word never replaces a newer one: the member may have said it here, ahead of the event that repeats it.
SAVE_CONSENTS = """
insert into consents (member_id, channel, topic, granted, given_at)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::timestamptz[])
on conflict (member_id, channel, topic) do update set granted = excluded.granted, given_at = excluded.given_at
where excluded.given_at >= consents.given_at
"""

SAVE_OPT_OUTS = """
insert into opt_outs (channel, address, opted_out_at)
select $1, address, $3 from unnest($2::text[]) as o(address)
on conflict (channel, address) do update set opted_out_at = greatest(opt_outs.opted_out_at, excluded.opted_out_at)
"""

DELETE_OPT_OUTS = "delete from opt_outs where channel = $1 and address = any($2::text[])"

LOAD_RECIPIENTS = """
select m.member_id, e.status, e.paused_until, e.state, e.time_zone as enrolled_time_zone,
    e.language as enrolled_language, c.given_name, c.email, c.phone, c.time_zone, c.language,
    mail.opted_out_at as email_opted_out_at, text.opted_out_at as sms_opted_out_at
from unnest($1::uuid[]) as m(member_id)
left join enrollments e using (member_id)
left join contacts c using (member_id)
left join opt_outs mail on mail.channel = 'email' and mail.address = c.email
left join opt_outs text on text.channel = 'sms' and text.address = c.phone
"""

LOAD_CONSENTS = """
select member_id, channel, topic, granted, given_at from consents where member_id = any($1::uuid[])
"""

SAVE_INBOUND_TEXT = """
insert into inbound_texts (provider_id) values ($1) on conflict (provider_id) do nothing returning provider_id
"""

FIND_BY_PHONE = "select member_id, language from contacts where phone = $1 order by member_id"


async def load_memberships(connection: Connection, *, member_ids: Sequence[UUID]) -> dict[UUID, Membership]:
    """Of those members that an event of enrollment has come for."""
    rows = await connection.fetch(LOAD_MEMBERSHIPS, member_ids)
    fields = [dict(row) for row in rows]
    return {row.pop("member_id"): Membership(**row) for row in fields}


async def save_memberships(connection: Connection, memberships: Mapping[UUID, Membership]) -> None:
    if memberships:
        members = list(memberships.values())
        await connection.execute(
            SAVE_MEMBERSHIPS,
            list(memberships),
            [m.status for m in members],
            [m.paused_until for m in members],
            [m.state for m in members],
            [m.time_zone for m in members],
            [m.language for m in members],
            [m.pt_id for m in members],
            [m.coach_id for m in members],
        )


async def save_contacts(connection: Connection, contacts: Mapping[UUID, Contact]) -> None:
    if contacts:
        found = list(contacts.values())
        await connection.execute(
            SAVE_CONTACTS,
            list(contacts),
            [c.given_name for c in found],
            [c.email for c in found],
            [c.phone for c in found],
            [c.time_zone for c in found],
            [c.language for c in found],
        )


async def save_consents(connection: Connection, consents: Sequence[tuple[UUID, Consent]]) -> None:
    """The latest word of each (member, channel, topic) stays, whatever order they come in."""
    latest: dict[tuple[UUID, Channel, NotificationTopic | Literal["all"]], Consent] = {}
    for member_id, consent in consents:
        key = (member_id, consent.channel, consent.topic)
        if key not in latest or consent.given_at >= latest[key].given_at:
            latest[key] = consent
    if latest:
        await connection.execute(
            SAVE_CONSENTS,
            [member_id for member_id, _, _ in latest],
            [channel for _, channel, _ in latest],
            [topic for _, _, topic in latest],
            [consent.granted for consent in latest.values()],
            [consent.given_at for consent in latest.values()],
        )


async def save_opt_outs(connection: Connection, *, channel: Channel, addresses: Sequence[str], at: datetime) -> None:
    """These addresses said STOP."""
    await connection.execute(SAVE_OPT_OUTS, channel, addresses, at)


async def delete_opt_outs(connection: Connection, *, channel: Channel, addresses: Sequence[str]) -> None:
    """These addresses said START: what the members behind them had consented to counts again."""
    await connection.execute(DELETE_OPT_OUTS, channel, addresses)


async def save_inbound_text(connection: Connection, *, provider_id: str) -> bool:
    """Whether this text message is taken for the first time."""
    return await connection.fetchval(SAVE_INBOUND_TEXT, provider_id) is not None


async def find_members_by_phone(connection: Connection, *, phone: str) -> list[tuple[UUID, str]]:
    """(member id, language) of everyone who has this phone: a family may share one."""
    return [(row["member_id"], row["language"]) for row in await connection.fetch(FIND_BY_PHONE, phone)]


async def load_recipients(connection: Connection, *, member_ids: Sequence[UUID]) -> dict[UUID, Recipient]:
    """All of these members; of one that nothing is known of yet, a recipient of unknown status."""
    consents: dict[UUID, list[Consent]] = {}
    for row in await connection.fetch(LOAD_CONSENTS, member_ids):
        consent = Consent(channel=row["channel"], topic=row["topic"], granted=row["granted"], given_at=row["given_at"])
        consents.setdefault(row["member_id"], []).append(consent)
    recipients: dict[UUID, Recipient] = {}
    for row in await connection.fetch(LOAD_RECIPIENTS, member_ids):
        contact = None
        if row["given_name"] is not None:
            contact = Contact(
                given_name=row["given_name"],
                email=row["email"],
                phone=row["phone"],
                time_zone=row["time_zone"],
                language=row["language"],
            )
        opted_out: dict[Channel, datetime | None] = {
            "email": row["email_opted_out_at"],
            "sms": row["sms_opted_out_at"],
        }
        recipients[row["member_id"]] = Recipient(
            status=row["status"] or "unknown",
            paused_until=row["paused_until"],
            state=row["state"],
            enrolled_time_zone=row["enrolled_time_zone"],
            enrolled_language=row["enrolled_language"],
            contact=contact,
            consents=tuple(consents.get(row["member_id"], ())),
            opted_out={channel: at for channel, at in opted_out.items() if at is not None},
        )
    return recipients
