"""A memory that hears annotated turns, and the graph that it fills: in memory, as strict as a real one."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import training
from actors.messages import Classification, Extraction, Turn, Utterance
from config.schema import load_schema
from daemon.memory.context_sync import Projection
from daemon.memory.records import Edge, Entry, ForgetRecord, Node, Record, TurnRecord, Writes
from daemon.memory.statements import build
from daemon.memory.user_graph import UserGraphProjection
from training.annotation import read_examples

SCHEMA = load_schema()
MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
HOUR_S, DAY_S = 3600.0, 86400.0


class GraphInMemory:
    """Applies writes as `GraphTransaction.write` promises, and refuses what a database would."""

    def __init__(self) -> None:
        self.stored_nodes: dict[str, Node] = {}
        self.stored_edges: dict[str, Edge] = {}
        self.asked: list[tuple[str, str | None]] = []

    async def nodes(self, kind: str, *, user: str | None = None, ids: Sequence[str] | None = None) -> list[Node]:
        return [
            node
            for node in self.stored_nodes.values()
            if node.kind == kind
            and (user is None or node.properties["user"] == user)
            and (ids is None or node.id in ids)
        ]

    async def edges(self, keys: Sequence[tuple[str, str | None]]) -> list[Edge]:
        self.asked += keys
        wanted = set(keys)
        return [
            edge
            for edge in self.stored_edges.values()
            if {(end, type_) for end in (edge.start, edge.end) for type_ in (edge.type, None)} & wanted
        ]

    def write(self, writes: Writes) -> None:
        for edge_id in writes.deleted_edges:
            self.stored_edges.pop(edge_id, None)
        for node_id in writes.deleted_nodes:
            self.stored_nodes.pop(node_id, None)
            for edge in [e for e in self.stored_edges.values() if node_id in (e.start, e.end)]:
                del self.stored_edges[edge.id]
        for node in writes.nodes:
            assert self.stored_nodes.get(node.id, node).kind == node.kind
            self.stored_nodes[node.id] = Node(node.kind, node.id, _storable(node.properties, node.id))
        for edge in writes.edges:
            assert {edge.start, edge.end} <= self.stored_nodes.keys(), f"{edge.type} {edge.id} hangs in the air"
            self.stored_edges[edge.id] = Edge(
                edge.type, edge.id, edge.start, edge.end, _storable(edge.properties, edge.id)
            )


class Listener:
    """Hears turns written as annotated text, and tells what is known in words."""

    def __init__(self, projection: Projection | None = None, user: str = "me") -> None:
        self.projection = projection or UserGraphProjection(SCHEMA)
        self.graph = GraphInMemory()
        self.user = user
        self.seq = 0
        self.said: list[Utterance] = []

    async def hear(
        self,
        block: str,
        *,
        session: str = "today",
        at: float | None = None,
        speaker: str = "user",
        correction: float = 0.0,
        category: str = "",
    ) -> TurnRecord:
        """One turn: its text with markup, then `R:` lines. A minute after the one before unless `at` says otherwise."""
        record = understood(
            block,
            turn_id=f"t{self.seq + 1}",
            user=self.user,
            session=session,
            speaker=speaker,
            at=MONDAY + 60.0 * self.seq if at is None else at,
            context=tuple(self.said[-4:]),
            correction=correction,
            category=category,
        )
        self.said.append(Utterance(speaker, record.turn.text))
        await self.take([record])
        return record

    async def take(self, records: Sequence[Record]) -> Writes:
        """Journaled records, in one transaction that the database makes run twice."""
        entries = []
        for record in records:
            self.seq += 1
            entries.append(Entry(self.seq, MONDAY + self.seq, record))
        await self.projection.build(self.graph, entries)  # type: ignore[arg-type]  # reads as a transaction does
        writes = await self.projection.build(self.graph, entries)  # type: ignore[arg-type]
        self.graph.write(writes)
        self.projection.committed(writes)
        return writes

    async def forget(self, scope: Any, name: str = "") -> None:
        """A person's wish that something be gone."""
        await self.take([ForgetRecord(self.user, scope, name)])

    def facts(self, *statuses: str) -> list[str]:
        """Every fact in words, sorted, with its status unless that is "asserted"."""
        told = []
        for edge in self.edges():
            status = edge.properties["status"]
            if not statuses or status in statuses:
                tail = "" if status == "asserted" else f" ({status})"
                told.append(f"{self.name(edge.start)} {edge.type} {self.name(edge.end)}{tail}")
        return sorted(told)

    def edges(self, predicate: str | None = None) -> list[Edge]:
        """The facts, or those of one predicate."""
        edges = self.graph.stored_edges.values()
        return [edge for edge in edges if edge.type != "MENTIONS" and predicate in (None, edge.type)]

    def fact(self, told: str) -> Edge:
        """The one fact that "Emma lives_in Oslo" tells, whatever its status."""
        found = [e for e in self.edges() if f"{self.name(e.start)} {e.type} {self.name(e.end)}" == told]
        assert len(found) == 1, f"{told}: {len(found)} of {self.facts()}"
        return found[0]

    def name(self, entity_id: str) -> str:
        return str(self.graph.stored_nodes[entity_id].properties["name"])

    def entities(self, *types: str) -> list[str]:
        """Names of the entities of these types, the user, group and agent left out."""
        return sorted(
            str(node.properties["name"])
            for node in self.graph.stored_nodes.values()
            if node.kind == "Entity" and not node.properties["role"] and node.properties["type"] in types
        )

    def entity(self, name: str) -> Node:
        """The one entity of a name."""
        found = [n for n in self.graph.stored_nodes.values() if n.kind == "Entity" and n.properties["name"] == name]
        assert len(found) == 1, f"{name}: {len(found)}"
        return found[0]


