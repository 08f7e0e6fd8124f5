"""Replaces source of this process. What is to be replaced must be there: nothing is undone in silence."""

import builtins
import dis
import importlib
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from tests.chaos.faults import Fault
from tests.chaos.findings import Area


class DoesNotApply(Exception):
    """The source that a mutant replaces, or a name that it uses, is not there any more: the mutant has to follow it."""


@dataclass(frozen=True)
class Edit:
    """Replace `old` by `new` in a constant, or in the source of a function, of a module."""

    module: str
    name: str
    """Such as `READ`, `take_chunk` or `Outflow._round`."""
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    name: str
    undone: str
    sentences: tuple[int, ...]
    edits: tuple[Edit, ...]
    faults: tuple[Fault, ...]
    caught_by: tuple[Area, ...]
    evening: tuple[Fault, ...] = ()
    seconds: float = 14.0
    seed: int = 8


def apply_edit(edit: Edit) -> None:
    module = importlib.import_module(edit.module)
    *owners, last = edit.name.split(".")
    owner: Any = module
    for part in owners:
        owner = getattr(owner, part)
    there = getattr(owner, last)
    if isinstance(there, str):
        setattr(owner, last, _replaced(there, edit))
    else:
        _recompile(there, module, _replaced(textwrap.dedent(inspect.getsource(there)), edit))


def _replaced(source: str, edit: Edit) -> str:
    if source.count(edit.old) != 1:
        raise DoesNotApply(f"{edit.module}.{edit.name} holds {source.count(edit.old)} times: {edit.old}")
    return source.replace(edit.old, edit.new)


def _recompile(function: Callable[..., Any], module: Any, source: str) -> None:
    """Give a function other code, in place: whoever has imported it runs that."""
    assert isinstance(function, FunctionType)
    assert not function.__closure__, f"{function.__qualname__} has a closure"
    names: dict[str, Any] = {}
    code = compile("from __future__ import annotations\n" + source, f"<mutant of {function.__qualname__}>", "exec")
    exec(code, module.__dict__, names)
    made = names[function.__name__].__code__
    if unknown := sorted(_asked_for(made) - {*dir(builtins), *module.__dict__}):
        raise DoesNotApply(f"{function.__qualname__} is to use what its module does not know: {', '.join(unknown)}")
    function.__code__ = made


def _asked_for(code: CodeType) -> set[str]:
    """The names that a function, and those within it, look up in their module."""
    asked = {str(one.argval) for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    within = [one for one in code.co_consts if isinstance(one, CodeType)]
    return asked.union(*map(_asked_for, within))
