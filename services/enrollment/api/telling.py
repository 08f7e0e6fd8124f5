"""Whoever answers a red-flag question is told what to do in the same answer, whatever else that says."""

from collections.abc import Callable, Coroutine
from typing import Any, get_args

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute

from shared.database import is_transient
from shared.events.vocabulary import Finding, Language
from shared.http import Problem, field_errors, unavailable
from shared.red_flags import Screening, screen


class TellingRoute(APIRoute):
    """A request that is not valid is refused, and one that no database answers is to come again; it is told what to do
    all the same."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def tell(request: Request) -> Response:
            try:
                return await answer(request)
            except RequestValidationError as error:
                raise Problem(
                    422,
                    "invalid-request",
                    "Some fields are not valid.",
                    errors=field_errors(error.errors()),
                    screening=_screening_of_any(error.body),
                ) from None
            except Exception as error:
                told = {"screening": _screening_of_any(await request.json())} if _is_to_come_again(error) else {}
                if isinstance(error, Problem):
                    error.extra = told | error.extra
                    raise
                if not told:
                    raise
                raise unavailable(**told) from error

        return tell


def _is_to_come_again(error: Exception) -> bool:
    return error.status == 503 if isinstance(error, Problem) else is_transient(error)


def screening_body(screening: Screening, language: Language) -> dict[str, Any]:
    """A screening as an answer holds it, with its instruction in the person's language."""
    return {
        "disposition": screening.disposition,
        "blocks_plan": screening.blocks_plan,
        "reason": screening.reason,
        "rule_id": screening.rule_id,
        "rule_version": screening.rule_version,
        "instruction": screening.instruction[language],
    }


def _screening_of_any(body: object) -> dict[str, Any]:
    """The screening of a body that may not be valid, from those findings and the language in it that are."""
    given = body if isinstance(body, dict) else {}
    findings, language = given.get("findings"), given.get("language")
    known = [each for each in findings if each in get_args(Finding)] if isinstance(findings, list) else []
    return screening_body(screen(findings=known), "es" if language == "es" else "en")
