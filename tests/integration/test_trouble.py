"""A place that is taken, a damaged model, a graph that is away, a full disk: said clearly, and nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import psutil
import pytest

from config.settings import load_settings
from daemon.app import running
from daemon.client import Client, RequestFailed
from daemon.memory import journal_file
from daemon.protocol import AwaitStored, Stored
from registry.active import ActivePointers
from registry.bundled import register_bundled
from registry.store import Store
from tests.integration.conversation import recall, say
from tests.integration.daemon_process import DaemonProcess, daemon
from tests.neo4j.server import GraphServer

NOWHERE = "bolt://127.0.0.1:1"
CHEAP = {"runtime": "local", "graph__uri": NOWHERE, "slm__encoder__enabled": False, "slm__extractor__enabled": False}
"""A daemon that starts in a moment: what it does with turns is not the point."""


async def refusal(folder: Path, **changes: object) -> str:
    """What a person reads when `shoal start` fails."""
    with pytest.raises(RuntimeError) as failure:
        async with daemon(folder, **{**CHEAP, **changes}):
            pass
    said = (folder / "stderr.log").read_text()
    assert "exit code 1" in str(failure.value)
    assert "Traceback" not in said
    line = said.strip().splitlines()[-1]
    assert line.startswith("shoal: ")
    return line


# --- places that are taken --------------------------------------------------------------------------


async def test_a_socket_of_a_live_daemon_is_left_to_it(shoal: DaemonProcess, folder: Path) -> None:
    told = await refusal(folder, server__uri=shoal.settings.server_uri)
    assert "[socket_in_use]" in told
    assert "shoal stop" in told
    assert (await shoal.status()).state == "ready"


async def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    precious = folder / "precious"
    precious.write_text("keep me")
    assert "[socket_in_use]" in await refusal(folder, server__uri=f"unix://{precious}")
    assert precious.read_text() == "keep me"


async def test_a_socket_path_too_long_says_what_to_set(folder: Path) -> None:
    told = await refusal(folder, server__uri=f"unix://{folder}/{'x' * 120}.sock")
    assert "[socket_path_too_long]" in told
    assert "server.uri" in told


async def test_a_bad_address_is_told_before_the_models_load(folder: Path) -> None:
    told: list[str] = []
    tree = {**_places(folder), "server": {"uri": f"unix://{folder / 'no' / 'such' / 'shoal.sock'}"}}
    with pytest.raises(FileNotFoundError):
        async with running(load_settings(overrides=tree).settings, told.append):
            pass
    assert told == []


async def test_a_model_that_fails_ends_the_graphs_start_too(folder: Path) -> None:
    broken = {"slm__encoder__enabled": True, "slm__encoder__implementation": "actors.encoder:NotThere"}
    assert "NotThere" in await refusal(folder, graph__uri="", **broken)
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(folder) in command]


def _places(folder: Path) -> dict[str, object]:
    """Settings of a whole daemon in this process, its embedded graph included."""
    return {"home": str(folder), "runtime_dir": str(folder / "run"), "runtime": "local", "metrics": {"port": 0}}


async def test_a_home_in_use_names_who_uses_it(shoal: DaemonProcess, folder: Path) -> None:
    told = await refusal(folder, home=shoal.settings.home)
    assert "[home_in_use]" in told
    assert f"pid {shoal.pid}" in told


async def test_a_metrics_port_in_use_says_what_to_set(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = await refusal(folder, metrics__port=taken.getsockname()[1])
    assert "[metrics_port_in_use]" in told
    assert "metrics.port" in told


async def test_a_home_that_cannot_be_made_is_an_error(folder: Path) -> None:
    (folder / "file").touch()
    assert f"'{folder}/file/home'" in await refusal(folder, home=folder / "file" / "home")


# --- damaged models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
async def test_a_damaged_model_is_an_error_that_names_it(folder: Path, damage: str) -> None:
    """Of a version that a person registered and activated: a bundled one is mended from the code's own copy."""
    root = folder / "registry"
    store, active = Store(root), ActivePointers(root)
    register_bundled(store, active)
    bundled = store.get(active.current("classifier"))
    copied = folder / "mine"
    shutil.copytree(bundled.path, copied)
    manifest = bundled.manifest.model_copy(update={"version": "9.0.0"})
    mine = store.register(manifest, copied)
    active.activate(str(mine), who="test", why="to be damaged")
    victim = mine.path / "weights.npz"
    victim.parent.chmod(0o700)
    victim.chmod(0o600)
    if damage == "altered":
        victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    elif damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:100])
    else:
        victim.unlink()
    told = await refusal(folder)
    assert "classifier@9.0.0" in told
    assert "[version_corrupt]" in told or "[model_load_failed]" in told


# --- graphs that are away ---------------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def forwarding(port: int, uri: str) -> AsyncIterator[None]:
    """Let a port that was closed lead to a database."""
    host, to = urlsplit(uri).hostname, urlsplit(uri).port

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, to)
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


def at_port(server: GraphServer, port: int) -> dict[str, object]:
    """Settings of a daemon whose graphs are this server's, behind a port."""
    target = server.locate("user")
    return {
        "graph__uri": f"bolt://127.0.0.1:{port}",
        "graph__username": target.username,
        "graph__password": target.password,
        "graph__user_graph__database": server.locate("user").database,
        "graph__agent_graph__database": server.locate("agent").database,
        "sync__retry_max_s": 0.5,
        "server__drain_timeout_s": 1,
    }


