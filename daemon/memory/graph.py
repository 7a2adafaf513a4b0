"""A knowledge graph in a Bolt database: what the journal holds goes in exactly once, and is read back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import neo4j
import structlog
from neo4j.exceptions import (
    AuthError,
    ClientError,
    ConfigurationError,
    DriverError,
    Forbidden,
    Neo4jError,
)

from config.settings import GraphSettings
from daemon.errors import DaemonError, GraphMisconfigured, GraphRefused, GraphUnavailable
from daemon.memory.graph_transaction import CURSOR, LABELS, GraphTransaction
from daemon.memory.records import GraphName, Writes

T = TypeVar("T")
log = structlog.get_logger(__name__)

SCHEMES: Final = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
POOL_SIZE: Final = 16
ATTEMPTS: Final = 6
RETRY_MIN_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Target:
    """Where a graph lives: a Bolt URI, a login, and a database ("" is the login's own)."""

    uri: str
    username: str
    password: str = field(repr=False)
    database: str = ""


def configured_target(settings: GraphSettings, name: GraphName) -> Target | None:
    """The server that the settings name for a graph; None where the embedded one is meant."""
    own = settings.user_graph if name == "user" else settings.agent_graph
    uri = own.uri or settings.uri
    if not uri:
        return None
    return Target(uri, settings.username, settings.password.get_secret_value(), own.database)


class GraphStore:
    """One graph: the nodes of one database that carry the graph's label, and a cursor for each journal.

    Every method raises `GraphUnavailable` when the database cannot answer now (`GraphMisconfigured`, a kind of it, when
    that will not change until the settings do) and `GraphRefused` when it never will take what it was given.
    """

    def __init__(self, name: GraphName, locate: Callable[[], Target], settings: GraphSettings) -> None:
        """`locate` is asked before each use: an embedded server that restarted has another port and password."""
        self.name: Final = name
        self._label = LABELS[name]
        self._locate = locate
        self._settings = settings
        self._driver: Any = None
        self._target: Target | None = None
        self._opened: Target | None = None
        self._closed = False
        self._writing = asyncio.Lock()
        self._indexed: set[str] = set()

    async def open(self) -> None:
        """Connect, and make the constraints that are missing. May be called again."""
        async with self._session() as session:
            await session.run(
                f"CREATE CONSTRAINT shoal_{self.name}_id IF NOT EXISTS FOR (n:{self._label}) REQUIRE n.id IS UNIQUE"
            )
            await session.run(
                f"CREATE CONSTRAINT shoal_cursor_id IF NOT EXISTS FOR (n:{CURSOR}) REQUIRE n.id IS UNIQUE"
            )
            # By it the latest utterances are found, and through them the latest facts.
            await session.run("CREATE INDEX shoal_utterance_seq IF NOT EXISTS FOR (n:Utterance) ON (n.seq)")
            self._indexed.clear()
            self._opened = session.target

    async def ping(self) -> None:
        """One round trip to the database."""
        async with self._session() as session:
            await session.run("RETURN 1")

    async def cursor(self, journal_id: str) -> int:
        """The sequence number of the last entry of this journal that the graph holds; 0 before the first."""
        return await self.read(lambda transaction: transaction.cursor(self._cursor_key(journal_id)))

    async def newest_seq(self) -> int:
        """The highest sequence number that any journal has brought to the graph; 0 before the first."""
        return await self.read(lambda transaction: transaction.newest_seq())

    async def read(self, work: Callable[[GraphTransaction], Awaitable[T]]) -> T:
        """Run `work` in a read transaction; it may run again when the transaction is retried."""
        async with self._session(neo4j.READ_ACCESS) as session:
            return await session.transact(work)

    async def apply(
        self, journal_id: str, last_seq: int, build: Callable[[GraphTransaction, int], Awaitable[Writes]]
    ) -> Writes:
        """Write what `build` decides and move the journal's cursor to `last_seq`, in one transaction.

        `build` gets the cursor, and leaves out entries at or before it; it may run again when the transaction is
        retried. When the graph holds `last_seq` already, nothing runs. An exception of `build` comes back as it is.
        After any error, whether this was applied is told by the cursor alone.
        """
        key = self._cursor_key(journal_id)

        async def work(transaction: GraphTransaction) -> Writes:
            cursor = await transaction.advance_cursor(key, journal_id, last_seq)
            if cursor >= last_seq:
                return Writes()
            writes = await build(transaction, cursor)
            await transaction.write(writes)
            return writes

        # One writer at a time: two would only send each other back to retry.
        async with self._writing:
            if self._opened is None or self._opened != self._locate():
                await self.open()
            async with self._session() as session:
                writes = await session.transact(work)
            await self._index_edges(writes)
            return writes

    async def close(self) -> None:
        """Close the connections. Nothing can be used after it."""
        self._closed = True
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()

    def _cursor_key(self, journal_id: str) -> str:
        return f"{self._label}/{journal_id}"

    @asynccontextmanager
    async def _session(self, access: str = neo4j.WRITE_ACCESS) -> AsyncIterator[_Session]:
        """A session; a server that is silent for `query_timeout_s` is given up."""
        with _translated(self.name):
            async with asyncio.timeout(self._settings.query_timeout_s) as deadline:
                target, driver = await self._connected()
                async with driver.session(database=target.database or None, default_access_mode=access) as session:
                    yield _Session(session, target, self._label, deadline, self._settings.query_timeout_s)

    async def _connected(self) -> tuple[Target, Any]:
        if self._closed:
            raise GraphUnavailable(f"the {self.name} graph is closed")
        target = self._locate()
        if self._driver is None or target != self._target:
            _check_address(target.uri)
            try:
                driver = neo4j.AsyncGraphDatabase.driver(
                    target.uri,
                    auth=(target.username, target.password),
                    user_agent=f"shoal/{version('shoal')}",
                    telemetry_disabled=True,
                    notifications_min_severity="OFF",
                    connection_timeout=self._settings.connect_timeout_s,
                    connection_acquisition_timeout=self._settings.connect_timeout_s,
                    max_connection_pool_size=POOL_SIZE,
                )
            except ValueError as error:
                raise GraphMisconfigured(f"graph.uri = {target.uri!r}: {error}") from error
            old, self._driver, self._target = self._driver, driver, target
            if old is not None:
                await old.close()
        return target, self._driver

    async def _index_edges(self, writes: Writes) -> None:
        """Index the ids of relationship types that were written for the first time since `open`."""
        missing = {edge.type for edge in writes.edges} - self._indexed
        if not missing:
            return
        try:
            async with self._session() as session:
                for name in sorted(missing):
                    # Unique would be wrong: the other graph may use the same id in the same database.
                    await session.run(f"CREATE INDEX shoal_{name}_id IF NOT EXISTS FOR ()-[r:{name}]-() ON (r.id)")
                    self._indexed.add(name)
        except DaemonError as error:
            # What was written is committed; the next write of the type makes its index.
            log.warning("graph_index_postponed", graph=self.name, error=str(error))


class _Session:
    """A driver's session whose every sign of life puts off its deadline."""

    def __init__(self, session: Any, target: Target, label: str, deadline: asyncio.Timeout, silence_s: float) -> None:
        self.target = target
        self._session = session
        self._label = label
        self._deadline = deadline
        self._silence_s = silence_s

    async def run(self, query: str) -> None:
        self._touch()
        await (await self._session.run(query)).consume()
        self._touch()

    async def transact(self, work: Callable[[GraphTransaction], Awaitable[T]]) -> T:
        """Run `work` in a transaction and commit it; again when the server calls the failure transient.

        The driver's own managed transactions wait a second before the first retry: a conflict is over in milliseconds.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with await self._session.begin_transaction() as transaction:
                    result = await work(GraphTransaction(transaction, self._label, self._touch))
                    self._touch()
                    await transaction.commit()
                    return result
            except (Neo4jError, DriverError) as error:
                if attempt == ATTEMPTS or not error.is_retryable():
                    raise
                await asyncio.sleep(RETRY_MIN_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                self._touch()
        raise AssertionError("unreachable")

    def _touch(self) -> None:
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._silence_s)


def _check_address(uri: str) -> None:
    """Raises: GraphMisconfigured. The driver reports some of this late, and takes HTTP addresses with a warning."""
    try:
        parts = urlsplit(uri)
        valid = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise GraphMisconfigured(f"graph.uri = {uri!r}: {', '.join(SCHEMES)} and a host, such as bolt://localhost:7687")


@contextmanager
def _translated(name: GraphName) -> Iterator[None]:
    """Turn the driver's errors into ours. The server's words may hold what was said: they are logged at debug only."""
    try:
        yield
    except TimeoutError as error:
        raise GraphUnavailable(f"the {name} graph did not answer in time") from error
    except (Neo4jError, DriverError, OSError) as error:
        code = str(getattr(error, "code", None) or type(error).__name__)
        if isinstance(error, AuthError | Forbidden) or code.startswith("Neo.ClientError.Security."):
            raise GraphMisconfigured(
                f"the {name} graph refuses the login ({code}): check graph.username and graph.password "
                "(SHOAL_GRAPH__PASSWORD)"
            ) from error
        if isinstance(error, ConfigurationError) or code.startswith("Neo.ClientError.Database."):
            raise GraphMisconfigured(
                f"the {name} graph cannot be used as it is configured ({code}): check graph.uri and "
                f"graph.{name}_graph.database"
            ) from error
        retryable = isinstance(error, Neo4jError) and error.is_retryable()
        if isinstance(error, ClientError) and not retryable and not code.startswith("Neo.ClientError.Transaction."):
            log.debug("graph_refused", graph=name, error=repr(error))
            raise GraphRefused(f"the {name} graph refuses the data ({code})") from error
        raise GraphUnavailable(f"the {name} graph cannot be reached ({code})") from error
