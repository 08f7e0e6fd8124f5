"""Red-flag screening: which disposition follows from what a member reports of themself.

The rules are data (`red_flags.yaml`), versioned and cited, read once and checked: every finding of the vocabulary is
either a trigger alone or named as context. Detection of a red flag never waits for any other rule.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.events.envelope import Decision, EventRef
from shared.events.vocabulary import Disposition, Finding, Language

Mark = Literal["V", "D", "A", "U"]
"""V seen in published text, D derived, A our assumption, U unverified."""

URGENCY: Final[tuple[Disposition, ...]] = get_args(Disposition)
"""Dispositions, mildest first."""
BLOCKING: Final[frozenset[Disposition]] = frozenset({"clinician-72h", "same-day", "emergency"})
"""Dispositions that block a plan (our decision)."""

Line = Annotated[str, StringConstraints(min_length=1, max_length=300)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Instruction(_Data):
    """What the member is told to do, in each language."""

    en: Line
    es: Line


class RedFlagRule(_Data):
    """Matches when all of `all_of` and, where given, at least one of `any_of` are reported."""

    id: Annotated[str, StringConstraints(pattern=r"^red-flag\.[a-z0-9-]+$")]
    version: Annotated[int, Field(ge=1)]
    mark: Mark
    disposition: Disposition
    all_of: Annotated[frozenset[Finding], Field(min_length=1)]
    any_of: frozenset[Finding] = frozenset()
    reason: Line
    source: str
    instruction: Instruction | None = None
    """In place of the instruction of the disposition."""

    def matches(self, findings: frozenset[Finding]) -> bool:
        return self.all_of <= findings and (not self.any_of or not self.any_of.isdisjoint(findings))


class Context(_Data):
    """Findings that alone are no red flag."""

    id: str
    version: int
    mark: Mark
    findings: frozenset[Finding]
    reason: Line
    source: str


class RedFlagRules(_Data):
    owner: str
    dispositions: dict[Disposition, Instruction]
    rules: tuple[RedFlagRule, ...]
    context: Context

    @model_validator(mode="after")
    def _complete(self) -> "RedFlagRules":
        if set(self.dispositions) != set(URGENCY):
            raise ValueError("every disposition needs an instruction")
        if len({rule.id for rule in self.rules}) != len(self.rules):
            raise ValueError("a rule id is used twice")
        alone = {next(iter(rule.all_of)) for rule in self.rules if len(rule.all_of) == 1 and not rule.any_of}
        if alone & self.context.findings or alone | self.context.findings != set(get_args(Finding)):
            raise ValueError("every finding is either a trigger alone or context, never both and never neither")
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Screening:
    """What follows from a set of findings."""

    disposition: Disposition
    findings: tuple[Finding, ...]
    """As reported, in the order of the vocabulary."""
    rule_id: str
    rule_version: int
    reason: str
    """One line that a member can read."""
    instruction: Mapping[Language, str]
    """What the member is to do, by language."""

    @property
    def blocks_plan(self) -> bool:
        """No plan is issued, and no session is asked for, while this is open."""
        return self.disposition in BLOCKING

    @property
    def decision(self) -> Decision:
        return self.decided_on()

    def decided_on(self, *evidence: EventRef) -> Decision:
        """The decision with the events that it rests on."""
        return Decision(rule_id=self.rule_id, rule_version=self.rule_version, reason=self.reason, evidence=evidence)


@cache
def load_red_flag_rules() -> RedFlagRules:
    """The rules in force; raises pydantic.ValidationError when the data file is wrong."""
    return RedFlagRules.model_validate(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8")))


def screen(*, findings: Collection[Finding]) -> Screening:
    """The most urgent disposition that any rule draws from the findings. Total: no finding, or context alone, is
    `none`. Where several rules of that urgency match, the first in the file is named and the instructions of all are
    given."""
    return _screen(frozenset(findings))


@lru_cache(maxsize=4096)
def _screen(findings: frozenset[Finding]) -> Screening:
    rules = load_red_flag_rules()
    ordered = tuple(finding for finding in get_args(Finding) if finding in findings)
    matching = [rule for rule in rules.rules if rule.matches(findings)]
    if not matching:
        return Screening(
            disposition="none",
            findings=ordered,
            rule_id=rules.context.id,
            rule_version=rules.context.version,
            reason=rules.context.reason,
            instruction=_by_language([rules.dispositions["none"]]),
        )
    worst = max((rule.disposition for rule in matching), key=URGENCY.index)
    deciding = [rule for rule in matching if rule.disposition == worst]
    told = dict.fromkeys(rule.instruction or rules.dispositions[worst] for rule in deciding)
    return Screening(
        disposition=worst,
        findings=ordered,
        rule_id=deciding[0].id,
        rule_version=deciding[0].version,
        reason=deciding[0].reason,
        instruction=_by_language(told),
    )


def _by_language(told: Iterable[Instruction]) -> dict[Language, str]:
    instructions = list(told)
    return {"en": " ".join(one.en for one in instructions), "es": " ".join(one.es for one in instructions)}
