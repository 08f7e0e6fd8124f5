"""Settings of `careloop up`, from the environment with the prefix CARELOOP_."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ToolSettings(BaseSettings):
    """Where the programs come from that a stack and the tests start."""

    model_config = SettingsConfigDict(
        env_prefix="CARELOOP_", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    tools: Path | None = None
    """Where downloaded tools are kept, such as Kafka's jars; not set: `.careloop-tools` beside the source."""


class LocalSettings(BaseSettings):
    """What a local stack is made of. Every port may be 0: any free one."""

    model_config = SettingsConfigDict(
        env_prefix="CARELOOP_", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    data: Path = Path(".careloop")
    """Directory of all local data, of logs, and of `stack.json`, which describes the stack to the other commands."""
    namespace: str = Field(default="", pattern=r"^[a-z0-9-]{0,40}$")
    """Put before topics, groups and database names, for several stacks on the same external servers."""
    kafka_bootstrap: str | None = None
    """host:port of a Kafka to use instead of starting one."""
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Protocol to that Kafka, of the services and of every command."""
    kafka_username: str | None = None
    """SCRAM-SHA-512 user there, with a SASL security."""
    kafka_password: SecretStr | None = None
    """Of that user."""
    kafka_ca_file: Path | None = None
    """Certificate authority of that Kafka, with an SSL security; the system's own if not given."""
    postgres_url: SecretStr | None = None
    """URL of a PostgreSQL to use instead of starting one; its user must be able to create roles and databases."""
    valkey_url: SecretStr | None = None
    """URL of a Valkey or Redis to use instead of starting one."""
    messaging_port: int = Field(default=8400, ge=0, le=65535)
    """The care-team console and the messaging API."""
    enrollment_port: int = Field(default=8401, ge=0, le=65535)
    """The enrollment API."""
    plans_port: int = Field(default=8402, ge=0, le=65535)
    """The plans API, where apps publish and read."""
    notifications_port: int = Field(default=8403, ge=0, le=65535)
    """The notifications API: webhooks and unsubscribe links."""
    issuer_port: int = Field(default=8404, ge=0, le=65535)
    """The local token issuer."""
    mail_port: int = Field(default=8405, ge=0, le=65535)
    """The pages that show the mail that was sent."""
    smtp_port: int = Field(default=8425, ge=0, le=65535)
    """Where mail is sent to."""
    kafka_port: int = Field(default=8492, ge=0, le=65535)
    """Kafka, where one is started."""
    postgres_port: int = Field(default=8432, ge=0, le=65535)
    """PostgreSQL, where one is started."""
    valkey_port: int = Field(default=8479, ge=0, le=65535)
    """Valkey, where one is started."""
    population_members: int = Field(default=60, ge=1, le=10_000)
    """How many simulated members the first start plays in."""
    population_weeks: int = Field(default=12, ge=1, le=52)
    """How many clinic weeks ago their lives begin."""
    log_level: str = "INFO"
    """Least severe entry that the services log."""
