"""A text message from a member's phone: STOP and its kin, START and its kin."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.notifications.domain.opt_out import read_reply
from services.notifications.store.recipients import (
    delete_opt_outs,
    find_members_by_phone,
    save_inbound_text,
    save_opt_outs,
)
from shared.database import Connection
from shared.events.vocabulary import Language


@dataclass(frozen=True, kw_only=True)
class TextAnswer:
    """What is said back at once, in the same breath as the provider's request; None says nothing."""

    confirmation: Literal["opted-out", "opted-in"] | None
    language: Language


async def take_text(connection: Connection, *, provider_id: str, phone: str, text: str, now: datetime) -> TextAnswer:
    """An opt-out holds for the phone, whoever has it and whatever was planned, from this transaction on. It is
    confirmed once: the provider's repeat of a request says nothing. The text itself is not kept."""
    known = await find_members_by_phone(connection, phone=phone)
    language: Language = "es" if known and all(one == "es" for _, one in known) else "en"
    if not await save_inbound_text(connection, provider_id=provider_id):
        return TextAnswer(confirmation=None, language=language)
    match read_reply(text):
        case "opt-out":
            await save_opt_outs(connection, channel="sms", addresses=[phone], at=now)
            return TextAnswer(confirmation="opted-out", language=language)
        case "opt-in":
            await delete_opt_outs(connection, channel="sms", addresses=[phone])
            return TextAnswer(confirmation="opted-in", language=language)
        case "other":
            return TextAnswer(confirmation=None, language=language)
