"""Who and what is known by which name, for readers: kept in memory beside the user graph, as the graph has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from rapidfuzz import fuzz, process

from daemon.memory.draft import Reads
from daemon.memory.possession import plain_noun
from daemon.memory.records import SHOWN_ROLES, Node, Writes
from daemon.memory.rows import ENTITY
from daemon.memory.spelling import name_key
from daemon.memory.statements import VALUES

SELF = frozenset({"me", "i", "you", "user", "myself"})
SIMILAR = 88.0
_LATEST = 64


class Names:
    """The entities of one user, by id and by each of their names."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._nodes: dict[str, Node] = {}  # those that were changed last stand last
        self._by_name: defaultdict[str, dict[str, None]] = defaultdict(dict)
        # What these are called ("you", "your sister") hangs on more than their own name.
        self._described: dict[str, None] = {}
        for node in sorted(nodes, key=_last_said_at):
            self.put(node)

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._nodes

    def __getitem__(self, node_id: str) -> Node:
        return self._nodes[node_id]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def put(self, node: Node) -> None:
        """Add an entity, or replace what it was."""
        self.drop(node.id)
        self._nodes[node.id] = node
        for name in _keys(node):
            self._by_name[name][node.id] = None
        if node.properties.get("role") or node.properties.get("owner"):
            self._described[node.id] = None

    def drop(self, node_id: str) -> None:
        """Forget an entity; one that is not known is none."""
        node = self._nodes.pop(node_id, None)
        self._described.pop(node_id, None)
        for name in _keys(node) if node else ():
            self._by_name[name].pop(node_id, None)
            if not self._by_name[name]:
                del self._by_name[name]

    def named(self, name: str) -> list[Node]:
        """The entities that a person may mean by a name: exactly, else by the nearest spelling."""
        wanted = name.casefold().strip()
        if wanted in SELF:
            return [node for node in self._described_nodes() if node.properties.get("role") == "user"]
        described: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for node in self._described_nodes():
            described[self.shown(node).casefold()][node.id] = None
        if exact := {**self._by_name.get(wanted, {}), **described.get(wanted, {})}:
            return [self._nodes[node_id] for node_id in exact]
        best, found = 0.0, dict[str, None]()
        for names in (self._by_name, described):
            for spelt, score, _ in process.extract(
                wanted, names.keys(), scorer=fuzz.ratio, score_cutoff=max(best, SIMILAR), limit=None
            ):
                found = {**(found if score == best else {}), **names[spelt]} if score >= best else found
                best = max(best, score)
        return [self._nodes[node_id] for node_id in found]

    def meant(self, name: str) -> list[Node]:
        """The entities that a person means who wants them forgotten; never the user, nor another role.

        Spelling and accents are no matter, and "sister" is the user's; failing that, those that are `named` so.
        """
        key, noun = name_key(name), plain_noun(name.casefold().removeprefix("my ").removeprefix("your ").strip())
        found = [
            node
            for node in self
            if key in map(name_key, _own_names(node))
            or (self._is_users(node) and noun in map(plain_noun, texts(node.properties.get("nominals"))))
        ]
        found = found or self.named(name.replace("'s ", "’s "))
        return [node for node in found if node.properties.get("role") not in SHOWN_ROLES]

    def every_name(self, node: Node) -> list[str]:
        """Every name that either graph or the user knows an entity by. A bare noun is none: "wife" means one's own."""
        shown, own = self.shown(node), _own_names(node)
        names = [*(own if shown == own[0] else own[1:]), shown, *self._descriptions(node)]
        return [name for name in names if name]

    def lately(self, count: int, since: float) -> list[Node]:
        """Up to `count` entities, latest first, that were spoken of since then (Unix time in seconds)."""
        latest = sorted(islice(reversed(self._nodes.values()), _LATEST), key=_last_said_at, reverse=True)
        return [
            node
            for node in latest
            if _last_said_at(node) >= since
            and not node.properties.get("role")
            and node.properties.get("type") not in VALUES
        ][:count]

    def shown(self, node: Node) -> str:
        """An entity's name as a person would say it: "you", "your sister", "Tom's wife", "Emma"."""
        properties = node.properties
        role, name = str(properties.get("role") or ""), str(properties.get("name", ""))
        if role in SHOWN_ROLES:
            return SHOWN_ROLES[role]
        owner = self._nodes.get(str(properties.get("owner")))
        noun = next(
            (noun for noun in texts(properties.get("nominals")) if noun.split()[-1:] == name.casefold().split()[-1:]),
            "",
        )
        if owner is None or not noun:
            return name
        whose = self.shown(owner)
        return f"your {noun}" if whose == SHOWN_ROLES["user"] else f"{whose}’s {noun}"

    def _descriptions(self, node: Node) -> list[str]:
        """What it is called as somebody's: "the user's sister" in the agent graph, "my sister" by the user."""
        owner = self._nodes.get(str(node.properties.get("owner")))
        if owner is None:
            return []
        if self._is_users(node):
            whose = ["my", "the user's"]
        else:
            described = self.shown(owner) != _own_names(owner)[0]
            whose = [f"{name}'s" for name in (self._descriptions(owner) if described else _own_names(owner))]
        return [f"{each} {noun}" for each in whose for noun in texts(node.properties.get("nominals"))]

    def _is_users(self, node: Node) -> bool:
        owner = self._nodes.get(str(node.properties.get("owner")))
        return owner is not None and owner.properties.get("role") == "user"

    def _described_nodes(self) -> Iterator[Node]:
        return (self._nodes[node_id] for node_id in self._described)


