"""One daemon thread that does jobs in order, for code that must not block the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class LaneClosed(RuntimeError):
    """The lane takes no more jobs."""


class Lane:
    """A thread, and not an executor: one that hangs in native code must not keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return not self._closed and self._thread.is_alive()

    def run(self, function: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """The future of `function(*args)`. Jobs queue; one whose future is cancelled is done all the same.

        Raises:
            LaneClosed: the lane is closed, or its thread has died.
        """
        if not self.alive:
            raise LaneClosed(f"{self._thread.name} is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            try:
                result = function(*args)
            except BaseException as error:  # whatever happens, somebody waits for it
                _post(loop, _fail, future, error)
            else:
                _post(loop, _succeed, future, result)

        self._jobs.put(job)
        return future

    def close(self) -> None:
        """Take no more jobs; the thread ends after those that it has."""
        self._closed = True
        self._jobs.put(None)

    def _work(self) -> None:
        while job := self._jobs.get():
            job()
            del job  # an idle thread must not keep a closed model alive


def _post(loop: asyncio.AbstractEventLoop, settle: Callable[[*Ts], None], *args: *Ts) -> None:
    try:
        loop.call_soon_threadsafe(settle, *args)
    except RuntimeError:  # the loop has closed, and with it everyone who waited
        return


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if future.done():
        return
    if not isinstance(error, Exception) or isinstance(error, StopIteration):
        # A future refuses StopIteration, and SystemExit would end the loop instead of the caller.
        error = RuntimeError(f"{type(error).__name__}: {error}")
    future.set_exception(error)
