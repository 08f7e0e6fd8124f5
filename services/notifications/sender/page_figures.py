"""What must be known of pages: one that waits, and one that nobody will get."""

import asyncio
from collections.abc import Sequence
from typing import Final, get_args

from prometheus_client import Counter, Gauge

from services.notifications.domain.delivery import FailedReason
from services.notifications.store.notifications import load_oldest_page
from shared.events import NotificationFailed, NotificationSuppressed
from shared.outcomes import Draft
from shared.service import Service
from shared.telemetry import logger

PAGES_FAILED = Counter(
    "careloop_pages_failed", "Pages that were not sent for certain and are not tried again: call somebody.", ["reason"]
)
PAGE_OLDEST = Gauge(
    "careloop_page_oldest_seconds",
    "How long ago the oldest page that is not sent was asked for, in clinic time; each replica tells the same number.",
    ["service"],
)
STALE: Final = "stale"
TELL_EVERY_S = 5.0
log = logger("pager")


def count_failed(published: Sequence[Draft]) -> None:
    """Of what was published about pages, those that nobody will get although somebody waits for an answer to them."""
    for draft in published:
        reason = getattr(draft.data, "reason", None)
        if draft.event is NotificationFailed or (draft.event is NotificationSuppressed and reason == STALE):
            PAGES_FAILED.labels(reason).inc()
            log.critical("a page was not sent", reason=reason)


async def tell_pages(service: Service) -> None:
    """Tell for how long a page waits, whatever the task that sends them is doing."""
    for reason in (*get_args(FailedReason), STALE):  # before they rise
        PAGES_FAILED.labels(reason)
    while True:
        async with service.safety.acquire(timeout=30) as connection:
            waits_s = await load_oldest_page(connection, now=service.clock.now())
        PAGE_OLDEST.labels(service.name).set(waits_s)
        await asyncio.sleep(TELL_EVERY_S)
