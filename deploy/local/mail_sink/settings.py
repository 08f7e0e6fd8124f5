"""Settings of the mail sink, from the environment with the prefix CARELOOP_MAIL_."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class MailSinkSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CARELOOP_MAIL_", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    smtp_port: int = Field(default=8425, ge=0, le=65535)
    """SMTP port on 127.0.0.1; 0 chooses a free one."""
    port: int = Field(default=8405, ge=0, le=65535)
    """HTTP port of the pages on 127.0.0.1; 0 chooses a free one."""
    data: Path = Path(".careloop/mail")
    """Folder of the mailbox; made if it is not there."""
    keep: int = Field(default=5_000, ge=1, le=1_000_000)
    """Messages kept; the oldest go first."""
