"""Logging: one line per event on stderr, for a person or as JSON, and never what was said above debug level."""

from __future__ import annotations

import dataclasses
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from config.settings import LogSettings

# fmt: off
SAID = frozenset((
    "text", "texts", "utterance", "utterances", "transcript", "transcripts", "transcription", "partial", "partials",
    "said", "question", "answer", "reply", "prompt", "query", "context", "payload", "mention", "mentions", "entity",
    "entities", "relation", "relations", "links", "fact", "facts", "subject", "object", "antecedent", "correction",
    "corrections",
))
# fmt: on
"""Keys under which an event may hold what a person or the agent said: above debug level only numbers stay there."""

HANDLER = "shoal"


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send the events of structlog, the standard library's loggers and warnings to `stream` (stderr when None).

    Call again to change the level or the format.
    """
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
        withhold_what_was_said,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        # repr escapes the control characters that a client might send to a person's terminal.
        else structlog.dev.ConsoleRenderer(colors=stream.isatty(), repr_native_str=True)
    )
    handler = logging.StreamHandler(stream)
    handler.name = HANDLER
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    root = logging.getLogger()
    for earlier in [handler for handler in root.handlers if handler.name == HANDLER]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def withhold_what_was_said(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop what stands under `SAID` in events above debug, at any depth, and what foreign exceptions quote."""
    exception = _exception(event.pop("exc_info", None))
    withheld = event["level"] != "debug"
    if exception:
        event["exception"] = "\n".join(_describe(exception, withheld=withheld))
    return _without_said(event) if withheld else event


def _without_said(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {
            key: _without_said(inner)
            for key, inner in value.items()
            if key not in SAID or inner is None or isinstance(inner, (int, float))
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_without_said(inner) for inner in value]
    return value


def _exception(exc_info: object) -> BaseException | None:
    """The exception that `exc_info` stands for, in any of the forms that logging allows."""
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        return error
    return sys.exc_info()[1] if exc_info else None


def _describe(error: BaseException, *, withheld: bool) -> Iterator[str]:
    """Lines of a traceback, causes first. Other people's messages may quote their input; ours, with a code, do not."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause:
        yield from _describe(cause, withheld=withheld)
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip()
    quotable = not withheld or hasattr(error, "code") or isinstance(error, OSError)
    yield f"{type(error).__qualname__}: {error if quotable else '(its message appears at debug level)'}"
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _describe(part, withheld=withheld)
