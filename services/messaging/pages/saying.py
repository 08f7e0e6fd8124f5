"""What an action's toast says, with or without script: a short code in, a sentence in the viewer's language out."""

from typing import Final

from services.messaging.pages.rendering import Page, Toast
from services.messaging.store.pages_queue import QueueRow

SAID: Final = frozenset(
    {"acknowledged", "snoozed", "handed-over", "resolved", "undone", "sent", "booked", "cancelled", "completed"}
)
REFUSALS: Final = frozenset(
    {
        "already-acknowledged",
        "already-resolved",
        "asked-again",
        "done-before",
        "not-acknowledged",
        "not-yours",
        "too-late",
        "emergency",
        "not-ahead",
        "too-long",
        "nobody-there",
        "already-theirs",
        "slot-taken",
        "too-soon",
        "too-far",
        "hold-expired",
        "not-held",
        "not-booked",
        "already-started",
        "not-started",
        "visit-overlaps",
        "empty",
        "too-long-text",
        "choose",
    }
)


def toast_of(said: str, *, page: Page, alert: QueueRow | None) -> Toast | None:
    """The toast of a code such as `acknowledged` or `refused-slot-taken`; None for no code or one that is not known."""
    if said.startswith("refused-"):
        return Toast(text=refusal_text(said.removeprefix("refused-"), page=page, alert=alert), refused=True)
    if said not in SAID:
        return None
    member = page.member_name(alert.member_name, alert.member_id) if alert else ""
    undo = f"/console/alerts/{alert.alert_id}/undo" if alert and said == "acknowledged" else None
    return Toast(text=page.say(f"said.{said}", member=member), undo=undo)


def refusal_text(code: str, *, page: Page, alert: QueueRow | None = None) -> str:
    """Why not, who was first where somebody was, and what came meanwhile where something did."""
    if alert and code == "already-acknowledged" and alert.acknowledged_at:
        return page.say(
            "refusal.already-acknowledged",
            name=alert.acknowledged_by_name or "",
            age=page.length(page.now - alert.acknowledged_at),
        )
    if alert and code == "already-resolved" and alert.resolved_at:
        return page.say(
            "refusal.already-resolved",
            name=alert.resolved_by_name or page.say("role.system"),
            age=page.length(page.now - alert.resolved_at),
        )
    if alert and code == "asked-again":
        return page.say(
            "refusal.asked-again",
            age=page.length(page.now - alert.last_raised_at),
            priority=page.say.word("priority", alert.priority),
            kind=page.say.word("kind", alert.kind),
        )
    if code in {"already-acknowledged", "already-resolved", "asked-again"} or code not in REFUSALS:
        return page.say("refusal.other")
    return page.say(f"refusal.{code}", max=4000)
