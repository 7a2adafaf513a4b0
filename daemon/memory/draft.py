"""Changes to a graph that are being decided: reads see them, the graph does not until they are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from daemon.memory.records import Edge, Node, Writes


class Reads(Protocol):
    """What deciding needs of a transaction; `daemon.memory.graph_transaction.GraphTransaction` is the one there is."""

    async def nodes(self, kind: str, *, user: str | None = None, ids: Sequence[str] | None = None) -> list[Node]: ...

    async def edges(self, keys: Sequence[tuple[str, str | None]]) -> list[Edge]: ...


class Draft:
    """A transaction's nodes and edges with the changes so far laid over them."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._nodes: dict[str, Node] = {}
        self._edges: dict[str, Edge] = {}
        self._gone_nodes: dict[str, None] = {}
        self._gone_edges: dict[str, None] = {}

    async def nodes(self, kind: str, *, user: str | None = None, ids: Sequence[str] | None = None) -> list[Node]:
        """As `GraphTransaction.nodes`."""
        if ids is not None and not ids:
            return []
        stored = {node.id: node for node in await self._reads.nodes(kind, user=user, ids=ids) if self._stands(node.id)}
        for node in self._nodes.values():
            if (
                node.kind == kind
                and (user is None or node.properties["user"] == user)
                and (ids is None or node.id in ids)
            ):
                stored[node.id] = node
        return list(stored.values())

    async def edges(self, keys: Iterable[tuple[str, str | None]]) -> list[Edge]:
        """As `GraphTransaction.edges`."""
        wanted = sorted(set(keys), key=lambda key: (key[0], key[1] or ""))
        if not wanted:
            return []
        found = {edge.id: edge for edge in await self._reads.edges(wanted) if self._joins(edge)}
        asked = set(wanted)
        for edge in self._edges.values():
            ends = {(end, type_) for end in (edge.start, edge.end) for type_ in (edge.type, None)}
            if ends & asked:
                found[edge.id] = edge
        return list(found.values())

    def put_node(self, node: Node) -> None:
        """Add a node or replace its properties."""
        self._nodes[node.id] = node

    def put_edge(self, edge: Edge) -> None:
        """Add an edge or replace its properties."""
        self._edges[edge.id] = edge

    def delete_node(self, node_id: str) -> None:
        """Delete a node and every edge that touches it."""
        self._nodes.pop(node_id, None)
        self._gone_nodes[node_id] = None
        for edge in [edge for edge in self._edges.values() if node_id in (edge.start, edge.end)]:
            self.delete_edge(edge.id)

    def delete_edge(self, edge_id: str) -> None:
        """Delete an edge."""
        self._edges.pop(edge_id, None)
        self._gone_edges[edge_id] = None

    def writes(self) -> Writes:
        """All changes. What was deleted and made again is in both lists: deletions come first."""
        return Writes(
            tuple(self._nodes.values()),
            tuple(self._edges.values()),
            tuple(self._gone_nodes),
            tuple(self._gone_edges),
        )

    def _stands(self, node_id: str) -> bool:
        return node_id not in self._gone_nodes

    def _joins(self, edge: Edge) -> bool:
        return edge.id not in self._gone_edges and self._stands(edge.start) and self._stands(edge.end)
