"""Entities and facts as the user graph stores them, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from daemon.memory.facts import Fact
from daemon.memory.records import Edge, Node
from daemon.memory.resolution import Entity

ENTITY, UTTERANCE, MENTIONS = "Entity", "Utterance", "MENTIONS"

_ENDS = {"subject", "object", "predicate"}
_ENTITY_FIELDS = tuple(field.name for field in fields(Entity))
_FACT_FIELDS = tuple(field.name for field in fields(Fact) if field.name not in _ENDS)


def entity_node(entity: Entity) -> Node:
    """The node of an entity."""
    return Node(ENTITY, entity.id, _stored(entity, _ENTITY_FIELDS))


def entity_of(node: Node) -> Entity:
    """The entity of a node that `entity_node` made."""
    return Entity(**_read(node.properties, _ENTITY_FIELDS))


def fact_edge(fact: Fact) -> Edge:
    """The relationship of a fact: its predicate is the type."""
    return Edge(fact.predicate, fact.id, fact.subject, fact.object, _stored(fact, _FACT_FIELDS))


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
