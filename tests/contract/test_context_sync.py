"""Acknowledged turns are in a real graph exactly once, whoever is killed in between."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from daemon.memory.journal import GRAPHS, Journal
from daemon.memory.records import GraphName
from tests.contract import counting
from tests.neo4j.server import GraphServer
from tests.unit.spoken import said

# Databases and processes that are killed take a while to come back where the machine is busy.
pytestmark = pytest.mark.timeout(300)


async def counted(server: GraphServer, graph: GraphName) -> dict[str, int]:
    rows = await server.run(graph, "MATCH (n:Count) WHERE n.user = 'me' RETURN n.id, n.times, labels(n)")
    label = {"user": "UserGraph", "agent": "AgentGraph"}[graph]
    return {node_id: times for node_id, times, labels in rows if label in labels}


async def assert_each_once(server: GraphServer, turns: set[str]) -> None:
    for graph in GRAPHS:
        assert await counted(server, graph) == dict.fromkeys(turns, 1) | {counting.TALLY: len(turns)}


async def sync_the_rest(path: Path, server: GraphServer) -> set[str]:
    """Open the journal that a dead process left, bring the graphs up to date; the ids of the turns it held."""
    journal = Journal(path, counting.JOURNAL)
    await journal.open()
    left = {entry.record.turn.id for graph in GRAPHS for entry in await journal.entries(0, 10_000, graph)}
    stores = {graph: server.store(graph) for graph in GRAPHS}
    sync = counting.counting_sync(journal, stores)
    sync.start()
    assert await sync.drain(120)
    await sync.stop()
    assert await journal.dead_letters() == []
    await journal.close()
    for store in stores.values():
        await store.close()
    return left


def acknowledged_until_killed(path: Path, first: int, count: int, server: GraphServer) -> set[str]:
    targets = json.dumps({graph: asdict(server.locate(graph)) for graph in GRAPHS})
    child = subprocess.Popen(
        [sys.executable, counting.__file__, str(path), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TARGETS": targets},
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(count)]
    child.kill()
    lines += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return {f"turn {line.strip()}" for line in lines if line.endswith("\n")}


async def test_kill_9_of_the_syncing_process_loses_and_doubles_nothing(
    graph_server: GraphServer, tmp_path: Path
) -> None:
    path, chance = tmp_path / "journal.sqlite", random.Random(4)  # noqa: S311
    acknowledged: set[str] = set()
    present: set[str] = set()
    for life in range(4):
        acknowledged |= await asyncio.to_thread(
            acknowledged_until_killed, path, life * 10_000, chance.randint(40, 110), graph_server
        )
        if life % 2:  # every other time the next process starts from what the last one left
            present |= await sync_the_rest(path, graph_server)
            present |= (await counted(graph_server, "user")).keys() - {counting.TALLY}
            await assert_each_once(graph_server, present)
    assert acknowledged <= present
    # A turn may be on disk although its process died before it could say so; at most one a life.
    assert len(present - acknowledged) <= 4
    assert len(acknowledged) >= 160


async def test_kill_9_of_the_database_loses_and_doubles_nothing(embedded_server: GraphServer, tmp_path: Path) -> None:
    await embedded_server.wipe()
    embedded = embedded_server.embedded
    assert embedded is not None
    journal = Journal(tmp_path / "journal.sqlite", counting.JOURNAL)
    await journal.open()
    stores = {graph: embedded_server.store(graph) for graph in GRAPHS}
    sync = counting.counting_sync(journal, stores)
    sync.start()
    turns = [f"turn {number}" for number in range(300)]
    for number, turn in enumerate(turns):
        entry = await journal.append(said(turn))
        if number % 10 == 5:
            await journal.wait_stored(entry.seq, 0.05)  # in step with the graphs, so that the kill meets them at work
        if number in (75, 225) and embedded.pid is not None:
            os.kill(embedded.pid, signal.SIGKILL)
    assert await sync.drain(150)
    assert sum(state.retries for state in sync.states()) > 0
    await sync.stop()
    assert await journal.dead_letters() == []
    await journal.close()
    for store in stores.values():
        await store.close()
    await assert_each_once(embedded_server, set(turns))
