"""Spoken times as dates: as precise as they were said, and text where they name no day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.memory.dates import resolve_date

SATURDAY = datetime(2026, 11, 21, 15, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("phrase", "past", "future"),
    [
        ("today", "2026-11-21", "2026-11-21"),
        ("Last night", "2026-11-20", "2026-11-20"),
        ("tonight", "2026-11-21", "2026-11-21"),
        ("Tuesday", "2026-11-17", "2026-11-24"),
        ("last Tuesday", "2026-11-17", "2026-11-17"),
        ("next friday", "2026-11-27", "2026-11-27"),
        ("last week", "2026-11-09", "2026-11-09"),
        ("March", "2026-03", "2027-03"),
        ("late august", "2026-08", "2027-08"),
        ("last june", "2026-06", "2026-06"),
        ("June 5", "2026-06-05", "2027-06-05"),
        ("March 2019", "2019-03", "2019-03"),
        ("2019", "2019", "2019"),
        ("in 2012", "2012", "2012"),
        ("last year", "2025", "2025"),
        ("two years ago", "2024", "2024"),
    ],
)
def test_a_phrase_is_as_precise_as_it_was_said(phrase: str, past: str, future: str) -> None:
    assert resolve_date(phrase, SATURDAY, "past", UTC) == past
    assert resolve_date(phrase, SATURDAY, "future", UTC) == future


@pytest.mark.parametrize(
    "phrase",
    "six|5|three years|a week|every Sunday|Fridays|last summer|the 90s|1990s|Easter|payday|ninth|the season|".split(
        "|"
    ),
)
def test_what_names_no_day_month_or_year_stays_text(phrase: str) -> None:
    assert resolve_date(phrase, SATURDAY, "past", UTC) is None


def test_the_day_is_the_speakers_own() -> None:
    near_midnight = datetime(2026, 11, 21, 23, tzinfo=UTC).timestamp()
    assert resolve_date("today", near_midnight, "past", UTC) == "2026-11-21"
    assert resolve_date("today", near_midnight, "past", timezone(timedelta(hours=5))) == "2026-11-22"


@pytest.mark.parametrize("said_at", [float("nan"), float("inf"), 1e18, -1e18])
def test_a_clock_beyond_the_calendar_gives_no_date(said_at: float) -> None:
    assert resolve_date("today", said_at) is None


@settings(deadline=None)
@given(phrase=st.text(max_size=40), said_at=st.floats(0, 4e9))
def test_no_text_raises(phrase: str, said_at: float) -> None:
    found = resolve_date(phrase, said_at, "past", UTC)
    assert found is None or found[0] in "12"
