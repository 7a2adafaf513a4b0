"""What is remembered, read back from the graphs for a person to see."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog

from actors.messages import KnownEntity
from daemon.errors import DaemonError, GraphRefused, GraphUnavailable
from daemon.memory.directory import Directory, Names, texts
from daemon.memory.facts import ASSERTED, CORRECTED, ENDED, NEGATED, SUPERSEDED, UNCERTAIN
from daemon.memory.graph import GraphStore, Target
from daemon.memory.graph_transaction import GraphTransaction
from daemon.memory.records import Edge, GraphName, Node
from daemon.memory.rows import UTTERANCE, fact_type_and_id

log = structlog.get_logger(__name__)

OPEN = (ASSERTED, UNCERTAIN)
"""Statuses of facts that still hold; the others tell what once was, or was taken back."""
ALL = (*OPEN, ENDED, NEGATED, SUPERSEDED, CORRECTED)

AGENT_KINDS = ("Episode", "Topic", "Preference", "Correction")
WELL_CONNECTED = 2048
"""An entity that was named more often than this, the user above all, has too many facts to look through."""
WALKED_AT_ONCE, WALKED = 256, 4096
"""How many of the latest utterances are looked through for facts, at once and at most."""


class Memory:
    """Reads both graphs. Every method raises GraphUnavailable or GraphRefused when a graph does not answer."""

    def __init__(
        self, stores: Mapping[GraphName, GraphStore], locate: Callable[[GraphName], Target], directory: Directory
    ) -> None:
        """`directory` is the one that follows the user graph's projection."""
        self._stores = stores
        self._locate = locate
        self._directory = directory
        self._learning: dict[str, asyncio.Task[None]] = {}

    def close(self) -> None:
        """Read no more names."""
        for task in self._learning.values():
            task.cancel()

    def where(self, graph: GraphName) -> str:
        """The graph's address, without its password; "" while an embedded one is down."""
        try:
            target = self._locate(graph)
        except GraphUnavailable:
            return ""
        return f"{target.uri}/{target.database}".rstrip("/")

    def learn_names(self, user: str) -> None:
        """Read a user's names in the background, before somebody who asks would have to wait for them."""
        if user not in self._learning:
            task = self._learning[user] = asyncio.create_task(self._learn(user))
            task.add_done_callback(lambda _: self._learning.pop(user, None))

    async def _learn(self, user: str) -> None:
        try:
            await self._stores["user"].read(lambda tx: self._directory.names(tx, user))
        except DaemonError as error:
            log.info("names_not_read", error=error.code)

    def spoken_of(self, user: str, *, count: int, within_s: float) -> list[KnownEntity]:
        """Up to `count` entities that were spoken of within the last seconds, latest first.

        Nothing is waited for: where the user's names are not read yet, there is none, and they are read for later.
        """
        if count and not self._directory.knows(user):
            self.learn_names(user)
        lately = self._directory.lately(user, count, time.time() - within_s)
        return [KnownEntity(str(node.properties["name"]), str(node.properties["type"])) for node in lately]

    async def facts(self, user: str, name: str = "", *, closed: bool = True, limit: int = 200) -> list[dict[str, Any]]:
        """The `limit` facts said last about an entity (by name, alias, or "me"), or of all of a user's.

        `closed` includes those that no longer hold. An entity that nobody has named gives an empty list.
        """
        statuses = ALL if closed else OPEN

        async def read(tx: GraphTransaction) -> list[dict[str, Any]]:
            names = await self._directory.names(tx, user)
            wanted = names.named(name) if name else None
            edges, said = await self._latest(tx, user, wanted, statuses, limit)
            if more := {_last(edge) for edge in edges} - {"", *said}:
                said |= {node.id: node for node in await tx.nodes(UTTERANCE, ids=sorted(more))}
            return [_fact(edge, names, said) for edge in edges]

        return await self._stores["user"].read(read)

    async def names_of(self, user: str, name: str) -> tuple[str, ...] | None:
        """Every name of those whom a person means by this one, in either graph and in the user's own words.

        None while the user graph does not answer.
        """
        try:
            names = await self._stores["user"].read(lambda tx: self._directory.names(tx, user))
        except (GraphUnavailable, GraphRefused):
            return None
        return tuple(dict.fromkeys(each for node in names.meant(name) for each in names.every_name(node)))

    async def agent_nodes(self, user: str, *, limit: int = 200) -> list[dict[str, Any]]:
        """What the agent graph holds of a user: up to `limit` episodes, topics, preferences, corrections, the most
        spoken of first; each as its properties."""

        async def read(tx: GraphTransaction) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            for kind in AGENT_KINDS:
                if left := limit - len(found):
                    nodes = await tx.top_nodes(kind, user, "turns", left)
                    found += [{**node.properties, "kind": kind} for node in nodes]
            return found

        return await self._stores["agent"].read(read)

    async def _latest(
        self, tx: GraphTransaction, user: str, wanted: list[Node] | None, statuses: Collection[str], limit: int
    ) -> tuple[list[Edge], dict[str, Node]]:
        """The facts of some entities, or all, latest said first, and utterances that were read on the way.

        Of a well-connected one the facts are found through what was said last; only where that is in vain are all its
        relationships looked through.
        """
        if wanted is None or any(map(_well_connected, wanted)):
            ends = None if wanted is None else {node.id for node in wanted}
            walked = await self._walk(tx, user, ends, statuses, limit)
            if walked is not None:
                return walked
        found: dict[str, Edge] = {}
        for node in wanted or ():
            found |= {edge.id: edge for edge in await tx.latest_edges(node.id, list(statuses), limit)}
        return sorted(found.values(), key=_lately)[:limit], {}

    async def _walk(
        self, tx: GraphTransaction, user: str, ends: Collection[str] | None, statuses: Collection[str], limit: int
    ) -> tuple[list[Edge], dict[str, Node]] | None:
        """The facts of the latest utterances; None where more than `WALKED` would have to be looked through."""
        found: dict[str, Edge] = {}
        read: dict[str, Node] = {}
        seen: set[str] = set()
        at_once = min(limit + 1, WALKED_AT_ONCE)
        newest = await tx.newest_seq()
        # All facts of a user are nowhere else together, however far back they lie.
        oldest = 0 if ends is None else max(0, newest - WALKED)
        for last in range(newest, oldest, -at_once):
            said = await tx.nodes_by_seq(UTTERANCE, user, range(max(1, last - at_once + 1), last + 1))
            read |= {node.id: node for node in said}
            refs = [ref for node in said for ref in texts(node.properties.get("facts"))]
            fresh = [ref for ref in dict.fromkeys(refs) if ref not in seen]
            seen.update(fresh)
            for start in range(0, len(fresh), limit):
                for edge in await tx.edges_by_id(_by_type(fresh[start : start + limit])):
                    if edge.properties["status"] in statuses and (ends is None or {edge.start, edge.end} & set(ends)):
                        found[edge.id] = edge
                if len(found) >= limit:
                    return sorted(found.values(), key=_lately)[:limit], read
        return (sorted(found.values(), key=_lately), read) if oldest == 0 else None


