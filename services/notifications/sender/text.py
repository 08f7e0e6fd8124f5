"""Text messages by a Twilio-compatible HTTP API."""

import asyncio
from typing import Any

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
        settings, handed_over = self._settings, False

        async def note(event: str, _: Any) -> None:
            nonlocal handed_over
            handed_over = handed_over or event.endswith(".send_request_headers.started")

        url = f"{settings.sms_url}/2010-04-01/Accounts/{settings.sms_account}/Messages.json"
        try:
            # The client's own limits are for each piece: an answer that comes byte by byte would keep to them for ever.
            async with asyncio.timeout(settings.sms_timeout_s):
                answer = await self._client.post(
                    url,
                    data={"To": to, "From": settings.sms_from, "Body": body},
                    auth=(settings.sms_account, settings.sms_token.get_secret_value()),
                    headers={"Idempotency-Key": idempotency_key},
                    timeout=None,
                    extensions={"trace": note},
                )
        except (httpx.HTTPError, TimeoutError):
            return NoAnswer() if handed_over else NotNow(code="sms-unreachable", provider_down=True)
        if answer.is_success:
            return Accepted()
        if answer.status_code in (401, 403):
            return NotNow(code=f"sms-{answer.status_code}", provider_down=True)
        if answer.status_code in (429, 503):
            return NotNow(code=f"sms-{answer.status_code}")
        return Refused(code=f"sms-{answer.status_code}") if answer.is_client_error else NoAnswer()
