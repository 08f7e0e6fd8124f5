"""Text messages by a Twilio-compatible HTTP API."""

import httpx

from services.notifications.domain.delivery import Accepted, AttemptResult, NoAnswer, NotNow, Refused
from services.notifications.settings import NotificationsSettings


class TextLine:
    """Posts messages to the provider. `client` may be shared by all sends of a process."""

    def __init__(self, settings: NotificationsSettings, client: httpx.AsyncClient) -> None:
        self._settings, self._client = settings, client

    async def send(self, *, to: str, body: str, idempotency_key: str) -> AttemptResult:
        """Hand one text over. A request whose answer was lost is of unknown result: not every provider of this API
        honours the idempotency key."""
        settings = self._settings
        url = f"{settings.sms_url}/2010-04-01/Accounts/{settings.sms_account}/Messages.json"
        try:
            answer = await self._client.post(
                url,
                data={"To": to, "From": settings.sms_from, "Body": body},
                auth=(settings.sms_account, settings.sms_token.get_secret_value()),
                headers={"Idempotency-Key": idempotency_key},
                timeout=settings.sms_timeout_s,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            return NotNow(code="sms-unreachable", provider_down=True)
        except httpx.HTTPError:
            return NoAnswer()
        if answer.is_success:
            return Accepted()
        if answer.status_code in (401, 403):
            return NotNow(code=f"sms-{answer.status_code}", provider_down=True)
        if answer.status_code in (429, 503):
            return NotNow(code=f"sms-{answer.status_code}")
        return Refused(code=f"sms-{answer.status_code}") if answer.is_client_error else NoAnswer()
