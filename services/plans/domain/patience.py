"""Which records of the apps may wait a moment for company, recognised as an app writes them."""

import re
from functools import cache

from services.plans.domain.pain_spike import least_spike
from services.plans.domain.rules import PainRules


def reports_no_findings(value: bytes) -> bool:
    """Whether a record has no warning sign that a member ticked. One that holds an escape is not recognised: it could
    spell the name otherwise."""
    return b'"findings":[]' in value or (b'"findings"' not in value and b"\\" not in value)


def is_calm(value: bytes, *, rules: PainRules) -> bool:
    """Whether a record has a pain that cannot be a spike and no warning sign: nobody is told at once of what comes of
    it. An episode that a red flag opened at so low a pain may ask again so much later."""
    return _score_below(least_spike(rules=rules)).search(value) is not None and reports_no_findings(value)


@cache
def _score_below(least: int) -> re.Pattern[bytes]:
    scores = "|".join(map(str, range(least)))
    return re.compile(rf'"(?:pain_during|score)":(?:{scores})[,}}]'.encode())
