"""Whether a member lets us use a channel for a topic."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.events.vocabulary import Channel, NotificationTopic


@dataclass(frozen=True, kw_only=True)
class Consent:
    """The member's latest word about one channel and topic, or about all topics of the channel."""

    channel: Channel
    topic: NotificationTopic | Literal["all"]
    granted: bool
    given_at: datetime


def is_permitted(
    *, consents: Collection[Consent], opted_out_at: datetime | None, channel: Channel, topic: NotificationTopic
) -> bool:
    """The latest word that covers this channel and topic decides; of two at the same moment the refusal. Silence is no
    consent. `opted_out_at` is when the address itself said STOP, whoever it belonged to then; only a later grant lifts
    it."""
    words = [
        (consent.given_at, not consent.granted)
        for consent in consents
        if consent.channel == channel and consent.topic in (topic, "all")
    ]
    if opted_out_at is not None:
        words.append((opted_out_at, True))
    return bool(words) and not max(words)[1]
