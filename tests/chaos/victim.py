"""`python -m tests.chaos.victim plans`: a service as its main.py composes it, in a process that can be hurt.

`--migrate` brings its database up to date instead. What is done to it comes from the environment: CHAOS_FOLDER and
CHAOS_NAME say where its orders lie, CHAOS_MUTANT which sentence of the protocol is undone, CHAOS_RELEASE how many
migrations beyond ours its release brings.
"""

import argparse
import asyncio
import datetime as datetimes
import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import shared.clock
import shared.migrating
from shared.auth import Authenticator
from shared.service import Service, run
from shared.subscriptions import Subscription
from tests.chaos.faults import SERVICES
from tests.chaos.points import Points, put
from tests.chaos.stream import BUG_SUFFIX
from tests.fixtures.tokens import AUDIENCE, ISSUER

CLOCK_STEP = "clock-step"
"""File with the seconds by which the clocks of a service's machine are off."""

KEYS = "keys.json"
"""File with the keys of the issuer that the service believes."""
MENDED = "mended"
"""File that mends the handler of plans."""


class FailsAtThis(Exception):
    """What the handler of plans raises until it is mended."""


def install_clock(step_file: Path) -> None:
    """The machine's clock as this process reads it, off by what a file says."""

    class Stepped(datetimes.datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            try:
                off_s = float(step_file.read_text() or 0)
            except FileNotFoundError:
                off_s = 0.0
            return datetimes.datetime.now(tz) + timedelta(seconds=off_s)

        fromisoformat = staticmethod(datetimes.datetime.fromisoformat)  # type: ignore[assignment]

    put(shared.clock, "datetime", Stepped)


def install_release(service: str, number: int) -> None:
    """Migrations that a later release of the service brings."""
    ours = shared.migrating.list_migrations

    def listed(name: str) -> list[shared.migrating.Migration]:
        later = [
            shared.migrating.Migration(
                name=f"{service}/9{place:03}_release", sql=f"create table release_{place} (number int primary key)"
            )
            for place in range(number)
        ]
        return [*ours(name), *later]

    put(shared.migrating, "list_migrations", listed)


def failing(subscription: Subscription, mended: Path) -> Subscription:
    """The same, with a handler that fails at some events until there is a file."""

    async def handle(connection: Any, events: Sequence[Any], /, *, now: datetime) -> Any:
        if any(event.id.endswith(BUG_SUFFIX) for event in events) and not mended.exists():
            raise FailsAtThis
        return await subscription.run(connection, events, now=now)

    return replace(subscription, run=handle)


def build(name: str, folder: Path) -> Service:
    service = _compose(name, folder)
    keys = json.loads((folder / KEYS).read_text())
    service.app.state.authenticator = Authenticator.from_keys(keys, issuer=ISSUER, audience=AUDIENCE)
    return service


def _compose(name: str, folder: Path) -> Service:
    if name == "plans":
        from services.plans import main as plans
        from services.plans.settings import PlansSettings
        from services.plans.subscriptions import SUBSCRIPTIONS

        mended = folder / MENDED
        fragile = [failing(one, mended) if one.group == "plans.activity" else one for one in SUBSCRIPTIONS]
        put(plans, "SUBSCRIPTIONS", tuple(fragile))
        return plans.build(PlansSettings())
    if name == "messaging":
        from services.messaging import main as messaging
        from services.messaging.settings import MessagingSettings

        return messaging.build(MessagingSettings())
    if name == "enrollment":
        from services.enrollment import main as enrollment
        from services.enrollment.settings import EnrollmentSettings

        return enrollment.build(EnrollmentSettings())
    from services.notifications import main as notifications
    from services.notifications.settings import NotificationsSettings

    return notifications.build(NotificationsSettings())


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.chaos.victim", description=__doc__)
    options.add_argument("service", choices=SERVICES)
    options.add_argument("--migrate", action="store_true")
    chosen = options.parse_args()
    folder, name = Path(os.environ["CHAOS_FOLDER"]), os.environ["CHAOS_NAME"]
    if mutant := os.environ.get("CHAOS_MUTANT"):
        from tests.chaos.mutants import apply_mutant

        apply_mutant(mutant)
    points = Points(folder / f"{name}.order")
    install_clock(folder / f"{chosen.service}.{CLOCK_STEP}")
    install_release(chosen.service, int(os.environ.get("CHAOS_RELEASE", "0")))
    if chosen.migrate:
        points.install_in_migration()
        asyncio.run(shared.migrating.migrate(os.environ["CARELOOP_DATABASE_URL"], service=chosen.service))
    else:
        points.install(chance=random.Random(name))
        run(build(chosen.service, folder))


if __name__ == "__main__":
    main()
