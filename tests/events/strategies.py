"""Hypothesis strategies for every event, read from the fields of its model: whatever a contract allows comes up."""

import types
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from annotated_types import Ge, Le, MaxLen, MinLen
from hypothesis import strategies as st
from pydantic import AwareDatetime
from pydantic.fields import FieldInfo

from shared.events.catalogue import EVENTS
from shared.events.envelope import CloudEvent, Record

TIMES = st.datetimes(
    min_value=datetime(2000, 1, 2),  # noqa: DTZ001  # Hypothesis adds the zone
    max_value=datetime(2199, 12, 30),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=5, minutes=45))]),
)


def events(*classes: type[CloudEvent]) -> st.SearchStrategy[CloudEvent]:
    """Events of these classes; of all if none is given."""
    return st.sampled_from(classes or tuple(EVENTS.values())).flatmap(records)


@cache
def records(record: type[Record]) -> st.SearchStrategy[Any]:
    """Valid instances of a record. Optional members are sometimes left out."""
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in record.model_fields.items():
        (required if field.is_required() else optional)[name] = _values(field.annotation, field.metadata)
    return st.fixed_dictionaries(required, optional=optional).map(lambda values: record(**values))


def _values(annotation: Any, limits: list[Any]) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(arguments[0], [*arguments[1:], *limits])
    if origin in (Union, types.UnionType):
        return st.one_of([_values(argument, limits) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        low, high = _span(limits, MinLen, MaxLen)
        return st.lists(_values(arguments[0], []), min_size=low or 0, max_size=min(high or 4, (low or 0) + 3)).map(
            tuple
        )
    return _scalars(annotation, limits)


def _scalars(annotation: Any, limits: list[Any]) -> st.SearchStrategy[Any]:
    if annotation is str:
        return _texts(limits)
    if annotation is int:
        low, high = _span(limits, Ge, Le)
        return st.integers(min_value=low, max_value=high if high is not None else 1_000_000)
    if annotation is float:
        low, high = _span(limits, Ge, Le)
        return st.floats(min_value=low, max_value=high)
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return records(annotation)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        UUID: st.uuids(),
        AwareDatetime: TIMES,
        date: st.dates(min_value=date(2000, 1, 1), max_value=date(2100, 1, 1)),
        bool: st.booleans(),
        types.NoneType: st.none(),
    }
    return plain[annotation]


def _texts(limits: list[Any]) -> st.SearchStrategy[str]:
    low, high = _span(limits, MinLen, MaxLen)
    pattern = next((found for found in (_pattern(limit) for limit in _flat(limits)) if found), None)
    if pattern is None or pattern == r"^[^\x00]*$":
        letters = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
        return st.text(letters, min_size=low or 0, max_size=high or 20)
    return st.from_regex(pattern, fullmatch=True).filter(
        lambda text: (low or 0) <= len(text) <= (high or 1000) and not text.endswith("\n")
    )


def _pattern(limit: Any) -> str | None:
    return getattr(limit, "pattern", None)


def _span(limits: list[Any], low: type, high: type) -> tuple[Any, Any]:
    """The narrowest lower and upper limit among constraints, however pydantic keeps them."""
    lows: list[Any] = []
    highs: list[Any] = []
    for limit in _flat(limits):
        if isinstance(limit, low):
            lows.append(limit.ge if isinstance(limit, Ge) else limit.min_length)  # type: ignore[attr-defined]
        if isinstance(limit, high):
            highs.append(limit.le if isinstance(limit, Le) else limit.max_length)  # type: ignore[attr-defined]
    return (max(lows) if lows else None), (min(highs) if highs else None)


def _flat(limits: list[Any]) -> list[Any]:
    found: list[Any] = []
    for limit in limits:
        if isinstance(limit, FieldInfo):
            found += _flat(limit.metadata)
            continue
        found.append(limit)
        for name, kind in (("min_length", MinLen), ("max_length", MaxLen)):
            value = getattr(limit, name, None)
            if value is not None and not isinstance(limit, MinLen | MaxLen):
                found.append(kind(value))
    return found
