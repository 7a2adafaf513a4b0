"""The embedded server: private, restarted when it dies, gone when its daemon is, and it keeps what it acknowledged."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from config.settings import GraphSettings, load_settings
from daemon.errors import GraphUnavailable, HomeInUse
from daemon.memory.embedded import EmbeddedGraph
from daemon.memory.graph import GraphStore
from daemon.memory.graph_transaction import GraphTransaction
from daemon.memory.records import Edge, Node, Writes

# A daemon that does nothing but keep the server, until it is killed.
DAEMON = """
import asyncio, sys
from pathlib import Path
from config.settings import load_settings
from daemon.memory.embedded import EmbeddedGraph

async def main():
    graph = EmbeddedGraph(Path(sys.argv[1]), load_settings().settings.graph)
    await graph.start()
    print(graph.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def settings() -> GraphSettings:
    return load_settings().settings.graph


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded") / "graph"


@pytest.fixture(scope="module")
async def graph(root: Path, settings: GraphSettings) -> AsyncIterator[EmbeddedGraph]:
    graph = EmbeddedGraph(root, settings)
    await graph.start()
    yield graph
    await graph.stop()


async def until(holds: Callable[[], bool], within_s: float = 90.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.02)


def running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def start_daemon(root: Path) -> tuple[asyncio.subprocess.Process, int]:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON, str(root), stdout=asyncio.subprocess.PIPE
    )
    assert daemon.stdout is not None
    while not (line := await daemon.stdout.readline()).strip().isdigit():
        assert line, "the daemon ended"
    return daemon, int(line)


async def test_nobody_else_can_read_it_or_log_in(graph: EmbeddedGraph, root: Path, settings: GraphSettings) -> None:
    store = GraphStore("user", lambda: graph.locate("user"), settings)
    await store.open()
    await store.close()
    assert graph.pid is not None
    server = psutil.Process(graph.pid)
    password = graph.locate("user").password
    assert len(password) >= 32
    assert not any(password in argument for argument in server.cmdline())
    assert not any(password in value for value in server.environ().values())
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    for path in root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert not (path.is_file() and password.encode() in path.read_bytes()), path
    sockets = server.net_connections("inet")
    assert any(socket.status == psutil.CONN_LISTEN for socket in sockets)
    for socket in sockets:
        for end in filter(None, (socket.laddr, socket.raddr)):
            assert end.ip.removeprefix("::ffff:") == "127.0.0.1", socket


async def test_two_daemons_cannot_share_it(graph: EmbeddedGraph, root: Path, settings: GraphSettings) -> None:
    with pytest.raises(HomeInUse):
        await EmbeddedGraph(root, settings).start()
    assert graph.pid is not None
    assert graph.locate("user").database == "user"


async def test_every_acknowledged_write_survives_kill_9_once(graph: EmbeddedGraph, settings: GraphSettings) -> None:
    """The server is killed twice in a stream of writes that goes on; each counts itself, none twice."""
    store = GraphStore("user", lambda: graph.locate("user"), settings)
    acknowledged: list[int] = []
    total, restarts = 180, graph.restarts
    kills = iter((60, 120))
    next_kill = next(kills)

    async def build(transaction: GraphTransaction, cursor: int) -> Writes:
        known = await transaction.nodes("Entity", ids=["me"])
        count = int(str(known[0].properties["mentions"])) if known else 0
        me = Node("Entity", "me", {"user": "me", "mentions": count + 1})
        said = Node("Utterance", f"u{cursor + 1}", {"user": "me", "seq": cursor + 1})
        return Writes((me, said), (Edge("MENTIONS", f"m{cursor + 1}", said.id, "me", {"user": "me"}),))

    async def kill_when(seq: int) -> None:
        await until(lambda: len(acknowledged) >= seq)
        assert graph.pid is not None
        os.kill(graph.pid, signal.SIGKILL)

    killer = asyncio.create_task(kill_when(next_kill))
    try:
        async with asyncio.timeout(110):
            for seq in range(1, total + 1):
                while True:
                    try:
                        await store.apply("journal", seq, build)
                        break
                    except GraphUnavailable:
                        await asyncio.sleep(0.02)
                acknowledged.append(seq)
                if killer.done() and (following := next(kills, None)):
                    await killer
                    killer = asyncio.create_task(kill_when(following))
        await killer
        assert await store.cursor("journal") == total
        said = await store.read(lambda tx: tx.nodes("Utterance", user="me"))
        assert sorted(int(str(node.properties["seq"])) for node in said) == acknowledged
        (me,) = await store.read(lambda tx: tx.nodes("Entity"))
        assert me.properties["mentions"] == total
        assert len(await store.read(lambda tx: tx.edges([("me", "MENTIONS")]))) == total
        assert graph.restarts - restarts == 2
    finally:
        killer.cancel()
        await store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit the files of another process")
