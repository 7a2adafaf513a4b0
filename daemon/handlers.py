"""What each request does: one handler a message type, Wyoming's own events translated to ours."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.event import Event
from wyoming.handle import Handled
from wyoming.info import Attribution, Describe, HandleModel, HandleProgram, Info, IntentModel, IntentProgram
from wyoming.intent import Entity, Intent, Recognize
from wyoming.ping import Ping, Pong

from actors.contract import Runtime
from config.settings import Settings
from daemon.dictation import Dictation
from daemon.errors import ProtocolError, UnknownType
from daemon.memory.context_sync import ContextSync
from daemon.memory.journal import Journal
from daemon.memory.recall import Memory
from daemon.memory.records import Entry, ForgetRecord, GraphName, TurnRecord
from daemon.memory.statements import shipped_schema
from daemon.metrics import Metrics
from daemon.models import Models
from daemon.previews import Previews
from daemon.protocol import (
    REQUESTS,
    ActivateModel,
    AwaitStored,
    DeadLetterSettled,
    DiscardDeadLetter,
    Forget,
    Forgotten,
    Ingest,
    Ingested,
    InspectQueue,
    Message,
    ModelActivated,
    Preview,
    PublishedSchema,
    Queue,
    Recall,
    Recalled,
    ReportSchema,
    ReportStatus,
    RetryDeadLetter,
    RollbackModel,
    Status,
    Stop,
    Stopping,
    Stored,
    Watch,
    Watching,
    ingested_schema,
    parse,
    with_id,
)
from daemon.server import Connection
from daemon.turns import Turns

FORGET_TIMEOUT_S = 10.0
SHOAL = Attribution(name="Shoal", url="")


class Handlers:
    """Turns events into replies. Built once by `daemon.app`; `publish` sends what it makes to watching clients."""

    def __init__(
        self,
        settings: Settings,
        turns: Turns,
        previews: Previews,
        journal: Journal,
        sync: ContextSync,
        memory: Memory,
        models: Models,
        runtime: Runtime,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._turns = turns
        self._previews = previews
        self._journal = journal
        self._sync = sync
        self._memory = memory
        self._models = models
        self._runtime = runtime
        self._metrics = metrics
        self._started_at = time.monotonic()
        self.metrics_url: str | None = None
        self.publish: Callable[[Callable[[], Event]], None] = lambda _make: None
        self.stop_requested = asyncio.Event()
        self.failure: Exception | None = None
        self._by_type: Mapping[str, Callable[[Any], Awaitable[Message]]] = {
            Ingest.TYPE: self._ingest,
            Preview.TYPE: previews.preview,
            ReportSchema.TYPE: self._report_schema,
            AwaitStored.TYPE: self._await_stored,
            Recall.TYPE: self._recall,
            Forget.TYPE: self._forget,
            InspectQueue.TYPE: self._inspect_queue,
            RetryDeadLetter.TYPE: self._retry_dead_letter,
            DiscardDeadLetter.TYPE: self._discard_dead_letter,
            ActivateModel.TYPE: self._activate_model,
            RollbackModel.TYPE: self._rollback_model,
            ReportStatus.TYPE: self._report_status,
            Stop.TYPE: self._stop,
        }

    async def handle(self, event: Event, connection: Connection) -> Event:
        """The reply to an event. Raises: an error with a code."""
        if event.type in self._by_type:
            request = parse(REQUESTS[event.type], event)
            reply = (await self._by_type[event.type](request)).event()
            return with_id(reply, request.id)
        if event.type == Watch.TYPE:
            request = parse(Watch, event)
            connection.watching = True
            return with_id(Watching().event(), request.id)
        return await self._wyoming(event, connection)

    def fail(self, error: Exception) -> None:
        """Stop for a reason that only a new start can mend."""
        self.failure = self.failure or error
        self.stop_requested.set()

    # --- turns --------------------------------------------------------------------------------------

    async def _ingest(self, message: Ingest) -> Ingested:
        reply = await self._turns.ingest(message)
        if not reply.repeated:
            self.publish(reply.event)
        if message.wait == "stored":
            stored = await self._journal.wait_stored(reply.seq, message.wait_timeout_s)
            reply = reply.model_copy(update={"stored": dict(stored)})
        return reply

    async def _await_stored(self, message: AwaitStored) -> Stored:
        stored = await self._journal.wait_stored(message.seq, message.timeout_s)
        states = await self._journal.status(message.seq)
        return Stored(
            seq=message.seq, stored=dict(stored), dead=[graph for graph, state in states.items() if state == "dead"]
        )

    async def _report_schema(self, _message: ReportSchema) -> PublishedSchema:
        return PublishedSchema(json_schema=ingested_schema(shipped_schema()))

    def on_stored(self, graph: GraphName, entry: Entry, seconds: float) -> None:
        """Tell the metrics and whoever watches that an entry is committed in a graph."""
        self._metrics.stored.labels(graph).observe(seconds)
        self.publish(lambda: Stored(seq=entry.seq, stored={graph: True}, dead=[]).event())

    # --- memory -------------------------------------------------------------------------------------

    async def _recall(self, message: Recall) -> Recalled:
        user = message.user or self._settings.user
        if message.graph == "agent":
            found = await self._memory.agent_nodes(user, limit=message.limit + 1)
        else:
            found = await self._memory.facts(user, message.name, closed=message.closed, limit=message.limit + 1)
        return Recalled(facts=found[: message.limit], total=len(found))

    async def _forget(self, message: Forget) -> Forgotten:
        if message.scope != "everything" and not message.name:
            raise ProtocolError(f"forget: `name` says which {message.scope}")
        user = message.user or self._settings.user
        names = await self._memory.names_of(user, message.name) if message.scope == "entity" else None
        entry = await self._journal.append(ForgetRecord(user, message.scope, message.name, names or ()))
        session = message.name if message.scope == "session" else None
        self._turns.conversations.forget(user, session)
        stored = await self._journal.wait_stored(entry.seq, FORGET_TIMEOUT_S)
        self._turns.conversations.forget(user, session)  # one begun meanwhile may remember
        return Forgotten(seq=entry.seq, stored=dict(stored), names=None if names is None else list(names))

    async def _inspect_queue(self, _message: InspectQueue) -> Queue:
        letters = [
            {
                "seq": letter.seq,
                "graph": letter.graph,
                "error": f"{letter.code}: {letter.error}",
                "at": letter.died_at,
                "what": letter.record.turn.text if isinstance(letter.record, TurnRecord) else str(letter.record),
            }
            for letter in await self._journal.dead_letters()
        ]
        return Queue(graphs=self._queue(), dead_letters=letters)

    async def _retry_dead_letter(self, message: RetryDeadLetter) -> DeadLetterSettled:
        entry = await self._journal.retry(message.seq, message.graph)
        return DeadLetterSettled(seq=message.seq, new_seq=entry.seq)

    async def _discard_dead_letter(self, message: DiscardDeadLetter) -> DeadLetterSettled:
        await self._journal.discard(message.seq, message.graph)
        return DeadLetterSettled(seq=message.seq)

    # --- models and process -------------------------------------------------------------------------

    async def _activate_model(self, message: ActivateModel) -> ModelActivated:
        before = await self._models.activate(message.version, who=message.who, why=message.why)
        self._metrics.show_versions(self._models.serving())
        return ModelActivated(version=message.version, previous=before)

    async def _rollback_model(self, message: RollbackModel) -> ModelActivated:
        now, before = await self._models.rollback(message.name, to=message.to, who=message.who, why=message.why)
        self._metrics.show_versions(self._models.serving())
        return ModelActivated(version=now, previous=before)

    async def _report_status(self, _message: ReportStatus) -> Status:
        actors = [asdict(health) for health in await self._runtime.health()]
        graphs = {
            state.graph: {
                "up": state.connected,
                "error": state.last_error if not state.connected else "",
                "applied": state.applied,
                "retries": state.retries,
                "incomplete": state.incomplete,
            }
            for state in self._sync.states()
        }
        healthy = all(actor["state"] == "serving" for actor in actors) and all(graph["up"] for graph in graphs.values())
        return Status(
            state="ready" if healthy else "degraded",
            version=version("shoal"),
            pid=os.getpid(),
            uptime_s=time.monotonic() - self._started_at,
            runtime=self._settings.runtime,
            actors=actors,
            models=self._models.serving(),
            queue=self._queue(),
            dead_letters=sum(state.dead for state in self._sync.states()),
            graphs={graph: {**report, "uri": self._memory.where(graph)} for graph, report in graphs.items()},
            metrics_url=self.metrics_url,
        )

    async def _stop(self, _message: Stop) -> Stopping:
        self.stop_requested.set()
        return Stopping()

    def _queue(self) -> dict[str, dict[str, Any]]:
        return {
            state.graph: {"pending": state.depth, "oldest_age_s": round(state.oldest_age_s, 3)}
            for state in self._sync.states()
        }

    # --- Wyoming's own events -----------------------------------------------------------------------

    async def _wyoming(self, event: Event, connection: Connection) -> Event:
        if Ping.is_type(event.type):
            return Pong(text=event.data.get("text")).event()
        if Describe.is_type(event.type):
            return self._info().event()
        if Transcript.is_type(event.type):
            return _handled(await self._transcript(event, connection))
        if TranscriptStart.is_type(event.type):
            connection.dictation = dictation = Dictation(_named(event))
            return dictation.begun().event()
        if TranscriptChunk.is_type(event.type):
            return await self._transcript_chunk(event, connection)
        if TranscriptStop.is_type(event.type):
            return await self._transcript_stop(connection)
        if Recognize.is_type(event.type):
            return _intent(await self._ingest(_as_ingest(event))).event()
        raise UnknownType(f"{event.type[:64]!r} is not served; `describe` tells what is")

    async def _transcript(self, event: Event, connection: Connection) -> Ingested:
        dictation = connection.dictation
        if dictation is None or dictation.ingested is not None:
            return await self._ingest(_as_ingest(event))
        final = _as_ingest(event)  # checked before it replaces the chunks
        dictation.ingested = await self._ingest(dictation.finish(final.text, _named(event)))
        return dictation.ingested

    async def _transcript_chunk(self, event: Event, connection: Connection) -> Event:
        dictation = _going_on(connection)
        if dictation.ingested:
            raise ProtocolError("the transcript is final: transcript-stop ends it, transcript-start begins the next")
        try:
            preview = dictation.grow(event.data.get("text"), self._settings.server.max_text_bytes)
        except ProtocolError:
            connection.dictation = None  # a turn with a hole in it must not be ingested for the whole
            raise
        return (await self._previews.preview(preview) if preview else dictation.begun()).event()

    async def _transcript_stop(self, connection: Connection) -> Event:
        dictation = _going_on(connection)
        reply = dictation.ingested or await self._ingest(dictation.whole())
        connection.dictation = None  # only now: one that was refused can be sent again
        return _handled(reply)

    def _info(self) -> Info:
        here = version("shoal")
        served = self._models.serving()
        handle = [
            HandleModel(name=name, attribution=SHOAL, installed=True, description=slm, version=number, languages=["en"])
            for slm, (name, _, number) in ((slm, served_by.partition("@")) for slm, served_by in served.items())
        ]
        intent = [IntentModel(**{**asdict(model), "attribution": SHOAL}) for model in handle]
        about: dict[str, Any] = {"name": "shoal", "attribution": SHOAL, "installed": True, "version": here}
        return Info(
            handle=[HandleProgram(**about, description="Understands and remembers what is said", models=handle)],
            intent=[IntentProgram(**about, description="Tells what a question needs", models=intent)],
        )


def _as_ingest(event: Event) -> Ingest:
    """A transcript or recognize event as a turn."""
    message = parse(Ingest, Event(Ingest.TYPE, {"text": event.data.get("text"), **_named(event)}))
    assert isinstance(message, Ingest)  # noqa: S101 - parse validates into the type it is given
    return message


def _named(event: Event) -> dict[str, Any]:
    """What the `context` of a Wyoming event tells of the turn: user, session, speaker and id."""
    context = event.data.get("context")
    named = context if isinstance(context, dict) else {}
    return {key: named[key] for key in ("user", "session", "speaker", "turn_id") if named.get(key) is not None}


def _going_on(connection: Connection) -> Dictation:
    if connection.dictation is None:
        raise ProtocolError("no transcript goes on here: transcript-start begins one")
    return connection.dictation


def _handled(reply: Ingested) -> Event:
    return Handled(text="", context=_receipt(reply)).event()


def _receipt(reply: Ingested) -> dict[str, Any]:
    return {"turn_id": reply.turn_id, "receipt": reply.seq, "session": reply.session, "understood": reply.understood}


def _intent(reply: Ingested) -> Intent:
    classification, extracted = reply.understood.get("classifier"), reply.understood.get("extractor")
    entities = extracted["entities"] if extracted else []
    return Intent(
        name=classification["category"] if classification else "unknown",
        entities=[Entity(name=entity["type"], value=entity["text"]) for entity in entities],
        context=_receipt(reply),
    )