def _by_type(refs: Collection[str]) -> dict[str, list[str]]:
    """Ids by relationship type."""
    ids: defaultdict[str, list[str]] = defaultdict(list)
    for edge_type, fact_id in map(fact_type_and_id, refs):
        ids[edge_type].append(fact_id)
    return {edge_type: ids[edge_type] for edge_type in sorted(ids)}


def _well_connected(node: Node) -> bool:
    mentions = node.properties.get("mentions")
    return isinstance(mentions, int) and mentions > WELL_CONNECTED


def _lately(edge: Edge) -> tuple[float, str, str]:
    said_at = edge.properties.get("last_said_at")
    return -float(said_at) if isinstance(said_at, int | float) else 0.0, edge.type, edge.id


def _fact(edge: Edge, names: Names, said: Mapping[str, Node]) -> dict[str, Any]:
    utterance = said.get(_last(edge))
    return {
        **edge.properties,
        "id": edge.id,
        # Two people of one name are told apart by these.
        "subject_id": edge.start,
        "object_id": edge.end,
        "subject": names.shown(names[edge.start]) if edge.start in names else "",
        "predicate": edge.type,
        "object": names.shown(names[edge.end]) if edge.end in names else "",
        "last_said_at": edge.properties.get("last_said_at"),
        "said_as": str(utterance.properties.get("text", "")) if utterance else "",
    }


def _last(edge: Edge) -> str:
    return next(reversed(texts(edge.properties.get("utterances"))), "")
