"""Reads a text message that may revoke consent, or give it back.

47 CFR 64.1200(a)(10): STOP, QUIT, END, REVOKE, OPT OUT (V), CANCEL, UNSUBSCRIBE (U), and any other words that a
reasonable person would understand (the patterns below: A). When in doubt this reads a message as an opt-out: a reminder
less can be mended, a text against somebody's will cannot.
"""

import re
import unicodedata
from typing import Literal

Reading = Literal["opt-out", "opt-in", "other"]

OPT_OUT_WORDS = frozenset(
    {
        *("stop", "stopall", "stop all", "quit", "end", "revoke", "opt out", "optout", "opt-out", "cancel"),
        *("unsubscribe", "remove", "remove me", "arret"),
        # The same in Spanish, the other language of our templates (A).
        *("alto", "parar", "pare", "basta", "baja", "cancelar", "salir", "detener", "no mas", "eliminar"),
    }
)
OPT_IN_WORDS = frozenset({"start", "unstop", "subscribe", "opt in", "optin", "empezar", "iniciar", "comenzar"})

_POLITE = r"(?:please|pls|plz|por favor|hi|hello|hey|hola|ok|okay|just|now|ya|thanks|thank you|gracias)"
_KIN = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(?:stop|quit|cease) (?:it |all |the |these |those |this |your |with )*"
        r"(?:text|texts|texting|sms|messag\w*|contact\w*|send\w*|notif\w*|remind\w*|spam\w*|bother\w*|this)\b",
        r"\b(?:do not|dont|don t|never|no longer) (?:want to |wish to |like to )?"
        r"(?:text|message|contact|send|bother|remind|notify|receive|get|want|hear)\b.*"
        r"\b(?:me|text\w*|messages?|sms|reminders?|notifications?|anymore|any more|again|these|this|from you)\b",
        r"\bno more (?:text\w*|messages?|sms|reminders?|notifications?)\b",
        r"\b(?:unsubscribe|opt(?:ing)? (?:me )?out|take me off|leave me alone|wrong number)\b",
        r"\bremove (?:me|my (?:number|phone))\b",
        r"\brevoke\b.*\bconsent\b",
        r"\b(?:end|cancel) (?:all |the |these |my |your )*"
        r"(?:texts?|messages?|sms|reminders?|notifications?|subscription)\b",
        r"\bno (?:quiero|deseo) (?:recibir )?(?:mas )?(?:mensajes|textos|recordatorios|sms)\b",
        r"\bno mas (?:mensajes|textos|recordatorios|sms)\b",
        r"\bno me (?:escriban?|manden?|envien?|contacten?|molesten?)\b",
        r"\b(?:dejen?|paren?) de (?:escribir|mandar|enviar|molestar|contactar)\w*\b",
        r"\b(?:darme|dame|denme|dar) de baja\b|\bcancelar\b.*\b(?:mensajes|suscripcion|textos)\b",
        r"\bnumero equivocado\b",
    )
)


def read_reply(text: str) -> Reading:
    """What a member's text message asks for. Case, accents, punctuation and politeness around a word do not matter."""
    words = _normalise(text)
    core = re.sub(rf"^(?:{_POLITE} )+|(?: {_POLITE})+$", "", words)
    if core in OPT_OUT_WORDS or words in OPT_OUT_WORDS or any(kin.search(words) for kin in _KIN):
        return "opt-out"
    return "opt-in" if core in OPT_IN_WORDS else "other"


def _normalise(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text[:1600].casefold())
    letters = "".join(sign for sign in plain if not unicodedata.combining(sign))
    letters = re.sub(r"[’'`]", "", letters)  # don't, don’t, dont
    return re.sub(r"[^a-z0-9]+", " ", letters).strip()
