"""A rule as data: what every rule has, and the decision that names it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from shared.events.envelope import Decision, EventRef


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rule of library/intake.yaml as the rule book lists it."""

    id: str
    version: int
    owner: str
    mark: str
    """V seen in published text, D derived, A our assumption, U unverified."""
    source: str
    says: str
    """In one line that a member can read."""

    def decide(self, reason: str, *, evidence: Sequence[EventRef] = ()) -> Decision:
        """A decision by this rule, in one line that a member can read."""
        return Decision(rule_id=self.id, rule_version=self.version, reason=reason[:300], evidence=tuple(evidence))


@dataclass(frozen=True, kw_only=True, slots=True)
class CareTeamRule:
    rule: Rule
    near_within: timedelta
    """Up to this far apart, load decides; further apart, the nearer one wins."""
