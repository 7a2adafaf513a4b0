"""One transaction on a graph: what is read and written, in the Cypher that Neo4j and ArcadeDB both speak.

The shapes were chosen by measurement on both databases. In ArcadeDB only `WHERE x.id IN $ids` on a single label or
relationship type, with nothing else in the pattern, is answered from the index; MERGE on two labels, `UNWIND` over
relationship ids and a label on the far end each scan everything.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from daemon.errors import GraphRefused
from daemon.memory.records import Edge, GraphName, Node, Properties, Writes

LABELS: Final[dict[GraphName, str]] = {"user": "UserGraph", "agent": "AgentGraph"}
"""The label that every node of a graph carries, so that both graphs can share one database."""

CURSOR: Final = "ShoalCursor"
_EDGE: Final = "RETURN type(r), startNode(r).id, endNode(r).id, properties(r)"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")


def checked_name(name: str) -> str:
    """`name` when it can stand in a query as a label or a relationship type.

    Raises:
        GraphRefused: it holds anything but ASCII letters, digits and `_`, or is a label that Shoal keeps for itself.
    """
    if not _NAME.match(name) or name in (CURSOR, *LABELS.values()):
        raise GraphRefused(f"{name[:80]!r} cannot name a kind of node or relationship: letters, digits and _ only")
    return name


class GraphTransaction:
    """Reads and writes of one graph in one database transaction. Made by `GraphStore`, valid inside its callback."""

    def __init__(self, transaction: Any, label: str, touch: Callable[[], None]) -> None:
        """`touch` is told of every sign of life of the server."""
        self._transaction = transaction
        self._label = label
        self._touch = touch

    async def nodes(self, kind: str, *, user: str | None = None, ids: Sequence[str] | None = None) -> list[Node]:
        """The nodes of one kind, narrowed to a user, to ids, or to both; in no particular order."""
        conditions = [] if user is None else ["n.user = $user"]
        if ids is None:
            where = f"WHERE {conditions[0]} " if conditions else ""
            query = f"MATCH (n:{self._label}:{checked_name(kind)}) {where}RETURN properties(n)"
        else:
            conditions.append(f"n:{checked_name(kind)}")
            where = " AND ".join(conditions)
            query = f"MATCH (n:{self._label}) WHERE n.id IN $ids WITH n WHERE {where} RETURN properties(n)"
        rows = await self._run(query, user=user, ids=None if ids is None else list(ids))
        return [Node(kind, properties["id"], properties) for (properties,) in rows]

    async def edges(self, keys: Sequence[tuple[str, str | None]]) -> list[Edge]:
        """Every edge that touches one of the nodes, at either end: (node id, edge type, or None for all types).

        A well-connected node has very many edges of one type: ask from the other end where there is a choice.
        """
        ids_by_type: dict[str | None, set[str]] = defaultdict(set)
        for node_id, edge_type in keys:
            ids_by_type[edge_type].add(node_id)
        found: dict[tuple[str, str], Edge] = {}
        for edge_type, ids in ids_by_type.items():
            pattern = "r" if edge_type is None else f"r:{checked_name(edge_type)}"
            rows = await self._run(
                f"UNWIND $ids AS id MATCH (n:{self._label} {{id: id}})-[{pattern}]-() {_EDGE}",
                ids=sorted(ids),
            )
            for name, start, end, properties in rows:
                found[name, properties["id"]] = Edge(name, properties["id"], start, end, properties)
        return list(found.values())

    async def latest_edges(self, node_id: str, statuses: Sequence[str], limit: int) -> list[Edge]:
        """The `limit` facts of these statuses that touch a node, at either end, latest said first."""
        rows = await self._run(
            f"MATCH (n:{self._label} {{id: $id}})-[r]-() WHERE r.status IN $statuses "
            f"{_EDGE} ORDER BY r.last_said_at DESC LIMIT $limit",
            id=node_id,
            statuses=list(statuses),
            limit=limit,
        )
        return [Edge(name, properties["id"], start, end, properties) for name, start, end, properties in rows]

    async def edges_by_id(self, ids_by_type: Mapping[str, Sequence[str]]) -> list[Edge]:
        """Edges by type and id; one that is not there is left out. The same types make the same query, planned once."""
        if not ids_by_type:
            return []
        parts = [
            f"MATCH ()-[r:{checked_name(edge_type)}]->() WHERE r.id IN $ids_{edge_type} {_EDGE}"
            for edge_type in ids_by_type
        ]
        ids = {f"ids_{edge_type}": list(ids) for edge_type, ids in ids_by_type.items()}
        rows = await self._run(" UNION ALL ".join(parts), **ids)
        return [Edge(name, properties["id"], start, end, properties) for name, start, end, properties in rows]

    async def newest_seq(self) -> int:
        """The highest sequence number that any journal has brought here, 0 before the first."""
        rows = await self._run(f"MATCH (c:{CURSOR}) WHERE c.graph = $label RETURN c.seq", label=self._label)
        return max((int(seq) for (seq,) in rows), default=0)

    async def nodes_by_seq(self, kind: str, user: str, seqs: Sequence[int]) -> list[Node]:
        """A user's nodes of a kind that entries with these sequence numbers made, newest first."""
        rows = await self._run(
            f"MATCH (n:{checked_name(kind)}) WHERE n.seq IN $seqs WITH n WHERE n:{self._label} AND n.user = $user "
            "RETURN properties(n)",
            seqs=list(seqs),
            user=user,
        )
        found = [Node(kind, properties["id"], properties) for (properties,) in rows]
        return sorted(found, key=lambda node: (-_number(node.properties["seq"]), node.id))

    async def top_nodes(self, kind: str, user: str, by: str, limit: int) -> list[Node]:
        """The `limit` nodes of a kind with the highest `by`, those without it last."""
        rows = await self._run(
            f"MATCH (n:{self._label}:{checked_name(kind)}) WHERE n.user = $user "
            f"RETURN properties(n) ORDER BY coalesce(n.{checked_name(by)}, 0) DESC, n.id LIMIT $limit",
            user=user,
            limit=limit,
        )
        return [Node(kind, properties["id"], properties) for (properties,) in rows]

    async def advance_cursor(self, key: str, journal_id: str, seq: int) -> int:
        """Move the cursor up to `seq`; returns where it stood, 0 at first.

        Comes first in a transaction: all other writers of this graph then wait, or are retried.
        """
        # Both databases read what is committed, no more: without a common node two writers could lose an update.
        rows = await self._run(
            f"MERGE (g:{CURSOR} {{id: $label}}) ON CREATE SET g.writes = 0 SET g.writes = g.writes + 1 "
            f"WITH g MERGE (c:{CURSOR} {{id: $key}}) ON CREATE SET c.graph = $label, c.journal = $journal, c.seq = 0 "
            "WITH c, c.seq AS before SET c.seq = CASE WHEN before < $seq THEN $seq ELSE before END RETURN before",
            key=key,
            label=self._label,
            journal=journal_id,
            seq=seq,
        )
        return int(rows[0][0])

    async def cursor(self, key: str) -> int:
        """The last sequence number applied, 0 before the first."""
        rows = await self._run(f"MATCH (c:{CURSOR}) WHERE c.id = $key RETURN c.seq", key=key)
        return int(rows[0][0]) if rows else 0

    async def write(self, writes: Writes) -> None:
        """Apply deletions, then nodes, then edges.

        Raises:
            GraphRefused: a name that is none, an edge to a node that is not there, a node that changes its kind.
        """
        if writes.deleted_edges:
            await self._delete_edges(writes.deleted_edges)
        if writes.deleted_nodes:
            await self._run(
                f"MATCH (n:{self._label}) WHERE n.id IN $ids DETACH DELETE n", ids=_unique(writes.deleted_nodes)
            )
        if writes.nodes:
            await self._put_nodes(writes.nodes)
        edges_by_type: dict[str, dict[str, Edge]] = defaultdict(dict)
        for edge in writes.edges:
            edges_by_type[checked_name(edge.type)][edge.id] = edge
        for edge_type, edges in edges_by_type.items():
            await self._put_edges(edge_type, edges)

    async def edge_types(self) -> list[str]:
        """Every relationship type of the database."""
        return [
            name
            for (name,) in await self._run("CALL db.relationshipTypes() YIELD relationshipType RETURN relationshipType")
        ]

    async def _put_nodes(self, nodes: Iterable[Node]) -> None:
        wanted = {node.id: node for node in nodes}
        rows = await self._run(
            f"MATCH (n:{self._label}) WHERE n.id IN $ids SET n = $rows[n.id] RETURN n.id, labels(n)",
            ids=list(wanted),
            rows={node.id: _stored(node.properties, node.id) for node in wanted.values()},
        )
        for node_id, labels in rows:
            kind = wanted.pop(node_id).kind
            if kind not in labels:
                raise GraphRefused(f"node {node_id!r} is {', '.join(labels)} and cannot become {kind}")
        new_by_kind: dict[str, list[Node]] = defaultdict(list)
        for node in wanted.values():
            new_by_kind[checked_name(node.kind)].append(node)
        for kind, new in new_by_kind.items():
            await self._run(
                f"UNWIND $rows AS row CREATE (n:{self._label}:{kind}) SET n = row",
                rows=[_stored(node.properties, node.id) for node in new],
            )

    async def _put_edges(self, edge_type: str, edges: dict[str, Edge]) -> None:
        stored = {edge.id: _stored(edge.properties, edge.id) for edge in edges.values()}
        rows = await self._run(
            f"MATCH ()-[r:{edge_type}]->() WHERE r.id IN $ids WITH r, startNode(r) AS a, endNode(r) AS b "
            f"WHERE a:{self._label} SET r = $rows[r.id] RETURN r.id, a.id, b.id",
            ids=list(stored),
            rows=stored,
        )
        kept = {edge_id for edge_id, start, end in rows if (start, end) == (edges[edge_id].start, edges[edge_id].end)}
        # An edge cannot change its ends: one that should is made anew.
        if moved := [edge_id for edge_id, _, _ in rows if edge_id not in kept]:
            await self._delete_edges_of(edge_type, moved)
        new = [edge for edge in edges.values() if edge.id not in kept]
        if not new:
            return
        made = await self._run(
            f"UNWIND $rows AS row MATCH (a:{self._label} {{id: row.start}}), (b:{self._label} {{id: row.end}}) "
            f"CREATE (a)-[r:{edge_type}]->(b) SET r = row.stored RETURN r.id",
            rows=[{"start": edge.start, "end": edge.end, "stored": stored[edge.id]} for edge in new],
        )
        if len(made) != len(new):
            lost = sorted({edge.id for edge in new} - {edge_id for (edge_id,) in made})
            raise GraphRefused(f"{edge_type} {lost[0]!r} starts or ends at a node that the graph does not hold")

    async def _delete_edges(self, edge_ids: Sequence[str]) -> None:
        for edge_type in await self.edge_types():
            if _NAME.match(edge_type):
                await self._delete_edges_of(edge_type, _unique(edge_ids))

    async def _delete_edges_of(self, edge_type: str, edge_ids: list[str]) -> None:
        await self._run(
            f"MATCH ()-[r:{edge_type}]->() WHERE r.id IN $ids WITH r, startNode(r) AS a WHERE a:{self._label} DELETE r",
            ids=edge_ids,
        )

    async def _run(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        self._touch()
        try:
            result = await self._transaction.run(query, parameters)
        except (TypeError, ValueError, OverflowError) as error:
            raise GraphRefused(f"a value that no graph can store: {type(error).__name__}") from error
        rows = []
        async for record in result:
            self._touch()
            rows.append(tuple(record.values()))
        self._touch()
        return rows


def _stored(properties: Properties, own_id: str) -> dict[str, Any]:
    """What both databases keep alike: a property that is None is one that is not there."""
    stored: dict[str, Any] = {}
    for key, value in properties.items():
        if value is None:
            continue
        words = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not words and not isinstance(value, str | int | float):
            raise GraphRefused(f"property {key[:80]!r} of {own_id[:80]!r} is neither a scalar nor a list of strings")
        stored[key] = value
    stored["id"] = own_id
    return stored


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0.0


def _unique(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(ids))
