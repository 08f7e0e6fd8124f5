"""What may change in a contract within its major version, and what may not.

A change is breaking when an event that was valid before is not valid any more (old events lie in the topics, apps are
not updated at once), or when a reader of the old version would miss what it relies on. New optional fields, new words
of a closed list and wider limits are a minor version: every service that reads them is deployed before the first one
that writes them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Schema = Mapping[str, Any]

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems")
"""Limits that narrow when they rise."""
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
"""Limits that narrow when they fall."""
_SAME: Final = ("type", "format", "pattern")
"""What may not change or come to be. A new pattern may be wider, but nobody can tell by looking."""


def breaking_changes(before: Schema, after: Schema) -> list[str]:
    """Every breaking change from one JSON Schema of an event to another, as `path: what`; empty if there is none."""
    return list(_Comparison(before, after).compare(before, after, path=""))


@dataclass(frozen=True)
class _Comparison:
    """Two documents, whose `$defs` the compared parts refer to."""

    before_root: Schema
    after_root: Schema

    def compare(self, before: Schema, after: Schema, *, path: str) -> Iterator[str]:
        before, after = _resolve(before, self.before_root), _resolve(after, self.after_root)
        where = path or "event"
        if "default" in before and before.get("default") != after.get("default"):
            yield f"{where}: what its absence means changed"
        if "anyOf" in before or "anyOf" in after:
            yield from self._compare_choices(before, after, path)
            return
        yield from _compare_limits(before, after, where)
        yield from _compare_words(before, after, where)
        yield from self._compare_members(before, after, path)
        if "items" in before and "items" in after:
            yield from self.compare(before["items"], after["items"], path=f"{path}[]")

    def _compare_members(self, before: Schema, after: Schema, path: str) -> Iterator[str]:
        required = set(before.get("required", ())), set(after.get("required", ()))
        for name in sorted(required[1] - required[0]):
            yield f"{_join(path, name)}: is now required"
        for name, member in before.get("properties", {}).items():
            if name not in after.get("properties", {}):
                yield f"{_join(path, name)}: was removed"
                continue
            if name in required[0] - required[1]:
                yield f"{_join(path, name)}: was always there and is now optional"
            yield from self.compare(member, after["properties"][name], path=_join(path, name))

    def _compare_choices(self, before: Schema, after: Schema, path: str) -> Iterator[str]:
        """Each alternative that was allowed must fit one that is. A single schema is one alternative."""
        choices = after.get("anyOf", [after])
        for choice in before.get("anyOf", [before]):
            problems = [list(self.compare(_bare(choice), _bare(other), path=path)) for other in choices]
            if all(problems):
                yield from min(problems, key=len)


def _compare_limits(before: Schema, after: Schema, where: str) -> Iterator[str]:
    for name in _SAME:
        if name in after and before.get(name) != after[name]:
            yield f"{where}: {name} changed"
    if "type" in before and "type" not in after:
        yield f"{where}: type went away"
    for name in _LOWER:
        if name in after and after[name] > before.get(name, float("-inf")):
            yield f"{where}: {name} rose"
    for name in _UPPER:
        if name in after and after[name] < before.get(name, float("inf")):
            yield f"{where}: {name} fell"


def _compare_words(before: Schema, after: Schema, where: str) -> Iterator[str]:
    words = _words(before), _words(after)
    if words[1] and not words[0]:
        yield f"{where}: only some values are allowed now"
    elif words[1]:
        for word in sorted(words[0] - words[1], key=str):
            yield f"{where}: {word!r} is not allowed any more"


def _resolve(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        target = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        schema = {**target, **{name: member for name, member in schema.items() if name != "$ref"}}
    return schema


def _bare(schema: Schema) -> Schema:
    return {name: member for name, member in schema.items() if name != "default"}


def _words(schema: Schema) -> set[Any]:
    """The values of a closed list; empty where any value will do."""
    if "enum" in schema:
        return set(schema["enum"])
    return {schema["const"]} if "const" in schema else set()


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
