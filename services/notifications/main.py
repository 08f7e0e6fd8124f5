"""`python -m services.notifications.main`: composes the service."""

from services.notifications.api import build_router
from services.notifications.handlers.find_link_secret import find_link_secret
from services.notifications.sender.page_figures import tell_pages
from services.notifications.sender.rendering import Letterhead
from services.notifications.sender.task import run_sender
from services.notifications.settings import NotificationsSettings
from services.notifications.store.library import load_policy
from services.notifications.store.notifications import count_unsent
from services.notifications.subscriptions import SUBSCRIPTIONS, TIMERS
from shared.clock import Clock
from shared.database import Database
from shared.service import Pending, Service, Task, run


def build(settings: NotificationsSettings, *, clock: Clock | None = None) -> Service:
    """The service, not started. Rules that cannot be read stop it here."""
    load_policy()

    async def letterhead(database: Database) -> Letterhead:
        configured = settings.unsubscribe_secret.get_secret_value() if settings.unsubscribe_secret else None
        secret = await find_link_secret(database, configured=configured)
        return Letterhead.of(settings, unsubscribe_secret=secret)

    return Service(
        name="notifications",
        settings=settings,
        subscriptions=SUBSCRIPTIONS,
        timers=TIMERS,
        routers=[build_router(settings)],
        tasks=[
            Task("sender", run_sender(settings, letterhead=letterhead, pages=False)),
            Task("pager", run_sender(settings, letterhead=letterhead, pages=True)),
            Task("page figures", tell_pages),
        ],
        pending=[Pending("notifications", count_unsent)],
        clock=clock,
    )


if __name__ == "__main__":
    run(build(NotificationsSettings()))
