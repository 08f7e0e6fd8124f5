"""Settings of the care-team console, from the environment with the prefix CARELOOP_CONSOLE_."""

from datetime import timedelta

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ConsoleSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CARELOOP_CONSOLE_", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    client_id: str = "careloop-console"
    """OIDC client that the issuer knows the console by."""
    client_secret: SecretStr | None = None
    """Secret of that client where the issuer wants one beside PKCE."""
    url: str | None = None
    """Address of the console as browsers see it, such as https://care.example.org; else that of the request."""
    idle_min: int = Field(default=30, ge=1, le=480)
    """Minutes without a person's action after which a session ends (45 CFR 164.312(a)(2)(iii))."""
    session_hours: int = Field(default=10, ge=1, le=24)
    """Hours after which everyone signs in again."""

    @property
    def idle(self) -> timedelta:
        return timedelta(minutes=self.idle_min)

    @property
    def lifetime(self) -> timedelta:
        return timedelta(hours=self.session_hours)