class Directory:
    """Every user's `Names`: read from the user graph once, then kept up with what is committed to it."""

    def __init__(self) -> None:
        self._users: dict[str, Names] = {}
        self._loading: dict[object, list[Writes] | None] = {}

    async def names(self, reads: Reads, user: str) -> Names:
        """A user's names."""
        if user in self._users:
            return self._users[user]
        # What is committed while they are read may or may not be among them: done again it changes nothing.
        load = object()
        self._loading[load] = []
        try:
            found = Names(await reads.nodes(ENTITY, user=user))
        finally:
            missed = self._loading.pop(load)
        for writes in missed or ():
            _follow(found, user, writes)
        if missed is not None:
            self._users[user] = found
        return found

    def knows(self, user: str) -> bool:
        """Whether a user's names have been read."""
        return user in self._users

    def lately(self, user: str, count: int, since: float) -> list[Node]:
        """See `Names.lately`. None are told where `knows` is false: nothing is read for it."""
        return self._users[user].lately(count, since) if self.knows(user) else []

    def committed(self, writes: Writes) -> None:
        """The graph holds these now."""
        for missed in self._loading.values():
            if missed is not None:
                missed.append(writes)
        for user, names in self._users.items():
            _follow(names, user, writes)

    def reset(self) -> None:
        """The graph may hold something else now."""
        self._users.clear()
        self._loading = dict.fromkeys(self._loading)


def texts(value: object) -> list[str]:
    """A stored list of strings, empty where there is none."""
    return [str(each) for each in value] if isinstance(value, list) else []


def _own_names(node: Node) -> list[str]:
    """Its name first, then its aliases."""
    return [str(node.properties.get("name", "")), *texts(node.properties.get("aliases"))]


def _keys(node: Node) -> set[str]:
    return {name.casefold() for name in _own_names(node)} - {""}


def _last_said_at(node: Node) -> float:
    said_at = node.properties.get("last_said_at")
    return float(said_at) if isinstance(said_at, int | float) else 0.0


def _follow(names: Names, user: str, writes: Writes) -> None:
    for node_id in writes.deleted_nodes:
        names.drop(node_id)
    for node in writes.nodes:
        if node.kind == ENTITY and node.properties["user"] == user:
            names.put(node)
