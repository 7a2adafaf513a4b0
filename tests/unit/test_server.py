"""The server over real sockets: who may connect, what bad input gets, and how connections end."""

import asyncio
import os
import re
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from wyoming.event import Event, async_write_event

from config.settings import ServerSettings, load_settings
from daemon.client import Client, RequestFailed
from daemon.dictation import Dictation
from daemon.errors import DaemonUnreachable, SocketInUse, SocketPathTooLong, TextTooLong
from daemon.frames import FrameReader
from daemon.metrics import Metrics
from daemon.server import READ_AHEAD, Connection, Server, check_address


def limits(**changes: float) -> ServerSettings:
    return load_settings().settings.server.model_copy(update=changes)


async def echo(event: Event, connection: Connection) -> Event:
    if event.type == "fail":
        raise ZeroDivisionError("a fault of ours")
    if event.type == "refuse":
        raise TextTooLong("too long")
    if event.type == "watch":
        connection.watching = True
    return Event("echo", {"type": event.type, **event.data}, event.payload)


@asynccontextmanager
async def serving(
    path: Path, handler: Callable[[Event, Connection], Awaitable[Event]] = echo, **changes: float
) -> AsyncIterator[Server]:
    server = Server(f"unix://{path}", limits(**changes), handler, Metrics())
    await server.start()
    try:
        yield server
    finally:
        await server.close(0.5)


def client(path: Path) -> Client:
    return Client(f"unix://{path}", limits())


