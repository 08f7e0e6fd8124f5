"""A whole clinic in one process: four services on the real servers, a mailbox, people using the public interfaces."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson

from deploy.local.mail_sink.mailbox import Mailbox
from deploy.local.mail_sink.server import MailSink
from deploy.local.mail_sink.settings import MailSinkSettings
from services.enrollment.main import build as build_enrollment
from services.enrollment.settings import EnrollmentSettings
from services.messaging.main import build as build_messaging
from services.messaging.settings import MessagingSettings
from services.notifications.main import build as build_notifications
from services.notifications.settings import NotificationsSettings
from services.plans.main import build as build_plans
from services.plans.settings import PlansSettings
from shared.clock import Anchor, AnchoredClock, wall_now, write_anchor
from tests.fixtures.eventually import eventually
from tests.fixtures.services import RunningService, RunService
from tests.fixtures.tokens import Tokens

SERVICES: dict[str, tuple[Callable[[Any], Any], type[Any]]] = {
    "enrollment": (build_enrollment, EnrollmentSettings),
    "plans": (build_plans, PlansSettings),
    "messaging": (build_messaging, MessagingSettings),
    "notifications": (build_notifications, NotificationsSettings),
}


BEHIND = timedelta(days=10)
"""How far clinic time is behind the wall clock when the clinic opens, so that it can be moved forward."""


@dataclass
class Clinic:
    running: dict[str, RunningService]
    tokens: Tokens
    mailbox: Mailbox
    clock_file: Path
    sponsor_id: UUID = field(default_factory=uuid4)
    pt_id: UUID = field(default_factory=uuid4)
    coach_id: UUID = field(default_factory=uuid4)
    oncall_id: UUID = field(default_factory=uuid4)

    async def ask(
        self, service: str, method: str, path: str, token: str, *, status: int | None = None, **options: Any
    ) -> Any:
        """The JSON answer of a public interface; AssertionError on another status than `status` (any 2xx)."""
        headers = {**self.tokens.bearer(token), **options.pop("headers", {})}
        answer = await self.running[service].client.request(method, path, headers=headers, **options)
        wanted = answer.status_code == status if status else answer.status_code < 300
        assert wanted, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def now(self) -> datetime:
        """Clinic time, as all four services have it."""
        return AnchoredClock(self.clock_file).now()

    def advance(self, by: timedelta) -> None:
        """Let clinic time pass at once; it never goes beyond the wall clock."""
        write_anchor(self.clock_file, Anchor(clinic_at=self.now() + by, wall_at=wall_now(), speed=1))

    async def settled(self, *, within: float = 60.0) -> None:
        """All four at rest, one after the other, twice: what one does may make work for another."""
        for _ in range(2):
            for service in self.running.values():
                await service.settled(within=within)

    async def open(self) -> None:
        """A sponsor with its roster of ten, a physical therapist, a coach."""
        operator = self.tokens.operator
        covers = {"name": "Simulated Works", "covers_from": "2025-01-01", "states": ["NY", "CA"]}
        await self.ask("enrollment", "PUT", f"/v1/sponsors/{self.sponsor_id}", operator, json=covers)
        for practitioner_id, role, name in ((self.pt_id, "pt", "Petra Sim"), (self.coach_id, "coach", "Cora Sim")):
            body = {
                "practitioner_id": str(practitioner_id), "role": role, "name": name,
                "licensed_states": ["NY"] if role == "pt" else [], "languages": ["en"],
                "time_zone": "America/New_York", "panel_limit": 100,
            }  # fmt: skip
            await self.ask("enrollment", "POST", "/v1/practitioners", operator, json=body)
        rows = "".join(f"P{number},1980-01-0{number % 9 + 1},NY,2025-01-01,\n" for number in range(10))
        roster = ("person_id,date_of_birth,state,effective_from,effective_to\n" + rows).encode()
        answer = await self.ask(
            "enrollment", "POST", f"/v1/sponsors/{self.sponsor_id}/imports?mode=delta&rows=10", operator,
            content=roster, headers={"content-type": "text/csv"},
        )  # fmt: skip

        async def applied() -> bool:
            state = await self.ask("enrollment", "GET", f"/v1/imports/{answer['import_id']}", operator)
            assert state["state"] == "applied", state
            return True

        await eventually(applied, within=30)

    def intake(self, number: int = 1, **changes: Any) -> dict[str, Any]:
        """What a person of the roster answers at intake."""
        return {
            "intent": "seeking-treatment", "language": "en", "signs": ["pain-daily"], "findings": [],
            "sponsor_id": str(self.sponsor_id),
            "person": {"person_id": f"P{number}", "date_of_birth": f"1980-01-0{number % 9 + 1}"},
            "state": "NY", "time_zone": "America/New_York", "cause": "overuse",
            "pain": {"now": 3, "average_24h": 3, "usual": 3}, "goals": ["climb stairs"], "days_per_week": 3,
            "preferred_time": "18:00",
            "contact": {"given_name": "Sim", "family_name": f"Person {number}", "email": f"sim{number}@example.org"},
            "consents": ["email"], **changes,
        }  # fmt: skip

    async def enrol(self, number: int = 1, **changes: Any) -> UUID:
        """A member with a plan and a care team that every service knows."""
        answer = await self.ask(
            "enrollment", "POST", "/v1/intakes", self.tokens.app, json=self.intake(number, **changes)
        )
        await self.settled()
        return UUID(answer["member_id"])

    async def train(
        self, member: UUID, *, pain: int, hours_ago: float = 1.0, traceparent: str | None = None, **data: Any
    ) -> dict[str, Any]:
        """The member's app publishes a finished session over HTTP, in its own trace; the event as it was sent."""
        plan = await self.ask("plans", "GET", f"/v1/members/{member}/plan", self.tokens.member(member))
        at = self.now() - timedelta(hours=hours_ago)
        event = session_event(member, plan, pain=pain, at=at, **data)
        answer = await self.ask(
            "plans", "POST", "/v1/events", self.tokens.member(member), status=202, content=orjson.dumps(event),
            headers={
                "content-type": "application/cloudevents+json", **({"traceparent": traceparent} if traceparent else {})
            },
        )  # fmt: skip
        return {"event": event, "answer": answer}


