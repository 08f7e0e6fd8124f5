"""Structured logs and the catalogue of metrics. Neither ever holds member data: no member ids, no values, no text.

Every line is one JSON object, whoever wrote it: own code, a library, Python itself. A failure is told by its type and
place only, because its text may quote what a member said (PostgreSQL's `Key (...)=(...)`).
"""

import logging
import re
import sys
import threading
from collections.abc import Iterator, MutableMapping
from types import TracebackType
from typing import Any, Final, TextIO

import structlog
import uvicorn.config
from prometheus_client import Counter, Gauge, Histogram

from shared.clock import CLOCK_STEPS_BACK as CLOCK_STEPS_BACK
from shared.clock import monotonic
from shared.log_output import LOG_LINES_LOST as LOG_LINES_LOST
from shared.log_output import LogOutput

Entry = MutableMapping[str, Any]

RECORDS = Counter("careloop_records", "Records read, by what became of them.", ["consumer_group", "outcome"])
EVENTS_PUBLISHED = Counter("careloop_events_published", "Events put in the outbox.", ["decided_by"])
RELAYED = Counter("careloop_outbox_relayed", "Outbox rows acknowledged by Kafka and deleted.", ["topic"])
RELAY_FAILURES = Counter("careloop_outbox_failures", "Record batches that Kafka did not acknowledge.", ["reason"])
RELAY_BACKOFF = Gauge("careloop_outbox_backoff_members", "Members whose events Kafka refuses at the moment.")
BUGS = Counter(
    "careloop_bugs",
    "Something of ours raised that should not: a handler (a dead letter, a failed timer), a task, a poll, a chunk.",
    ["where"],
)
SAFETY_FAILURES = Counter(
    "careloop_safety_failures",
    "Records in which a safety group could not look for a red flag: page somebody.",
    ["consumer_group"],
)
UNDELIVERED = Gauge(
    "careloop_partitions_undelivered",
    "Partitions whose log goes on although polling brings nothing.",
    ["consumer_group"],
)
PARTITIONS_UNOPENED = Gauge(
    "careloop_partitions_unopened",
    "Partitions assigned that could not be opened for more than ten seconds.",
    ["consumer_group"],
)
CHUNK_RETRIES = Counter(
    "careloop_chunk_retries",
    "Chunks tried again because the world or one of several that were taken together failed.",
    ["consumer_group"],
)
CHUNK_SECONDS = Histogram(
    "careloop_chunk_seconds",
    "Time of a transaction of one chunk or several, from asking for a connection to giving it back.",
    ["consumer_group"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
)
PARTITIONS_PAUSED = Gauge(
    "careloop_partitions_paused",
    "Partitions stopped because the log and the stored position disagree.",
    ["consumer_group"],
)
PARTITIONS_FULL = Gauge(
    "careloop_partitions_full",
    "Partitions stopped because there is no room to hold an event.",
    ["consumer_group"],
)
HELD_EVENTS = Gauge(
    "careloop_held_events",
    "Events held: dead letters, what is parked behind one, what waits; each replica tells the same number.",
    ["consumer_group", "state"],
)
HELD_OLDEST = Gauge(
    "careloop_held_oldest_seconds",
    "Age of the oldest event held in that state, 0 where there is none; each replica tells the same number.",
    ["consumer_group", "state"],
)
LAG_RECORDS = Gauge(
    "careloop_lag_records",
    "Records that the group has not taken, of all partitions; each replica tells the same number.",
    ["consumer_group"],
)
LAG_SECONDS = Gauge(
    "careloop_lag_seconds",
    "For how long the oldest record that the group has not taken has been in the log, as far as this process has seen;"
    " or for how long no broker has told whether there is one in some partition.",
    ["consumer_group"],
)
OUTBOX_OLDEST = Gauge(
    "careloop_outbox_oldest_seconds",
    "Age of the oldest event that Kafka does not have yet, 0 where there is none; each replica tells the same number.",
    ["service"],
)
HELD_BYTES = Gauge(
    "careloop_held_bytes", "Bytes of the events held; each replica tells the same number.", ["consumer_group"]
)
WRONG_PARTITION = Counter(
    "careloop_wrong_partition_records", "Records whose partition does not follow from their key.", ["topic"]
)
TIMERS_RUN = Counter("careloop_timers_run", "Timers that were due and ran.", ["service"])
TIMERS_GIVEN_UP = Gauge(
    "careloop_timers_given_up",
    "Timers that failed too often and wait for an operator; each replica tells the same number.",
    ["service"],
)
TIMERS_OVERDUE = Gauge(
    "careloop_timers_overdue_seconds",
    "How long the oldest timer that is to run has been due, in clinic time; each replica tells the same number.",
    ["service"],
)
NOT_READY = Gauge("careloop_not_ready", "Reasons for which this process is not ready, 0 while it is.", ["service"])
TASK_RESTARTS = Counter("careloop_task_restarts", "Background tasks that failed and were started again.", ["task"])


def configure_logs(level: str, *, service: str) -> None:
    """JSON lines on stdout. Libraries log through the same pipe, warnings and up."""
    output: Any = LogOutput(sys.stdout.fileno())

    def name_service(_: Any, __: str, entry: Entry) -> Entry:
        entry["service"] = service  # not a context variable: threads have none of ours
        return entry

    chain: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        name_service,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _describe_failure,
    ]
    render = structlog.processors.JSONRenderer(default=_as_text)
    structlog.configure(
        processors=[*chain, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=True,
    )
    pipe = _Pipe(output)
    pipe.addFilter(Repeats())
    pipe.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _without_failure_texts, *chain],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
            pass_foreign_args=True,
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[pipe], force=True)
    logging.captureWarnings(True)
    # The server would give its own loggers handlers that print the text of what went wrong.
    uvicorn.config.LOGGING_CONFIG.clear()
    uvicorn.config.LOGGING_CONFIG.update(version=1, incremental=True)
    _log_what_nobody_catches(logger("python"))


