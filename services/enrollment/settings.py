"""Settings of enrollment."""

from pydantic import Field

from services.enrollment.domain.roster import ImportGuard
from shared.settings import ServiceSettings


class EnrollmentSettings(ServiceSettings):
    port: int = Field(default=8401, ge=0, le=65535)
    roster_absent_share_max: float = Field(default=ImportGuard().absent_share_max, ge=0, le=1)
    """Share of a sponsor's covered people that a full roster may leave out before somebody must confirm it."""
    roster_covered_min: int = Field(default=ImportGuard().covered_min, ge=0)
    """Below so many covered people, any number may leave without confirmation."""

    @property
    def import_guard(self) -> ImportGuard:
        return ImportGuard(absent_share_max=self.roster_absent_share_max, covered_min=self.roster_covered_min)
