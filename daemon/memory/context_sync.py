"""Carries journal entries to the graphs: in order, in batches, each exactly once, for as long as it takes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from config.settings import SyncSettings
from daemon.errors import GraphRefused, GraphUnavailable
from daemon.memory.graph_transaction import GraphTransaction
from daemon.memory.journal import Journal
from daemon.memory.records import Entry, GraphName, TurnRecord, Writes

COMPLETION_ATTEMPTS = 3
log = structlog.get_logger(__name__)

Complete = Callable[[TurnRecord], Awaitable[TurnRecord]]
Stored = Callable[[GraphName, Entry, float], None]


class Projection(Protocol):
    """Decides what entries change in one graph."""

    async def build(self, tx: GraphTransaction, entries: Sequence[Entry]) -> Writes:
        """What to write, decided on what `tx` reads. May run again for the same entries: no lasting side effect."""

    def committed(self, writes: Writes) -> None:
        """The writes of the last `build` are in the graph: update caches."""

    def reset(self) -> None:
        """Drop caches: the connection was lost, or the graph may hold something else now."""


class Store(Protocol):
    """What the sync needs of a graph; `daemon.memory.graph.GraphStore` is the one there is."""

    async def open(self) -> None: ...

    async def cursor(self, journal_id: str) -> int: ...

    async def newest_seq(self) -> int: ...

    async def apply(
        self, journal_id: str, last_seq: int, build: Callable[[GraphTransaction, int], Awaitable[Writes]]
    ) -> Writes: ...


@dataclass(frozen=True, slots=True)
class SyncState:
    """One graph's sync, counted since the start; `dead` and `depth` are what the journal holds now."""

    graph: GraphName
    connected: bool
    depth: int
    oldest_age_s: float
    dead: int
    applied: int
    batches: int
    retries: int
    dead_lettered: int
    incomplete: int
    last_error: str


