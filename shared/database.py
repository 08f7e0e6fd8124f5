"""PostgreSQL connections: one pool a process, with limits that let the server end what hangs."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from shared.clock import monotonic
from shared.vanishing import notice_vanished

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Database: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

LOCK_TIMEOUT = "10s"
"""How long a statement waits for what somebody else has locked, where its transaction says nothing else."""
REQUEST_LOCK_TIMEOUT, PATIENCE_S = "5s", 2.0
"""The same for whoever asks over HTTP, and how long they wait for a connection: less than for an answer. What is done
for somebody who has gone keeps those waiting who have not, until they have gone as well."""
ANSWER_S = 25.0
"""Whoever has not answered for so long has gone: the server itself ends each statement sooner."""
CONNECT_S = 10.0
"""Whoever cannot be reached for so long is asked again: a kernel waits twice as long each time before it repeats."""
LIMITS = {
    # A process stopped inside a transaction must not hold a partition or a member for ever: the server ends it. One
    # stopped while the driver was preparing a statement does not count as idle; only the second limit ends that.
    "idle_in_transaction_session_timeout": "15s",
    "transaction_timeout": "25s",
    "lock_timeout": LOCK_TIMEOUT,
    "statement_timeout": "20s",
    # A peer that vanished is noticed within half a minute.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "timezone": "UTC",
    # The protocol rests on it, whatever somebody has set for the database: a statement sees what was committed while
    # the one before it waited for a lock.
    "default_transaction_isolation": "read committed",
}
LONG_S = 15.0
"""The server ends a transaction that takes or idles too long, and the driver only says that the connection is gone.
After so long it is taken for that."""
HANGS_S = 27.0
"""What is done in a transaction and has not ended then, although the server would have ended whatever it was asked for,
waits for something else, perhaps for ever: it is given up."""
PLANNING = {
    # Nearly everything here is looked up by key. A plan that was made while a table was small would go on reading the
    # whole of it when it is not: an inbox, an outbox or the timers of a new clinic or after a backlog.
    "enable_seqscan": "off",
    # Compiling pays for statements that take seconds; ours take less than a compilation.
    "jit": "off",
}


class FromNextRelease(Exception):
    """A row as only the next release reads it: its processes run already, or have run, beside those of this one."""


TRANSIENT: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # a lock that is not available, a database that is closed
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,  # a page or an index that cannot be read
    asyncpg.DataCorruptedError,
    asyncpg.IndexCorruptedError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.InternalClientError,
    asyncpg.ProgramLimitExceededError,  # of no transaction alone: `OUT_OF_NUMBERS`
    MemoryError,
    # Who is let in, and to what, is nothing that an event brings about: a password that is being changed, a database
    # that became a standby or that its host made read-only because the disk is nearly full, one that is being replaced.
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.DatabaseDroppedError,
    asyncpg.InsufficientPrivilegeError,
    # A migration changed a table under a statement that was prepared before; the driver prepares it again.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
    # What was prepared is with another server, behind a pooler that has changed it between two statements.
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
    FromNextRelease,
    asyncpg.InterfaceError,
    ConnectionError,
    OSError,
    TimeoutError,
)
"""Failures of the world, not of an event: the same chunk again, for ever, never a dead letter."""

BUGS_ALL_THE_SAME: tuple[type[BaseException], ...] = (
    ValueError,  # of asyncpg: a value that the driver cannot encode
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)
"""Of those classes, but of whoever wrote the handler: a file that is not there now will not be there next time. What is
reached over TCP, as everything here is, does not fail so. A connection that a network's policy forbids does with
PermissionError, which says of a file which one it is."""

OUT_OF_NUMBERS = frozenset({"GetNewTransactionId", "GetNewMultiXactId"})
"""Where a server says that no transaction can have a number until somebody has vacuumed. A row that is too wide for an
index has the same code, and is its event's fault."""

TOO_LONG: tuple[type[Exception], ...] = (
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    TimeoutError,
)
"""That a statement was cancelled is not among them: an operator may have done it."""


