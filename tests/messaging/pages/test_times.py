"""How times and ages are said, and where a sign-in may lead."""

from datetime import UTC, datetime, timedelta

import pytest

from services.messaging.pages.sign_in import inside
from services.messaging.pages.times import day_and_time, length, zone_of
from services.messaging.pages.wording import Wording


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
        (14 * 86_400 - 1, "13 d"),
        (14 * 86_400, "2 wk"),
    ],
)
def test_the_largest_unit_that_still_tells_something(seconds: int, said: str) -> None:
    assert length(timedelta(seconds=seconds), Wording("en")) == said


def test_a_time_has_its_day_and_its_zone() -> None:
    moment = datetime(2026, 11, 23, 19, 5, tzinfo=UTC)
    assert day_and_time(moment, zone_of("America/New_York"), Wording("en")) == "Mon 23 Nov, 14:05 EST"
    assert day_and_time(moment, zone_of("America/Denver"), Wording("es")) == "lun 23 nov, 12:05 MST"


@pytest.mark.parametrize("name", [None, "", "Not/AZone", "../../etc/passwd"])
def test_an_unknown_zone_is_utc_and_says_so(name: str | None) -> None:
    assert str(zone_of(name)) == "UTC"


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example",
        "/console//evil.example",
        "/console/../v1",
        "/console\\evil",
        "/console/\nx",
        "/v1/alerts",
        "javascript:alert(1)",
        "/console/sign-out",
        "/consolex/",
    ],
)
def test_a_sign_in_leads_nowhere_but_into_the_console(address: str) -> None:
    assert inside(address) == "/console/"


@pytest.mark.parametrize("address", ["/console/", "/console/?alert=1", "/console/members/1?chain=a#chain"])
def test_a_sign_in_leads_back_to_the_page_that_was_asked_for(address: str) -> None:
    assert inside(address) == address
