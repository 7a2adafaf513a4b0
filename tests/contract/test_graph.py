"""What a graph promises, on the embedded database and on a genuine Neo4j."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from config.settings import load_settings
from daemon.errors import GraphMisconfigured, GraphRefused, GraphUnavailable
from daemon.memory.graph import GraphStore, Target
from daemon.memory.graph_transaction import GraphTransaction
from daemon.memory.records import Edge, GraphName, Node, Properties, Writes
from tests.neo4j.server import GraphServer

Build = Callable[[GraphTransaction, int], Awaitable[Writes]]


@pytest.fixture
async def store(graph_server: GraphServer) -> AsyncIterator[GraphStore]:
    store = graph_server.store("user")
    yield store
    await store.close()


@asynccontextmanager
async def opened(server: GraphServer, name: GraphName = "user") -> AsyncIterator[GraphStore]:
    store = server.store(name)
    try:
        yield store
    finally:
        await store.close()


def person(name: str, **properties: str | int | float | bool | list[str] | None) -> Node:
    return Node("Entity", name, {"user": "me", "name": name, **properties})


def fact(subject: str, predicate: str, obj: str, **properties: str | int | float | bool | list[str] | None) -> Edge:
    return Edge(predicate, f"{subject}-{predicate}-{obj}", subject, obj, {"user": "me", **properties})


def writing(writes: Writes) -> Build:
    async def build(_transaction: GraphTransaction, _cursor: int) -> Writes:
        return writes

    return build


async def put(store: GraphStore, *things: Node | Edge, seq: int | None = None, **deleted: tuple[str, ...]) -> None:
    nodes = tuple(thing for thing in things if isinstance(thing, Node))
    edges = tuple(thing for thing in things if isinstance(thing, Edge))
    last_seq = await store.cursor("journal") + 1 if seq is None else seq
    await store.apply("journal", last_seq, writing(Writes(nodes, edges, **deleted)))


async def all_nodes(store: GraphStore, kind: str = "Entity") -> dict[str, Properties]:
    return {node.id: node.properties for node in await store.read(lambda tx: tx.nodes(kind))}


async def edges_at(store: GraphStore, *keys: tuple[str, str | None]) -> dict[str, Edge]:
    return {edge.id: edge for edge in await store.read(lambda tx: tx.edges(keys))}


async def test_opening_again_changes_nothing(store: GraphStore) -> None:
    await store.open()
    await put(store, person("Ana"))
    await store.open()
    assert set(await all_nodes(store)) == {"Ana"}
    await store.ping()


async def test_an_id_is_one_node_for_the_database_too(graph_server: GraphServer, store: GraphStore) -> None:
    await put(store, person("Ana"))
    with pytest.raises(Exception, match=r"already exists|log for the details"):
        await graph_server.run("user", "CREATE (:UserGraph:Utterance {id: 'Ana'})")


async def test_what_is_written_is_read_back(store: GraphStore) -> None:
    ana = person("Ana", aliases=["Anna", "A."], nominals=[], mentions=3, confidence=0.5, known=True, gone=None)
    await put(store, ana, person("Bo"), fact("Ana", "knows", "Bo", times_said=1, utterances=["u1"]))
    nodes = await all_nodes(store)
    assert nodes["Ana"] == {
        "id": "Ana", "user": "me", "name": "Ana", "aliases": ["Anna", "A."], "nominals": [], "mentions": 3,
        "confidence": 0.5, "known": True,
    }  # fmt: skip
    (edge,) = (await edges_at(store, ("Bo", None))).values()
    assert edge == fact("Ana", "knows", "Bo", times_said=1, utterances=["u1"], id="Ana-knows-Bo")


async def test_writing_again_replaces_all_properties(store: GraphStore) -> None:
    await put(store, person("Ana", role="friend"), person("Bo"), fact("Ana", "knows", "Bo", status="uncertain"))
    await put(store, person("Ana", mentions=2), fact("Ana", "knows", "Bo", times_said=2))
    assert (await all_nodes(store))["Ana"] == {"id": "Ana", "user": "me", "name": "Ana", "mentions": 2}
    edges = await edges_at(store, ("Ana", "knows"))
    assert edges["Ana-knows-Bo"].properties == {"id": "Ana-knows-Bo", "user": "me", "times_said": 2}


async def test_nodes_are_found_by_kind_user_and_id(store: GraphStore) -> None:
    other = Node("Entity", "o", {"user": "other"})
    await put(store, person("Ana"), person("Bo"), other, Node("Utterance", "u", {"user": "me"}))

    async def ids(**which: object) -> set[str]:
        return {node.id for node in await store.read(lambda tx: tx.nodes("Entity", **which))}  # type: ignore[arg-type]

    assert await ids() == {"Ana", "Bo", "o"}
    assert await ids(user="me") == {"Ana", "Bo"}
    assert await ids(ids=["Bo", "o", "u", "nobody"]) == {"Bo", "o"}
    assert await ids(user="me", ids=["Bo", "o"]) == {"Bo"}
    assert await ids(ids=[]) == set()
    assert await store.read(lambda tx: tx.nodes("NeverSeen", user="me")) == []


async def test_edges_are_found_at_either_end_once(store: GraphStore) -> None:
    people = [person(name) for name in ("Ana", "Bo", "Cy")]
    facts = [
        fact("Ana", "knows", "Bo"),
        fact("Bo", "likes", "Cy"),
        fact("Cy", "knows", "Cy"),
        fact("Cy", "likes", "Bo"),
    ]
    await put(store, *people, *facts)
    assert set(await edges_at(store, ("Bo", "likes"))) == {"Bo-likes-Cy", "Cy-likes-Bo"}
    assert set(await edges_at(store, ("Bo", None))) == {"Ana-knows-Bo", "Bo-likes-Cy", "Cy-likes-Bo"}
    assert len(await store.read(lambda tx: tx.edges([("Cy", "knows"), ("Cy", None), ("Bo", "likes")]))) == 3
    assert await edges_at(store, ("nobody", "likes"), ("Ana", "never_said")) == {}


async def test_deleting_a_node_takes_its_edges_and_comes_first(store: GraphStore) -> None:
    await put(store, person("Ana"), person("Bo"), person("Cy"), fact("Ana", "knows", "Bo"), fact("Bo", "knows", "Cy"))
    await put(store, person("Bo", role="new"), deleted_nodes=("Bo", "nobody"))
    assert (await all_nodes(store))["Bo"] == {"id": "Bo", "user": "me", "name": "Bo", "role": "new"}
    assert await edges_at(store, ("Ana", None), ("Bo", None), ("Cy", None)) == {}


async def test_deleting_edges_by_id_alone(store: GraphStore) -> None:
    await put(store, person("Ana"), person("Bo"), fact("Ana", "knows", "Bo"), fact("Ana", "likes", "Bo"))
    await put(store, deleted_edges=("Ana-likes-Bo", "never-there"))
    assert set(await edges_at(store, ("Ana", None))) == {"Ana-knows-Bo"}


async def test_two_nodes_become_one_in_one_transaction(store: GraphStore) -> None:
    """Whose sister turned out to be Emma: one node goes, its edges keep their ids and end at the other."""
    await put(
        store, person("me"), person("sister"), person("Emma"), fact("sister", "owns", "me"), fact("me", "knows", "Emma")
    )
    rewired = Edge("owns", "sister-owns-me", "Emma", "me", {"user": "me"})
    await put(store, person("Emma", nominals=["sister"]), rewired, deleted_nodes=("sister",))
    assert set(await all_nodes(store)) == {"me", "Emma"}
    assert (await edges_at(store, ("Emma", None)))["sister-owns-me"].start == "Emma"


async def test_an_edge_moves_when_its_ends_change(store: GraphStore) -> None:
    await put(store, person("Ana"), person("Bo"), person("Cy"), fact("Ana", "knows", "Bo"))
    await put(store, Edge("knows", "Ana-knows-Bo", "Ana", "Cy", {"user": "me"}))
    assert set(await edges_at(store, ("Bo", None))) == set()
    assert set(await edges_at(store, ("Cy", "knows"))) == {"Ana-knows-Bo"}


async def test_a_batch_is_all_or_nothing_with_its_cursor(store: GraphStore) -> None:
    await put(store, person("Ana"))

    class Broken(Exception):
        pass

    async def build(_transaction: GraphTransaction, _cursor: int) -> Writes:
        raise Broken

    with pytest.raises(Broken):
        await store.apply("journal", 2, build)
    with pytest.raises(GraphRefused):
        await put(store, person("Bo"), fact("Ana", "knows", "nobody"), seq=2)
    assert set(await all_nodes(store)) == {"Ana"}
    assert await store.cursor("journal") == 1


async def test_what_the_cursor_covers_is_not_written_again(store: GraphStore) -> None:
    seen: list[int] = []

    async def build(_transaction: GraphTransaction, cursor: int) -> Writes:
        seen.append(cursor)
        return Writes(nodes=(person(f"after {cursor}"),))

    assert len((await store.apply("journal", 5, build)).nodes) == 1
    assert await store.apply("journal", 5, build) == Writes()
    assert await store.apply("journal", 3, build) == Writes()
    await store.apply("journal", 9, build)
    assert seen == [0, 5]
    assert set(await all_nodes(store)) == {"after 0", "after 5"}
    assert await store.cursor("journal") == 9


async def test_each_journal_has_its_cursor(store: GraphStore) -> None:
    await put(store, seq=7)
    assert await store.cursor("another journal") == 0
    await store.apply("another journal", 2, writing(Writes(nodes=(person("Ana"),))))
    assert (await store.cursor("journal"), await store.cursor("another journal")) == (7, 2)


async def test_what_build_reads_is_what_the_transaction_sees(store: GraphStore) -> None:
    await put(store, person("Ana", mentions=1))

    async def build(transaction: GraphTransaction, _cursor: int) -> Writes:
        (ana,) = await transaction.nodes("Entity", ids=["Ana"])
        return Writes(nodes=(person("Ana", mentions=int(str(ana.properties["mentions"])) + 1),))

    await store.apply("journal", 2, build)
    assert (await all_nodes(store))["Ana"]["mentions"] == 2


async def test_writers_at_once_lose_nothing(graph_server: GraphServer) -> None:
    """Two stores, as two processes would be, 100 journals each, all adding to one node."""

    async def build(transaction: GraphTransaction, _cursor: int) -> Writes:
        known = await transaction.nodes("Entity", ids=["Ana"])
        mentions = int(str(known[0].properties["mentions"])) if known else 0
        return Writes(nodes=(person("Ana", mentions=mentions + 1),))

    async with opened(graph_server) as one, opened(graph_server) as two:
        await asyncio.gather(one.open(), two.open())

        async def patiently(store: GraphStore, journal: str) -> None:
            while await store.cursor(journal) < 1:
                try:
                    await store.apply(journal, 1, build)
                except (GraphUnavailable, GraphRefused):
                    continue

        await one.apply("first", 1, build)
        await asyncio.gather(*(patiently(store, f"{n}-{i}") for n, store in ((1, one), (2, two)) for i in range(100)))
        assert (await all_nodes(one))["Ana"]["mentions"] == 201


TEXTS = [
    "naïve café — 寿司 🍣 עברית",
    'it\'s "quoted" `ticked` \\slashed\\ {braced: $param}',
    "\x00 \x01 \t\r\n\x7f",
    "'}) DETACH DELETE n //",
    "x" * 65_536,
]


@pytest.mark.parametrize("text", TEXTS, ids=["scripts", "quotes", "controls", "injection", "64KiB"])
async def test_text_comes_back_as_it_was(store: GraphStore, text: str) -> None:
    node = Node("Utterance", f"id {text[:500]}", {"user": text[:500], "text": text, "aliases": [text[:500], ""]})
    await put(store, node, person("Ana"), Edge("MENTIONS", f"edge {text[:500]}", node.id, "Ana", {"time_text": text}))
    (back,) = await store.read(lambda tx: tx.nodes("Utterance", user=text[:500]))
    assert back == replace(node, properties={**node.properties, "id": node.id})
    (edge,) = (await edges_at(store, (node.id, "MENTIONS"))).values()
    assert edge.properties["time_text"] == text


@pytest.mark.parametrize(
    "name", ["", "a b", "x`) DETACH DELETE n //", "knows|likes", "1st", "ä", "a\n", "UserGraph", "x" * 65]
)
async def test_no_name_becomes_a_query(store: GraphStore, name: str) -> None:
    await put(store, person("Ana"))
    with pytest.raises(GraphRefused):
        await put(store, Node(name, "n", {"user": "me"}))
    with pytest.raises(GraphRefused):
        await put(store, Edge(name, "e", "Ana", "Ana", {"user": "me"}))
    with pytest.raises(GraphRefused):
        await store.read(lambda tx: tx.nodes(name))
    with pytest.raises(GraphRefused):
        await store.read(lambda tx: tx.edges([("Ana", name)]))
    assert set(await all_nodes(store)) == {"Ana"}


@pytest.mark.parametrize("predicate", ["in", "IN", "match", "entity", "order", "null", "type"])
async def test_any_word_can_be_a_predicate(store: GraphStore, predicate: str) -> None:
    await put(store, person("Ana"), person("Bo"), fact("Ana", predicate, "Bo"))
    await put(store, fact("Ana", predicate, "Bo", times_said=2))
    (edge,) = (await edges_at(store, ("Bo", predicate))).values()
    assert (edge.type, edge.properties["times_said"]) == (predicate, 2)


@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], 2**70, object(), "\ud800"], ids=repr)
async def test_a_value_that_no_graph_stores_is_refused(store: GraphStore, value: object) -> None:
    await put(store, person("Ana"))
    with pytest.raises(GraphRefused) as refusal:
        await put(store, person("Bo", odd=value), seq=2)  # type: ignore[arg-type]
    assert refusal.value.code == "graph_refused"
    assert set(await all_nodes(store)) == {"Ana"}
    await put(store, person("Bo"), seq=2)


async def test_a_node_keeps_its_kind(store: GraphStore) -> None:
    await put(store, person("Ana"))
    with pytest.raises(GraphRefused):
        await put(store, Node("Utterance", "Ana", {"user": "me"}))
    assert set(await all_nodes(store)) == {"Ana"}


async def test_the_two_graphs_do_not_see_each_other_in_one_database(graph_server: GraphServer) -> None:
    at = graph_server.locate("user")
    user = GraphStore("user", lambda: at, graph_server.settings)
    agent = GraphStore("agent", lambda: at, graph_server.settings)
    try:
        for store, owner in ((user, "u"), (agent, "a")):
            same = person("Ana", owner=owner), person("Bo"), fact("Ana", "knows", "Bo", owner=owner)
            await store.apply("journal", 4, writing(Writes(same[:2], same[2:])))
        await agent.apply("journal", 5, writing(Writes((person("Ana", owner="b"),), (fact("Ana", "knows", "Bo"),))))
        assert (await all_nodes(user))["Ana"]["owner"] == "u"
        assert (await edges_at(user, ("Ana", None)))["Ana-knows-Bo"].properties["owner"] == "u"
        assert (await user.cursor("journal"), await agent.cursor("journal")) == (4, 5)
        await user.apply("journal", 5, writing(Writes(deleted_nodes=("Ana",), deleted_edges=("Ana-knows-Bo",))))
        assert set(await all_nodes(user)) == {"Bo"}
        assert set(await all_nodes(agent)) == {"Ana", "Bo"}
        assert set(await edges_at(agent, ("Ana", None))) == {"Ana-knows-Bo"}
    finally:
        await user.close()
        await agent.close()


async def test_a_wrong_password_names_the_settings_and_refuses_no_data(graph_server: GraphServer) -> None:
    wrong = replace(graph_server.locate("user"), password="not this")
    store = GraphStore("user", lambda: wrong, graph_server.settings)
    try:
        with pytest.raises(GraphMisconfigured, match=r"graph\.password") as refusal:
            await store.open()
        assert isinstance(refusal.value, GraphUnavailable)
        assert "not this" not in str(refusal.value)
        with pytest.raises(GraphUnavailable):
            await put(store, person("Ana"), seq=1)
    finally:
        await store.close()


async def test_a_database_that_is_not_there_names_the_setting(graph_server: GraphServer) -> None:
    elsewhere = replace(graph_server.locate("user"), database="nosuchdatabase")
    store = GraphStore("user", lambda: elsewhere, graph_server.settings)
    try:
        with pytest.raises(GraphMisconfigured, match=r"graph\.user_graph\.database"):
            await store.open()
    finally:
        await store.close()


@pytest.mark.parametrize("uri", ["bolt://127.0.0.1:1", "bolt://no-such-host.invalid:7687", "neo4j://127.0.0.1:1"])
async def test_a_server_that_is_not_there_is_unavailable(uri: str) -> None:
    settings = load_settings(overrides={"graph": {"connect_timeout_s": 2.0}}).settings.graph
    store = GraphStore("user", lambda: Target(uri, "neo4j", ""), settings)
    try:
        with pytest.raises(GraphUnavailable) as refusal:
            await store.open()
        assert refusal.value.code == "graph_unavailable"
    finally:
        await store.close()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:7474", "nonsense", "bolt://", "bolt://127.0.0.1:port"])
async def test_an_address_that_is_none_is_misconfigured(uri: str) -> None:
    store = GraphStore("user", lambda: Target(uri, "neo4j", ""), load_settings().settings.graph)
    with pytest.raises(GraphMisconfigured, match=r"graph\.uri"):
        await store.open()
    await store.close()


async def test_a_server_that_falls_silent_is_given_up() -> None:
    """It takes the connection and never says a word."""
    clients: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _reader, writer: clients.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    settings = load_settings(overrides={"graph": {"connect_timeout_s": 0.2, "query_timeout_s": 0.4}}).settings.graph
    store = GraphStore("user", lambda: Target(f"bolt://127.0.0.1:{port}", "neo4j", ""), settings)
    try:
        with pytest.raises(GraphUnavailable):
            await store.ping()
    finally:
        await store.close()
        silent.close()
        for client in clients:
            client.close()


async def test_a_closed_store_says_so(store: GraphStore) -> None:
    await store.ping()
    await store.close()
    with pytest.raises(GraphUnavailable):
        await store.ping()


async def test_random_writes_leave_the_same_graph_as_in_memory(graph_server: GraphServer, store: GraphStore) -> None:
    """The same on both databases, hence both databases hold equal graphs."""
    chance = random.Random(7)  # noqa: S311 - repeatable
    names = [f"n{i}" for i in range(12)]
    nodes: dict[str, Node] = {}
    edges: dict[str, Edge] = {}

    def some(things: Sequence[str], most: int) -> list[str]:
        return chance.sample(things, k=min(len(things), chance.randint(0, most)))

    for _ in range(40):
        gone_edges = some(sorted(edges), 2)
        gone_nodes = some(sorted(nodes), 1)
        for edge_id in gone_edges:
            del edges[edge_id]
        for node_id in gone_nodes:
            del nodes[node_id]
        edges = {key: edge for key, edge in edges.items() if edge.start in nodes and edge.end in nodes}
        new_nodes = [person(name, mentions=chance.randint(0, 9), aliases=some(names, 3)) for name in some(names, 4)]
        nodes |= {node.id: node for node in new_nodes}
        new_edges = {}
        for number in range(chance.randint(0, 5) if nodes else 0):
            predicate = chance.choice(["knows", "likes", "owns"])
            ends = chance.choice(sorted(nodes)), chance.choice(sorted(nodes))
            edge = Edge(predicate, f"{predicate}{chance.randint(0, 9)}", *ends, {"user": "me", "times_said": number})
            new_edges[edge.id] = edge
        edges |= new_edges
        await put(
            store, *new_nodes, *new_edges.values(), deleted_nodes=tuple(gone_nodes), deleted_edges=tuple(gone_edges)
        )

    stored_nodes, stored_edges = await graph_server.dump("user")
    assert stored_nodes == sorted(
        (["Entity", "UserGraph"], sorted({**node.properties, "id": node.id}.items())) for node in nodes.values()
    )
    assert stored_edges == sorted(
        (edge.start, edge.type, edge.end, sorted({**edge.properties, "id": edge.id}.items())) for edge in edges.values()
    )
