"""Whoever tells of a red flag in an intake is told what to do, whatever is the matter with it or with the servers."""

import asyncio
from typing import Any

import asyncpg
import pytest

from services.enrollment.handlers import take_intake
from tests.enrollment.clinic import Clinic

UNAVAILABLE = "urn:careloop:problem:unavailable"


async def test_a_wrong_or_missing_field_does_not_hide_what_to_do_in_an_emergency(clinic: Clinic) -> None:
    for change in (
        {"contact": None},
        {"state": "XX"},
        {"findings": ["chest-pain-breathless", "fever"]},
        {"language": "fr"},
    ):
        body = {**clinic.intake(findings=["chest-pain-breathless"]), **change}
        answer = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body)
        assert answer.status_code == 422
        assert "911" in answer.json()["screening"]["instruction"], change


async def test_an_emergency_waits_for_no_file_that_is_being_applied(open_clinic: Clinic) -> None:
    """A file locks the coverage of everybody in it, for minutes where it is large."""
    clinic = open_clinic
    async with clinic.database() as connection, connection.transaction():
        await connection.execute("select from coverages for no key update")
        async with asyncio.timeout(5):
            answer = await clinic.enrol(findings=["chest-pain-breathless"])
    assert answer["outcome"] == "blocked"
    assert await clinic.published_types(answer["member_id"]) == ["member.screened", "contact.changed"]


async def test_where_no_database_answers_whoever_tells_of_a_red_flag_is_told_what_to_do(
    open_clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic = open_clinic

    async def gone(*_: Any, **__: Any) -> None:
        raise asyncpg.ConnectionDoesNotExistError("closed in the middle of operation")

    body, headers = clinic.intake(findings=["chest-pain-breathless"], language="es"), {"Idempotency-Key": "k"}
    with monkeypatch.context() as patch:
        patch.setattr(take_intake, "save_intake", gone)
        answer = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (answer.json()["type"], "911" in answer.json()["screening"]["instruction"]) == (UNAVAILABLE, True)
    assert await clinic.published() == []
    again = await clinic.call("POST", "/v1/intakes", clinic.tokens.app, json=body, headers=headers)
    assert (again.status_code, again.json()["outcome"]) == (201, "blocked")
    assert again.json()["screening"] == answer.json()["screening"]
