"""Settings of plans, from the environment with the prefix CARELOOP_."""

from pydantic import Field

from shared.settings import ServiceSettings


class PlansSettings(ServiceSettings):
    port: int = Field(default=8402, ge=0, le=65535)
    """HTTP port; 0 chooses a free one."""
    publish_timeout_s: float = Field(default=8.0, gt=0, le=60)
    """How long the ingress waits for Kafka to acknowledge before it answers 503."""
