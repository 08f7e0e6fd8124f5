"""HTTP of notifications: unsubscribe links, inbound text messages, what a member was told."""

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Header, Query, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.templating import Jinja2Templates

from services.notifications.domain.text_signatures import is_signed
from services.notifications.domain.unsubscribe_links import UnsubscribeLink, read_link
from services.notifications.handlers.find_link_secret import find_link_secret
from services.notifications.handlers.show_notifications import show_notifications
from services.notifications.handlers.take_text import TextAnswer, take_text
from services.notifications.handlers.unsubscribe import unsubscribe
from services.notifications.settings import NotificationsSettings
from services.notifications.store.recipients import find_members_by_phone
from shared.auth import Principal, require
from shared.http import Problem
from shared.service import Service, this_service

TEMPLATES = Jinja2Templates(directory=Path(__file__).parent / "templates")
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Cache-Control": "no-store",
}
CONFIRMATIONS = {
    ("opted-out", "en"): "You will get no more texts from us. Reply START to get them again.",
    ("opted-out", "es"): "No recibira mas mensajes nuestros. Responda START para volver a recibirlos.",
    ("opted-in", "en"): "You will get our texts again. Reply STOP to end them.",
    ("opted-in", "es"): "Volvera a recibir nuestros mensajes. Responda ALTO para no recibirlos.",
}
Token = Annotated[str, Query(max_length=400)]


def build_router(settings: NotificationsSettings) -> APIRouter:
    """All routes of the service."""
    router = APIRouter()
    router.include_router(_unsubscribe_router(settings))
    router.include_router(_phone_router(settings))

    @router.get("/v1/members/{member_id}/notifications", tags=["members"])
    async def list_of_member(
        member_id: UUID,
        service: Service = Depends(this_service),
        caller: Principal = Depends(require("member", "coach", "pt", "oncall", "operator")),
    ) -> list[dict[str, Any]]:
        """What a member was told and will be told, newest first: {topic, template, state, reason, channel, times}."""
        async with service.requests.acquire() as connection:
            found = await show_notifications(
                connection, member_id=member_id, asked_by=caller.subject, roles=caller.roles
            )
        if found is None:
            raise Problem(404, "not-found", "There is no such member.")
        return found

    return router


def _unsubscribe_router(settings: NotificationsSettings) -> APIRouter:
    """The link in every email, for people and for mail programs."""
    router = APIRouter()

    async def read_token(service: Service, token: str) -> UnsubscribeLink:
        configured = settings.unsubscribe_secret.get_secret_value() if settings.unsubscribe_secret else None
        secret = await find_link_secret(service.requests, configured=configured)
        link = read_link(token=token, secret=secret)
        if link is None:
            raise Problem(404, "no-such-link", "This link is not one of ours, or it was cut off. Use the whole link.")
        return link

    @router.get("/v1/unsubscribe", response_class=HTMLResponse, tags=["unsubscribe"])
    async def ask(request: Request, token: Token, service: Service = Depends(this_service)) -> Response:
        """Ask before anything changes: programs that scan mail follow links."""
        link = await read_token(service, token)
        return _page(request, "ask", token=token, topic=link.topic)

    @router.post("/v1/unsubscribe", response_class=HTMLResponse, tags=["unsubscribe"])
    async def leave(
        request: Request,
        token: Token,
        one_click: Annotated[str | None, Form(alias="List-Unsubscribe", max_length=40)] = None,
        scope: Annotated[str | None, Form(pattern="^(list|all)$")] = None,
        service: Service = Depends(this_service),
    ) -> Response:
        """RFC 8058: a mail program posts `List-Unsubscribe=One-Click` and leaves the list of that email, no questions
        asked. The page posts `scope`: that list, or all email."""
        link = await read_token(service, token)
        if scope is None and one_click != "One-Click":
            raise Problem(422, "invalid-request", "Send List-Unsubscribe=One-Click, or scope=list or scope=all.")
        async with service.command("unsubscribe", member_ids=[link.member_id], request=request) as work:
            await unsubscribe(work.connection, link=link, from_all=scope == "all", now=work.now)
        return _page(request, "done", token=token, topic=link.topic)

    return router


def _phone_router(settings: NotificationsSettings) -> APIRouter:
    """What the SMS provider posts to us."""
    router = APIRouter()

    @router.post("/v1/inbound/sms", tags=["providers"])
    async def take_sms(
        request: Request,
        signature: Annotated[str, Header(alias="X-Twilio-Signature", max_length=100)] = "",
        service: Service = Depends(this_service),
    ) -> Response:
        """A text message from a phone, posted by the SMS provider and signed with our token."""
        if settings.sms_url is None:
            raise Problem(404, "not-found", "This installation sends no text messages.")
        fields = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        url = settings.public_url.rstrip("/") + request.url.path
        url += f"?{request.url.query}" if request.url.query else ""
        secret = settings.sms_token.get_secret_value()
        if not is_signed(url=url, fields=fields, secret=secret, signature=signature):
            raise Problem(403, "forbidden", "The signature does not match the request.")
        missing = [name for name in ("MessageSid", "From") if not fields.get(name)]
        if missing:
            raise Problem(422, "invalid-request", "Fields are missing.", errors=[{"field": name} for name in missing])
        phone = fields["From"]
        async with service.requests.acquire() as connection:
            member_ids = [member_id for member_id, _ in await find_members_by_phone(connection, phone=phone)]
        async with service.command("take-text", member_ids=member_ids, request=request) as work:
            answer = await take_text(
                work.connection,
                provider_id=fields["MessageSid"][:64],
                phone=phone,
                text=fields.get("Body", ""),
                now=work.now,
            )
        return Response(_twiml(answer, settings), media_type="application/xml")

    return router


def _page(request: Request, step: str, *, token: str, topic: str) -> Response:
    language = "es" if request.headers.get("accept-language", "").lower().startswith("es") else "en"
    context = {"step": step, "token": token, "topic": topic, "language": language}
    return TEMPLATES.TemplateResponse(request, "unsubscribe.html", context, headers=PAGE_HEADERS)


def _twiml(answer: TextAnswer, settings: NotificationsSettings) -> str:
    """The answer in the provider's own markup; a confirmation is sent by the provider as a text."""
    said = ""
    if answer.confirmation:
        words = CONFIRMATIONS[answer.confirmation, answer.language]
        said = TEMPLATES.env.from_string(
            "<Message>{{ text }}</Message>",
        ).render(text=f"{settings.clinic_name}: {words}")
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{said}</Response>'
