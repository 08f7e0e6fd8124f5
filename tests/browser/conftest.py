"""`console`: messaging and the local issuer served on 127.0.0.1 over real servers; `browser`: a real Chromium.

Where no Chromium is found these tests are skipped, and the end of the run says how to get one.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from deploy.local.issuer.app import build_app
from deploy.local.issuer.people import Person, save_people
from deploy.local.issuer.settings import IssuerSettings
from deploy.local.ports import choose_port
from services.messaging.main import build
from services.messaging.settings import MessagingSettings
from shared.auth import Authenticator
from shared.database import Database, open_database
from shared.events import CloudEvent
from shared.service import Service
from tests.browser.population import ANA, LUCIA, OMAR, OTTO, STRANGER, live_through, person_id
from tests.fixtures.databases import DatabaseFactory
from tests.fixtures.eventually import eventually
from tests.fixtures.servers import RunningServers
from tests.fixtures.topics import TopicFactory

CHROMIUM_VARIABLE = "CARELOOP_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOPICS = ("members", "contacts", "activity", "plans", "visits", "conversations", "notifications")
SCREENSHOTS = Path("build/screenshots")
WAIT_MS = 10_000


def find_chromium() -> str | None:
    """The browser to use: as CARELOOP_CHROMIUM says, else one on the path, else Playwright's own."""
    named = os.environ.get(CHROMIUM_VARIABLE)
    if named:
        return named
    own = sorted(Path.home().glob(".cache/ms-playwright/chromium-*/chrome-linux*/chrome"))
    return next((path for name in NAMES if (path := shutil.which(name))), str(own[-1]) if own else None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_chromium() is not None:
        return
    why = (
        f"no Chromium found: apt-get install chromium, or .venv/bin/playwright install chromium, or name one with "
        f"{CHROMIUM_VARIABLE}"
    )
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason=why))


@dataclass
class Console:
    """A served console over its own database."""

    url: str
    service: Service
    database: Database
    database_url: str
    now: datetime

    async def live(self, *events: CloudEvent) -> None:
        """These events have happened: handled by the service's own handlers, shown by its own feed."""
        async with self.database.acquire() as connection:
            await live_through(connection, events)


@contextlib.asynccontextmanager
async def served(app: FastAPI, port: int) -> AsyncIterator[str]:
    """The app over real HTTP until the block ends."""
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="error", access_log=False, timeout_graceful_shutdown=1
        )
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined,method-assign,unused-ignore]
    task = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started or task.done(), what="the server starts")
        if task.done():
            task.result()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def console(
    servers: RunningServers, database: DatabaseFactory, topics: TopicFactory, namespace: str, tmp_path: Path
) -> AsyncIterator[Console]:
    """An empty clinic: the staff can sign in, nobody is a member yet."""
    await topics(*(f"careloop.{name}" for name in TOPICS), partitions=1)
    database_url = await database("messaging")
    issuer = IssuerSettings(data=tmp_path, port=choose_port())
    save_people(
        tmp_path,
        [Person(subject=p.practitioner_id, name=p.name, roles=(p.role,)) for p in (ANA, OMAR, OTTO, STRANGER)]
        + [Person(subject=LUCIA.practitioner_id, name=LUCIA.name, roles=("pt",), language="es")]
        + [Person(subject=person_id("olga"), name="Olga Operator", roles=("operator",))],
    )
    service = build(
        MessagingSettings.model_validate(
            {
                "database_url": database_url,
                "kafka_bootstrap": servers.kafka_bootstrap,
                "valkey_url": servers.valkey_url,
                "namespace": namespace,
                "port": 0,
                "oidc_issuer": issuer.url,
                "session_timeout_s": 6,
            }
        )
    )
    assert isinstance(service.app.state.authenticator, Authenticator)
    async with served(build_app(issuer), issuer.port), served(service.app, choose_port()) as url:
        pool = await open_database(database_url, connections=2, application="browser tests")
        try:
            await eventually(lambda: service.health.started, within=40, what="messaging starts")
            yield Console(url=url, service=service, database=pool, database_url=database_url, now=datetime.now(UTC))
        finally:
            await pool.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield opened
        await opened.close()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A window of the usual size. A page's error or a refused script fails the test."""
    opened = await browser.new_context(viewport={"width": 1280, "height": 860}, locale="en-US")
    opened.set_default_timeout(WAIT_MS)
    troubles: list[str] = []
    opened.on("weberror", lambda error: troubles.append(str(error.error)))
    opened.on("console", lambda message: troubles.append(message.text) if "Content Security" in message.text else None)
    yield opened
    await opened.close()
    assert troubles == []


async def sign_in(page: Page, console: Console, name: str, *, path: str = "/console/") -> None:
    """Through the console's sign-in page and the issuer's, as a person does."""
    await page.goto(f"{console.url}{path}")
    await page.locator('a[href^="/console/sign-in/start"]').click()
    await page.get_by_role("button", name=name).click()
    await page.wait_for_url(f"{console.url}/console/**")


async def until_live(page: Page) -> None:
    """The stream is open: from here on every change is shown."""
    await page.locator('[data-line="on"]').first.wait_for()
