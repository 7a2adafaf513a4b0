"""Shoal's own event types, beside Wyoming's: typed messages with paired names (`ingest` / `ingested`).

Every request may carry an `id`, which its reply repeats. Requests refuse keys that they do not know, so that a
misspelt one is an error and no surprise; replies may grow new keys.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from wyoming.error import Error
from wyoming.event import Event

from actors.errors import ActorError
from config.schema import Schema
from daemon.errors import DaemonError, EmptyText, NotUtf8, ProtocolError, TextTooLong
from daemon.understood import Understood, describe
from registry.errors import RegistryError

Name = Field(min_length=1, max_length=128)


class Message(BaseModel):
    """One event: `TYPE` is its Wyoming type, the fields are its data."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    TYPE: ClassVar[str]

    id: str | None = Field(default=None, max_length=128)

    def event(self) -> Event:
        """The message as a Wyoming event."""
        return Event(type=self.TYPE, data=self.model_dump(mode="json", exclude_none=True))


class RequestMessage(Message):
    """What a client sends."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- turns ----------------------------------------------------------------------------------------


class Ingest(RequestMessage):
    """Understand a turn and remember it. `turn_id` makes a repeated send harmless; `said_at` is Unix time in s."""

    TYPE = "ingest"
    text: str
    user: str | None = Field(default=None, min_length=1, max_length=128)
    session: str = Field(default="default", min_length=1, max_length=128)
    speaker: str = Field(default="user", min_length=1, max_length=128)
    turn_id: str | None = Field(default=None, min_length=1, max_length=128)
    said_at: float | None = Field(default=None, ge=0, le=32503680000)
    wait: Literal["accepted", "stored"] = "accepted"
    wait_timeout_s: float = Field(default=10.0, gt=0, le=600)


class Ingested(Message):
    """A turn's receipt and what was understood. `seq` is its place in the journal: it is on disk.

    `missing` maps each small model that gave nothing to the reason's code, `stages_ms` each stage to its time. One that
    is `repeated` was accepted before, under the same id: this is the receipt that it had.
    """

    TYPE = "ingested"
    turn_id: str
    seq: int
    session: str
    understood: Understood
    missing: dict[str, str]
    models: dict[str, str]
    stages_ms: dict[str, float]
    stored: dict[str, bool] = {}
    repeated: bool = False


class Preview(RequestMessage):
    """Understand what has been said of a turn so far, and remember nothing.

    `turn_id` is made up where it is left out, and repeated in the reply: send it with all that follows of the turn. A
    space or a mark at the end of `text` tells that the last word has ended.
    """

    TYPE = "preview"
    text: str
    user: str | None = Field(default=None, min_length=1, max_length=128)
    session: str = Field(default="default", min_length=1, max_length=128)
    speaker: str = Field(default="user", min_length=1, max_length=128)
    turn_id: str | None = Field(default=None, min_length=1, max_length=128)


class Previewed(Message):
    """What is understood so far; all but `seq` and `stored` as in `ingested`.

    `understood.text` is what was read: more than was sent where further words of the turn had come meanwhile.
    """

    TYPE = "previewed"
    turn_id: str
    session: str
    understood: Understood
    missing: dict[str, str]
    models: dict[str, str]
    stages_ms: dict[str, float]


class AwaitStored(RequestMessage):
    """Wait until a receipt is committed in both graphs, or ask after it with `timeout_s` 0."""

    TYPE = "await-stored"
    seq: int = Field(ge=1)
    timeout_s: float = Field(default=10.0, ge=0, le=600)


class Stored(Message):
    """Per graph, whether the receipt is committed there; `dead` names the graphs that refused it for good."""

    TYPE = "stored"
    seq: int
    stored: dict[str, bool]
    dead: list[str]


class Watch(RequestMessage):
    """Send this connection an event for every turn from now on."""

    TYPE = "watch"


class Watching(Message):
    """The daemon will send `ingested` and `stored` events as they happen."""

    TYPE = "watching"


class ReportSchema(RequestMessage):
    """Ask what an `ingested` reply looks like."""

    TYPE = "report-schema"


class PublishedSchema(Message):
    """The JSON Schema of an `ingested` reply's data."""

    TYPE = "schema"
    json_schema: dict[str, Any]


# --- memory ---------------------------------------------------------------------------------------


class Recall(RequestMessage):
    """What is known: about one entity, or all of it when `name` is empty."""

    TYPE = "recall"
    user: str | None = Field(default=None, min_length=1, max_length=128)
    name: str = Field(default="", max_length=512)
    graph: Literal["user", "agent"] = "user"
    closed: bool = True
    limit: int = Field(default=200, ge=1, le=10_000)


class Recalled(Message):
    """Facts of the user graph, the last said first, or nodes of the agent graph.

    `total` is one more than the limit where there are more than these: to count them all would take too long.
    """

    TYPE = "recalled"
    facts: list[dict[str, Any]]
    total: int


class Forget(RequestMessage):
    """Erase an entity, a session, or everything that a user's graphs hold."""

    TYPE = "forget"
    scope: Literal["entity", "session", "everything"]
    name: str = Field(default="", max_length=512)
    user: str | None = Field(default=None, min_length=1, max_length=128)


