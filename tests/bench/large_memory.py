"""A memory of many years: 100,000 facts of one user, written straight into the databases."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from config.schema import load_schema
from daemon.memory.agent_graph import EPISODE, PREFERENCE, TOPIC
from daemon.memory.facts import Fact
from daemon.memory.graph import GraphStore
from daemon.memory.graph_transaction import CURSOR, LABELS
from daemon.memory.records import Edge, Node
from daemon.memory.resolution import Entity, role_id
from daemon.memory.rows import UTTERANCE, entity_node, fact_edge, fact_ref
from tests.neo4j.server import GraphServer

USER = "me"
NOW = 1.76e9
FACT_EVERY_S = 1200.0
"""100,000 facts in four years."""
FACTS_TO_ENTITY = 4
OF_THE_USER = 0.4
"""The share of facts that the user is the subject of: one node with 40,000 relationships."""
ROWS = 1000
T = TypeVar("T")


def entity_name(number: int) -> str:
    """What the entity of this number is called; no two are alike."""
    syllables = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "ro", "su", "ta", "ve", "wi", "xo", "yu", "za")
    return "".join(syllables[number >> shift & 15] for shift in (0, 4, 8, 12)).capitalize()


async def fill(server: GraphServer, stores: Sequence[GraphStore], count: int) -> None:
    """Write `count` facts, with the entities they join and the utterances they come from, and an agent graph."""
    for store in stores:
        await store.open()
    chance = random.Random(7)  # noqa: S311 - the same memory every time
    ids = [f"e-{number}" for number in range(count // FACTS_TO_ENTITY)]
    facts = list(_facts(chance, ids, count))
    heard = Counter(end for fact in facts for end in (fact.subject, fact.object))
    people = [entity_node(_entity(number, heard[entity_id])) for number, entity_id in enumerate(ids)]
    me = entity_node(Entity(role_id(USER, "user"), USER, USER, "PERSON", NOW, NOW, role="user", mentions=count))
    said = [
        Node(
            UTTERANCE,
            f"u-{n}",
            {
                "id": f"u-{n}", "user": USER, "session": f"s-{n // 50}", "speaker": "user", "said_at": _at(n),
                "text": f"What was said as number {n} of many.", "seq": n + 1, "facts": [fact_ref(fact)],
            },
        )
        for n, fact in enumerate(facts)
    ]  # fmt: skip
    await _nodes(server, "user", [me, *people, *said])
    await _edges(server, [fact_edge(fact) for fact in facts])
    cursor = {"id": "bench", "graph": LABELS["user"], "journal": "bench", "seq": count}
    await server.run("user", f"CREATE (c:{CURSOR}) SET c = $cursor", cursor=cursor)
    agent = [
        Node(kind, f"{kind}-{n}", {"id": f"{kind}-{n}", "user": USER, "name": entity_name(n), "turns": n % 97 + 1,
                                   "sort": "entity", "first_at": _at(n), "last_at": _at(n)})
        for kind in (EPISODE, TOPIC, PREFERENCE) for n in range(count // 40)
    ]  # fmt: skip
    await _nodes(server, "agent", agent)
    for name in sorted({fact.predicate for fact in facts}):
        await server.run("user", f"CREATE INDEX shoal_{name}_id IF NOT EXISTS FOR ()-[r:{name}]-() ON (r.id)")


def _entity(number: int, mentions: int) -> Entity:
    kinds = ("PERSON", "LOCATION", "PRODUCT", "ORGANIZATION")
    aliases = (f"{entity_name(number)} the Great",) if number % 10 == 0 else ()
    return Entity(
        f"e-{number}",
        USER,
        entity_name(number),
        kinds[number % 4],
        _at(number),
        _at(number),
        aliases=aliases,
        mentions=mentions,
    )


def _facts(chance: random.Random, entities: Sequence[str], count: int) -> Iterator[Fact]:
    predicates = sorted(load_schema().predicates)
    for number in range(count):
        subject = role_id(USER, "user") if chance.random() < OF_THE_USER else entities[_popular(chance, len(entities))]
        object_ = entities[_popular(chance, len(entities))]
        over = number % 5 == 0
        yield Fact(
            f"f-{number}", USER, subject, predicates[_popular(chance, len(predicates))], object_,
            "superseded" if over else "asserted", 0.8, _at(number), _at(number), _at(number), "asserted",
            valid_to="2026-01-01" if over else None, closed_at=NOW if over else None,
            utterances=(f"u-{number}",), sessions=(f"s-{number // 50}",), models=("extractor@1.0.0",),
        )  # fmt: skip


def _popular(chance: random.Random, count: int) -> int:
    """A number below `count`; half of all are among the first 12 %, as with the names in a life."""
    return int(count * chance.random() ** 3)


def _at(number: int) -> float:
    return NOW + FACT_EVERY_S * number


async def _nodes(server: GraphServer, graph: Any, nodes: Sequence[Node]) -> None:
    by_kind: defaultdict[str, list[Any]] = defaultdict(list)
    for node in nodes:
        by_kind[node.kind].append({k: v for k, v in node.properties.items() if v is not None})
    for kind, rows in by_kind.items():
        for batch in _batches(rows):
            await server.run(graph, f"UNWIND $rows AS row CREATE (n:{LABELS[graph]}:{kind}) SET n = row", rows=batch)


async def _edges(server: GraphServer, edges: Sequence[Edge]) -> None:
    by_type: defaultdict[str, list[Any]] = defaultdict(list)
    for edge in edges:
        stored = {k: v for k, v in edge.properties.items() if v is not None}
        by_type[edge.type].append({"start": edge.start, "end": edge.end, "stored": stored})
    for name, rows in by_type.items():
        for batch in _batches(rows):
            await server.run(
                "user",
                "UNWIND $rows AS row MATCH (a:UserGraph {id: row.start}), (b:UserGraph {id: row.end}) "
                f"CREATE (a)-[r:{name}]->(b) SET r = row.stored",
                rows=batch,
            )


def _batches(rows: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(rows)
    while batch := list(islice(rest, ROWS)):
        yield batch