async def raw(path: Path, sent: bytes) -> bytes:
    """What the server answers to bytes, until it closes the connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(sent)
    writer.write_eof()
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


async def test_an_event_gets_its_reply(path: Path) -> None:
    async with serving(path), client(path) as connected:
        assert await connected.exchange(Event("hello", {"n": 1}, b"raw")) == Event(
            "echo", {"type": "hello", "n": 1}, b"raw"
        )


async def test_the_socket_is_its_owners_alone(path: Path) -> None:
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_socket_is_gone_after_the_stop(path: Path) -> None:
    async with serving(path):
        pass

    assert not path.exists()
    with pytest.raises(DaemonUnreachable):
        async with client(path):
            pass


async def test_a_live_daemons_socket_is_left_alone(path: Path) -> None:
    async with serving(path):
        with pytest.raises(SocketInUse, match="already listens"):
            await Server(f"unix://{path}", limits(), echo, Metrics()).start()
        async with client(path) as connected:
            assert (await connected.exchange(Event("hello"))).type == "echo"


async def test_a_dead_daemons_socket_is_replaced(path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    assert path.exists()

    async with serving(path), client(path) as connected:
        assert (await connected.exchange(Event("hello"))).type == "echo"


async def test_a_file_at_the_sockets_path_is_left_alone(path: Path) -> None:
    path.write_text("precious")

    with pytest.raises(SocketInUse, match="no socket"):
        await Server(f"unix://{path}", limits(), echo, Metrics()).start()

    assert path.read_text() == "precious"


async def test_a_path_that_no_socket_can_have(tmp_path: Path) -> None:
    uri = f"unix://{tmp_path / ('x' * 120)}"
    with pytest.raises(SocketPathTooLong):
        await Server(uri, limits(), echo, Metrics()).start()
    with pytest.raises(SocketPathTooLong):
        check_address(uri)


async def test_an_address_can_be_checked_before_it_is_served(path: Path) -> None:
    check_address(f"unix://{path}")
    assert not path.exists()
    async with serving(path), client(path) as connected:
        with pytest.raises(SocketInUse, match="already listens"):
            check_address(f"unix://{path}")
        assert (await connected.exchange(Event("hello"))).type == "echo"
    server = Server("tcp://127.0.0.1:0", limits(), echo, Metrics())
    await server.start()
    uri = f"tcp://127.0.0.1:{server.port}"
    with pytest.raises(SocketInUse, match="another port"):
        check_address(uri)
    await server.close(0.5)
    check_address(uri)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"nonsense\n", b"malformed_frame"),
        (b'{"type": "\xff"}\n', b"not_utf8"),
        (b"x" * 70_000 + b"\n", b"frame_too_long"),
        (b'{"type": "a", "payload_length": 99999999999}\n', b"frame_too_long"),
        (b'{"type": "a", "data_length": 10}\n{', b"malformed_frame"),
    ],
)
async def test_bad_frames_get_an_error_event_and_spare_the_others(path: Path, sent: bytes, code: bytes) -> None:
    async with serving(path), client(path) as other:
        answer = await raw(path, sent)

        assert b'"type": "error"' in answer
        assert code in answer
        assert (await other.exchange(Event("hello"))).type == "echo"


async def test_an_error_repeats_the_id_and_leaves_the_connection_usable(path: Path) -> None:
    async with serving(path), client(path) as connected:
        for kind, code in (("refuse", "text_too_long"), ("fail", "internal_error")):
            with pytest.raises(RequestFailed) as caught:
                await connected.exchange(Event(kind, {"id": "7"}))
            assert caught.value.code == code
            assert "fault of ours" not in str(caught.value)
        assert (await connected.exchange(Event("hello"))).type == "echo"


async def test_a_refused_frame_ends_what_was_being_dictated(path: Path) -> None:
    async def dictate(event: Event, connection: Connection) -> Event:
        if event.type == "begin":
            connection.dictation = Dictation({})
        return Event("going-on" if connection.dictation else "nothing")

    async with serving(path, dictate):
        chunk = b'{"type": "transcript-chunk", "data_length": 15}\n{"text": "\xff\xff\xff"}'
        received = await raw(path, b'{"type": "begin"}\n{"type": "ask"}\n' + chunk + b'{"type": "ask"}\n')
    assert re.findall(rb'"type": ?"([a-z-]+)"', received) == [b"going-on", b"going-on", b"error", b"nothing"]


async def test_one_client_too_many_is_told_so(path: Path) -> None:
    async with serving(path, max_connections=1), client(path) as first:
        await first.exchange(Event("hello"))
        with pytest.raises((RequestFailed, DaemonUnreachable)) as caught:
            async with client(path) as second:
                await second.exchange(Event("hello"))
        assert getattr(caught.value, "code", "") in ("too_many_connections", "daemon_unreachable")
        assert (await first.exchange(Event("hello"))).type == "echo"


async def test_a_silent_client_is_let_go(path: Path) -> None:
    async with serving(path, idle_timeout_s=0.02):
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_dies_in_the_middle_of_a_frame_is_let_go(path: Path) -> None:
    async with serving(path) as server:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"type": "a", "data_length": 1000}\n{"half')
        await writer.drain()
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
        await until(lambda: not server._connections)


async def test_watching_clients_hear_of_events_in_order(path: Path) -> None:
    async with serving(path) as server, client(path) as watcher:
        await watcher.exchange(Event("watch"))
        for number in range(3):
            event = Event("stored", {"seq": number + 1, "stored": {"user": True}, "dead": []})
            server.publish(lambda event=event: event)  # type: ignore[misc]  # mypy cannot infer such a default

        events = watcher.events()
        assert [(await anext(events)).model_dump()["seq"] for _ in range(3)] == [1, 2, 3]
        await events.aclose()  # type: ignore[attr-defined]


async def test_what_nobody_watches_is_not_even_made(path: Path) -> None:
    def never() -> Event:
        raise AssertionError("made for nobody")

    async with serving(path) as server, client(path) as connected:
        await connected.exchange(Event("hello"))
        server.publish(never)


async def test_a_watching_client_gets_its_reply_before_any_event(path: Path) -> None:
    servers: list[Server] = []

    async def publish_early(event: Event, connection: Connection) -> Event:
        connection.watching = True
        servers[0].publish(lambda: Event("stored", {"seq": 1}))
        await asyncio.sleep(0)
        return Event("watching")

    async with serving(path, publish_early) as server, client(path) as watcher:
        servers.append(server)
        assert (await watcher.exchange(Event("watch"))).type == "watching"


async def test_a_watching_client_that_does_not_read_is_cut_off(path: Path) -> None:
    async with serving(path) as server, client(path) as watcher:
        await watcher.exchange(Event("watch"))
        connection = next(iter(server._connections))
        for _ in range(2000):
            server.publish(lambda: Event("stored", {"padding": "x" * 1000}))
        await until(lambda: connection not in server._connections)


async def test_closing_lets_a_running_request_end_and_refuses_new_ones(path: Path) -> None:
    entered, finish = asyncio.Event(), asyncio.Event()

    async def slow(event: Event, _connection: Connection) -> Event:
        entered.set()
        await finish.wait()
        return Event("done")

    server = Server(f"unix://{path}", limits(), slow, Metrics())
    await server.start()
    async with client(path) as connected:
        request = asyncio.create_task(connected.exchange(Event("work")))
        await entered.wait()
        closing = asyncio.create_task(server.close(30))
        await until(lambda: not path.exists())
        finish.set()

        assert (await request).type == "done"
        await closing


async def test_closing_cuts_a_request_that_outlives_the_deadline(path: Path) -> None:
    entered = asyncio.Event()

    async def forever(event: Event, _connection: Connection) -> Event:
        entered.set()
        await asyncio.Event().wait()
        return event

    server = Server(f"unix://{path}", limits(), forever, Metrics())
    await server.start()
    async with client(path) as connected:
        request = asyncio.create_task(connected.exchange(Event("work")))
        await entered.wait()
        await server.close(0.01)

        with pytest.raises(DaemonUnreachable):
            await request


async def test_tcp_on_loopback(tmp_path: Path) -> None:
    server = Server("tcp://127.0.0.1:0", limits(), echo, Metrics())
    await server.start()
    try:
        async with Client(f"tcp://127.0.0.1:{server.port}", limits()) as connected:
            assert (await connected.exchange(Event("hello"))).type == "echo"
    finally:
        await server.close(0.5)


class Gate:
    """A handler whose previews wait for the gate; it notes what it has begun to handle."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.begun: list[str] = []

    async def __call__(self, event: Event, _connection: Connection) -> Event:
        self.begun.append(event.data["id"])
        if event.type == "preview" and event.data["id"] == "1":
            await self.open.wait()
        if event.data["id"] == "refused":
            raise TextTooLong("too long")
        return Event("done", {"id": event.data["id"]})


