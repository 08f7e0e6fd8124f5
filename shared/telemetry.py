"""Structured logs and the catalogue of metrics. Neither ever holds member data: no member ids, no values, no text."""

import logging
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("careloop_records", "Records read, by what became of them.", ["consumer_group", "outcome"])
EVENTS_PUBLISHED = Counter("careloop_events_published", "Events put in the outbox.", ["decided_by"])
RELAYED = Counter("careloop_outbox_relayed", "Outbox rows acknowledged by Kafka and deleted.", ["topic"])
RELAY_FAILURES = Counter("careloop_outbox_failures", "Record batches that Kafka did not acknowledge.", ["reason"])
RELAY_BACKOFF = Gauge("careloop_outbox_backoff_members", "Members whose events Kafka refuses at the moment.")
BUGS = Counter("careloop_bugs", "Handlers that raised; each is a dead letter or a failed timer.", ["where"])
CHUNK_RETRIES = Counter(
    "careloop_chunk_retries", "Chunks tried again because of the database or a lock.", ["consumer_group"]
)
CHUNK_SECONDS = Histogram(
    "careloop_chunk_seconds",
    "Time from a chunk's first statement to its commit.",
    ["consumer_group"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
)
PARTITIONS_PAUSED = Gauge(
    "careloop_partitions_paused",
    "Partitions stopped because the log and the stored position disagree.",
    ["consumer_group"],
)
WRONG_PARTITION = Counter(
    "careloop_wrong_partition_records", "Records whose partition does not follow from their key.", ["topic"]
)
TIMERS_RUN = Counter("careloop_timers_run", "Timers that were due and ran.", ["service"])
TASK_RESTARTS = Counter("careloop_task_restarts", "Background tasks that failed and were started again.", ["task"])


def configure_logs(level: str, *, service: str) -> None:
    """JSON lines on stdout. Libraries log through the same pipe, warnings and up."""
    logging.basicConfig(
        level=logging.WARNING, format='{"level": "%(levelname)s", "logger": "%(name)s", "event": "%(message)s"}'
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def logger(name: str) -> Any:
    """A structured logger; `event` is a short fixed phrase, details are keywords without member data."""
    return structlog.get_logger(part=name)
