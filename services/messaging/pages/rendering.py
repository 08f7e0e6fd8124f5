"""Templates and what every page gets: the viewer, the time, the words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from services.messaging.pages import times
from services.messaging.pages.viewer import Viewer
from services.messaging.pages.wording import Wording

FOLDER: Final = Path(__file__).parent
STATIC: Final = FOLDER / "static"


@cache
def templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = asset
    return environment


@cache
def static_version() -> str:
    """Changes when any file of the console does: the scripts import each other, so they are one release."""
    contents = b"".join(file.read_bytes() for file in sorted(STATIC.iterdir()))
    return sha256(contents).hexdigest()[:12]


def asset(name: str) -> str:
    """Address of a static file that may be cached for ever: another release has another address."""
    return f"/console/static/{static_version()}/{name}"


@dataclass(frozen=True, kw_only=True)
class Toast:
    """What an action answered, with its undo where it has one."""

    text: str
    refused: bool = False
    undo: str | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """One viewer, one moment: renders templates with the right words, zone and ages."""

    viewer: Viewer
    now: datetime
    say: Wording = field(init=False)
    zone: ZoneInfo = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "say", Wording(self.viewer.language))
        object.__setattr__(self, "zone", times.zone_of(self.viewer.time_zone))

    def full(self, moment: datetime) -> str:
        """Day, time and zone, as the viewer's clock shows it."""
        return times.day_and_time(moment, self.zone, self.say)

    def full_in(self, moment: datetime, zone_name: str | None) -> str:
        """Day, time and zone, as another's clock shows it."""
        return times.day_and_time(moment, times.zone_of(zone_name), self.say)

    def day_short(self, moment: datetime) -> str:
        """`23 Nov`, in the zone that the moment is given in."""
        return f"{moment.day} {self.say(f'month.{moment.month}')}"

    def brief(self, moment: datetime, zone_name: str | None) -> str:
        """Time and zone as another's clock shows it, with the day where that differs from the viewer's."""
        zone = times.zone_of(zone_name)
        same_day = moment.astimezone(zone).date() == moment.astimezone(self.zone).date()
        local = f"{times.clock_time(moment, zone)} {times.zone_label(moment, zone)}"
        return local if same_day else f"{times.day(moment, zone, self.say)}, {local}"

    def differs(self, moment: datetime, zone_name: str | None) -> bool:
        """Whether the other's clock shows another time than the viewer's."""
        return moment.astimezone(times.zone_of(zone_name)).utcoffset() != moment.astimezone(self.zone).utcoffset()

    def day(self, moment: datetime, zone_name: str | None = None) -> str:
        return times.day(moment, times.zone_of(zone_name) if zone_name else self.zone, self.say)

    def clock(self, moment: datetime, zone_name: str | None = None) -> str:
        return times.clock_time(moment, times.zone_of(zone_name) if zone_name else self.zone)

    def length(self, span: timedelta) -> str:
        return times.length(span, self.say)

    def member_name(self, name: str | None, member_id: object) -> str:
        return name or self.say("member.unnamed", id=str(member_id)[:4])

    def render(
        self, template: str, *, status_code: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> HTMLResponse:
        """The template as a response that nobody keeps a copy of."""
        html = (
            templates()
            .get_template(template)
            .render(
                ctx=self,
                viewer=self.viewer,
                viewer_role=self.say.word("role", self.viewer.role),
                say=self.say,
                now=self.now,
                zone=self.zone,
                clock=times.clock_time,
                zone_label=times.zone_label,
                **{"toast": None, "words": None, "typed": {}, **values},
            )
        )
        answered = {"Cache-Control": "no-store", "X-Clinic-Now": self.now.isoformat(), **(headers or {})}
        return HTMLResponse(html, status_code=status_code, headers=answered)


def render_plain(template: str, *, language: str, status_code: int = 200, **values: Any) -> HTMLResponse:
    """A page for somebody who is not signed in."""
    html = templates().get_template(template).render(say=Wording(language), **values)
    return HTMLResponse(html, status_code=status_code, headers={"Cache-Control": "no-store"})
