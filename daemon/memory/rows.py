"""How memory is stored: the ids that entries make, entities and facts as nodes and edges, and back."""

from __future__ import annotations

from dataclasses import fields
from hashlib import blake2b
from typing import Any

from daemon.memory.facts import Fact
from daemon.memory.records import Edge, Entry, Node, TurnRecord
from daemon.memory.resolution import Entity

ENTITY, UTTERANCE, MENTIONS = "Entity", "Utterance", "MENTIONS"

_ENDS = {"subject", "object", "predicate"}
_ENTITY_FIELDS = tuple(field.name for field in fields(Entity))
_FACT_FIELDS = tuple(field.name for field in fields(Fact) if field.name not in _ENDS)


def id_stem(entry: Entry, record: TurnRecord) -> str:
    """What the ids that an entry makes are built on: the same at every replay, never another entry's.

    The sequence number alone would not do: another journal counts from one again.
    """
    told = f"{entry.seq}\0{entry.recorded_at!r}\0{record.turn.user}\0{record.turn.id}"
    return f"{entry.seq}-{blake2b(told.encode(), digest_size=6).hexdigest()}"


def utterance_id(stem: str) -> str:
    """The id of the utterance that an entry with this stem makes."""
    return f"u-{stem}"


def entity_node(entity: Entity) -> Node:
    """The node of an entity."""
    return Node(ENTITY, entity.id, _stored(entity, _ENTITY_FIELDS))


def entity_of(node: Node) -> Entity:
    """The entity of a node that `entity_node` made."""
    return Entity(**_read(node.properties, _ENTITY_FIELDS))


def fact_edge(fact: Fact) -> Edge:
    """The relationship of a fact: its predicate is the type."""
    return Edge(fact.predicate, fact.id, fact.subject, fact.object, _stored(fact, _FACT_FIELDS))


def fact_ref(fact: Fact) -> str:
    """How an utterance's node names a fact that it told: `fact_type_and_id` reads it."""
    return f"{fact.predicate}:{fact.id}"


def fact_type_and_id(ref: str) -> tuple[str, str]:
    """The relationship's type and id that a `fact_ref` names."""
    predicate, _, fact_id = ref.partition(":")
    return predicate, fact_id


def fact_of(edge: Edge) -> Fact:
    """The fact of a relationship that `fact_edge` made."""
    return Fact(subject=edge.start, predicate=edge.type, object=edge.end, **_read(edge.properties, _FACT_FIELDS))


def _stored(row: Entity | Fact, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _read(properties: Any, names: tuple[str, ...]) -> dict[str, Any]:
    # A graph drops what is None: what is not there takes the field's default.
    values = {name: properties[name] for name in names if properties.get(name) is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
