"""The page of plans names the routes that there are; tests/test_readmes.py checks the rest, for every service."""

from pathlib import Path

from fastapi.routing import APIRoute

from services.plans.api.events import router as events_router
from services.plans.api.plans import router as plans_router

README = (Path(__file__).parents[2] / "services" / "plans" / "README.md").read_text("utf-8")


def test_every_route_is_named() -> None:
    for route in [*events_router.routes, *plans_router.routes]:
        assert isinstance(route, APIRoute)
        path = route.path.replace("{source_and_id:path}", "{source}/{id}").replace("{member_id}", "{id}")
        assert path.removeprefix("/v1/members/{id}/plan") in README
