"""Every mutant still finds what it replaces, and docs/chaos.md tells of each."""

import subprocess
import sys
from datetime import date

import pytest

from tests.chaos import undoing
from tests.chaos.mutants import AT_FAULT, LIST
from tests.chaos.page import section, table
from tests.chaos.run import draw_plan
from tests.chaos.undoing import DoesNotApply, Edit, Mutant, apply_edit
from tests.model.test_protocol_page import ROWS

APPLY = "import sys; from tests.chaos.mutants import apply_mutant; apply_mutant(sys.argv[1])"


@pytest.mark.parametrize("mutant", LIST, ids=lambda mutant: mutant.name)
def test_it_applies(mutant: Mutant) -> None:
    """In a process of its own, which stays a mutant."""
    done = subprocess.run([sys.executable, "-c", APPLY, mutant.name], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, f"mutant: {mutant.undone}\n")


@pytest.mark.parametrize("name", ["LIST", "apply_edit"])
def test_what_is_not_there_cannot_be_replaced(name: str) -> None:
    edit = Edit(undoing.__name__, "DoesNotApply.__doc__" if name == "LIST" else name, "not in there", "whatever")
    with pytest.raises(DoesNotApply):
        apply_edit(edit)


def test_each_undoes_sentences_of_the_protocol() -> None:
    numbers = {int(row[0].removesuffix("*")) for row in ROWS}
    for mutant in LIST:
        assert set(mutant.sentences) <= numbers
        assert mutant.sentences
        assert mutant.caught_by
    assert len({mutant.name for mutant in LIST}) == len(LIST)


def test_a_stream_holds_the_faults_that_two_of_them_need() -> None:
    plan = draw_plan(AT_FAULT, seconds=14.0, today=date(2026, 3, 4))
    kinds = [one.kind for one in plan.stream]
    assert {"too-old", "wrong-key", "no-key"} <= set(kinds)


def test_the_page_has_the_table() -> None:
    assert section() == table(), "python -m tests.chaos.page"
