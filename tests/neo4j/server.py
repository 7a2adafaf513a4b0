"""Fixtures: the databases that a test of the graph runs against, each started once, when first needed.

`graph_server` runs a test on the embedded database and on a genuine Neo4j, emptied before each test. Where no genuine
Neo4j can be had, its tests are left out and the last line of the run says so; with CI=true that fails the run.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import neo4j
import pytest

from config.settings import GraphSettings, load_settings
from daemon.memory.embedded import EmbeddedGraph
from daemon.memory.graph import GraphStore, Target
from daemon.memory.graph_transaction import CURSOR, LABELS
from daemon.memory.records import GraphName
from tests.neo4j import genuine

Dump = tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]


class GraphServer:
    """A running database. `overrides` are the settings with which a daemon uses it; `embedded` is None on Neo4j."""

    def __init__(
        self,
        locate: Callable[[GraphName], Target],
        settings: GraphSettings,
        overrides: dict[str, Any],
        embedded: EmbeddedGraph | None = None,
    ) -> None:
        self.locate = locate
        self.settings = settings
        self.overrides = overrides
        self.embedded = embedded
        self._drivers: dict[Target, neo4j.AsyncDriver] = {}

    def store(self, name: GraphName) -> GraphStore:
        """A store of its own; who asks closes it."""
        return GraphStore(name, lambda: self.locate(name), self.settings)

    async def run(self, name: GraphName, query: str, **parameters: Any) -> list[list[Any]]:
        """One query, past the store, in the database of a graph."""
        at = self.locate(name)
        if at not in self._drivers:
            self._drivers[at] = neo4j.AsyncGraphDatabase.driver(
                at.uri, auth=(at.username, at.password), telemetry_disabled=True, notifications_min_severity="OFF"
            )
        result = await self._drivers[at].execute_query(query, parameters, database_=at.database or None)
        return [record.values() for record in result.records]

    async def dump(self, name: GraphName) -> Dump:
        """All of a graph, sorted, equal for equal graphs whatever the database: (labels, properties), and
        (start, type, end, properties)."""
        label = LABELS[name]
        nodes = await self.run(name, f"MATCH (n:{label}) RETURN labels(n), properties(n)")
        edges = await self.run(name, f"MATCH (a:{label})-[r]->(b) RETURN a.id, type(r), b.id, properties(r)")
        return (
            sorted((sorted(labels), sorted(properties.items())) for labels, properties in nodes),
            sorted((start, kind, end, sorted(properties.items())) for start, kind, end, properties in edges),
        )

    async def wipe(self) -> None:
        """Take out what Shoal keeps, and nothing else: a database that is named may hold more."""
        names: dict[Target, GraphName] = {self.locate(name): name for name in LABELS}
        for name in names.values():
            for label in (*LABELS.values(), CURSOR):
                await self.run(name, f"MATCH (n:{label}) DETACH DELETE n")

    async def close(self) -> None:
        for driver in self._drivers.values():
            await driver.close()


@pytest.fixture(scope="session")
async def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GraphServer]:
    settings = load_settings().settings.graph
    embedded = EmbeddedGraph(tmp_path_factory.mktemp("embedded") / "graph", settings)
    await embedded.start()
    server = GraphServer(embedded.locate, settings, {}, embedded)
    yield server
    await server.close()
    await embedded.stop()


@pytest.fixture(scope="session")
async def neo4j_server(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[GraphServer]:
    source = request.config.stash[_source]
    assert source is not None, "its tests were to be left out"
    with genuine.serve(source, tmp_path_factory.mktemp("neo4j") / "home") as target:
        graph = {"uri": target.uri, "username": target.username, "password": target.password}
        settings = load_settings(overrides={"graph": graph}).settings.graph
        server = GraphServer(lambda name: target, settings, {"graph": graph})
        yield server
        await server.close()


@pytest.fixture(params=["embedded", "neo4j"])
def _database(request: pytest.FixtureRequest) -> GraphServer:
    server: GraphServer = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
async def graph_server(_database: GraphServer) -> GraphServer:
    """The embedded database, and a genuine Neo4j; empty."""
    await _database.wipe()
    return _database


_source = pytest.StashKey[str | None]()
_absent = pytest.StashKey[str]()


def _needs_neo4j(item: pytest.Item) -> bool:
    return "neo4j_server" in getattr(item, "fixturenames", ()) or (
        isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and item.callspec.params.get("_database") == "neo4j"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanting = [item for item in items if _needs_neo4j(item)]
    if not wanting or config.option.collectonly:
        return
    for item in wanting:
        # Whichever comes first starts the server, which takes a busy machine a minute.
        item.add_marker(pytest.mark.timeout(300))
    try:
        # Here and not in the fixture: the first run's download is no test's time.
        config.stash[_source] = genuine.find()
    except genuine.Absent as absent:
        config.stash[_absent] = f"GENUINE NEO4J WAS NOT TESTED ({len(wanting)} tests left out): {absent}"
        items[:] = [item for item in items if item not in wanting]
        config.hook.pytest_deselected(items=wanting)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _absent in session.config.stash and os.environ.get("CI") == "true" and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _absent in config.stash:
        terminalreporter.section("genuine Neo4j", red=True, bold=True)
        terminalreporter.write_line(config.stash[_absent], red=True, bold=True)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if _absent in config.stash and reporter is not None:
        reporter.write_line(config.stash[_absent], red=True, bold=True)
