"""Recall from a memory of many years: `python -m tests.bench.recall`. Fills a fresh database, which takes minutes."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from config.settings import load_settings
from daemon import show
from daemon.memory.directory import Directory
from daemon.memory.embedded import EmbeddedGraph
from daemon.memory.graph import GraphStore
from daemon.memory.recall import Memory
from daemon.memory.records import GraphName
from tests.bench.large_memory import FACTS_TO_ENTITY, USER, entity_name, fill
from tests.bench.measure import Latency
from tests.neo4j import genuine
from tests.neo4j.server import GraphServer

WARM_UP = 10
Ask = Callable[[int], Awaitable[Sequence[Any]]]


async def measure(server: GraphServer, facts: int, count: int) -> dict[str, Latency]:
    """Milliseconds of each kind of question, `count` times each, against `facts` facts; the first answer apart."""
    stores: dict[GraphName, GraphStore] = {"user": server.store("user"), "agent": server.store("agent")}
    try:
        await fill(server, list(stores.values()), facts)
        memory = Memory(stores, server.locate, Directory())
        entities = facts // FACTS_TO_ENTITY
        questions: dict[str, Ask] = {
            "the first question (reads every name)": lambda _: memory.facts(USER, "nobody at all"),
            "facts of one name": lambda n: memory.facts(USER, entity_name(entities - 1 - n * 7 % (entities // 2))),
            "facts of a name heard daily": lambda n: memory.facts(USER, entity_name(n % 10)),
            "facts of a misspelt name": lambda n: memory.facts(USER, entity_name(entities - 1 - n * 7) + "n"),
            "the latest 20 facts": lambda _: memory.facts(USER, limit=20),
            "the latest 200 facts": lambda _: memory.facts(USER),
            "the latest 20 of the user": lambda _: memory.facts(USER, "me", limit=20),
            "the agent's nodes": lambda _: memory.agent_nodes(USER),
        }
        return {
            name: await _times(ask, 1 if number == 0 else count, 0 if number == 0 else WARM_UP)
            for number, (name, ask) in enumerate(questions.items())
        }
    finally:
        for store in stores.values():
            await store.close()


async def _times(ask: Ask, count: int, warm_up: int) -> Latency:
    times_ms = []
    for number in range(warm_up + count):
        began = perf_counter()
        await ask(number)
        if number >= warm_up:
            times_ms.append((perf_counter() - began) * 1000)
    return Latency.of(times_ms)


async def run(facts: int, count: int, databases: Sequence[str]) -> None:
    """Measure and print, one database after the other."""
    console = show.console()
    console.print(
        f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}; {facts} facts, each asked {count} times"
    )
    settings = load_settings().settings.graph
    for database in databases:
        with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
            home = Path(folder) / "graph"
            if database == "embedded":
                embedded = EmbeddedGraph(home, settings)
                await embedded.start()
                server = GraphServer(embedded.locate, settings, {}, embedded)
                try:
                    found = await measure(server, facts, count)
                finally:
                    await server.close()
                    await embedded.stop()
            else:
                with genuine.serve(genuine.find(), home) as target:
                    server = GraphServer(lambda _name, target=target: target, settings, {})
                    found = await measure(server, facts, count)
                    await server.close()
        made = show.table(f"recall, {database}", "p50 ms", "p95 ms", "p99 ms", "promised")
        for name, latency in found.items():
            made.add_row(name, f"{latency.p50:.1f}", f"{latency.p95:.1f}", f"{latency.p99:.1f}", "p95 < 30")
        console.print(made)


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=100_000)
    parser.add_argument("--count", type=int, default=100, help="questions of each kind")
    # An option: argparse takes the default of a positional list for one of its choices, and refuses it.
    parser.add_argument(
        "--databases",
        nargs="+",
        default=["embedded"],
        choices=["embedded", "neo4j"],
        help="neo4j needs Maven and a JDK",
    )
    options = parser.parse_args()
    asyncio.run(run(options.facts, options.count, options.databases))


if __name__ == "__main__":
    main()
