import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from actors.messages import Extraction, Relation, Turn, Utterance
from config.logs import SAID, configure_logging
from config.settings import LogSettings

SECRET = "Ana is pregnant"  # noqa: S105 - said in confidence, not a password


@pytest.fixture
def log() -> Iterator[Callable[..., "Log"]]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield Log
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


class Log:
    """Logging as configured, with what it wrote."""

    def __init__(self, level: str = "info", format: str = "json") -> None:  # noqa: A002 - the setting's name
        self.stream = io.StringIO()
        configure_logging(LogSettings(level=level, format=format), self.stream)
        self.to = structlog.get_logger("shoal.test")

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.splitlines()]


@dataclass(frozen=True, slots=True)
class Heard:
    text: str
    seconds: float


def test_a_json_event_is_one_line_with_its_level_and_a_utc_time(log):
    written = log()
    written.to.info("turn_ended", session="s1", seconds=0.25)
    (event,) = written.events
    at = datetime.fromisoformat(str(event.pop("timestamp")))
    assert at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)
    assert event == {"event": "turn_ended", "level": "info", "session": "s1", "seconds": 0.25}


def test_a_console_event_is_one_plain_line(log):
    written = log(format="console")
    written.to.warning("graph_down", uri="bolt://x", attempt=2)
    assert written.text.count("\n") == 1
    assert all(part in written.text for part in ("warning", "graph_down", "uri='bolt://x'", "attempt=2"))
    assert "\x1b" not in written.text


def test_a_value_cannot_write_lines_or_escapes_of_its_own(log):
    written = log(format="console")
    written.to.warning("frame_refused", type="x\n2026 [info] all is well\x1b[2J")
    assert written.text.count("\n") == 1
    assert "\x1b" not in written.text


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_events_below_the_level_are_not_written(log, level, shown):
    written = log(level)
    for method in ("debug", "info", "warning", "error"):
        getattr(written.to, method)("from_structlog")
        getattr(logging.getLogger("other"), method)("from the standard library")
    assert [event["event"] for event in written.events] == ["from_structlog", "from the standard library"] * shown


def test_other_libraries_and_warnings_come_in_the_same_form(log):
    written = log()
    logging.getLogger("neo4j.pool").warning("lost %d of %s", 3, "5")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    assert (written.events[0]["logger"], written.events[0]["event"]) == ("neo4j.pool", "lost 3 of 5")
    assert "UserWarning: old" in str(written.events[1]["event"])


def test_configuring_again_replaces_the_first(log):
    first, second = log(), log("warning", "console")
    second.to.info("quiet")
    second.to.warning("loud")
    assert first.text == ""
    assert second.text.count("\n") == 1


@pytest.mark.parametrize("level", ["info", "warning", "error", "critical"])
@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("key", sorted(SAID))
def test_what_was_said_never_appears_above_debug(log, level, format, key):  # noqa: A002 - the setting's name
    written = log("debug", format)
    getattr(written.to, level)("turn_ended", session="s1", **{key: SECRET})
    assert "s1" in written.text
    assert SECRET not in written.text


TURN = Turn("1", "me", "s1", "user", SECRET, 0.0, context=(Utterance("user", SECRET),))
HIDDEN = [
    {"turn": TURN},
    {"turns": [TURN, {"id": 1, "text": SECRET}]},
    {"result": {"stage": {"deep": ({"transcript": SECRET},)}}},
    {"result": Extraction((), (), (Relation("Ana", "is", SECRET, "asserted", 0.9),))},
    {"heard": Heard(SECRET, 1.0)},
]


@pytest.mark.parametrize("fields", HIDDEN, ids=lambda fields: next(iter(fields)))
@pytest.mark.parametrize("format", ["json", "console"])
def test_what_was_said_is_withheld_at_any_depth(log, fields, format):  # noqa: A002 - the setting's name
    written = log("debug", format)
    written.to.info("turn_ended", **fields)
    assert next(iter(fields)) in written.text
    assert SECRET not in written.text
    written.to.debug("turn_ended", **fields)
    assert SECRET in written.text


def test_how_much_was_said_is_no_secret(log):
    written = log()
    written.to.info("turn_ended", relations=3, correction=0.25, entities=True, text=None)
    assert {key: written.events[0][key] for key in ("relations", "correction", "entities", "text")} == {
        "relations": 3,
        "correction": 0.25,
        "entities": True,
        "text": None,
    }


def test_bound_and_context_values_are_withheld_too(log):
    written = log("debug")
    with structlog.contextvars.bound_contextvars(text=SECRET, session="s1"):
        written.to.bind(utterance=SECRET).info("turn_ended")
    assert written.events[0]["session"] == "s1"
    assert SECRET not in written.text


class Refused(Exception):
    code = "refused"


def fail_on(said: str) -> None:
    try:
        raise ValueError(f"cannot parse {said!r}")
    except ValueError as error:
        raise ExceptionGroup("all failed", [KeyError(said), Refused("the queue is full")]) from error


@pytest.mark.parametrize("logger", ["structlog", "standard library"])
@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_says_where_and_what_but_quotes_nobody(log, logger, format):  # noqa: A002 - the setting's name
    written = log("debug", format)
    to = written.to if logger == "structlog" else logging.getLogger("other")
    try:
        fail_on(SECRET)
    except ExceptionGroup:
        to.exception("turn_failed")
    assert all(part in written.text for part in ("ValueError", "KeyError", "in fail_on", "the queue is full"))
    assert SECRET not in written.text


def test_at_debug_level_a_traceback_is_whole(log):
    written = log("debug")
    try:
        fail_on(SECRET)
    except ExceptionGroup as error:
        written.to.debug("turn_failed", exc_info=error)
    assert SECRET in written.text