def understood(
    block: str,
    *,
    turn_id: str = "t",
    user: str = "me",
    session: str = "today",
    speaker: str = "user",
    at: float = MONDAY,
    context: tuple[Utterance, ...] = (),
    correction: float = 0.0,
    category: str = "",
) -> TurnRecord:
    """An annotated turn as it is journaled when the extractor makes no mistake."""
    text, extraction = annotated(block, context, correction)
    turn = Turn(turn_id, user, session, speaker, text, at, context)
    statements, mentioned = build(turn, extraction, SCHEMA, UTC)
    classification = Classification(False, 0.9, False, 0.9, category, 0.9, "") if category else None
    return TurnRecord(turn, statements, mentioned, extraction, classification, {"extractor": "extractor@0.1.0"})


def conversation() -> list[Record]:
    """A hundred annotated turns of several conversations, corrections among them, and two wishes to forget."""
    path = Path(training.__file__).parent / "data" / "conversations" / "daily-1.txt"
    records: list[Record] = []
    for number, example in enumerate(read_examples([path], SCHEMA)[:100]):
        said = tuple(Utterance({"A": "user", "B": "agent"}.get(c.speaker, c.speaker), c.text) for c in example.context)
        turn = Turn(f"t{number}", "me", f"s{number // 25}", "user", example.text, MONDAY + 600 * number, said)
        gold = replace(example.gold, correction=0.9 if example.style == "correction" else 0.0)
        statements, mentioned = build(turn, gold, SCHEMA, UTC)
        records.append(TurnRecord(turn, statements, mentioned, gold, None, {"extractor": "extractor@0.1.0"}))
    return [*records[:60], ForgetRecord("me", "session", "s1"), *records[60:], ForgetRecord("me", "entity", "Noor")]


def annotated(block: str, context: tuple[Utterance, ...] = (), correction: float = 0.0) -> tuple[str, Extraction]:
    """The text of an annotated turn and its gold extraction, with the confidences of a good model."""
    text, *relations = [line.strip() for line in block.strip().splitlines()]
    lines = ["@ daily_life style=simple", f"T: {text}", *relations]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "turn.txt")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        example = read_examples([path], SCHEMA)[0]
    gold = example.gold
    relations_ = tuple(type(r)(r.subject, r.predicate, r.object, r.status, 0.8, r.time) for r in gold.relations)
    return example.text, Extraction(gold.mentions, gold.links, relations_, correction)


def _storable(properties: Any, own_id: str) -> dict[str, Any]:
    for name, value in properties.items():
        scalar = (
            value is None or isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))
        )
        assert scalar or (isinstance(value, list) and all(isinstance(item, str) for item in value)), (name, value)
    assert properties["id"] == own_id
    assert properties["user"]
    return {name: value for name, value in properties.items() if value is not None}
