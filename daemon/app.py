"""The composition root: builds every part from the settings, starts them in order, stops them in reverse."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import perf_counter
from typing import Any

import structlog

from actors.contract import Runtime
from actors.errors import ActorError, RuntimeLost
from actors.local_runtime import LocalRuntime
from config.logs import configure_logging
from config.settings import Settings
from daemon.errors import DaemonError
from daemon.handlers import Handlers
from daemon.memory.agent_graph import AgentGraphProjection
from daemon.memory.context_sync import ContextSync, Projection
from daemon.memory.dates import resolve_date
from daemon.memory.directory import Directory
from daemon.memory.embedded import EmbeddedGraph
from daemon.memory.graph import GraphStore, Target, configured_target
from daemon.memory.journal import GRAPHS, Journal
from daemon.memory.recall import Memory
from daemon.memory.records import GraphName
from daemon.memory.user_graph import UserGraphProjection
from daemon.metrics import Metrics
from daemon.models import Models
from daemon.orchestrator import Orchestrator
from daemon.ownership import sole_owner
from daemon.previews import Previews
from daemon.server import Server, check_address
from daemon.turns import Turns
from registry.active import ActivePointers
from registry.bundled import register_bundled
from registry.store import Store

OBSERVE_EVERY_S = 1.0
GRAPH_OPEN_S = 5.0
"""How long a start waits for the graphs before it says that it is ready without them."""
log = structlog.get_logger(__name__)
Tell = Callable[[str], None]


async def serve(settings: Settings, tell: Tell) -> int:
    """Run the daemon until it is told to stop; returns the exit code. `tell` gets a line for each step of the start.

    Raises:
        DaemonError, ActorError, RegistryError, OSError: it could not start; what had started is stopped.
        RuntimeLost: the small models' hosts are gone; what was accepted waits in the journal for the next start.
    """
    configure_logging(settings.log)
    stopping = asyncio.Event()
    _on_signals(stopping)
    async with running(settings, tell) as handlers:
        _on_signals(stopping)  # again: Ray puts handlers of its own in place when it starts
        waits = [asyncio.create_task(event.wait()) for event in (stopping, handlers.stop_requested)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        tell("shoal stopping")
    tell("shoal stopped")
    if handlers.failure is not None:
        raise handlers.failure
    return 0


@asynccontextmanager
async def running(settings: Settings, tell: Tell = lambda _line: None) -> AsyncIterator[Handlers]:
    """The whole daemon, ready to serve inside the block and stopped after it."""
    began = perf_counter()
    async with AsyncExitStack() as stack:
        settings.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(sole_owner(settings.home))
        check_address(settings.server_uri)  # before anything that takes time

        metrics = Metrics()
        stack.callback(metrics.close)
        metrics_url = metrics.serve(settings.metrics)

        journal = Journal(settings.journal_path, settings.journal)
        await journal.open()
        stack.push_async_callback(journal.close)
        if journal.unsynced:
            tell(f"shoal journal: {journal.unsynced} turns wait for the graphs from before")

        store, active = Store(settings.registry_root), ActivePointers(settings.registry_root)
        await asyncio.to_thread(register_bundled, store, active)
        runtime = _runtime(settings)
        models = Models(store, active, runtime, settings.slm)
        tell(f"shoal loading: {', '.join(sorted(models.serving().values()))} ({settings.runtime} runtime)")
        stack.push_async_callback(runtime.stop, settings.server.drain_timeout_s)
        embedded = _embedded(settings)
        if embedded is not None:
            stack.push_async_callback(embedded.stop)
        await _all_or_none(
            _start_runtime(runtime, tell),
            _start_embedded(embedded, tell),
            # The date parser's first use takes a quarter of a second: no turn shall wait for it.
            asyncio.to_thread(resolve_date, "last Tuesday", time.time()),
        )

        def locate(graph: GraphName) -> Target:
            target = configured_target(settings.graph, graph)
            if target is None:
                assert embedded is not None  # noqa: S101 - made whenever a graph has no target of its own
                target = embedded.locate(graph)
            return target

        stores = {graph: GraphStore(graph, partial(locate, graph), settings.graph) for graph in GRAPHS}
        for graph_store in stores.values():
            stack.push_async_callback(graph_store.close)

        orchestrator = Orchestrator(runtime, settings.turn.deadline_s)
        directory = Directory()
        memory = Memory(stores, locate, directory)
        stack.callback(memory.close)
        spoken_of = partial(memory.spoken_of, count=settings.turn.remembered_names, within_s=settings.turn.remembered_s)
        turns = Turns(settings, orchestrator, journal, metrics, spoken_of)
        projections: dict[GraphName, Projection] = {
            "user": UserGraphProjection(doubt_margin=settings.memory.doubt_margin, directory=directory),
            "agent": AgentGraphProjection(settings.turn.session_idle_s),
        }
        sync = ContextSync(
            journal, stores, projections, settings.sync, turns.complete, lambda *stored: handlers.on_stored(*stored)
        )
        previews = Previews(settings, orchestrator, turns.conversations, metrics)
        handlers = Handlers(settings, turns, previews, journal, sync, memory, models, runtime, metrics)
        handlers.metrics_url = metrics_url
        sync.start()
        stack.push_async_callback(_stop_sync, sync, settings.server.drain_timeout_s)

        server = Server(settings.server_uri, settings.server, handlers.handle, metrics)
        handlers.publish = server.publish
        await server.start()
        stack.push_async_callback(server.close, settings.server.drain_timeout_s)

        metrics.show_versions(models.serving())
        await sync.tried(GRAPH_OPEN_S)
        observing = asyncio.create_task(_observe(runtime, sync, metrics, handlers.fail))
        stack.callback(observing.cancel)
        memory.learn_names(settings.user)
        tell(f"shoal ready: {settings.server_uri} in {perf_counter() - began:.1f} s, metrics {metrics_url or 'off'}")
        yield handlers


def _runtime(settings: Settings) -> Runtime:
    if settings.runtime == "local":
        return LocalRuntime(settings, settings.registry_root)
    from actors.ray_runtime import RayRuntime  # importing Ray takes a second that the local runtime need not pay

    return RayRuntime(settings, settings.registry_root)


def _embedded(settings: Settings) -> EmbeddedGraph | None:
    needed = any(configured_target(settings.graph, graph) is None for graph in GRAPHS)
    return EmbeddedGraph(settings.embedded_root, settings.graph) if needed else None


async def _all_or_none(*starts: Coroutine[Any, Any, object]) -> None:
    """Side by side; where one fails the others are cancelled, and have ended when its error comes out."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _start_runtime(runtime: Runtime, tell: Tell) -> None:
    await runtime.start()
    for health in await runtime.health():
        tell(f"shoal actor: {health.slm}-{health.replica} serves {health.model} (pid {health.pid})")


