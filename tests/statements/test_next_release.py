"""A migration runs before the processes of its release: those of the one before go on with columns they do not know."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.events.catalogue import SERVICES
from tests.fixtures.databases import add_columns
from tests.statements.chunks import Desk, OpenDesk, subscriptions_of
from tests.statements.edges import count_sends
from tests.statements.held import CONSTANT, GROUP, SEARCHES, with_taps
from tests.statements.story import STORY
from tests.statements.timers import count_timers

ROOT = Path(__file__).parents[2]
FEW = 2
HELD = "select consumer_group, reason, detail from delivery.held_events"

pytestmark = pytest.mark.timeout(240)


async def _work(desk: Desk) -> None:
    """Two members live through everything that the service hears of, and its timers run for others."""
    await desk.live(STORY, desk.new_members(FEW))
    for timer in desk.timers:
        await count_timers(desk, timer.kind, [FEW])
    assert [tuple(row) for row in await desk.database.fetch(HELD)] == []


@pytest.mark.parametrize("service", SERVICES)
async def test_new_columns_change_nothing_for_who_does_not_know_them(open_desk: OpenDesk, service: str) -> None:
    """Before and after on the same connections, which keep the statements that they have prepared."""
    desk = await open_desk(service)
    await _work(desk)
    await add_columns(desk.database)
    await _work(desk)


async def test_new_columns_change_nothing_for_held_events(open_desk: OpenDesk) -> None:
    subscriptions, taps = with_taps(subscriptions_of("plans"))
    desk = await open_desk("plans", subscriptions)
    await add_columns(desk.database)
    for way in [*CONSTANT.values(), *(search.way for search in SEARCHES.values())]:
        await desk.database.execute("truncate delivery.held_events")
        await way(desk, taps[GROUP], desk.new_members(FEW))


async def test_new_columns_change_nothing_for_what_is_sent(open_desk: OpenDesk) -> None:
    desk = await open_desk("notifications")
    await add_columns(desk.database)
    await count_sends(desk, desk.new_members(FEW))


MADE = re.compile(r"create (?:table|view) ([a-z_.]+)")
PUT_IN = re.compile(r"insert into \S+ (?:as \w+ )?(?:select|values)\b|returning (?:\w+\.)?\*")


def _texts(source: str) -> Iterator[str]:
    """What stands in quotes, without what is put into it later."""
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        yield "_".join(part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))


def _unnamed(statement: str, tables: set[str]) -> list[str]:
    """What takes a row as it is in the database, or puts one in so."""
    text, table = " ".join(statement.split()), "|".join(map(re.escape, tables))
    found = [*PUT_IN.findall(text), *re.findall(rf"(?<!\.)\* from (?:{table})\b", text)]
    for alias in re.findall(r"\b(\w+)\.\*", text):
        found += re.findall(rf"(?:from|join) (?:{table}) (?:as )?{alias}\b", text)
    return found


def test_every_statement_names_its_columns() -> None:
    """Also what pages, commands and operators ask, which nobody does here."""
    folders = [ROOT / "services", ROOT / "shared"]
    tables = {name for folder in folders for path in folder.rglob("*.sql") for name in MADE.findall(path.read_text())}
    assert {"alerts", "care_profiles", "delivery.timers"} <= tables
    found = {
        str(path.relative_to(ROOT)): [one for text in _texts(path.read_text()) for one in _unnamed(text, tables)]
        for folder in folders
        for path in folder.rglob("*.py")
    }
    assert {name: statements for name, statements in found.items() if statements} == {}


@pytest.mark.parametrize(
    "planted",
    [
        "select * from alerts where true",
        "select a.*, w.place\n    from wanted w join alerts a using (alert_id)",
        "insert into alerts select alert_id from x",
        "insert into alerts as a\n  values ($1)",
        "delete from alerts returning *",
    ],
)
def test_a_statement_that_does_not_is_found(planted: str) -> None:
    assert _unnamed(planted, {"alerts"})
