"""docs/protocol.md names rules and tests that exist, all rules, and says openly what neither holds."""

import ast
import re
from pathlib import Path

import pytest

from tests.model.catalogue import all_rules

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/protocol.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if re.match(r"\| \d", line)]
RULE = re.compile(r"`(\w+\.\w+)`")
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def test_the_sentences_are_numbered_and_short() -> None:
    assert [int(row[0].removesuffix("*")) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert not [row[1] for row in ROWS if len(row[1]) > 130 or not row[1].endswith(".")]


def test_every_rule_is_in_one_sentence_and_every_one_named_exists() -> None:
    named = [rule for row in ROWS for rule in RULE.findall(row[2])]

    assert sorted(named) == sorted(all_rules())


def test_a_star_is_where_a_rule_is() -> None:
    for number, _, rule, _ in ROWS:
        assert number.endswith("*") == bool(RULE.findall(rule)), number
        assert RULE.findall(rule) or rule == "—", f"{number} says neither what shows it nor that nothing does"


@pytest.mark.parametrize(("file", "name"), sorted(set(TEST.findall(PAGE))))
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    path = ROOT / file if file.startswith("tests/") else ROOT / "tests" / file
    functions = {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions


def test_every_sentence_names_a_test_or_says_that_none_does() -> None:
    assert not [row for row in ROWS if not TEST.findall(row[3]) and row[3] != "—"]
