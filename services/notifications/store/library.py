"""The rules of this service, from its library folder."""

from functools import cache
from pathlib import Path

import yaml

from services.notifications.domain.policy import Policy, read_policy

LIBRARY = Path(__file__).resolve().parent.parent / "library"


@cache
def load_policy() -> Policy:
    """The policy in force, read once a process. Raises KeyError, ValueError or TypeError for a file that is not one."""
    return read_policy(
        rules=yaml.safe_load((LIBRARY / "notifications.yaml").read_text()),
        zones=yaml.safe_load((LIBRARY / "time_zones.yaml").read_text()),
    )
