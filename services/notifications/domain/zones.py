"""Which zone a member is in, or which ones they may be in."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.notifications.domain.policy import Policy


def read_zone(name: str | None) -> ZoneInfo | None:
    """The zone of an IANA name; None where there is none of that name."""
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a name that is a folder of the zone database
        return None


def candidate_zones(*, time_zone: str | None, state: str | None, policy: Policy) -> tuple[ZoneInfo, ...]:
    """The member's own zone, else all zones of their state, else all of the United States. Never empty."""
    zone = read_zone(time_zone)
    if zone is not None:
        return (zone,)
    return policy.state_zones.get(state or "", policy.anywhere)
