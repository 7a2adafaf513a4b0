"""The host: wraps any small model, batches what arrives together, swaps versions, ends every request."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import traceback
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import psutil

from actors.contract import SLM
from actors.errors import ActorError, ModelLoadError, SlmFailed, SlmOverloaded, SlmTimeout, SlmUnavailable
from actors.implementations import load_version
from actors.lane import Lane, LaneClosed
from actors.messages import Answer, HostHealth, Request, Result
from config.settings import SlmSettings
from registry.active import ActivePointers
from registry.store import Store

_log = logging.getLogger(__name__)

CLOSE_GRACE_S = 1.0
"""How long `drain` waits for a model to close once its time is up."""


@dataclass(frozen=True, slots=True)
class HostSpec:
    """What a host needs to know to load its model, now and after every restart."""

    slm: str
    settings: SlmSettings
    registry_root: Path
    replica: int = 0


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A small model and the version ("name@version") it was loaded from."""

    slm: SLM
    version: str


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    request: Request
    future: asyncio.Future[Answer]
    received_at: float


_Outcome: TypeAlias = Result | ActorError


class Host:
    """One replica of one small model. It loads the active version; a failure to load is told by `ready`.

    A host that could not load stays, refuses requests with the reason, and serves after the next good `swap`.
    Methods belong to one event loop; the model runs in a thread of its own, one batch at a time.
    """

    def __init__(self, spec: HostSpec) -> None:
        self._spec = spec
        self._name = f"{spec.slm}-{spec.replica}"
        self._lane = Lane(f"{self._name}-model")
        self._queue: deque[_Pending] = deque()
        self._running: Sequence[_Pending] = ()
        self._running_since = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._swapping = asyncio.Lock()
        self._draining = False
        self._answered = 0
        self._failed = 0
        self._model: LoadedModel | None = None
        self._load_error: ModelLoadError | None = None
        try:
            self._model = load_model(spec)
        except ModelLoadError as error:
            self._load_error = error

    @property
    def up(self) -> bool:
        """Whether it can take requests."""
        return self._model is not None and self._lane.alive and not self._draining and not self.hung

    @property
    def hung(self) -> bool:
        """Whether the model has been at one batch for longer than `hang_timeout_s`."""
        return bool(self._running) and time.monotonic() - self._running_since > self._spec.settings.hang_timeout_s

    async def ready(self) -> str:
        """The version served. Raises: ModelLoadError, SlmUnavailable."""
        if self._load_error:
            raise self._load_error
        return self._serving().version

    async def handle(self, request: Request, remaining_s: float) -> Answer:
        """Answer within `remaining_s`, alone or in a batch with others.

        Raises:
            SlmUnavailable, SlmOverloaded, SlmTimeout, RequestRejected, SlmFailed
        """
        self._serving()
        if len(self._queue) >= self._spec.settings.max_queued:
            raise SlmOverloaded(f"{self._name}: {len(self._queue)} requests wait already")
        now = time.monotonic()
        request = replace(request, deadline=now + remaining_s)
        pending = _Pending(request, asyncio.get_running_loop().create_future(), now)
        self._queue.append(pending)
        self._idle.clear()
        self._pump()
        try:
            async with asyncio.timeout(remaining_s):
                return await pending.future
        except TimeoutError:
            self._failed += 1
            raise SlmTimeout(f"{self._name}: no answer within {remaining_s:.3f} s") from None
        finally:
            if not pending.future.done():
                pending.future.cancel()
            with suppress(ValueError):  # whoever stopped waiting must not fill the queue
                self._queue.remove(pending)

    async def swap(self, version: str) -> str:
        """Load `version` beside the one served, switch between two batches; returns the version served before.

        Raises:
            ModelLoadError: it cannot be loaded, or not in time; the old one serves on.
            SlmUnavailable: the host is draining.
        """
        async with self._swapping:
            self._refuse_when_draining()
            loaded = await self._load_beside(version)
            if self._draining:
                _close(loaded)
            self._refuse_when_draining()
            old, self._model, self._load_error = self._model, loaded, None
            if old:
                # The lane works in order: what the old version computes now ends before it closes.
                self._lane.run(_close, old)
            return old.version if old else ""

    async def health(self) -> HostHealth:
        """This replica's state; "down" when it has no model to serve with."""
        return HostHealth(
            slm=self._spec.slm,
            replica=self._spec.replica,
            state="draining" if self._draining else "serving" if self.up else "down",
            model=self._model.version if self._model else "",
            pid=os.getpid(),
            queued=len(self._queue) + len(self._running),
            answered=self._answered,
            failed=self._failed,
            rss_bytes=psutil.Process().memory_info().rss,
            hung=self.hung,
        )

    async def drain(self, timeout_s: float) -> None:
        """Refuse new requests, let those taken end for `timeout_s`, fail the rest, close the model. Runs once."""
        if self._draining:
            return
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        self._fail_all(f"{self._name}: shut down before it was answered")
        if self._model and self._lane.alive:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_GRACE_S):
                    await self._lane.run(_close, self._model)
        self._lane.close()

    def _refuse_when_draining(self) -> None:
        if self._draining:
            raise SlmUnavailable(f"{self._name}: shutting down")

    def _serving(self) -> LoadedModel:
        self._refuse_when_draining()
        if self._model is None:
            raise SlmUnavailable(f"{self._name}: {self._load_error}")
        if not self._lane.alive:
            raise SlmUnavailable(f"{self._name}: its thread has died")
        if self.hung:
            raise SlmUnavailable(f"{self._name}: its model hangs")
        return self._model

    async def _load_beside(self, version: str) -> LoadedModel:
        lane = Lane(f"{self._name}-load")
        loading = lane.run(load_model, self._spec, version)
        lane.close()
        try:
            async with asyncio.timeout(self._spec.settings.load_timeout_s):
                return await asyncio.shield(loading)
        except TimeoutError:
            loading.add_done_callback(_discard)
            raise ModelLoadError(f"{version}: not loaded in {self._spec.settings.load_timeout_s} s") from None
        except asyncio.CancelledError:
            loading.add_done_callback(_discard)
            raise

    def _pump(self) -> None:
        """Give the model the next batch if it is free: a callback and no task, to save the loop a turn."""
        if self._running:
            return
        batch = self._take_batch()
        if not batch:
            self._idle.set()
            return
        model = self._model
        assert model is not None  # noqa: S101 (only `_serving` lets requests in, and a model is never taken away)
        self._running, self._running_since = batch, time.monotonic()
        try:
            running = self._lane.run(_run_batch, model.slm, batch)
        except LaneClosed as error:
            self._fail_all(f"{self._name}: {error}")
            return
        running.add_done_callback(lambda done: self._finish(model, batch, done))

    def _take_batch(self) -> Sequence[_Pending]:
        batch: list[_Pending] = []
        now = time.monotonic()
        while self._queue and len(batch) < self._spec.settings.max_batch:
            pending = self._queue.popleft()
            if pending.request.deadline > now and not pending.future.done():
                batch.append(pending)
        return batch

    def _finish(
        self, model: LoadedModel, batch: Sequence[_Pending], done: asyncio.Future[tuple[list[_Outcome], float, float]]
    ) -> None:
        if done.exception():  # only when something was thrown into the thread from outside
            self._fail_all(f"{self._name}: {type(done.exception()).__name__} in its thread")
            return
        outcomes, started_at, computed_s = done.result()
        for pending, outcome in zip(batch, outcomes, strict=True):
            if pending.future.done():  # timed out meanwhile, and counted there
                continue
            if isinstance(outcome, ActorError):
                self._failed += 1
                pending.future.set_exception(outcome)
            else:
                self._answered += 1
                answer = Answer(outcome, model.version, started_at - pending.received_at, computed_s)
                pending.future.set_result(answer)
        if self._running is batch:
            self._running = ()
            self._pump()

    def _fail_all(self, reason: str) -> None:
        for pending in (*self._running, *self._queue):
            if not pending.future.done():
                self._failed += 1
                pending.future.set_exception(SlmUnavailable(reason))
        self._queue.clear()
        self._running = ()
        self._idle.set()