class TookTooLong(TimeoutError):
    """A transaction took longer than it may, or a statement of it."""


class _Pool(asyncpg.Pool):
    """Where a connection ended while it was used, the server may have gone without a word, as one whose host failed
    does: those that lie idle beside it would be found out one after another, each for as long as an answer may take.
    Where it can only read, it may be with a host that has become a standby: to stay with that would be for ever."""

    patience_s: float | None = None
    """How long whoever says nothing else waits for a connection; None: for ever."""

    def acquire(self, *, timeout: float | None = None) -> Any:
        return super().acquire(timeout=self.patience_s if timeout is None else timeout)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        try:
            ended = connection.is_closed() or connection._protocol._is_cancelling()  # that it answers is waited for
            is_of_use = not ended and _may_write(connection)
        except asyncpg.InterfaceError:  # the pool took it back when it closed
            is_of_use = False
        if not is_of_use:
            await self.expire_connections()
        await super().release(connection, timeout=timeout)


def _may_write(connection: Any) -> bool:
    """As the server tells by itself whenever it changes."""
    said = connection.get_settings()
    return all(getattr(said, name, "off") == "off" for name in ("in_hot_standby", "default_transaction_read_only"))


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    notice_vanished(connection._transport)  # type: ignore[attr-defined]  # the driver has no word for it
    await connection.set_type_codec(
        "jsonb",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda raw: orjson.loads(raw[1:]),
        schema="pg_catalog",
        format="binary",
    )


async def _leave_as_it_is(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Nothing here changes a session for longer than its transaction, so giving a connection back costs no round trip.
    The driver has ended a transaction that was left open by then."""


async def open_database(
    url: str, *, connections: int, application: str, is_kept: bool = True, for_requests: bool = False
) -> Database:
    """A pool on the service's own database. jsonb columns are Python values; raises what asyncpg raises. `is_kept`: not
    for a database that can be built again, for which nobody waits for the disk. `for_requests`: whoever uses it waits
    for a connection and for a lock as they do who ask over HTTP."""
    settings: dict[str, Any] = {**LIMITS, **PLANNING, "application_name": application}
    settings["synchronous_commit"] = "on" if is_kept else "off"
    if for_requests:
        settings["lock_timeout"] = REQUEST_LOCK_TIMEOUT
    pool = _Pool(
        url,
        min_size=2,
        max_size=connections,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        init=_prepare,
        reset=_leave_as_it_is,
        loop=None,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        server_settings=settings,
        timeout=CONNECT_S,
        command_timeout=ANSWER_S,
    )
    pool.patience_s = PATIENCE_S if for_requests else None
    return await pool


def took_too_long(error: BaseException, took_s: float) -> bool:
    """Whether what was begun so many seconds ago fails because of that."""
    waited = isinstance(error, asyncpg.LockNotAvailableError)  # for somebody else, and perhaps more than once
    return isinstance(error, TOO_LONG) or (took_s >= LONG_S and not waited)


@asynccontextmanager
async def bounded_transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction that ends, whatever is done in it. TookTooLong where that is why it fails."""
    began = monotonic()
    try:
        async with asyncio.timeout(HANGS_S), connection.transaction():
            yield
    except Exception as error:
        if is_transient(error) and took_too_long(error, monotonic() - began):
            raise TookTooLong from error
        raise


async def read_whole_tables(connection: Connection) -> None:
    """Let the statements of this transaction read tables from end to end, where that is the cheapest way: for what
    counts or applies a whole file."""
    await connection.execute("set local enable_seqscan = on")


def is_transient(error: BaseException) -> bool:
    """Whether a failure is the world's and not an event's."""
    if isinstance(error, ssl.SSLError):  # one of a certificate is a ValueError as well
        return True
    if isinstance(error, PermissionError):
        return error.filename is None
    if isinstance(error, asyncpg.ProgramLimitExceededError):
        return getattr(error, "server_source_function", None) in OUT_OF_NUMBERS
    return isinstance(error, TRANSIENT) and not isinstance(error, BUGS_ALL_THE_SAME)