async def _start_embedded(embedded: EmbeddedGraph | None, tell: Tell) -> None:
    if embedded is None:
        return
    try:
        await embedded.start()
        tell(f"shoal graph: embedded at {embedded.locate('user').uri}")
    except DaemonError as error:
        # Turns are accepted all the same and wait in the journal, as they do whenever a graph is down.
        log.error("embedded_graph_down", error=str(error))
        tell(f"shoal graph: down, turns wait in the journal ({error})")


async def _stop_sync(sync: ContextSync, drain_timeout_s: float) -> None:
    await sync.drain(drain_timeout_s)
    await sync.stop()


def _on_signals(stopping: asyncio.Event) -> None:
    """The first signal drains, a second one ends the process at once: the journal holds what was accepted."""
    loop = asyncio.get_running_loop()

    def received(number: signal.Signals) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, received, number)


async def _observe(runtime: Runtime, sync: ContextSync, metrics: Metrics, fail: Callable[[Exception], None]) -> None:
    """Keep the gauges that nothing pushes up to date; `fail` hears of a runtime that is lost."""
    while True:
        for state in sync.states():
            metrics.queue_depth.labels(state.graph).set(state.depth)
            metrics.queue_age.labels(state.graph).set(state.oldest_age_s)
            metrics.graph_up.labels(state.graph).set(state.connected)
            metrics.dead_letters.labels(state.graph).set(state.dead)
        try:
            for health in await runtime.health():
                replica = (health.slm, str(health.replica))
                metrics.actor_up.labels(*replica).set(health.state == "serving")
                metrics.restarts.labels(*replica).set(health.restarts)
                metrics.actor_memory.labels(*replica).set(health.rss_bytes)
        except RuntimeLost as error:
            log.critical("runtime_lost", error=str(error))
            fail(error)
            return
        except ActorError as error:
            log.warning("health_unknown", error=error.code)
        await asyncio.sleep(OBSERVE_EVERY_S)
