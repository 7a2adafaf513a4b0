"""What is recalled is what the graph holds, the last said first, whichever way it was found, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from daemon.memory import recall
from daemon.memory.directory import Directory
from daemon.memory.graph import GraphStore
from daemon.memory.graph_transaction import GraphTransaction
from daemon.memory.recall import Memory
from daemon.memory.records import Entry, ForgetRecord, Record, Writes
from daemon.memory.user_graph import UserGraphProjection
from tests.neo4j.server import GraphServer
from tests.unit.listener import MONDAY, SCHEMA, understood


def lives(name: str, place: str) -> str:
    return f"[{name}|PERSON] lives in [{place}|LOCATION].\nR: {name}; lives_in; {place}"


def visited(place: str) -> str:
    return f"[I|speaker] visited [{place}|LOCATION].\nR: speaker; visited; {place}"


class Scene:
    """A user graph that hears turns, and a memory that is asked."""

    def __init__(self, server: GraphServer) -> None:
        self.store: GraphStore = server.store("user")
        self.directory = Directory()
        self.projection = UserGraphProjection(SCHEMA, directory=self.directory)
        self.memory = Memory({"user": self.store}, server.locate, self.directory)
        self._seq = 0

    async def take(self, *records: Record) -> None:
        entries = [Entry(self._seq + n, MONDAY + self._seq + n, record) for n, record in enumerate(records, 1)]
        self._seq += len(entries)

        async def build(tx: GraphTransaction, _cursor: int) -> Writes:
            return await self.projection.build(tx, entries)

        self.projection.committed(await self.store.apply("journal", self._seq, build))

    async def told(self, name: str = "", **more: Any) -> list[str]:
        facts = await self.memory.facts("me", name, **more)
        return [f"{fact['subject']} {fact['predicate']} {fact['object']} ({fact['status']})" for fact in facts]


@pytest.fixture
async def scene(graph_server: GraphServer) -> AsyncIterator[Scene]:
    scene = Scene(graph_server)
    await scene.store.open()
    yield scene
    await scene.store.close()


async def test_a_memory_is_recalled_by_name_by_time_and_by_status(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "WELL_CONNECTED", 5)
    monkeypatch.setattr(recall, "WALKED_AT_ONCE", 2)
    places = ("Oslo", "Rome", "Lima", "Bonn", "Kyiv")
    for number, place in enumerate(places):
        await scene.take(
            understood(lives("Emma", place), turn_id=f"a{number}", at=MONDAY + 60 * number),
            understood(visited(place), turn_id=f"b{number}", at=MONDAY + 60 * number + 30),
        )
    await scene.take(understood(visited("Rome"), at=MONDAY + 999))
    moves = [f"Emma lives_in {place} (superseded)" for place in ("Bonn", "Lima", "Rome", "Oslo")]
    trips = [f"you visited {place} (asserted)" for place in ("Rome", "Kyiv", "Bonn", "Lima", "Oslo")]
    assert await scene.told("Emma") == ["Emma lives_in Kyiv (asserted)", *moves]
    assert await scene.told("emma", closed=False) == ["Emma lives_in Kyiv (asserted)"]
    assert await scene.told("me") == trips
    assert await scene.told("me", limit=2) == trips[:2]
    assert (await scene.told(limit=3)) == [trips[0], trips[1], "Emma lives_in Kyiv (asserted)"]
    assert len(await scene.told()) == 10
    assert len(await scene.told(closed=False)) == 6
    assert await scene.told("rome") == [trips[0], moves[2]]
    assert await scene.told("Zebedee") == []
    monkeypatch.setattr(recall, "WALKED", 2)  # further back all that touches the user is looked through
    assert await scene.told("me") == trips


async def test_names_follow_what_is_committed(scene: Scene) -> None:
    await scene.take(understood(lives("Emma", "Oslo")))
    assert await scene.told("Tom") == []
    await scene.take(understood(lives("Tom", "Oslo"), turn_id="u"))
    assert await scene.told("Tom") == ["Tom lives_in Oslo (asserted)"]
    await scene.take(ForgetRecord("me", "entity", "Tom"))
    assert await scene.told("Tom") == []
    await scene.take(ForgetRecord("me", "everything"))
    assert await scene.told("Emma") == await scene.told() == []
