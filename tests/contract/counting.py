"""A projection that shows every doubled and every lost turn, and a process that syncs with it until it is killed.

`python counting.py JOURNAL FIRST` takes where the graphs are from the variable TARGETS, appends turns and syncs them,
and prints each turn's id once it is acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.logs import configure_logging
from config.settings import JournalSettings, SyncSettings, load_settings
from daemon.memory.context_sync import ContextSync
from daemon.memory.graph import GraphStore, Target
from daemon.memory.graph_transaction import GraphTransaction
from daemon.memory.journal import GRAPHS, Journal
from daemon.memory.records import Entry, GraphName, Node, TurnRecord, Writes
from tests.unit.spoken import said

JOURNAL = JournalSettings(max_unsynced=10_000, admission_timeout_s=5.0, group_commit_ms=1.0)
SYNC = SyncSettings(batch_turns=8, retry_min_s=0.05, retry_max_s=0.5, attempts=3)
TALLY = "tally"


class Count:
    """Adds to a number that is kept in the graph, and to each turn's own: a turn applied twice counts twice."""

    async def build(self, tx: GraphTransaction, entries: Sequence[Entry]) -> Writes:
        ids = [TALLY, *(entry.record.turn.id for entry in entries)]
        before = {node.id: int(node.properties["times"]) for node in await tx.nodes("Count", ids=ids)}
        added = {TALLY: len(entries)} | {entry.record.turn.id: 1 for entry in entries}
        return Writes(
            nodes=tuple(
                Node("Count", node_id, {"user": "me", "times": before.get(node_id, 0) + times})
                for node_id, times in added.items()
            )
        )

    def committed(self, writes: Writes) -> None:
        """Nothing is cached."""

    def reset(self) -> None:
        """Nothing is cached."""


async def understood(record: TurnRecord) -> TurnRecord:
    return record


def counting_sync(journal: Journal, stores: Mapping[GraphName, GraphStore]) -> ContextSync:
    return ContextSync(journal, stores, {graph: Count() for graph in GRAPHS}, SYNC, understood)


async def sync_until_killed(path: Path, first: int) -> None:
    targets = {graph: Target(**target) for graph, target in json.loads(os.environ["TARGETS"]).items()}
    settings = load_settings().settings.graph
    stores = {graph: GraphStore(graph, lambda graph=graph: targets[graph], settings) for graph in GRAPHS}
    journal = Journal(path, JOURNAL)
    await journal.open()
    counting_sync(journal, stores).start()
    turn = first
    while True:
        entry = await journal.append(said(f"turn {turn}"))
        print(turn, flush=True)
        turn += 1
        if turn % 10 == 0:  # the graphs keep up, so that the kill meets them at work
            await journal.wait_stored(entry.seq, 10.0)


if __name__ == "__main__":
    configure_logging(load_settings().settings.log)  # to stderr: stdout is for acknowledgements
    asyncio.run(sync_until_killed(Path(sys.argv[1]), int(sys.argv[2])))