def session_event(member: UUID, plan: dict[str, Any], *, pain: int, at: datetime, **data: Any) -> dict[str, Any]:
    """A session.completed event of the plan's first exercise, as an app writes it by hand."""
    item = plan["items"][0]
    return {
        "specversion": "1.0", "id": str(uuid4()), "source": "urn:test:app", "type": "org.careloop.session.completed.v1",
        "time": at.isoformat(), "subject": str(member), "datacontenttype": "application/json",
        "data": {
            "session_id": str(uuid4()), "started_at": (at - timedelta(minutes=20)).isoformat(), "duration_min": 20,
            "exercises": [
                {"exercise": item["exercise"], "step": item["step"], "sets_prescribed": item["sets"],
                 "sets_done": item["sets"], "rpe": 5},
            ],
            "pain_during": pain, **data,
        },
    }  # fmt: skip


@contextlib.asynccontextmanager
async def open_clinic(run_service: RunService, tokens: Tokens, folder: Path) -> AsyncIterator[Clinic]:
    """The clinic, opened. Topics must exist."""
    clock_file = folder / "clock.json"
    write_anchor(clock_file, Anchor(clinic_at=wall_now() - BEHIND, wall_at=wall_now(), speed=1))
    mail = MailSinkSettings(data=folder, port=0, smtp_port=0)
    async with MailSink(mail) as sink, contextlib.AsyncExitStack() as stack:
        running = {}
        for name, (build, settings) in SERVICES.items():
            options: dict[str, Any] = {"clock_file": clock_file}
            if name == "notifications":
                options["smtp_port"] = sink.smtp_port
            running[name] = await stack.enter_async_context(run_service(build, settings, name=name, **options))
        clinic = Clinic(running, tokens, sink.mailbox, clock_file)
        await clinic.open()
        yield clinic
