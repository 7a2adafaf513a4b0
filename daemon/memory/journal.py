"""The journal: every accepted record is on disk before anyone is told, and stays until each graph has it.

Order is by `seq`, never by time. What a record said is erased once no graph needs it; its row stays a while, so that
a client that retries gets the earlier entry and `status` can still answer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from config.settings import JournalSettings
from daemon.errors import Backpressure, JournalUnavailable, RecordRejected, UnknownEntry
from daemon.memory import journal_file as file
from daemon.memory.journal_file import GRAPHS, DeadLetter, Delivery
from daemon.memory.journal_writer import Writer
from daemon.memory.records import Entry, GraphName, Record, TurnRecord

__all__ = ["GRAPHS", "Backlog", "DeadLetter", "Delivery", "Journal"]

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Backlog:
    """What waits for one graph, in memory. `filled` is set while anything does; `dead` counts its dead letters."""

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        self.dead = 0
        self._since: dict[int, float] = {}  # seq -> monotonic time: a wall clock that jumps makes no ages

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, seq: int) -> bool:
        return seq in self._since

    @property
    def oldest_age_s(self) -> float:
        """How long the entry that waits longest has waited; 0 when none does."""
        return max(0.0, time.monotonic() - min(self._since.values())) if self._since else 0.0

    def age_s(self, seq: int) -> float:
        """How long ago a waiting entry was accepted; 0 for one that does not wait."""
        return time.monotonic() - self._since[seq] if seq in self._since else 0.0

    def add(self, seq: int, age_s: float = 0.0) -> None:
        self._since[seq] = time.monotonic() - max(0.0, age_s)
        self.filled.set()

    def remove(self, seqs: Collection[int]) -> None:
        for seq in seqs:
            self._since.pop(seq, None)
        if not self._since:
            self.filled.clear()


class Journal:
    """The durable queue between the socket and the graphs. Use from one event loop."""

    def __init__(self, path: Path, settings: JournalSettings) -> None:
        self._path, self._settings = path, settings
        self._writer: Writer | None = None
        self._id = ""
        self._last_recorded_at = 0.0
        self._unmet: dict[GraphName, int] = {}  # see `journal_file.unmet_since`
        self._backlogs: dict[GraphName, Backlog] = {graph: Backlog() for graph in GRAPHS}
        self._unsynced: dict[int, int] = {}  # seq -> how many graphs still need it
        self._reserved = 0
        self._progress = asyncio.Event()
        self._pruned_at = float("-inf")

    async def open(self) -> None:
        """Open the file, or make one. Raises: JournalCorrupt, HomeInUse, JournalFull, JournalUnavailable."""
        db = await asyncio.to_thread(file.open_file, self._path)
        try:
            with file.translated(self._path):
                self._id, self._unmet = file.identity(db), file.unmet_since(db)
                self._last_recorded_at = file.last_recorded_at(db)
                counts, now = file.dead_counts(db), time.time()
                for graph, backlog in self._backlogs.items():
                    backlog.dead = counts[graph]
                    for seq, recorded_at in file.waiting(db, graph):
                        self._enter(graph, seq, now - recorded_at)
        except BaseException:
            db.close()
            raise
        self._writer = Writer(db, self._path, self._settings.group_commit_ms / 1000, self._tidy)

    async def close(self) -> None:
        """Finish what was submitted, fold the write-ahead log in, close the file. Idempotent."""
        if self._writer is not None:
            await self._writer.close()

    # --- what is known without the disk ---------------------------------------------------------

    @property
    def id(self) -> str:
        """Made with the file: a graph keeps its cursor under it, so a new journal never hides behind an old cursor."""
        return self._id

    @property
    def last_recorded_at(self) -> float:
        """The latest time (Unix, seconds) at which an entry was recorded before the journal was opened; 0 for none."""
        return self._last_recorded_at

    @property
    def unsynced(self) -> int:
        """How many entries at least one graph still needs."""
        return len(self._unsynced)

    def backlog(self, graph: GraphName) -> Backlog:
        return self._backlogs[graph]

    # --- records in -----------------------------------------------------------------------------

    async def append(self, record: Record, *, targets: Sequence[GraphName] = GRAPHS) -> Entry:
        """Write a record; returns once it is on disk. The same user's turn id again gives the earlier entry,
        marked `repeated`.

        Raises:
            Backpressure: too many turns wait for the graphs, and still did after `admission_timeout_s`.
            JournalFull, JournalUnavailable: it was not written.
            RecordRejected: it holds what JSON cannot.
            TurnIdReused: this turn's id stands for another text.
        """
        payload = file.encode(record)
        wanted = tuple(graph for graph in GRAPHS if graph in targets)
        if not wanted:
            raise ValueError("a record needs a graph to go to")
        if isinstance(record, TurnRecord) and not self._has_room():
            earlier = await self._run(lambda db: file.find_turn(db, record))
            if earlier is not None:
                return earlier
            await self._admission()

        def write(db: sqlite3.Connection) -> tuple[Entry, dict[GraphName, int]]:
            earlier = file.find_turn(db, record)
            return earlier or file.insert(db, record, payload, wanted), file.dead_counts(db)

        def landed(result: tuple[Entry, dict[GraphName, int]]) -> None:
            entry, dead = result
            for graph in () if entry.repeated else entry.targets:
                self._enter(graph, entry.seq)
            for graph, count in dead.items():
                if (forgotten := self._backlogs[graph].dead - count) > 0:
                    log.info("dead_letters_forgotten", graph=graph, seq=entry.seq, count=forgotten)
            self._count_dead(dead)

        entry, _ = await self._run(write, landed, reserve=True)
        return entry

    # --- entries out ----------------------------------------------------------------------------

    async def entries(self, after: int, limit: int, target: GraphName) -> list[Entry]:
        """Up to `limit` entries beyond `after` that wait for a graph, in order. Unreadable ones become dead letters."""
        found: list[Entry] = []
        for seq, recorded_at, kind, payload, targets in await self._run(lambda db: file.read(db, target, after, limit)):
            try:
                record = file.decode(kind, payload)
            except ValueError as error:
                log.error("journal_entry_unreadable", seq=seq, error=type(error).__name__)
                await self.dead(seq, target, RecordRejected("this version cannot read the journaled record"))
                continue
            found.append(Entry(seq, recorded_at, record, tuple(graph for graph in GRAPHS if graph in targets)))
        return found

    async def mark_synced(self, graph: GraphName, seq: int) -> None:
        """A graph has committed everything up to `seq`. Erases what no graph needs any more."""
        await self._run(lambda db: file.mark_stored(db, graph, seq), lambda seqs: self._leave(graph, tuple(seqs)))

    async def reconcile(self, graph: GraphName, cursor: int, newest: int = 0) -> None:
        """Take over a graph's own cursor, which is the truth, after a (new) connection to it.

        New entries get numbers beyond `newest`, the highest that any journal has brought there.
        """
        opened_at = self._unmet.get(graph)

        def landed(learned: file.Reconciled) -> None:
            self._unmet.pop(graph, None)
            for seq, new in learned.renewed:
                age_s = self._backlogs[graph].age_s(seq)
                self._leave(graph, (seq,))
                self._enter(graph, new, age_s)
            self._leave(graph, learned.stored)
            for seq, recorded_at in learned.again:
                self._enter(graph, seq, time.time() - recorded_at)

        learned = await self._run(lambda db: file.reconcile(db, graph, cursor, opened_at, newest), landed)
        if learned.renewed:
            log.error("journal_older_than_graph", graph=graph, cursor=cursor, appended_again=len(learned.renewed))
        if learned.again or learned.lost:
            log.error("graph_older_than_journal", graph=graph, resent=len(learned.again), lost=learned.lost)

    async def status(self, seq: int) -> dict[GraphName, Delivery]:
        """How far an entry is on its way to each graph. Raises: UnknownEntry."""
        found = await self._run(lambda db: file.delivery(db, seq))
        return {graph: state for graph, (state, _) in found.items()}

    async def wait_stored(self, seq: int, timeout_s: float) -> dict[GraphName, bool]:
        """Per graph whether the entry is committed there; waits for it up to `timeout_s`. Raises: UnknownEntry."""
        found = await self._run(lambda db: file.delivery(db, seq))
        waits = [(self._backlogs[graph], current) for graph, (_, current) in found.items()]
        await self._until(lambda: not any(current in backlog for backlog, current in waits), timeout_s)
        return {graph: state == "stored" for graph, state in (await self.status(seq)).items()}

    async def wait_empty(self, timeout_s: float) -> bool:
        """Whether every graph has everything within `timeout_s`."""
        return await self._until(lambda: not self._unsynced, timeout_s)

    # --- dead letters ---------------------------------------------------------------------------

    async def dead(self, seq: int, graph: GraphName, error: Exception) -> None:
        """Set an entry aside that a graph will never take. Raises: UnknownEntry when it does not wait for it."""
        code, text = getattr(error, "code", "projection_failed"), f"{type(error).__name__}: {error}"

        def write(db: sqlite3.Connection) -> dict[GraphName, int]:
            file.mark_dead(db, seq, graph, code, text)
            return file.dead_counts(db)

        def landed(dead: dict[GraphName, int]) -> None:
            self._leave(graph, (seq,))
            self._count_dead(dead)

        await self._run(write, landed)

    async def dead_letters(self) -> list[DeadLetter]:
        """Every dead letter, oldest entry first."""
        return [_letter(row) for row in await self._run(file.dead_rows)]

    async def retry(self, seq: int, graph: GraphName) -> Entry:
        """Append a dead letter again, for the graph that did not take it; `status` of the old one follows the new.

        Raises: UnknownEntry, RecordRejected (it cannot be read), Backpressure, JournalFull.
        """
        if not self._has_room():
            await self._admission()

        def write(db: sqlite3.Connection) -> tuple[Entry, dict[GraphName, int]]:
            rows = file.dead_rows(db, graph, seq)
            if not rows:
                raise UnknownEntry(f"there is no dead letter {seq} for the {graph} graph")
            record = _letter(rows[0]).record
            if record is None:
                raise RecordRejected(
                    f"dead letter {seq} cannot be read by this version: discard it, or use a newer one"
                )
            new, recorded_at = file.renew(db, seq, graph)
            return Entry(new, recorded_at, record, (graph,)), file.dead_counts(db)

        def landed(result: tuple[Entry, dict[GraphName, int]]) -> None:
            self._enter(graph, result[0].seq)
            self._count_dead(result[1])

        return (await self._run(write, landed, reserve=True))[0]

    async def discard(self, seq: int, graph: GraphName) -> None:
        """Give a dead letter up for good. Raises: UnknownEntry."""

        def write(db: sqlite3.Connection) -> dict[GraphName, int]:
            if not file.discard(db, [(seq, graph)]):
                raise UnknownEntry(f"there is no dead letter {seq} for the {graph} graph")
            return file.dead_counts(db)

        await self._run(write, self._count_dead)

    # --- inside ---------------------------------------------------------------------------------

    async def _run(
        self,
        work: Callable[[sqlite3.Connection], T],
        landed: Callable[[T], None] | None = None,
        *,
        reserve: bool = False,
    ) -> T:
        """Run `work` on the writer thread; `landed` takes note of it even where the caller was cancelled meanwhile.

        `reserve` counts an entry while it is under way, or a crowd would pass the bound together.
        """
        if self._writer is None:
            raise JournalUnavailable(f"{self._path} is not open")
        future = self._writer.submit(work)
        self._reserved += reserve

        def settled(done: asyncio.Future[T]) -> None:
            self._reserved -= reserve
            if landed is not None and not done.cancelled() and done.exception() is None:
                landed(done.result())
            if reserve:
                self._progressed()

        future.add_done_callback(settled)
        return await asyncio.shield(future)

    def _has_room(self) -> bool:
        return len(self._unsynced) + self._reserved < self._settings.max_unsynced

    async def _admission(self) -> None:
        if not await self._until(self._has_room, self._settings.admission_timeout_s):
            raise Backpressure(
                f"{len(self._unsynced)} turns wait for the graphs (journal.max_unsynced); see `shoal status`"
            )

    async def _until(self, reached: Callable[[], bool], timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while not reached():
                    await self._progress.wait()
        except TimeoutError:
            return reached()
        return True

    def _progressed(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    def _enter(self, graph: GraphName, seq: int, age_s: float = 0.0) -> None:
        if seq not in self._backlogs[graph]:
            self._unsynced[seq] = self._unsynced.get(seq, 0) + 1
        self._backlogs[graph].add(seq, age_s)

    def _leave(self, graph: GraphName, seqs: Collection[int]) -> None:
        backlog = self._backlogs[graph]
        for seq in seqs:
            if seq in backlog:
                self._unsynced[seq] -= 1
                if not self._unsynced[seq]:
                    del self._unsynced[seq]
        backlog.remove(seqs)
        self._progressed()

    def _count_dead(self, counts: dict[GraphName, int]) -> None:
        for graph, count in counts.items():
            self._backlogs[graph].dead = count

    def _tidy(self, db: sqlite3.Connection) -> None:
        """In a quiet moment: fold the log into the file, so that erased text leaves the disk; once a day, prune."""
        if time.monotonic() - self._pruned_at > 86_400:
            file.prune(db, time.time() - file.KEPT_AFTER_STORED_S)
            self._pruned_at = time.monotonic()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _letter(row: tuple[int, GraphName, str, str, float, float, str, bytes]) -> DeadLetter:
    seq, graph, code, error, recorded_at, died_at, kind, payload = row
    try:
        record = file.decode(kind, payload)
    except ValueError:
        record = None
    return DeadLetter(seq, graph, code, error, recorded_at, died_at, record)