async def send(path: Path, *events: tuple[str, str]) -> tuple[FrameReader, asyncio.StreamWriter]:
    """Events of (type, id), sent at once by a client that waits for no reply."""
    reader, writer = await asyncio.open_unix_connection(path)
    for type_, id_ in events:
        await async_write_event(Event(type_, {"id": id_}), writer)
    return FrameReader(reader, limits()), writer


async def replies(frames: FrameReader, count: int) -> list[tuple[str, str]]:
    read = [await frames.read(10) for _ in range(count)]
    return [(event.type, event.data["id"]) for event in read if event is not None]


async def test_previews_overlap_and_replies_keep_the_order(path: Path) -> None:
    gate = Gate()
    async with serving(path, gate):
        frames, writer = await send(
            path, ("preview", "1"), ("preview", "2"), ("preview", "refused"), ("ingest", "3"), ("preview", "4")
        )
        await until(lambda: len(gate.begun) == 3)
        assert gate.begun == ["1", "2", "refused"], "all but previews wait for what came before"
        gate.open.set()
        assert await replies(frames, 5) == [
            ("done", "1"), ("done", "2"), ("error", "refused"), ("done", "3"), ("done", "4"),
        ]  # fmt: skip
        writer.close()
        await writer.wait_closed()


async def test_a_client_is_not_read_too_far_ahead(path: Path) -> None:
    gate = Gate()
    numbers = [str(number) for number in range(1, READ_AHEAD + 10)]
    async with serving(path, gate):
        frames, writer = await send(path, *(("preview", number) for number in numbers))
        await until(lambda: len(gate.begun) == READ_AHEAD + 1)
        async with client(path) as other:
            await other.exchange(Event("hello", {"id": "hello"}))  # the server has had time to read on
        assert gate.begun == [*numbers[: READ_AHEAD + 1], "hello"]
        gate.open.set()
        assert [id_ for _, id_ in await replies(frames, len(numbers))] == numbers
        writer.close()
        await writer.wait_closed()


async def test_closing_lets_previews_end(path: Path) -> None:
    gate = Gate()
    server = Server(f"unix://{path}", limits(), gate, Metrics())
    await server.start()
    frames, writer = await send(path, ("preview", "1"), ("preview", "2"))
    await until(lambda: len(gate.begun) == 2)
    closing = asyncio.create_task(server.close(30))
    await until(lambda: not path.exists())
    gate.open.set()
    assert await replies(frames, 2) == [("done", "1"), ("done", "2")]
    await closing
    writer.close()
    await writer.wait_closed()


async def test_closing_cuts_previews_that_outlive_the_deadline(path: Path) -> None:
    gate = Gate()
    server = Server(f"unix://{path}", limits(), gate, Metrics())
    await server.start()
    frames, writer = await send(path, ("preview", "1"))
    await until(lambda: len(gate.begun) == 1)
    await server.close(0.01)
    assert await frames.read(10) is None
    writer.close()
    await writer.wait_closed()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not reached():
            await asyncio.sleep(0)


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    from daemon.server import bind_unix

    with pytest.raises(OSError, match="No such file"):
        bind_unix(tmp_path / "missing" / "s.sock")
    assert os.umask(0o022) == 0o022
