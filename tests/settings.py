"""What a run of the tests can be told, from the environment with the prefix CARELOOP_.

Each is read where it is used; here it is said what there is, for docs/reference/settings.md.
"""

from pathlib import Path
from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict


class RunSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CARELOOP_", frozen=True, use_attribute_docstrings=True)

    test_servers: Literal["containers", "embedded"] | None = None
    """Which servers the tests use, and fail where they cannot be had; not set: containers where an engine answers, else
    embedded ones. With CARELOOP_KAFKA_BOOTSTRAP, CARELOOP_POSTGRES_URL and CARELOOP_VALKEY_URL all set, those."""
    test_kafka_image: str | None = None
    """Image of the tests' Kafka; not set: ours is built."""
    test_postgres_image: str | None = None
    """Image of the tests' PostgreSQL; not set: ours is built."""
    test_valkey_image: str | None = None
    """Image of the tests' Valkey; not set: ours is built."""
    chromium: Path | None = None
    """The browser of the browser tests; not set: one on the path, else Playwright's own."""
    forbid_skips: bool = False
    """A skipped test fails the run: what guards main passes nothing in silence."""
    test_run_folder: Path | None = None
    """Set by a run for its own workers: what they share."""
    test_controller: int | None = None
    """Set by a run for its own workers: the process with which the servers end."""