async def test_a_full_disk_waits_and_loses_nothing(graph: EmbeddedGraph, settings: GraphSettings) -> None:
    """The server cannot grow its files: what was acknowledged stays, the rest is unavailable, not refused."""
    store = GraphStore("agent", lambda: graph.locate("agent"), settings)

    async def build(_transaction: GraphTransaction, cursor: int) -> Writes:
        return Writes(nodes=(Node("Topic", f"t{cursor + 1}", {"user": "me", "text": "x" * 20_000}),))

    try:
        for seq in (1, 2):
            await store.apply("journal", seq, build)
        server = psutil.Process(graph.pid)
        server.rlimit(psutil.RLIMIT_FSIZE, (65_536, psutil.RLIM_INFINITY))
        for _ in range(3):
            with pytest.raises(GraphUnavailable):
                await store.apply("journal", 3, build)
        server.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        await store.apply("journal", 3, build)
        assert await store.cursor("journal") == 3
        topics = await store.read(lambda tx: tx.nodes("Topic"))
        assert sorted(node.id for node in topics) == ["t1", "t2", "t3"]
    finally:
        await store.close()


async def test_it_stops_and_starts_again_with_what_it_held(tmp_path: Path, settings: GraphSettings) -> None:
    async def build(_transaction: GraphTransaction, _cursor: int) -> Writes:
        return Writes(nodes=(Node("Entity", "Ana", {"user": "me"}),))

    for round_ in range(2):
        graph = EmbeddedGraph(tmp_path / "graph", settings)
        await graph.start()
        store = GraphStore("agent", lambda graph=graph: graph.locate("agent"), settings)  # type: ignore[misc]
        assert await store.cursor("journal") == round_
        await store.apply("journal", round_ + 1, build)
        await store.close()
        pid = graph.pid
        await graph.stop()
        assert pid is not None
        assert not running(pid)
        with pytest.raises(GraphUnavailable):
            graph.locate("agent")


async def test_it_dies_with_its_daemon(tmp_path: Path) -> None:
    daemon, server = await start_daemon(tmp_path / "graph")
    daemon.kill()
    await daemon.wait()
    await until(lambda: not running(server))


async def test_a_server_that_outlived_its_daemon_is_ended(tmp_path: Path, settings: GraphSettings) -> None:
    """Stopped by a signal it cannot heed the end of its daemon, and still holds the databases."""
    daemon, server = await start_daemon(tmp_path / "graph")
    os.kill(server, signal.SIGSTOP)
    daemon.kill()
    await daemon.wait()
    assert running(server)
    graph = EmbeddedGraph(tmp_path / "graph", settings)
    await graph.start()
    try:
        assert not running(server)
        assert graph.pid != server
    finally:
        await graph.stop()


async def test_a_server_that_cannot_start_is_tried_until_it_can(tmp_path: Path, settings: GraphSettings) -> None:
    """Something lies where its databases belong; the error says where to look, and the daemon lives on without it."""
    blocked = tmp_path / "graph" / "databases"
    blocked.parent.mkdir()
    blocked.write_text("in the way")
    graph = EmbeddedGraph(tmp_path / "graph", settings)
    try:
        with pytest.raises(GraphUnavailable, match=r"server\.log"):
            await graph.start()
        with pytest.raises(GraphUnavailable):
            graph.locate("user")
        assert blocked.read_text() == "in the way"
        blocked.unlink()
        await until(lambda: graph.pid is not None and graph.restarts == 1)
        assert graph.locate("user").database == "user"
    finally:
        await graph.stop()


async def test_a_start_that_takes_too_long_says_which_setting(tmp_path: Path) -> None:
    settings = load_settings(overrides={"graph": {"embedded": {"start_timeout_s": 0.05}}}).settings.graph
    graph = EmbeddedGraph(tmp_path / "graph", settings)
    with pytest.raises(GraphUnavailable, match=r"start_timeout_s.*server\.log"):
        await graph.start()
    await graph.stop()
    assert graph.pid is None
