"""A session of the console ends when nobody has done anything for long, and its cookie is for nobody else."""

from datetime import timedelta
from uuid import uuid4

import pytest
from fastapi import Request
from fastapi.responses import Response

from services.messaging.pages import viewer
from services.messaging.pages.settings import ConsoleSettings
from services.messaging.store.pages_sessions import ConsoleSession, load_session, save_session
from tests.messaging.conftest import Clinic

HOUR = timedelta(hours=1)


async def test_a_page_that_refreshes_itself_keeps_no_session_awake(bare_clinic: Clinic) -> None:
    session = ConsoleSession(
        practitioner_id=uuid4(), roles=frozenset({"pt"}), name="Petra", language="en", form_token="form"
    )
    later = "update console_sessions set active_at = active_at - interval '40 minutes'"

    async def stands(*, active: bool) -> bool:
        async with bare_clinic.database.acquire() as connection:
            found = await load_session(connection, secret="s", idle=HOUR, lifetime=12 * HOUR, active=active)
        return found is not None

    async with bare_clinic.database.acquire() as connection:
        await save_session(connection, secret="s", session=session, lifetime=12 * HOUR)
        await connection.execute(later)
        assert await stands(active=True)
        await connection.execute(later)
        assert await stands(active=False), "somebody did something 40 minutes ago"
        await connection.execute(later)
        assert not await stands(active=False), "nobody did anything for 80 minutes"


@pytest.mark.parametrize(
    ("scheme", "url", "secure"),
    [("http", None, False), ("https", None, True), ("http", "https://care.example.org", True)],
)
def test_a_session_cookie_is_never_sent_in_the_clear_where_people_come_by_https(
    monkeypatch: pytest.MonkeyPatch, scheme: str, url: str | None, secure: bool
) -> None:
    """Also where a proxy speaks it for us."""
    monkeypatch.setattr(viewer, "console_settings", lambda: ConsoleSettings(url=url))
    request = Request({"type": "http", "scheme": scheme, "path": "/", "headers": [], "server": ("care", 80)})
    response = Response()
    viewer.set_session_cookie(response, request, name="c", value="v", max_age_s=60)
    said = response.headers["set-cookie"].lower()
    assert ("secure" in said) is secure
    assert "httponly" in said
