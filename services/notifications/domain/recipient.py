"""What is known of a member as a reader of notifications. Each part comes from another topic, in no mutual order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from services.notifications.domain.consent import Consent
from shared.events.vocabulary import Channel, Language

Status = Literal["unknown", "enrolled", "paused", "disenrolled"]


@dataclass(frozen=True, kw_only=True)
class Contact:
    given_name: str
    email: str | None
    phone: str | None
    time_zone: str
    language: Language


@dataclass(frozen=True, kw_only=True)
class Recipient:
    status: Status = "unknown"
    paused_until: datetime | None = None
    """End of a pause that has one; without it the pause lasts until the member resumes."""
    state: str | None = None
    enrolled_time_zone: str | None = None
    enrolled_language: Language | None = None
    contact: Contact | None = None
    consents: tuple[Consent, ...] = ()
    opted_out: Mapping[Channel, datetime] = field(default_factory=dict)
    """When this member's present address on a channel said STOP."""

    def is_paused(self, now: datetime) -> bool:
        return self.status == "paused" and (self.paused_until is None or now < self.paused_until)

    def address(self, channel: Channel) -> str | None:
        if self.contact is None:
            return None
        return {"email": self.contact.email, "sms": self.contact.phone}.get(channel)

    @property
    def time_zone(self) -> str | None:
        return self.contact.time_zone if self.contact else self.enrolled_time_zone

    @property
    def language(self) -> Language:
        if self.contact:
            return self.contact.language
        return self.enrolled_language or "en"


NOBODY = Recipient()
"""A member of whom no event has come yet."""
