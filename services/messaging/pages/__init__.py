"""The care-team console: server-rendered pages, live by one stream a window."""

from typing import Final

from fastapi import APIRouter

from services.messaging.pages import actions, live, member, member_actions, sign_in, triage

ROUTERS: Final[tuple[APIRouter, ...]] = (
    live.router,
    sign_in.router,
    triage.router,
    member.router,
    actions.router,
    member_actions.router,
)
"""In the order in which their paths are matched."""
