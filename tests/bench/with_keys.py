"""A service as its own main.py runs it, but trusting the keys of the bench: `with_keys plans|messaging`."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from services.messaging.main import build as build_messaging
from services.messaging.settings import MessagingSettings
from services.plans.main import build as build_plans
from services.plans.settings import PlansSettings
from shared.auth import Authenticator
from shared.service import run
from tests.fixtures.tokens import AUDIENCE, ISSUER

SERVICES: dict[str, tuple[Callable[[Any], Any], type[Any]]] = {
    "plans": (build_plans, PlansSettings),
    "messaging": (build_messaging, MessagingSettings),
}

if __name__ == "__main__":
    build, settings = SERVICES[sys.argv[1]]
    service = build(settings())
    keys = json.loads(os.environ["BENCH_JWKS"])
    service.app.state.authenticator = Authenticator.from_keys(keys, issuer=ISSUER, audience=AUDIENCE)
    run(service)
