"""Names: found as they are in the graph now, whatever was committed while they were read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from daemon.memory.directory import Directory, Names
from daemon.memory.records import Edge, Node, Writes


def entity(entity_id: str, name: str, user: str = "me", **more: str | float | list[str]) -> Node:
    return Node("Entity", entity_id, {"id": entity_id, "user": user, "name": name, **more})


class Graph:
    """Holds entities; `during` runs while they are read."""

    def __init__(self, *nodes: Node) -> None:
        self.stored = list(nodes)
        self.reads = 0
        self.during: Callable[[], Awaitable[None]] | None = None

    async def nodes(self, kind: str, *, user: str | None = None, ids: Sequence[str] | None = None) -> list[Node]:
        assert (kind, ids) == ("Entity", None)
        self.reads += 1
        found = [node for node in self.stored if node.properties["user"] == user]
        if self.during:
            await self.during()
        return found

    async def edges(self, keys: Sequence[tuple[str, str | None]]) -> list[Edge]:
        raise AssertionError(f"no edge is needed: {keys}")


async def found(directory: Directory, graph: Graph, name: str, user: str = "me") -> list[str]:
    return sorted(node.id for node in (await directory.names(graph, user)).named(name))


async def test_the_graph_is_read_once_and_followed_from_then_on() -> None:
    directory, graph = Directory(), Graph(entity("e1", "Emma"), entity("x", "Emma", "somebody else"))
    assert await found(directory, graph, "emma") == ["e1"]
    directory.committed(Writes(nodes=(entity("e2", "Tom"), entity("e3", "Ana", "somebody else"))))
    directory.committed(Writes(nodes=(entity("e1", "Emily", aliases=["Em"]),)))
    assert await found(directory, graph, "Tom") == ["e2"]
    assert await found(directory, graph, "Emma") == []
    assert await found(directory, graph, "em") == ["e1"]
    assert await found(directory, graph, "Ana") == []
    directory.committed(Writes(deleted_nodes=("e2",)))
    assert await found(directory, graph, "Tom") == []
    assert graph.reads == 1
    directory.reset()
    assert await found(directory, graph, "Emma") == ["e1"]


async def test_what_is_committed_while_names_are_read_is_not_missed() -> None:
    directory, graph = Directory(), Graph(entity("e1", "Emma"))

    async def commit() -> None:
        directory.committed(Writes(nodes=(entity("e2", "Tom"),), deleted_nodes=("e1",)))

    graph.during = commit
    assert await found(directory, graph, "Tom") == ["e2"]
    assert await found(directory, graph, "Emma") == []
    assert graph.reads == 1


async def test_names_read_while_the_graph_became_another_are_not_kept() -> None:
    directory, graph = Directory(), Graph(entity("e1", "Emma"))

    async def reset() -> None:
        directory.reset()

    graph.during = reset
    await found(directory, graph, "Emma")
    await found(directory, graph, "Emma")
    assert graph.reads == 2


def test_the_nearest_spelling_is_found_and_one_of_several_alike() -> None:
    names = Names([entity("e1", "Lindqvist"), entity("e2", "Lindquist"), entity("e3", "Bo"), entity("e4", "lindqvist")])
    assert sorted(node.id for node in names.named("Lindqvist")) == ["e1", "e4"]
    assert sorted(node.id for node in names.named("Lindqvists")) == ["e1", "e4"]
    assert names.named("Lindgren") == []
    names.drop("e1")
    assert [node.id for node in names.named("Lindqvist")] == ["e4"]


async def test_those_spoken_of_last_are_told_without_reading() -> None:
    spoken = {"type": "PERSON"}
    graph = Graph(
        entity("e1", "Emma", last_said_at=30.0, **spoken),
        entity("e2", "Tom", last_said_at=10.0, **spoken),
        entity("e3", "Ana", last_said_at=20.0, **spoken),
        entity("e4", "five", last_said_at=40.0, type="NUMBER"),
        entity("e5", "", last_said_at=40.0, role="user", **spoken),
    )
    directory = Directory()
    assert directory.lately("me", 3, 0.0) == []
    await directory.names(graph, "me")
    assert [node.id for node in directory.lately("me", 3, 0.0)] == ["e1", "e3", "e2"]
    assert [node.id for node in directory.lately("me", 3, 15.0)] == ["e1", "e3"]
    directory.committed(Writes(nodes=(entity("e2", "Tom", last_said_at=50.0, **spoken),), deleted_nodes=("e1",)))
    assert [node.id for node in directory.lately("me", 1, 0.0)] == ["e2"]
    assert directory.lately("me", 0, 0.0) == []
