"""Messaging, composed: the only file that wires everything."""

from functools import partial

from services.messaging.api import alerts, conversations, feed, visits
from services.messaging.api.feed import FeedHub, prune_old_entries
from services.messaging.pages import ROUTERS as PAGES
from services.messaging.settings import MessagingSettings
from services.messaging.subscriptions import SUBSCRIPTIONS, TIMERS
from shared.service import Service, Task, run


def build(settings: MessagingSettings) -> Service:
    """The service with these settings, not started yet."""
    hub = FeedHub(connections_max=settings.feed_connections_max)
    service = Service(
        name="messaging",
        settings=settings,
        subscriptions=SUBSCRIPTIONS,
        timers=TIMERS,
        routers=[alerts.router, conversations.router, visits.router, feed.router, *PAGES],
        tasks=[
            Task("feed", hub.run),
            Task("feed pruning", partial(prune_old_entries, kept_days=settings.feed_kept_days)),
        ],
        wakes=[hub.wake],
    )
    service.app.state.feed_hub = hub
    return service


if __name__ == "__main__":
    run(build(MessagingSettings()))
