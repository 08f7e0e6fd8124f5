"""Commands of people and apps: one transaction each, members locked first, events through the outbox."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4, uuid5

from starlette.requests import Request

from shared.database import Connection
from shared.events.envelope import NAMESPACE
from shared.outcomes import Cause, Command, Outcomes, service_source
from shared.trace_context import traceparent_of


@dataclass(slots=True)
class Work:
    """A command under way, inside its transaction."""

    connection: Connection
    now: datetime
    command: Command
    outcomes: Outcomes = field(default_factory=Outcomes)

    def take(self, outcomes: Outcomes) -> None:
        """Publish what the handler decided, and write what it left, when this transaction commits."""
        self.outcomes.published += outcomes.published
        self.outcomes.writes += outcomes.writes


def identity_of(what: str, caller: UUID | str, key: object) -> UUID:
    """The id of a request, or of what it makes: the same for the same caller and key, a new one without a key."""
    return uuid5(NAMESPACE, f"{what} {caller} {key}") if key else uuid4()


def new_command(
    name: str,
    *,
    service: str,
    member_ids: Sequence[UUID],
    request: Request | None = None,
    command_id: str | None = None,
    because: Cause | None = None,
) -> Command:
    """A command with its place in a chain.

    `because` continues the chain of an earlier event (an alert that is answered); otherwise the command starts one. Its
    id comes from the caller, so that a repeat makes the same events, or is random.
    """
    identity = command_id or str(uuid4())
    if because is None:
        source = f"{service_source(service)}:commands"
        because = Cause(
            source=source,
            id=identity,
            chain=str(uuid5(NAMESPACE, f"{source} {identity}")),
            traceparent=traceparent_of(request.headers) if request is not None else None,
        )
    member_id = member_ids[0] if len(member_ids) == 1 else None
    return Command(name=name, id=identity, member_id=member_id, cause=because)
