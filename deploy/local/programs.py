"""The Python processes of a local stack: what each is called, how it starts, what it needs to know."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.local.ports import HOST, require_free_port
from deploy.local.settings import LocalSettings
from deploy.local.stack import SERVICES, Stack

PAGED_ROLES = ("pt", "coach", "oncall")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Program:
    """A process to start. `ready_url` answers 200 once it can do its work; without one it is ready when it runs.
    `live_url` answers 503 where only another process can go on with it."""

    name: str
    module: str
    env: dict[str, str]
    ready_url: str | None
    live_url: str | None = None
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", self.module, *self.arguments]


@dataclass(frozen=True, kw_only=True)
class ProgramPorts:
    """The port of each program, chosen before any starts, as each must know the others' addresses."""

    services: dict[str, int]
    issuer: int
    mail: int
    smtp: int

    def url(self, service: str) -> str:
        return f"http://{HOST}:{self.services[service]}"


def choose_program_ports(settings: LocalSettings) -> ProgramPorts:
    """From the settings; raises LocalProblem naming the first that is taken."""

    def port(name: str, what: str) -> int:
        setting = f"{name}_port"
        return require_free_port(getattr(settings, setting), what=what, setting=f"CARELOOP_{setting.upper()}")

    return ProgramPorts(
        services={name: port(name, f"the {name} service") for name in SERVICES},
        issuer=port("issuer", "the token issuer"),
        mail=port("mail", "the mail page"),
        smtp=port("smtp", "the mail sink"),
    )


def inherited_environment() -> dict[str, str]:
    """Our environment without what would change a program's settings by accident, or keep it from starting quickly:
    without its compiled modules a service reads its sources for a second."""
    dropped = ("CARELOOP_", "PG", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}


def standalone_programs(ports: ProgramPorts, *, data: Path) -> list[Program]:
    """Those that need no server: the token issuer and the mail sink."""
    return [
        Program(
            name="issuer",
            module="deploy.local.issuer",
            env={"CARELOOP_ISSUER_DATA": str(data / "issuer"), "CARELOOP_ISSUER_PORT": str(ports.issuer)},
            ready_url=f"http://{HOST}:{ports.issuer}/.well-known/openid-configuration",
        ),
        Program(
            name="mail_sink",
            module="deploy.local.mail_sink",
            env={
                "CARELOOP_MAIL_DATA": str(data / "mail"),
                "CARELOOP_MAIL_PORT": str(ports.mail),
                "CARELOOP_MAIL_SMTP_PORT": str(ports.smtp),
            },
            ready_url=f"http://{HOST}:{ports.mail}/",
        ),
    ]


def population_program(data: Path) -> Program:
    """The simulated people of a stack, living on. With nobody simulated it waits for `careloop simulate`."""
    return Program(
        name="population",
        module="deploy.simulator.live",
        arguments=("--data", str(data)),
        env={},
        ready_url=None,
    )


def service_programs(stack: Stack, ports: ProgramPorts, settings: LocalSettings) -> list[Program]:
    """The four services, each with its own database and all with the same addresses."""
    shared = {
        "CARELOOP_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        **stack.kafka_access.environment,
        "CARELOOP_VALKEY_URL": stack.valkey_url,
        "CARELOOP_NAMESPACE": stack.namespace,
        "CARELOOP_HOST": HOST,
        "CARELOOP_OIDC_ISSUER": stack.issuer_url,
        "CARELOOP_CLOCK_FILE": str(stack.clock_file),
        "CARELOOP_LOG_LEVEL": settings.log_level,
        "CARELOOP_SMTP_HOST": HOST,
        "CARELOOP_SMTP_PORT": str(ports.smtp),
        "CARELOOP_CONSOLE_URL": stack.console_url,
        "CARELOOP_APP_URL": stack.console_url,
        "CARELOOP_SEND_POLL_S": "0.05",
        # A service that was killed waits until Kafka has given its predecessor up; there is no other replica here.
        "CARELOOP_SESSION_TIMEOUT_S": "6",
        "CARELOOP_PAGE_MAILBOXES": json.dumps({role: f"{role}@careloop.example" for role in PAGED_ROLES}),
    }
    return [
        Program(
            name=name,
            module=f"services.{name}.main",
            env={
                **shared,
                "CARELOOP_DATABASE_URL": service.database_url,
                "CARELOOP_PORT": str(ports.services[name]),
                "CARELOOP_PUBLIC_URL": service.url,
            },
            ready_url=f"{service.url}/health/ready",
            live_url=f"{service.url}/health/live",
        )
        for name, service in stack.services.items()
    ]
