"""Settings of notifications, from the environment with the prefix CARELOOP_."""

from typing import Literal

from pydantic import Field, SecretStr, model_validator

from shared.events.vocabulary import PractitionerRole
from shared.settings import ServiceSettings

SPARE_S = 10


class NotificationsSettings(ServiceSettings):
    port: int = Field(default=8403, ge=0, le=65535)
    """HTTP port; 0 chooses a free one."""
    public_url: str = "http://127.0.0.1:8403"
    """Where members and providers reach this service: unsubscribe links and webhooks are made from it."""
    app_url: str = "http://127.0.0.1:8400"
    """Where a member reads on; in every email and text message."""
    console_url: str = "http://127.0.0.1:8400"
    """The care-team console; in every page."""

    smtp_host: str = "127.0.0.1"
    """Mail server."""
    smtp_port: int = Field(default=8425, ge=1, le=65535)
    """Its port."""
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    """`tls` from the first byte, `starttls` after a greeting, `none` for a sink on this machine only."""
    smtp_username: str | None = None
    """User at the mail server, where it wants one."""
    smtp_password: SecretStr | None = None
    """Of that user."""
    smtp_connections: int = Field(default=4, ge=1, le=50)
    """Connections to the mail server per process. Pages have two more, which nothing else uses."""
    smtp_timeout_s: float = Field(default=15, gt=0, le=120)
    """Longest wait for one message, connection included."""
    mail_from: str = "Careloop <care@careloop.example>"
    """Sender of every email."""
    mail_domain: str = Field(default="careloop.example", pattern=r"^[a-z0-9.-]+$")
    """Right-hand side of Message-ID and List-Id."""
    clinic_name: str = "Careloop"
    """Whom an email is from, in its text."""
    clinic_postal_address: str = "Simulated clinic, no postal address"
    """CAN-SPAM asks for it in every email that could be commercial."""
    unsubscribe_secret: SecretStr | None = None
    """Key of unsubscribe links. Not given: one is made once and kept in the service's database."""

    sms_url: str | None = None
    """Base URL of a Twilio-compatible API, such as https://api.twilio.com. Not given: no text messages are sent."""
    sms_account: str = ""
    """Account SID."""
    sms_token: SecretStr = SecretStr("")
    """Auth token; it also verifies inbound webhooks."""
    sms_from: str = ""
    """E.164 number or sender that texts come from."""
    sms_timeout_s: float = Field(default=15, gt=0, le=120)
    """Longest wait for one text message."""

    page_mailboxes: dict[PractitionerRole, str] = Field(default_factory=dict)
    """Mailbox that is paged per role, as JSON: {"oncall": "oncall@clinic.example"}. An alert for a role that has none
    is published as notification.failed, no-address, and alarms."""

    send_batch: int = Field(default=200, ge=1, le=2_000)
    """Most notifications claimed in one transaction; of pages, twenty."""
    send_poll_s: float = Field(default=0.3, gt=0, le=60)
    """How often due notifications are looked for, in machine time."""
    send_answer_within_s: float = Field(default=90, ge=1, le=600)
    """Machine time after which an attempt without a recorded result counts as unknown."""

    @model_validator(mode="after")
    def _answers_in_time(self) -> "NotificationsSettings":
        # A batch is begun within half of the time to answer; the last send must be over well before all of it is.
        if self.send_answer_within_s / 2 < max(self.smtp_timeout_s, self.sms_timeout_s) + SPARE_S:
            raise ValueError(f"send_answer_within_s must be twice the longest send timeout and {2 * SPARE_S} s more")
        return self
