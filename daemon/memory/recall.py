"""What is remembered, read back from the graphs for a person to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rapidfuzz import fuzz

from daemon.errors import GraphUnavailable
from daemon.memory.graph import GraphStore, Target
from daemon.memory.graph_transaction import GraphTransaction
from daemon.memory.records import SHOWN_ROLES, Edge, GraphName, Node

OPEN = ("asserted", "uncertain")
"""Statuses of facts that still hold; the others tell what once was, or was taken back."""

SELF = frozenset({"me", "i", "you", "user", "myself"})
AGENT_KINDS = ("Episode", "Topic", "Preference", "Correction")
SIMILAR = 88.0


class Memory:
    """Reads both graphs. Every method raises GraphUnavailable or GraphRefused when a graph does not answer."""

    def __init__(self, stores: Mapping[GraphName, GraphStore], locate: Callable[[GraphName], Target]) -> None:
        self._stores = stores
        self._locate = locate

    def where(self, graph: GraphName) -> str:
        """The graph's address, without its password; "" while an embedded one is down."""
        try:
            target = self._locate(graph)
        except GraphUnavailable:
            return ""
        return f"{target.uri}/{target.database}".rstrip("/")

    async def facts(self, user: str, name: str = "", *, closed: bool = True) -> list[dict[str, Any]]:
        """Facts about an entity (by name, alias, or "me"), or all of a user's; latest said first.

        `closed` includes those that no longer hold. An entity that nobody has named gives an empty list.
        """

        async def read(tx: GraphTransaction) -> list[dict[str, Any]]:
            entities = {node.id: node for node in await tx.nodes("Entity", user=user)}
            wanted = [node.id for node in named(entities, name)] if name else list(entities)
            edges = [
                edge
                for edge in (await tx.edges([(node_id, None) for node_id in wanted]) if wanted else [])
                # Structural relationships are in capitals, facts carry a status.
                if "status" in edge.properties and (closed or edge.properties["status"] in OPEN)
            ]
            said_in = {_last(edge) for edge in edges} - {""}
            said = {node.id: node for node in await tx.nodes("Utterance", ids=sorted(said_in))} if said_in else {}
            return [_fact(edge, entities, said) for edge in edges]

        found = await self._stores["user"].read(read)
        return sorted(found, key=lambda fact: (-float(fact["last_said_at"] or 0.0), fact["predicate"], fact["id"]))

    async def agent_nodes(self, user: str) -> list[dict[str, Any]]:
        """What the agent graph holds of a user: episodes, topics, preferences, corrections; each as its properties."""

        async def read(tx: GraphTransaction) -> list[dict[str, Any]]:
            return [
                {**node.properties, "kind": kind} for kind in AGENT_KINDS for node in await tx.nodes(kind, user=user)
            ]

        found = await self._stores["agent"].read(read)
        return sorted(
            found, key=lambda node: (AGENT_KINDS.index(node["kind"]), -float(node.get("turns", 0)), node["id"])
        )


def named(entities: Mapping[str, Node], name: str) -> list[Node]:
    """The entities that a person may mean by a name: exactly, else by the nearest spelling."""
    wanted = name.casefold().strip()
    if wanted in SELF:
        return [node for node in entities.values() if node.properties.get("role") == "user"]
    spelt = [(node, [spelling.casefold() for spelling in _spellings(node, entities)]) for node in entities.values()]
    exact = [node for node, spellings in spelt if wanted in spellings]
    if exact:
        return exact
    scored = [(max((fuzz.ratio(wanted, each) for each in spellings), default=0.0), node) for node, spellings in spelt]
    best = max((score for score, _ in scored), default=0.0)
    return [node for score, node in scored if score == best] if best >= SIMILAR else []


def shown_name(node: Node, entities: Mapping[str, Node]) -> str:
    """An entity's name as a person would say it: "you", "your sister", "Tom's wife", "Emma"."""
    properties = node.properties
    role, name = str(properties.get("role") or ""), str(properties.get("name", ""))
    if role in SHOWN_ROLES:
        return SHOWN_ROLES[role]
    owner = entities.get(str(properties.get("owner")))
    noun = next(
        (noun for noun in _texts(properties.get("nominals")) if noun.split()[-1:] == name.casefold().split()[-1:]), ""
    )
    if owner is None or not noun:
        return name
    whose = shown_name(owner, entities)
    return f"your {noun}" if whose == SHOWN_ROLES["user"] else f"{whose}’s {noun}"


def _fact(edge: Edge, entities: Mapping[str, Node], said: Mapping[str, Node]) -> dict[str, Any]:
    utterance = said.get(_last(edge))
    return {
        **edge.properties,
        "id": edge.id,
        # Two people of one name are told apart by these.
        "subject_id": edge.start,
        "object_id": edge.end,
        "subject": shown_name(entities[edge.start], entities) if edge.start in entities else "",
        "predicate": edge.type,
        "object": shown_name(entities[edge.end], entities) if edge.end in entities else "",
        "last_said_at": edge.properties.get("last_said_at"),
        "said_as": str(utterance.properties.get("text", "")) if utterance else "",
    }


def _last(edge: Edge) -> str:
    return next(reversed(_texts(edge.properties.get("utterances"))), "")


def _spellings(node: Node, entities: Mapping[str, Node]) -> list[str]:
    properties = node.properties
    return [str(properties.get("name", "")), *_texts(properties.get("aliases")), shown_name(node, entities)]


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []
