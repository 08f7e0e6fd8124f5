"""The geometry of the pain chart and of the causal chain."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.messaging.pages.chain_picture import BOX_WIDTH, BOXES_MAX, ChainEvent, draw_chain
from services.messaging.pages.pain_chart import AXIS, TOP, Episode, PainChart, Reading, Usual, draw_pain_chart, y_of

NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
DAY = timedelta(days=1)


def chart(
    readings: list[Reading] | None = None,
    *,
    episodes: list[Episode] | None = None,
    sessions: list[datetime] | None = None,
    spikes: frozenset[str] = frozenset(),
    usual: Sequence[Usual] = (),
) -> PainChart:
    return draw_pain_chart(
        readings=readings or [],
        sessions=sessions or [],
        episodes=episodes or [],
        spike_event_ids=spikes,
        usual=usual,
        now=NOW,
        zone=NEW_YORK,
    )


def usual(days_ago: float, level: float) -> Usual:
    return Usual(told_at=NOW - days_ago * DAY, level=level)


def reading(days_ago: float, score: int, context: str = "during-exercise", event_id: str = "") -> Reading:
    return Reading(felt_at=NOW - days_ago * DAY, score=score, context=context, event_id=event_id)


def test_the_chart_shows_twelve_weeks_up_to_the_end_of_the_members_today() -> None:
    drawn = chart([reading(0, 3), reading(83, 3), reading(90, 9)])
    assert [point.score for point in drawn.points] == [3, 3]
    assert drawn.ends_at == datetime(2026, 11, 24, 0, 0, tzinfo=NEW_YORK)
    assert drawn.points[0].x < 3
    assert 99 < drawn.points[-1].x < 100


def test_ten_is_at_the_top_and_zero_on_the_axis() -> None:
    assert (y_of(10), y_of(0)) == (TOP, AXIS)
    assert (y_of(12), y_of(-1)) == (TOP, AXIS)


def test_only_readings_during_exercise_are_joined_and_only_the_named_reading_is_a_spike() -> None:
    drawn = chart(
        [
            reading(4, 3),
            reading(3, 2, "average-24h"),
            reading(2.1, 8, "now", "e"),
            reading(2, 7, event_id="e"),
            reading(2, 4, "next-morning", "e"),
        ],
        spikes=frozenset({"e"}),
    )
    assert [(a.score, b.score) for a, b in drawn.line] == [(3, 7)]
    assert [point.score for point in drawn.points if point.spike] == [7]


def test_the_usual_band_follows_what_is_known_when() -> None:
    drawn = chart([reading(1, 5)], usual=[usual(400, 3), usual(30, 3), usual(20, 5), usual(9, 5)])
    edges = [edge for band in drawn.bands for edge in (band.y, band.y + band.height)]
    assert edges == pytest.approx([y_of(4), y_of(2), y_of(6), y_of(4)])
    assert drawn.bands[0].x + drawn.bands[0].width == pytest.approx(drawn.bands[1].x)
    assert drawn.usual == usual(9, 5), "told to be the same: as of then, in one band"
    assert (chart([reading(1, 5)]).bands, chart([reading(1, 5)]).usual) == ((), None)


def test_the_usual_band_begins_when_it_was_first_told() -> None:
    drawn = chart([reading(1, 3)], usual=[usual(21, 3)])
    assert drawn.bands[0].x == pytest.approx(75, abs=1.5)
    assert chart([reading(1, 3)], usual=[usual(400, 3)]).bands[0].x == 0


def test_an_open_flare_reaches_to_now_and_one_that_began_earlier_to_the_edge() -> None:
    old = Episode(started_at=NOW - 200 * DAY, settled_at=NOW - 80 * DAY, score_max=8)
    gone = Episode(started_at=NOW - 200 * DAY, settled_at=NOW - 100 * DAY, score_max=8)
    still = Episode(started_at=NOW - DAY, settled_at=None, score_max=7)
    drawn = chart(episodes=[old, gone, still])
    assert [span.x for span in drawn.flares] == [0.0, drawn.flares[1].x]
    assert drawn.flares[1].x + drawn.flares[1].width < 100


@given(st.lists(st.tuples(st.floats(-5, 100), st.integers(-3, 14)), max_size=40))
def test_nothing_is_ever_drawn_outside(given_readings: list[tuple[float, int]]) -> None:
    drawn = chart([reading(days, score) for days, score in given_readings])
    assert all(0 <= point.x <= 100 and TOP <= point.y <= AXIS for point in drawn.points)
    assert [point.at for point in drawn.points] == sorted(point.at for point in drawn.points)


def event(name: str, service: str, seconds: int, cause: str | None = None, kind: str | None = None) -> ChainEvent:
    return ChainEvent(
        source="s",
        event_id=name,
        event_type=kind or name,
        service=service,
        occurred_at=NOW + timedelta(seconds=seconds),
        summary=name,
        caused_by=("s", cause) if cause else None,
    )


LOOP = [
    event("session", "apps", 0),
    event("spike", "plans", 1, "session"),
    event("revised", "plans", 2, "spike"),
    event("alert", "messaging", 2, "spike"),
    event("message", "messaging", 60, "alert"),
    event("booked", "messaging", 90, "alert"),
    event("reminder", "notifications", 95, "booked"),
]


def test_lanes_stand_in_the_order_of_the_loop_and_every_known_cause_has_its_arrow() -> None:
    drawn = draw_chain(events=list(reversed(LOOP)))
    assert [lane for lane, _ in drawn.lanes] == ["apps", "plans", "messaging", "notifications"]
    assert {(a.cause[1], a.effect[1]) for a in drawn.arrows} == {
        ("session", "spike"),
        ("spike", "revised"),
        ("spike", "alert"),
        ("alert", "message"),
        ("alert", "booked"),
        ("booked", "reminder"),
    }


def test_alike_ends_of_one_cause_are_one_box() -> None:
    many = [event("plan", "plans", 0)] + [
        event(f"r{n}", "notifications", n + 1, "plan", "notification.sent") for n in range(30)
    ]
    drawn = draw_chain(events=many)
    assert [(box.event.event_id, box.count) for box in drawn.boxes] == [("plan", 1), ("r29", 30)]
    assert drawn.left_out == 29


def test_no_events_is_an_empty_picture() -> None:
    assert draw_chain(events=[]).boxes == ()


SERVICES = st.sampled_from(["apps", "enrollment", "plans", "messaging", "notifications", "another"])


@given(st.lists(st.tuples(SERVICES, st.integers(0, 100), st.integers(-3, 30), st.sampled_from("abc")), max_size=90))
def test_effects_are_right_of_their_causes_and_boxes_never_touch(made: list[tuple[str, int, int, str]]) -> None:
    events = [
        event(str(n), service, at, str(cause) if 0 <= cause < len(made) and cause != n else None, kind)
        for n, (service, at, cause, kind) in enumerate(made)
    ]
    drawn = draw_chain(events=events)
    places = {box.event.identity: box for box in drawn.boxes}
    assert len(drawn.boxes) <= BOXES_MAX
    assert sum(box.count for box in drawn.boxes) <= len(events)
    assert len({(box.x, box.y) for box in drawn.boxes}) == len(drawn.boxes)
    for box in drawn.boxes:
        assert 0 <= box.x <= drawn.width - BOX_WIDTH
        neighbours = [other.x for other in drawn.boxes if other.y == box.y and other is not box]
        assert all(abs(box.x - x) > BOX_WIDTH for x in neighbours)
    # Causes that go in a circle cannot all point to the right; nothing a publisher makes does that.
    acyclic = all(cause >= n or cause < 0 for n, (_, _, cause, _) in enumerate(made)) or all(
        cause < n for n, (_, _, cause, _) in enumerate(made)
    )
    if acyclic:
        assert all(places[a.cause].x < places[a.effect].x for a in drawn.arrows)
