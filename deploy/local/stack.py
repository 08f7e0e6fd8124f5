"""`stack.json`: what a stack is and where it runs. Every other command finds a stack by it, and needs only --data."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_serializer

from deploy.local.invocation import careloop_command
from deploy.local.problems import LocalProblem
from deploy.local.processes import Recorded, is_running, write_private
from shared.topics import kafka_security

STACK_FILE = "stack.json"
SERVICES = ("enrollment", "plans", "messaging", "notifications")


class StackService(BaseModel):
    """One service of a stack. `database_url` holds its role's password."""

    model_config = ConfigDict(frozen=True)

    url: str
    database_url: str


class KafkaAccess(BaseModel):
    """How the stack's broker is talked to, under the names of the services' settings."""

    model_config = ConfigDict(frozen=True)

    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_ca_file: Path | None = None

    @field_serializer("kafka_password", when_used="json")
    def _tell(self, password: SecretStr | None) -> str | None:
        """stack.json is its owner's alone, and the other commands need it."""
        return password.get_secret_value() if password else None

    @property
    def environment(self) -> dict[str, str]:
        """As a service is told it."""
        told = self.model_dump(mode="json", exclude_none=True)
        return {f"CARELOOP_{name.upper()}": value for name, value in told.items()}

    def options(self) -> dict[str, Any]:
        """Keywords of every aiokafka client. Raises LocalProblem where the certificate authority cannot be read."""
        try:
            return kafka_security(self)
        except OSError as error:  # ssl.SSLError is one
            raise LocalProblem(
                f"CARELOOP_KAFKA_CA_FILE ({self.kafka_ca_file}) cannot be used: {type(error).__name__}."
            ) from None


class Stack(BaseModel):
    """A stack as it was last started. Holds passwords: written for its owner alone."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    state: Literal["starting", "seeding", "running", "stopped"]
    supervisor_pid: int
    supervisor_mark: str
    data: Path
    namespace: str
    kafka_bootstrap: str
    kafka_access: KafkaAccess = KafkaAccess()
    postgres_url: str
    """A superuser's, as databases and roles are created with it."""
    valkey_url: str
    embedded: tuple[str, ...]
    """Which of kafka, postgres and valkey the stack started itself."""
    services: dict[str, StackService]
    console_url: str
    issuer_url: str
    issuer_data: Path
    """Where the issuer keeps the client secret and the people who can sign in."""
    mail_url: str
    smtp_port: int
    clock_file: Path
    simulation: Path
    """What the simulator remembers of these very servers: its populations, and how far each was played."""

    def is_supervised(self) -> bool:
        """True while the process that started it lives."""
        return is_running(Recorded(pid=self.supervisor_pid, mark=self.supervisor_mark))


def kafka_options(stack: Stack) -> dict[str, Any]:
    """Where the stack's broker is and how to talk to it: keywords of every aiokafka client."""
    return {"bootstrap_servers": stack.kafka_bootstrap, **stack.kafka_access.options()}


def save_stack(stack: Stack) -> None:
    write_private(stack.data / STACK_FILE, stack.model_dump_json(indent=2))


def load_stack(data: Path) -> Stack | None:
    """The stack that was last started on `data`, running or not; None if there never was one. LocalProblem if torn."""
    try:
        return Stack.model_validate_json((data / STACK_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except PermissionError:
        raise LocalProblem(f"The stack on {data} belongs to another user.") from None
    except (ValidationError, json.JSONDecodeError):
        raise LocalProblem(
            f"{data / STACK_FILE} is of another version or damaged: "
            f"`{careloop_command('up', '--data', str(data))}` writes it anew."
        ) from None


def running_stack(data: Path) -> Stack:
    """The stack that runs on `data`. Raises LocalProblem if none does."""
    stack = load_stack(data)
    if stack is None or not stack.is_supervised():
        up_command = careloop_command("up", "--data", str(data))
        raise LocalProblem(f"No stack runs on {data}: start one with `{up_command}`.")
    return stack