class Forgotten(Message):
    """The wish is journaled under `seq`; `stored` per graph once it is carried out.

    `names` are all by which a forgotten entity was known, none where nothing was; null while no graph can tell.
    """

    TYPE = "forgotten"
    seq: int
    stored: dict[str, bool]
    names: list[str] | None = None


class InspectQueue(RequestMessage):
    """Ask for the context-sync queue and its dead letters."""

    TYPE = "inspect-queue"


class Queue(Message):
    """Per graph the entries that wait and the age of the oldest; the dead letters."""

    TYPE = "queue"
    graphs: dict[str, dict[str, Any]]
    dead_letters: list[dict[str, Any]]


class RetryDeadLetter(RequestMessage):
    """Put a dead letter back into the queue."""

    TYPE = "retry-dead-letter"
    seq: int = Field(ge=1)
    graph: Literal["user", "agent"]


class DiscardDeadLetter(RequestMessage):
    """Erase a dead letter."""

    TYPE = "discard-dead-letter"
    seq: int = Field(ge=1)
    graph: Literal["user", "agent"]


class DeadLetterSettled(Message):
    """The dead letter is gone from the list; `new_seq` is its new receipt after a retry."""

    TYPE = "dead-letter-settled"
    seq: int
    new_seq: int | None = None


# --- models and process ---------------------------------------------------------------------------


class ActivateModel(RequestMessage):
    """Serve another version: `version` is "name@version"."""

    TYPE = "activate-model"
    version: str = Field(min_length=3, max_length=160)
    who: str = Name
    why: str = Field(default="", max_length=512)


class RollbackModel(RequestMessage):
    """Serve the version before, or `to` ("name@version")."""

    TYPE = "rollback-model"
    name: str = Name
    to: str | None = Field(default=None, max_length=160)
    who: str = Name
    why: str = Field(default="", max_length=512)


class ModelActivated(Message):
    """The version that the small models of this name serve now, and the one before."""

    TYPE = "model-activated"
    version: str
    previous: str | None = None


class ReportStatus(RequestMessage):
    """Ask for the daemon's health."""

    TYPE = "report-status"


class Status(Message):
    """Health of every actor, active versions, queue, graph, uptime."""

    TYPE = "status"
    state: str
    version: str
    pid: int
    uptime_s: float
    runtime: str
    actors: list[dict[str, Any]]
    models: dict[str, str]
    queue: dict[str, dict[str, Any]]
    dead_letters: int
    graphs: dict[str, dict[str, Any]]
    metrics_url: str | None = None


class Stop(RequestMessage):
    """Drain and stop the daemon."""

    TYPE = "stop"


class Stopping(Message):
    """The daemon takes nothing new and stops once it has drained."""

    TYPE = "stopping"


REQUESTS: dict[str, type[RequestMessage]] = {message.TYPE: message for message in RequestMessage.__subclasses__()}
REPLIES: dict[str, type[Message]] = {
    message.TYPE: message for message in Message.__subclasses__() if message is not RequestMessage
}


OVERLAPPING = {Preview.TYPE, "transcript-chunk"}
"""Events whose reply a client need not await before the next: a newer one may take the older's place."""


def ingested_schema(schema: Schema) -> dict[str, Any]:
    """The JSON Schema that every `ingested` reply's data is valid against."""
    return describe(Ingested.model_json_schema(), schema)


def parse(message_type: type[Message], event: Event) -> Message:
    """An event's data as a message of the type. Raises: ProtocolError naming the key and what is wrong with it."""
    try:
        return message_type.model_validate(event.data)
    except ValidationError as error:
        raise ProtocolError(f"{event.type}: {faults(error)}") from None


def faults(error: ValidationError) -> str:
    """What is wrong with a message, key by key."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].lower()}" for fault in error.errors(include_url=False)
    )


def clean_text(text: object, max_bytes: int) -> str:
    """A turn's text, control characters turned into spaces.

    Raises:
        ProtocolError: it is no string.
        NotUtf8: it holds half of a surrogate pair, which no UTF-8 can spell.
        TextTooLong: over `max_bytes` in UTF-8.
        EmptyText: nothing printable is left.
    """
    if not isinstance(text, str):
        raise ProtocolError("`text` is no string")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise NotUtf8("the text holds half of a surrogate pair") from None
    if size > max_bytes:
        raise TextTooLong(f"the text has {size} bytes; at most {max_bytes} are taken")
    cleaned = "".join(character if character.isprintable() else _replacement(character) for character in text).strip()
    if not cleaned:
        raise EmptyText("the text holds nothing printable")
    return cleaned


def _replacement(character: str) -> str:
    # Joiners and direction marks are "not printable" to Python, yet emoji and several scripts are spelt with them.
    return character if character in "\u200c\u200d\u200e\u200f\n" else " "


def error_event(error: DaemonError | ActorError | RegistryError, request_id: str | None = None) -> Event:
    """An error as Wyoming's `error` event, with the id of the request that it answers."""
    return with_id(Error(text=str(error) or error.code, code=error.code).event(), request_id)


def with_id(event: Event, request_id: str | None) -> Event:
    """The event, repeating the id of the request that it answers."""
    if request_id is not None:
        event.data["id"] = request_id
    return event
