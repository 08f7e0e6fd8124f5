"""Settings of the local issuer, from the environment with the prefix CARELOOP_ISSUER_."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class IssuerSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CARELOOP_ISSUER_", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    data: Path = Path(".careloop/issuer")
    """Directory of the signing key, the client secret and people.json."""
    port: int = Field(default=8404, ge=1, le=65535)
    """HTTP port on 127.0.0.1."""
    audience: str = "careloop"
    """The `aud` of access tokens."""
    secret: SecretStr | None = None
    """Secret of the CLI's and the apps' clients. If not given, one is made and kept in the data directory."""
    staff_token_s: int = Field(default=600, ge=30, le=3600)
    """Lifetime in seconds of a clinician's token."""
    member_token_s: int = Field(default=900, ge=30, le=86_400)
    """Lifetime in seconds of a member's or program's token."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