class ContextSync:
    """One worker per graph. A graph that is down, refuses or comes back never stops its worker, nor the other's.

    `complete` makes up for an understanding that timed out before the turn was journaled; the user graph gets what it
    returns. `stored` hears of every entry that reached a graph, with the seconds since its receipt.
    """

    def __init__(
        self,
        journal: Journal,
        stores: Mapping[GraphName, Store],
        projections: Mapping[GraphName, Projection],
        settings: SyncSettings,
        complete: Complete,
        stored: Stored | None = None,
    ) -> None:
        self._journal = journal
        self._workers = {
            graph: _Worker(
                graph,
                journal,
                store,
                projections[graph],
                settings,
                complete if graph == "user" else None,
                stored or (lambda _graph, _entry, _seconds: None),
            )
            for graph, store in stores.items()
        }
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; graphs are opened in the background, however long that takes."""
        self._tasks = [
            asyncio.create_task(worker.run(), name=f"sync-{graph}") for graph, worker in self._workers.items()
        ]

    async def tried(self, timeout_s: float) -> None:
        """Wait until every graph was opened once, or was not there to be; no longer than `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(worker.tried.wait() for worker in self._workers.values()))

    async def drain(self, timeout_s: float) -> bool:
        """Whether everything journaled reached its graphs within `timeout_s`."""
        return await self._journal.wait_empty(timeout_s)

    async def stop(self) -> None:
        """End the workers; what is not in a graph stays in the journal. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def states(self) -> list[SyncState]:
        """Where each graph stands."""
        return [worker.state() for worker in self._workers.values()]


class _Worker:
    def __init__(
        self,
        graph: GraphName,
        journal: Journal,
        store: Store,
        projection: Projection,
        settings: SyncSettings,
        complete: Complete | None,
        stored: Stored,
    ) -> None:
        self._graph, self._journal, self._store, self._projection = graph, journal, store, projection
        self._settings, self._complete, self._stored = settings, complete, stored
        self._completed: dict[int, TurnRecord] = {}  # made up for, not yet in the graph
        self._refusals: dict[int, int] = {}  # seq -> attempts so far, kept while the graph is away
        self.tried = asyncio.Event()
        self._connected = False
        self._failures = 0
        self._applied = self._batches = self._retries = self._dead_lettered = self._incomplete = 0
        self._last_error = ""

    def state(self) -> SyncState:
        backlog = self._journal.backlog(self._graph)
        return SyncState(
            graph=self._graph,
            connected=self._connected,
            depth=len(backlog),
            oldest_age_s=backlog.oldest_age_s,
            dead=backlog.dead,
            applied=self._applied,
            batches=self._batches,
            retries=self._retries,
            dead_lettered=self._dead_lettered,
            incomplete=self._incomplete,
            last_error=self._last_error,
        )

    async def run(self) -> None:
        """Connect, deliver, and after any failure wait and begin again from the graph's own cursor."""
        while True:
            try:
                await self._connect()
                self.tried.set()
                while True:
                    await self._deliver_next()
            except Exception as error:  # a worker that ended would leave its graph behind for good
                self._connected = False
                self.tried.set()
                self._projection.reset()
                self._note(error)
                await self._back_off(self._failures)
                self._failures += 1

    async def _connect(self) -> None:
        await self._store.open()
        cursor, newest = await self._store.cursor(self._journal.id), await self._store.newest_seq()
        await self._journal.reconcile(self._graph, cursor, newest)
        self._connected = True
        if self._last_error:
            log.info("graph_connected", graph=self._graph)

    async def _deliver_next(self) -> None:
        backlog = self._journal.backlog(self._graph)
        await backlog.filled.wait()
        # Whoever speaks may speak on: a burst goes in one batch, and leaves the processor to the replies meanwhile.
        gathering_s = self._settings.gather_s - backlog.oldest_age_s
        if gathering_s > 0 and len(backlog) < self._settings.batch_turns:
            await asyncio.sleep(gathering_s)
        # Whatever waits lies beyond the graph's cursor: `reconcile` and `mark_synced` see to that.
        entries = await self._journal.entries(0, self._settings.batch_turns, self._graph)
        if not entries:
            return
        entries = await self._understood(entries)
        try:
            writes = await self._apply(entries)
        except GraphUnavailable:
            raise
        except Exception as error:  # a refusal or a bug in the projection: find the entry that it is about
            self._note(error)
            self._projection.reset()
            for entry in entries:
                await self._deliver_alone(entry)
        else:
            await self._settle(entries, writes)

    async def _deliver_alone(self, entry: Entry) -> None:
        while True:
            try:
                writes = await self._apply([entry])
            except GraphUnavailable:
                raise
            except Exception as error:
                self._note(error)
                self._projection.reset()
                attempts = self._refusals[entry.seq] = self._refusals.get(entry.seq, 0) + 1
                if attempts >= self._settings.attempts:
                    return await self._set_aside(entry, error)
                await self._back_off(attempts - 1)
            else:
                return await self._settle([entry], writes)

    async def _apply(self, entries: Sequence[Entry]) -> Writes:
        async def build(tx: GraphTransaction, cursor: int) -> Writes:
            fresh = [entry for entry in entries if entry.seq > cursor]
            return await self._projection.build(tx, fresh) if fresh else Writes()

        return await self._store.apply(self._journal.id, entries[-1].seq, build)

    async def _settle(self, entries: Sequence[Entry], writes: Writes) -> None:
        """The graph has it. Should this fail, the next connection learns as much from the graph's cursor."""
        self._projection.committed(writes)
        self._failures = 0
        self._batches += 1
        self._applied += len(entries)
        self._drop_notes(entries)
        backlog = self._journal.backlog(self._graph)
        for entry in entries:
            self._stored(self._graph, entry, backlog.age_s(entry.seq))
        await self._journal.mark_synced(self._graph, entries[-1].seq)

    async def _set_aside(self, entry: Entry, error: Exception) -> None:
        # A graph that refuses an empty write too is itself at fault: then the entry waits, however long.
        try:
            await self._store.apply(self._journal.id, entry.seq - 1, _nothing)
        except GraphRefused as refusal:
            raise GraphUnavailable(f"the {self._graph} graph refuses every write: {refusal}") from refusal
        await self._journal.dead(entry.seq, self._graph, error)
        self._dead_lettered += 1
        self._drop_notes([entry])
        log.error("dead_letter", graph=self._graph, seq=entry.seq, error=_code(error))
        await self._store.apply(self._journal.id, entry.seq, _nothing)

    # --- understanding that came too late -------------------------------------------------------

    async def _understood(self, entries: Sequence[Entry]) -> list[Entry]:
        return list(await asyncio.gather(*(self._made_up_for(entry) for entry in entries)))

    async def _made_up_for(self, entry: Entry) -> Entry:
        record = entry.record
        if self._complete is None or not isinstance(record, TurnRecord) or "extractor" not in record.missing:
            return entry
        if entry.seq not in self._completed:
            self._completed[entry.seq] = await self._completion(self._complete, record)
        return replace(entry, record=self._completed[entry.seq])

    async def _completion(self, complete: Complete, record: TurnRecord) -> TurnRecord:
        for attempt in range(COMPLETION_ATTEMPTS):
            if attempt:
                await self._back_off(attempt - 1)
            with contextlib.suppress(Exception):  # whatever it was, the turn is stored as an utterance at least
                completed = await complete(record)
                if "extractor" not in completed.missing:
                    return completed
        self._incomplete += 1
        log.warning("turn_not_understood", session=record.turn.session, turn=record.turn.id)
        return record

    # --- inside ---------------------------------------------------------------------------------

    def _drop_notes(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._completed.pop(entry.seq, None)
            self._refusals.pop(entry.seq, None)

    def _note(self, error: Exception) -> None:
        """Count and log a failure; its text may quote what was said, so that is for the debug level."""
        self._retries += 1
        self._last_error = f"{_code(error)}: {error}"
        log.warning("sync_failed", graph=self._graph, error=_code(error), failures=self._failures + 1)
        log.debug("sync_failed_because", graph=self._graph, exc_info=error)

    async def _back_off(self, earlier: int) -> None:
        """Twice as long as the last time, up to `retry_max_s`, with jitter so that two graphs do not march in step."""
        longest = min(self._settings.retry_max_s, self._settings.retry_min_s * 2.0 ** min(earlier, 32))
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - no secret


async def _nothing(_tx: GraphTransaction, _cursor: int) -> Writes:
    return Writes()


def _code(error: Exception) -> str:
    return str(getattr(error, "code", type(error).__name__))
