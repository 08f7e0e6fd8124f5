"""Composition root of plans: the only file that wires everything."""

from services.plans.api.events import router as events_router
from services.plans.api.known_events import KnownEvents
from services.plans.api.plans import router as plans_router
from services.plans.settings import PlansSettings
from services.plans.store.rules import load_library
from services.plans.subscriptions import SUBSCRIPTIONS, TIMERS
from shared.publishing import Publisher
from shared.red_flags import load_red_flag_rules
from shared.service import Service, Task, run


def build(settings: PlansSettings) -> Service:
    """The service, not started yet. Raises pydantic.ValidationError where the rule data is wrong."""
    load_library()
    load_red_flag_rules()
    publisher = Publisher(settings, timeout_s=settings.publish_timeout_s)
    service = Service(
        name="plans",
        settings=settings,
        subscriptions=SUBSCRIPTIONS,
        timers=TIMERS,
        routers=[events_router, plans_router],
        tasks=[Task("publisher", lambda _: publisher.run())],
    )
    service.app.state.publisher = publisher
    service.app.state.known_events = KnownEvents(service)
    return service


if __name__ == "__main__":
    run(build(PlansSettings()))
