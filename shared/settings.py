"""Settings that every service has, from the environment with the prefix CARELOOP_."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CARELOOP_", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    database_url: SecretStr
    """PostgreSQL URL of the service's own database, with its own role."""
    database_connections: int = Field(default=6, ge=2, le=50)
    """Connections held per process: consumers, timers and the relay share them."""
    request_connections: int = Field(default=4, ge=3, le=50)
    """Connections besides those for whoever asks over HTTP: however many ask, consumers go on. Two may be with roster
    files that are being sent."""
    safety_connections: int = Field(default=4, ge=3, le=20)
    """Connections besides those for red flags, on their way in and out, and for the relay's lease: nobody else can use
    them up."""
    kafka_bootstrap: str = "127.0.0.1:8492"
    """host:port, comma separated."""
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Protocol to the broker."""
    kafka_username: str | None = None
    """SCRAM-SHA-512 user, with a SASL security."""
    kafka_password: SecretStr | None = None
    """Of that user."""
    kafka_ca_file: Path | None = None
    """Certificate authority of the broker, with an SSL security; the system's own if not given."""
    valkey_url: SecretStr = SecretStr("redis://127.0.0.1:8479/0")
    """Redis protocol. Carries wake-ups only; nothing is lost with it."""
    namespace: str = Field(default="", pattern=r"^[a-z0-9-]{0,40}$")
    """Put before topic and group names, so that several stacks can share one broker. Empty in production."""
    host: str = "127.0.0.1"
    """Address that the HTTP server binds to."""
    port: int = Field(ge=0, le=65535)
    """HTTP port; 0 chooses a free one."""
    oidc_issuer: str = "http://127.0.0.1:8404"
    """OpenID Connect issuer whose tokens are accepted."""
    oidc_audience: str = "careloop"
    """What a token must name as its audience."""
    clock_file: Path | None = None
    """Anchor of clinic time while a population is seeded. Not set in production."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe entry that is logged."""
    chunk_records: int = Field(default=500, ge=1, le=5000)
    """Most records taken in one transaction."""
    parked_events_max: int = Field(default=10_000, ge=1)
    """Most events in one member's queue behind a dead letter or a wait. One more stops its partition, with an alarm,
    until there is room; the log keeps what comes. Safety groups know no limit."""
    parked_bytes_max: int = Field(default=1 << 30, ge=1)
    """Most bytes that a consumer group holds; then its partitions stop likewise where another event must be held."""
    session_timeout_s: int = Field(default=20, ge=6, le=300)
    """Kafka consumer group session timeout."""