async def test_with_the_graph_down_turns_wait_up_to_the_bound_and_are_stored_when_it_comes(
    graph_server: GraphServer, folder: Path
) -> None:
    port, bound = closed_port(), 5
    changes = at_port(graph_server, port) | {"journal__max_unsynced": bound, "journal__admission_timeout_s": 0.3}
    async with daemon(folder, runtime="local", **changes) as waiting, waiting.client() as client:
        replies = [await say(client, f"My sister Emma lives in Lisbon {number}.") for number in range(bound)]
        report = await waiting.status()
        assert report.state == "degraded"
        assert all(not graph["up"] and "graph_unavailable" in graph["error"] for graph in report.graphs.values())
        assert [graph["pending"] for graph in report.queue.values()] == [bound, bound]
        unstored = await client.request(AwaitStored(seq=replies[-1].seq, timeout_s=0), Stored)
        assert unstored.stored == {"user": False, "agent": False}

        with pytest.raises(RequestFailed) as refused:
            await say(client, "One too many.", turn_id="late")
        assert refused.value.code == "too_many_unsynced"
        with pytest.raises(RequestFailed) as refused:
            await recall(client, "me")
        assert refused.value.code == "graph_unavailable"

        async with forwarding(port, graph_server.locate("user").uri):
            await waiting.stored(replies[-1].seq)
            late = await say(client, "One too many.", turn_id="late")
            await waiting.stored(late.seq)
            assert (await waiting.status()).state == "ready"
            rows = await graph_server.run("user", "MATCH (u:Utterance:UserGraph) RETURN u.seq")
            assert sorted(seq for (seq,) in rows) == [reply.seq for reply in (*replies, late)]


async def test_with_an_embedded_graph_that_never_starts_turns_are_taken_and_status_says_so(folder: Path) -> None:
    never = {"graph__embedded__start_timeout_s": 0.01, "server__drain_timeout_s": 0.1}
    async with daemon(folder, runtime="local", **never) as waiting, waiting.client() as client:
        assert [line for line in waiting.told if line.startswith("shoal graph: down")]
        reply = await say(client, "My sister Emma lives in Lisbon.")
        report = await waiting.status()
        assert report.state == "degraded"
        assert [graph["pending"] for graph in report.queue.values()] == [1, 1]
    async with daemon(folder, runtime="local") as mended:
        await mended.stored(reply.seq)


async def test_a_wrong_password_is_told_as_such_and_turns_wait(graph_server: GraphServer, folder: Path) -> None:
    port = urlsplit(graph_server.locate("user").uri).port
    assert port
    changes = at_port(graph_server, port) | {"graph__password": "wrong"}
    async with daemon(folder, runtime="local", **changes) as waiting, waiting.client() as client:
        reply = await say(client, "My sister Emma lives in Lisbon.")
        async with asyncio.timeout(60):
            report = await waiting.status()
            while not all(graph["error"] for graph in report.graphs.values()):
                await asyncio.sleep(0.1)
                report = await waiting.status()
        assert report.state == "degraded"
        for graph in report.graphs.values():
            assert "graph_misconfigured" in graph["error"]
            assert "SHOAL_GRAPH__PASSWORD" in graph["error"]
        unstored = await client.request(AwaitStored(seq=reply.seq, timeout_s=0), Stored)
        assert unstored.stored == {"user": False, "agent": False}
    async with daemon(folder, runtime="local", **at_port(graph_server, port)) as mended:
        assert "shoal journal: 1 turns wait for the graphs from before" in mended.told
        await mended.stored(reply.seq)


# --- a full disk ------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_turns_and_keeps_what_it_acknowledged(
    folder: Path, embedded_server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole daemon in this process, its journal on a disk of 60 pages."""
    await embedded_server.wipe()
    await embedded_server.wipe()
    open_file = journal_file.open_file

    def small_disk(at: Path) -> sqlite3.Connection:
        db = open_file(at)
        db.execute("PRAGMA max_page_count = 60")
        return db

    monkeypatch.setattr(journal_file, "open_file", small_disk)
    port = closed_port()
    places = _places(folder)
    places["slm"] = {slm: {"enabled": False} for slm in ("encoder", "extractor", "classifier")}
    tree = at_port(embedded_server, port)
    graph = {
        "uri": tree["graph__uri"],
        "username": tree["graph__username"],
        "password": tree["graph__password"],
        "user_graph": {"database": tree["graph__user_graph__database"]},
        "agent_graph": {"database": tree["graph__agent_graph__database"]},
    }
    settings = load_settings(overrides={**places, "graph": graph, "sync": {"retry_max_s": 0.5}}).settings
    acknowledged: list[int] = []
    async with running(settings), Client(settings.server_uri, settings.server) as client:

        async def talk() -> NoReturn:
            while True:
                reply = await say(client, "My sister Emma lives in Lisbon. " * 40)
                acknowledged.append(reply.seq)

        with pytest.raises(RequestFailed) as refused:
            await talk()
        assert refused.value.code == "journal_full"
        assert acknowledged
        async with forwarding(port, embedded_server.locate("user").uri):
            reply = await client.request(AwaitStored(seq=acknowledged[-1], timeout_s=60), Stored)
            assert reply.stored == {"user": True, "agent": True}
            rows = await embedded_server.run("user", "MATCH (u:Utterance:UserGraph) RETURN u.seq")
            assert sorted(seq for (seq,) in rows) == acknowledged
            after = await say(client, "There is room again.", wait="stored", wait_timeout_s=60)
            assert after.stored == {"user": True, "agent": True}
