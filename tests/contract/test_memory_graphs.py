"""What the projections decide is what both databases hold: the same conversation gives equal graphs everywhere."""

from __future__ import annotations

import pytest

from daemon.memory.agent_graph import KINDS, AgentGraphProjection
from daemon.memory.context_sync import Projection
from daemon.memory.graph_transaction import GraphTransaction
from daemon.memory.records import Edge, Entry, GraphName, Node, Writes
from daemon.memory.rows import ENTITY, UTTERANCE
from daemon.memory.user_graph import UserGraphProjection
from tests.neo4j.server import GraphServer
from tests.unit.listener import MONDAY, SCHEMA, Listener, conversation

BATCH = 32


@pytest.mark.parametrize("name", ["user", "agent"])
async def test_a_conversation_gives_the_graph_that_the_projection_meant(
    graph_server: GraphServer, name: GraphName
) -> None:
    def projection() -> Projection:
        return UserGraphProjection(SCHEMA) if name == "user" else AgentGraphProjection(1800.0)

    records = conversation()
    meant = Listener(projection())
    for start in range(0, len(records), BATCH):
        await meant.take(records[start : start + BATCH])

    entries = [Entry(seq, MONDAY + seq, record) for seq, record in enumerate(records, 1)]
    deciding, store = projection(), graph_server.store(name)
    try:
        await store.open()
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]

            async def build(tx: GraphTransaction, cursor: int, batch: list[Entry] = batch) -> Writes:
                return await deciding.build(tx, [entry for entry in batch if entry.seq > cursor])

            # Half of the batches are sent twice, as after a crash: the cursor lets the second one change nothing.
            for _ in range(1 + start // BATCH % 2):
                deciding.committed(await store.apply("journal", batch[-1].seq, build))

        async def everything(tx: GraphTransaction) -> tuple[dict[str, Node], dict[str, Edge]]:
            kinds = (ENTITY, UTTERANCE) if name == "user" else KINDS
            nodes = {node.id: node for kind in kinds for node in await tx.nodes(kind, user="me")}
            return nodes, {edge.id: edge for edge in await tx.edges([(node_id, None) for node_id in nodes])}

        stored_nodes, stored_edges = await store.read(everything)
    finally:
        await store.close()
    assert stored_nodes == meant.graph.stored_nodes
    assert stored_edges == meant.graph.stored_edges
    assert len(stored_edges) > 50