def logger(name: str) -> Any:
    """A structured logger; `event` is a short fixed phrase, details are keywords without member data."""
    return structlog.get_logger(part=name)


def describe_bug(error: BaseException) -> str:
    """An exception as one line without its text, which may hold health data: its type, and where it was raised;
    of the database also the SQLSTATE and the names of table and constraint."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace else ""
    names = [getattr(error, name, None) for name in ("sqlstate", "table_name", "constraint_name")]
    said = ", ".join(str(name) for name in names if name)
    return f"{type(error).__name__}{f' ({said})' if said else ''}{place}"


class Repeats(logging.Filter):
    """Lets a line of the Kafka client through once in a while: while no broker answers it writes dozens a second. The
    next one says how many were kept back."""

    EVERY_S: Final = 30.0

    def __init__(self) -> None:
        super().__init__("aiokafka")
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not super().filter(record):
            return True
        line, at = (record.name, str(record.msg)), monotonic()
        told_at, kept = self._told.get(line, (-self.EVERY_S, 0))
        if at - told_at < self.EVERY_S:
            self._told[line] = told_at, kept + 1
            return False
        if len(self._told) > 1_000:
            self._told.clear()
        self._told[line] = at, 0
        if kept:
            record.msg = f"{record.msg} (and {kept} more like it)"
        return True


class _Pipe(logging.StreamHandler[TextIO]):
    """The one way out. A line that cannot be formatted is told of in a line."""

    def handleError(self, record: logging.LogRecord) -> None:
        logger("python").error("a line of a library could not be written", logger=record.name, exc_info=True)


def _describe_failure(_: Any, __: str, entry: Entry) -> Entry:
    """An exception that comes with a line, as its type and place."""
    entry.pop("stack_info", None)
    error = _failure_of(entry.pop("exc_info", None))
    if error is not None:
        entry.setdefault("error", describe_bug(error))
    return entry


def _without_failure_texts(_: Any, __: str, entry: Entry) -> Entry:
    """What a library said, in one line and without the text of an exception: libraries put it among the arguments or
    into the line itself."""
    record: logging.LogRecord = entry["_record"]
    said, values = str(entry["event"]), entry.pop("positional_args", None)
    if isinstance(values, tuple) and any(isinstance(value, BaseException) for value in values):
        said = str(record.msg) % tuple(map(_described, values))
    if record.name == "asyncio":
        # It quotes callbacks and tasks, with their arguments and results: "Exception in callback note('...')".
        said = re.split(r"[(<{=]", said, maxsplit=1)[0]
    for error in _chain_of(_failure_of(entry.get("exc_info"))):
        for text in sorted({str(error), repr(error)} - {""}, key=len, reverse=True):
            said = said.replace(text, type(error).__name__)
    entry["event"] = next(iter(said.strip().splitlines()), "")
    return entry


def _described(value: object) -> object:
    return describe_bug(value) if isinstance(value, BaseException) else value


def _as_text(value: object) -> str:
    """A value of a line that JSON has no type for."""
    return describe_bug(value) if isinstance(value, BaseException) else repr(value)


def _failure_of(exc_info: object) -> BaseException | None:
    """The exception that `exc_info` means, in any of the ways in which it is given."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if len(exc_info) == 3 else None
    return sys.exception() if exc_info else None


def _chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _log_what_nobody_catches(log: Any) -> None:
    """Python's own last words are lines like any other, too."""

    def at_the_end(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        log.critical("ended by a failure", exc_info=error)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        log.error("a thread failed", exc_info=args.exc_value)

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        log.error("a failure while something was put away", exc_info=args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = at_the_end, in_thread, unraisable
