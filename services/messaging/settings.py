"""Settings of messaging, from the environment with the prefix CARELOOP_."""

from pydantic import Field

from shared.settings import ServiceSettings


class MessagingSettings(ServiceSettings):
    port: int = Field(default=8400, ge=0, le=65535)
    """HTTP port of the console and the API; 0 chooses a free one."""
    feed_connections_max: int = Field(default=8, ge=1, le=100)
    """Open live connections of one person, over all their windows, per process."""
    feed_kept_days: int = Field(default=14, ge=1, le=90)
    """How long a reader may be away and still be told what it missed; after that it loads everything afresh."""
