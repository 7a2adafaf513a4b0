"""What day a spoken time means: "last Tuesday", "in March", "2019", seen from the day on which it was said."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, tzinfo
from functools import lru_cache
from typing import Literal

from dateparser.date import DateDataParser

Lean = Literal["past", "future"]

_YEAR = re.compile(r"(?:in |early |late |mid |since )*(1[0-9]{3}|2[01][0-9]{2})")
_PART_OF_MONTH = re.compile(
    r"(?P<lean>last|next|this|in|early|late|mid|since)\s+(?=(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))"
)
_WORDS = (
    r"(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|[a-z]+ty(?:[ -][a-z]+)?|[a-z]+teen|\d+)"
)
_VAGUE = re.compile(
    # The parser would make a month of "six", a moment of "the 90s" and a point of a duration.
    rf"{_WORDS}|.*\d0'?s|every .*|each .*|{_WORDS} (?:second|minute|hour|day|night|week|weekend|month|year|decade)s?"
    r"|.*\b(?:second|minute|hour|season|summer|winter|spring|autumn|fall)s?\b.*"
)
_LONGEST = 64
_KEPT = {"year": "%Y", "month": "%Y-%m"}


def resolve_date(phrase: str, said_at: float, lean: Lean = "past", zone: tzinfo | None = None) -> str | None:
    """A phrase as an ISO 8601 date, as precise as it was said ("2019", "2019-05", "2019-05-04"); a week is its Monday.

    None where the phrase names no one day, month or year: durations, recurrences, seasons, feasts, clock times. An
    open phrase ("Tuesday", "May") means the nearest one that way. `said_at` is Unix time in seconds, its day taken in
    `zone` (this machine's when None). Raises nothing.
    """
    if len(phrase) > _LONGEST:
        return None
    try:
        said = datetime.fromtimestamp(said_at, UTC).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return None
    return _resolve(" ".join(phrase.casefold().split()), said.date(), lean)


@lru_cache(maxsize=4096)
def _resolve(phrase: str, said_on: date, lean: Lean) -> str | None:
    if year := _YEAR.fullmatch(phrase):
        return year[1]
    part = _PART_OF_MONTH.match(phrase)
    if part:
        phrase = phrase[part.end() :]
        lean = {"last": "past", "next": "future"}.get(part["lean"], lean)  # type: ignore[assignment]  # two literals
    if not phrase or _VAGUE.fullmatch(phrase):
        return None
    try:
        found = _parser(said_on, lean).get_date_data(phrase)
    except Exception:
        return None
    if found.date_obj is None:
        return None
    day: date = found.date_obj.date()
    if found.period == "week":
        day = date.fromordinal(day.toordinal() - day.weekday())
    return day.strftime(_KEPT.get(found.period, "%Y-%m-%d"))


@lru_cache(maxsize=8)
def _parser(said_on: date, lean: Lean) -> DateDataParser:
    # Noon keeps "tonight" and "this morning" on the day itself; one parser a day keeps its caches warm.
    settings = {
        "RELATIVE_BASE": datetime.combine(said_on, time(12)),
        "PREFER_DATES_FROM": lean,
        "PREFER_DAY_OF_MONTH": "first",
        "RETURN_AS_TIMEZONE_AWARE": False,
        "TIMEZONE": "UTC",
        "PARSERS": ["relative-time", "absolute-time"],
    }
    return DateDataParser(languages=["en"], settings=settings)
