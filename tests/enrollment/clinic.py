"""A running enrollment service with one sponsor, its roster and a care team: what its tests start from."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import orjson

from services.enrollment.main import build
from services.enrollment.settings import EnrollmentSettings
from tests.fixtures.eventually import eventually
from tests.fixtures.services import RunningService, RunService
from tests.fixtures.tokens import Tokens

HEADER = "person_id,date_of_birth,state,effective_from,effective_to\n"


@dataclass
class SteppingClock:
    """Clinic time that a test moves by hand."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def step(self, **by: float) -> None:
        self.at += timedelta(**by)


@dataclass
class Clinic:
    running: RunningService
    tokens: Tokens
    clock: SteppingClock
    sponsor_id: UUID

    @property
    def client(self) -> httpx.AsyncClient:
        return self.running.client

    async def call(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        headers = {**self.tokens.bearer(token or self.tokens.operator), **options.pop("headers", {})}
        if "json" in options:
            # Through ASCII, so that any text can be sent, also what is no Unicode.
            options["content"] = json.dumps(options.pop("json"))
            headers["content-type"] = "application/json"
        return await self.client.request(method, path, headers=headers, **options)

    async def add_sponsor(self, sponsor_id: UUID | None = None) -> UUID:
        sponsor_id = sponsor_id or uuid4()
        answer = await self.call(
            "PUT",
            f"/v1/sponsors/{sponsor_id}",
            json={
                "name": "Example Mills",
                "states": ["NY", "NJ"],
                "covers_from": "2026-01-01",
                "administrators": ["mills-hr"],
            },
        )
        assert answer.status_code == 201, answer.text
        return sponsor_id

    async def upload(
        self,
        content: Any,
        *,
        mode: str = "delta",
        token: str | None = None,
        sponsor_id: UUID | None = None,
        **query: Any,
    ) -> httpx.Response:
        """`sponsor_id`: whose roster it is, where it is not the clinic's first sponsor's."""
        return await self.call(
            "POST",
            f"/v1/sponsors/{sponsor_id or self.sponsor_id}/imports",
            token,
            params={"mode": mode, **query},
            content=content,
            headers={"content-type": "text/csv; charset=utf-8"},
        )

    async def import_roster(self, content: Any, *, mode: str = "delta", **query: Any) -> dict[str, Any]:
        """Send a roster and wait until it has been applied, held or failed; what became of it."""
        answer = await self.upload(content, mode=mode, **query)
        assert answer.status_code == 202, answer.text
        return await self.finished(answer.json()["import_id"])

    async def finished(self, import_id: str) -> dict[str, Any]:
        async def look() -> dict[str, Any]:
            body: dict[str, Any] = (await self.call("GET", f"/v1/imports/{import_id}")).json()
            assert body["state"] != "received"
            return body

        found: dict[str, Any] = await eventually(look, within=60, what="the roster is applied")
        return found

    async def add_practitioner(self, role: str, **fields: Any) -> UUID:
        practitioner_id = fields.pop("practitioner_id", None) or uuid4()
        body = {
            "practitioner_id": str(practitioner_id),
            "role": role,
            "name": f"Sam {role}",
            "languages": ["en"],
            "licensed_states": ["NY"] if role == "pt" else [],
            "time_zone": "America/New_York",
            "panel_limit": 100,
            **fields,
        }
        answer = await self.call("POST", "/v1/practitioners", json=body)
        assert answer.status_code in (200, 201), answer.text
        return UUID(str(practitioner_id))

    async def enrol(self, person_id: str = "E-1", **fields: Any) -> dict[str, Any]:
        """Take an intake that must succeed in some way; its answer."""
        answer = await self.call("POST", "/v1/intakes", self.tokens.app, json=self.intake(person_id, **fields))
        assert answer.status_code in (201, 202), answer.text
        body: dict[str, Any] = answer.json()
        return body

    def intake(self, person_id: str = "E-1", **fields: Any) -> dict[str, Any]:
        return {
            "intent": "seeking-treatment",
            "language": "en",
            "signs": ["pain-daily", "limited-motion"],
            "sponsor_id": str(self.sponsor_id),
            "person": {"person_id": person_id, "date_of_birth": "1980-05-17"},
            "state": "NY",
            "time_zone": "America/New_York",
            "cause": "overuse",
            "pain": {"now": 4, "average_24h": 5, "usual": 4},
            "goals": ["Walk the dog"],
            "days_per_week": 3,
            "preferred_time": "07:30",
            "contact": {"given_name": "Simone", "family_name": "Simulated", "email": "simone@example.org"},
            "consents": ["email"],
            **fields,
        }

    async def published(self, member_id: str | UUID | None = None) -> list[dict[str, Any]]:
        """Events published, of one member or all, in order: from the copy that a trigger keeps of the outbox."""
        async with self.database() as connection:
            rows = await connection.fetch(
                "select value from published where $1::uuid is null or member_id = $1 order by outbox_id",
                UUID(str(member_id)) if member_id else None,
            )
        return [orjson.loads(row["value"]) for row in rows]

    async def published_types(self, member_id: str | UUID | None = None) -> list[str]:
        return [
            event["type"].removeprefix("org.careloop.").removesuffix(".v1") for event in await self.published(member_id)
        ]

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        connection = await asyncpg.connect(self.running.database_url)
        try:
            yield connection
        finally:
            await connection.close()

    async def rows(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        async with self.database() as connection:
            return list(await connection.fetch(sql, *values))

    async def timers_done(self) -> None:
        """Wait until no timer is due."""

        async def none_due() -> bool:
            due = await self.rows("select kind from delivery.timers where due_at <= $1", self.clock.now())
            assert not due, due
            return True

        await eventually(none_due, what="timers run")


KEEP_COPY = """
create table published (
    outbox_id bigint primary key, member_id uuid not null, value bytea not null, urgent boolean not null
);
create function keep_copy() returns trigger language plpgsql as $$
begin insert into published values (new.outbox_id, new.member_id, new.value, new.urgent); return new; end $$;
create trigger keep_copy after insert on delivery.outbox for each row execute function keep_copy();
"""


@contextlib.asynccontextmanager
async def open_clinic(
    run_service: RunService, tokens: Tokens, *, database_url: str | None = None
) -> AsyncIterator[Clinic]:
    """Enrollment running with a sponsor in New York and New Jersey; no roster and no practitioners yet."""
    clock = SteppingClock(datetime(2026, 3, 2, 15, tzinfo=UTC))

    def build_with_clock(settings: EnrollmentSettings) -> Any:
        service = build(settings)
        service.clock = clock
        return service

    async with run_service(
        build_with_clock, EnrollmentSettings, name="enrollment", database_url=database_url
    ) as running:
        clinic = Clinic(running, tokens, clock, uuid4())
        async with clinic.database() as connection:
            await connection.execute(KEEP_COPY)
        await clinic.add_sponsor(clinic.sponsor_id)
        yield clinic


def roster(
    *persons: str, born: str = "1980-05-17", state: str = "NY", starts: str = "2026-01-01", ends: str = ""
) -> str:
    return HEADER + "".join(f"{person},{born},{state},{starts},{ends}\n" for person in persons)
