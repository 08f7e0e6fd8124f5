"""The rules between packages hold, and each would be noticed if it were broken: one violation per rule is planted."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("services", "shared", "deploy", "tests")
DEPLOYED = (
    "cli", "local", "dead_letters", "shadow", "monitoring", "reconciliation", "contracts", "rule_book", "images",
)  # fmt: skip
"""Folders that the page of deploy tells of file by file."""
LINES_OF_A_FILE_MAX = 400
LINES_OF_A_FUNCTION_MAX = 70

Files = dict[str, str]
"""Path in the tree: what a planted file imports."""

PLANTED: dict[str, list[Files]] = {
    "Services build on shared; shared knows no service": [
        {"shared/planted.py": "import services.plans.domain"},
        {"shared/events/planted.py": "from services.enrollment import settings"},
    ],
    "Services speak only through events": [
        {"services/plans/store/planted.py": "import services.enrollment.store"},
        {"services/messaging/handlers/planted.py": "from services.notifications import settings"},
    ],
    "Edges call handlers, handlers call store and domain": [
        {"services/plans/domain/planted.py": "import services.plans.store"},
        {"services/plans/store/planted.py": "import services.plans.handlers"},
        {"services/messaging/handlers/planted.py": "import services.messaging.api"},
        {"services/enrollment/api/planted.py": "import services.enrollment.main"},
        {"services/plans/planted_helpers.py": ""},
    ],
    "Domain and event contracts do no I/O": [
        {"services/plans/domain/planted.py": "import asyncpg"},
        {"services/messaging/domain/planted.py": "import random"},
        {"services/notifications/domain/planted.py": "import shared.database"},
        {"shared/events/planted.py": "import aiokafka"},
    ],
    "Handlers do not know the transport": [
        {"services/plans/handlers/planted.py": "from fastapi import Request"},
        {"services/messaging/store/planted.py": "import redis"},
        {"services/enrollment/handlers/planted.py": "import aiokafka"},
    ],
    "Each handler can be deleted alone": [
        {
            "services/plans/handlers/planted.py": "import services.plans.handlers.planted_too",
            "services/plans/handlers/planted_too.py": "",
        },
    ],
    "No cycles": [
        {"shared/planted.py": "import shared.planted_too", "shared/planted_too.py": "import shared.planted"},
        {
            "services/plans/domain/planted.py": "import services.plans.domain.planted_too",
            "services/plans/domain/planted_too.py": "import services.plans.domain.planted",
        },
    ],
}
"""By the name of the contract in pyproject.toml."""


def contracts() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]


def check_imports(tree: Path) -> tuple[dict[str, bool], str]:
    """Whether each contract is kept in a tree, and what is said of those that are not."""
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    kept = {name: word == "KEPT" for name, word in re.findall(r"^(.+) (KEPT|BROKEN)(?: .*)?$", result.stdout, re.M)}
    assert set(kept) == set(contracts()), result.stdout + result.stderr
    return kept, result.stdout.partition("Broken contracts")[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the contracts are about."""
    for name in ("services", "shared"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_all_contracts_are_kept() -> None:
    kept, told = check_imports(ROOT)

    assert all(kept.values()), told


def test_every_contract_has_its_violations() -> None:
    assert set(PLANTED) == set(contracts())


@pytest.mark.parametrize(
    ("contract", "files"),
    [(contract, files) for contract, plants in PLANTED.items() for files in plants],
    ids=lambda part: next(iter(part)) if isinstance(part, dict) else "",
)
def test_a_violation_is_caught(tree: Path, contract: str, files: Files) -> None:
    for path, content in files.items():
        place = tree / path
        assert not place.exists()
        assert place.parent.is_dir(), f"{place.parent} went away: plant elsewhere"
        place.write_text(f"{content}\n")
    kept, told = check_imports(tree)

    assert not kept[contract], told
    section = told.partition(f"\n{contract}\n")[2]
    assert "planted" in section, told


def sources() -> list[Path]:
    return sorted(path for name in CODE for path in (ROOT / name).rglob("*.py"))


def test_no_drawer_for_things_without_a_name() -> None:
    banned = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc", "base", "models"}

    assert not [path for path in sources() if path.stem in banned or banned & set(path.relative_to(ROOT).parts)]


def test_files_fit_in_the_head() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}

    assert not {path: length for path, length in lengths.items() if length > LINES_OF_A_FILE_MAX}


def test_functions_fit_on_a_page() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    }
    assert not {name: length for name, length in long.items() if length > LINES_OF_A_FUNCTION_MAX}


@pytest.mark.parametrize(
    ("page", "folders"),
    [
        ("shared", ["shared"]),
        ("deploy", ["deploy", *(f"deploy/{name}" for name in DEPLOYED)]),
        ("deploy/simulator", ["deploy/simulator"]),
        ("tests", ["tests", "tests/fixtures"]),
    ],
)
def test_a_page_names_all_that_is_there_and_nothing_else(page: str, folders: list[str]) -> None:
    """A file or folder that is new has a line in the README.md beside it."""
    there = {name for folder in folders for name in tracked(ROOT / folder)}
    rows = [line for line in (ROOT / page / "README.md").read_text("utf-8").splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w./-]+)`", row.split(" | ")[0])}

    assert sorted(there - named) == []
    assert sorted(named - there) == []


def tracked(folder: Path) -> set[str]:
    """What lies in a folder and means something there: `relay.py`, `events/`."""
    return {
        f"{path.name}/" if path.is_dir() else path.name
        for path in folder.iterdir()
        if not path.name.startswith(("_", ".")) and path.name != "README.md"
    }
