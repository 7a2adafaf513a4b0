"""The journal's one writer thread: what arrives together is committed together, with one fsync."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from daemon.errors import DaemonError, JournalUnavailable
from daemon.memory.journal_file import translated

T = TypeVar("T")
IDLE_S = 1.0
"""Without a job for this long after a write, the file is tidied."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


class Writer:
    """Runs jobs on an open file, in order, each in a transaction that it may share with its neighbours.

    A job may raise a DaemonError before it has written anything; that fails the job alone.
    """

    def __init__(
        self, db: sqlite3.Connection, path: Path, group_commit_s: float, tidy: Callable[[sqlite3.Connection], None]
    ) -> None:
        self._db, self._path, self._group_commit_s, self._tidy = db, path, group_commit_s, tidy
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Its result, once what it wrote is on disk. Raises: JournalUnavailable after `close`."""
        if self._closed:
            raise JournalUnavailable(f"{self._path} is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, future))
        return future

    async def close(self) -> None:
        """Run what was submitted, then close the file."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        crowded = closing = False
        tidied_at = self._db.total_changes
        while not closing:
            try:
                job = self._jobs.get(timeout=IDLE_S if self._db.total_changes != tidied_at else None)
            except queue.Empty:
                self._tidy_up()
                tidied_at = self._db.total_changes
                continue
            # One client alone never waits for company: the window opens only when the last batch had some.
            batch, closing = self._gather(job, self._group_commit_s if crowded else 0.0)
            crowded = len(batch) > 1
            if batch:
                self._commit(batch)
        self._tidy_up()
        self._db.close()

    def _gather(self, first: _Job | None, window_s: float) -> tuple[list[_Job], bool]:
        """The jobs that arrive within the window, and whether the end is among them."""
        batch: list[_Job] = []
        ends_at = time.monotonic() + window_s
        job = first
        while job is not None:
            batch.append(job)
            try:
                job = self._jobs.get(timeout=max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: Sequence[_Job]) -> None:
        outcomes: list[tuple[_Job, Any, Exception | None]] = []
        try:
            with translated(self._path):
                self._db.execute("BEGIN IMMEDIATE")
                for job in batch:
                    try:
                        outcomes.append((job, job.work(self._db), None))
                    except DaemonError as error:
                        outcomes.append((job, None, error))
                self._db.execute("COMMIT")
        except Exception as error:  # whatever happens, every job ends in a result or an error
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if len(batch) > 1:  # one job's fault (or its size, on a full disk) is not its neighbours'
                for job in batch:
                    self._commit([job])
                return
            outcomes = [(batch[0], None, error)]
        try:
            self._loop.call_soon_threadsafe(_settle, outcomes)
        except RuntimeError:  # the loop is gone, and with it everyone who waited
            log.debug("journal_loop_closed", unheard=len(outcomes))

    def _tidy_up(self) -> None:
        try:
            with translated(self._path):
                self._tidy(self._db)
        except DaemonError as error:  # a full disk, say: the quiet moment after the next write tries again
            log.warning("journal_not_tidied", code=error.code, error=str(error))


def _settle(outcomes: Sequence[tuple[_Job, Any, Exception | None]]) -> None:
    for job, result, error in outcomes:
        if job.future.done():
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)