def load_model(spec: HostSpec, version: str | None = None) -> LoadedModel:
    """Load `version`, or the active one, with the class that the settings name. Raises: ModelLoadError."""
    wanted = version or spec.settings.model
    try:
        wanted = version or ActivePointers(spec.registry_root).current(spec.settings.model)
        found = Store(spec.registry_root).get(wanted, verify=True)
        if found.manifest.name != spec.settings.model:
            raise ModelLoadError(f"{wanted} is not a version of {spec.settings.model}")
        return LoadedModel(load_version(found, spec.settings), str(found))
    except ModelLoadError:
        raise
    except Exception as error:  # a version's files, its class and its libraries may fail in any way
        raise ModelLoadError(f"{wanted}: {type(error).__name__}: {error}") from error


def _run_batch(slm: SLM, batch: Sequence[_Pending]) -> tuple[list[_Outcome], float, float]:
    """An outcome for each request, when the work began (monotonic), and the seconds it took. Never raises."""
    started_at = time.monotonic()
    outcomes = _outcomes(slm, batch)
    return outcomes, started_at, time.monotonic() - started_at


def _outcomes(slm: SLM, batch: Sequence[_Pending]) -> list[_Outcome]:
    try:
        results = list(slm.run([pending.request for pending in batch]))
        if len(results) != len(batch):
            raise SlmFailed(f"{len(results)} results for {len(batch)} requests")
        return list(results)
    except BaseException as error:  # even SystemExit: the requests must end and the thread must live
        if len(batch) == 1:
            return [_as_actor_error(error)]
    # One bad request must not take the others with it; those that nobody waits for are not tried again.
    expired = SlmTimeout("expired before it was tried alone")
    return [expired if pending.future.done() else _outcomes(slm, [pending])[0] for pending in batch]


def _as_actor_error(error: BaseException) -> ActorError:
    if isinstance(error, ActorError):
        return error
    # The message may quote what was said, so above debug level only the type and the place are told.
    place = traceback.extract_tb(error.__traceback__)[-1]
    summary = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
    _log.warning("a small model raised %s", summary)
    _log.debug("the error in full", exc_info=error)
    return SlmFailed(summary)


def _close(model: LoadedModel) -> None:
    try:
        model.slm.close()
    except Exception as error:  # a version that cannot close must not stop the one after it
        _log.warning("%s did not close: %s", model.version, type(error).__name__)


def _discard(loading: asyncio.Future[LoadedModel]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        _close(loading.result())
