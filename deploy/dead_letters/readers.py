"""With which handlers a service's held events are read again: its own, in the version that is installed here."""

from collections.abc import Mapping
from importlib import import_module

from shared.events.catalogue import TOPIC_OF
from shared.events.codec import Decoder
from shared.replaying import Reader


def readers_of(service: str) -> Mapping[str, Reader]:
    """Every consumer group of a service with its handler and decoder."""
    subscriptions = import_module(f"services.{service}.subscriptions").SUBSCRIPTIONS
    return {one.group: Reader(one, Decoder(TOPIC_OF[one.topic])) for one in subscriptions}
