"""What simulated members and staff write to each other. None of it names a red flag."""

from collections.abc import Mapping
from typing import Final

from deploy.simulator.lives import MessageTopic
from shared.events.vocabulary import Language

MEMBER_TEXTS: Final[Mapping[MessageTopic, Mapping[Language, tuple[str, ...]]]] = {
    "flare": {
        "en": (
            "My knee has been worse than usual since yesterday. Should I carry on with the squats?",
            "More pain than normal today, I did nothing special. What would you change?",
            "It is a bad week for my knee. Can we talk?",
        ),
        "es": (
            "Desde ayer me duele la rodilla más de lo normal. ¿Sigo con las sentadillas?",
            "Hoy tengo más dolor que de costumbre. ¿Qué cambiaría usted?",
        ),
    },
    "question": {
        "en": (
            "How slowly should I lower my hips in the bridge?",
            "Is it all right to do the session in the evening instead?",
            "I travel next week without my band. What can I do?",
            "Which of the stretches matters most on a busy day?",
        ),
        "es": ("¿Puedo hacer la sesión por la noche?", "La semana que viene viajo sin la banda. ¿Qué hago?"),
    },
    "news": {
        "en": (
            "I took the stairs today without holding on!",
            "Three sessions this week, and the knee feels easier in the morning.",
            "Walked to work for the first time in months.",
        ),
        "es": (
            "¡Hoy subí las escaleras sin agarrarme!",
            "Tres sesiones esta semana y la rodilla está mejor por la mañana.",
        ),
    },
}
REPLIES: Final[Mapping[Language, tuple[str, ...]]] = {
    "en": (
        "Thank you for telling me. Stay at the step you are on this week and write to me how it goes.",
        "Good to hear from you. I have had a look at your plan, and it fits: carry on as it is.",
        "I understand. Take the shorter version today, and we look at it together after your next session.",
    ),
    "es": (
        "Gracias por contármelo. Esta semana siga en el mismo nivel y escríbame cómo va.",
        "Me alegra saber de usted. He mirado su plan: siga como hasta ahora.",
    ),
}
NOTE_OF_VISIT: Final = "Simulated visit: exercises watched and corrected, questions answered."
NOTE_OF_ALERT: Final = "Simulated: spoke with the member."


def message_text(*, topic: MessageTopic, variant: int, language: Language) -> str:
    """The sentence that a member writes; the same variant is always the same sentence."""
    texts = MEMBER_TEXTS[topic][language]
    return texts[variant % len(texts)]


def reply_text(*, variant: int, language: Language) -> str:
    texts = REPLIES[language]
    return texts[variant % len(texts)]
