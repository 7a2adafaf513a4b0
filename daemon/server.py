"""The socket: who is connected, what they may send, and how a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlparse

import structlog
from wyoming.event import Event, async_write_event

from actors.errors import ActorError
from config.settings import ServerSettings
from daemon.dictation import Dictation
from daemon.errors import (
    DaemonError,
    ProtocolError,
    ShuttingDown,
    SocketInUse,
    SocketPathTooLong,
    TooManyConnections,
)
from daemon.frames import FrameReader
from daemon.metrics import Metrics
from daemon.protocol import OVERLAPPING, error_event
from registry.errors import RegistryError

log = structlog.get_logger(__name__)

READ_AHEAD = 16
"""Previews of one client that may wait for their replies while the next event is read."""
WATCH_BACKLOG = 256
"""Events that a watching client may lag behind before it is cut off."""


class Connection:
    """One client. `watching` clients get events that they did not ask for, in order, and may be silent for ever."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settings: ServerSettings) -> None:
        self.frames = FrameReader(reader, settings)
        self.watching = False
        self.busy = False
        self.dictation: Dictation | None = None
        self._writer = writer
        self._write_timeout_s = settings.body_timeout_s
        self._write_lock = asyncio.Lock()
        self._backlog: asyncio.Queue[Event] = asyncio.Queue(WATCH_BACKLOG)
        self._replied = asyncio.Event()

    async def send(self, event: Event) -> None:
        """Write one event. Raises: TimeoutError when the client does not read, ConnectionError when it is gone."""
        async with self._write_lock, asyncio.timeout(self._write_timeout_s):
            await async_write_event(event, self._writer)

    def publish(self, event: Event) -> None:
        """Queue an event for a watching client; one that lags too far behind is cut off."""
        try:
            self._backlog.put_nowait(event)
        except asyncio.QueueFull:
            self.abort()

    def replied(self) -> None:
        """A watching client has the reply that it waits for: events may follow."""
        self._replied.set()

    async def forward(self) -> None:
        """Send what `publish` queued, until cancelled or the client is gone."""
        await self._replied.wait()
        with contextlib.suppress(TimeoutError, ConnectionError):
            while True:
                await self.send(await self._backlog.get())
        self.abort()

    def abort(self) -> None:
        """Cut the connection at once."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Flush and close."""
        self._writer.close()
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(self._write_timeout_s):
                await self._writer.wait_closed()


Handler = Callable[[Event, Connection], Awaitable[Event]]


class Server:
    """Serves `uri` with a handler that turns each event into its reply or raises an error with a code."""

    def __init__(self, uri: str, settings: ServerSettings, handler: Handler, metrics: Metrics) -> None:
        self._uri = urlparse(uri)
        self._settings = settings
        self._handler = handler
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._draining = False

    async def start(self) -> None:
        """Listen. Raises: SocketInUse, SocketPathTooLong, OSError."""
        limit = self._settings.max_header_bytes
        if self._uri.scheme == "tcp":
            self._server = await asyncio.start_server(self._serve, self._uri.hostname, self._uri.port, limit=limit)
        else:
            listener = bind_unix(Path(self._uri.path))
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=limit)

    @property
    def port(self) -> int | None:
        """The TCP port, None on a Unix socket."""
        sockets = self._server.sockets if self._server else ()
        return int(sockets[0].getsockname()[1]) if self._uri.scheme == "tcp" and sockets else None

    def publish(self, make: Callable[[], Event]) -> None:
        """Send an event to every watching client; it is made only where there is one."""
        watching = [connection for connection in self._connections if connection.watching]
        if not watching:
            return
        event = make()
        for connection in watching:
            connection.publish(event)

    async def close(self, drain_timeout_s: float) -> None:
        """Refuse new clients and requests, let running requests end until the deadline, then cut the rest."""
        self._draining = True
        if self._server is not None:
            self._server.close()
            if self._uri.scheme == "unix":
                Path(self._uri.path).unlink(missing_ok=True)  # noqa: ASYNC240 - one system call
        for connection, task in self._connections.items():
            if not connection.busy:
                task.cancel()
        if self._connections:
            await asyncio.wait(self._connections.values(), timeout=drain_timeout_s)
        left = list(self._connections.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, self._settings)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this callback as a task
        self._connections[connection] = task
        self._metrics.connections.set(len(self._connections))
        forwarding = asyncio.create_task(connection.forward())
        try:
            if len(self._connections) > self._settings.max_connections:
                await self._refuse(connection, TooManyConnections(f"{self._settings.max_connections} are connected"))
            else:
                await self._converse(connection)
        except (ConnectionError, TimeoutError):
            connection.abort()
        except asyncio.CancelledError:
            # Only close() cancels; asyncio would report the cancellation as an unhandled error.
            log.debug("connection cut")
        finally:
            del self._connections[connection]
            self._metrics.connections.set(len(self._connections))
            forwarding.cancel()
            await asyncio.gather(forwarding, return_exceptions=True)
            await connection.close()

    async def _converse(self, connection: Connection) -> None:
        """Answer one event after the other until the client leaves, is silent too long or loses its place.

        Previews overlap: the next event is read while they are under way. Replies keep the order of the events.
        """
        under_way: deque[asyncio.Task[None]] = deque()
        try:
            while not self._draining:
                try:
                    event = await connection.frames.read(None if connection.watching else self._settings.idle_timeout_s)
                except ProtocolError as error:
                    await _all(under_way)
                    await self._refuse(connection, error)
                    if error.recoverable:
                        connection.dictation = None  # it may have been a chunk: a turn with a hole must not be ingested
                        continue
                    return
                if event is None:
                    return
                if event.type in OVERLAPPING:
                    before = under_way[-1] if under_way else None
                    under_way.append(asyncio.create_task(self._answer_after(before, event, connection)))
                    await _all(under_way, but=READ_AHEAD)
                    continue
                connection.busy = True
                try:
                    await _all(under_way)
                    await connection.send(await self._reply(event, connection))
                    if connection.watching:
                        connection.replied()
                finally:
                    connection.busy = False
        finally:
            try:
                await _all(under_way)
            finally:
                for late in under_way:
                    late.cancel()

    async def _answer_after(self, before: asyncio.Task[None] | None, event: Event, connection: Connection) -> None:
        """Handle an event at once, and send its reply after that of the event before."""
        reply = await self._reply(event, connection)
        if before:
            await asyncio.wait([before])
        try:
            await connection.send(reply)
        except (ConnectionError, TimeoutError):
            connection.abort()

    async def _reply(self, event: Event, connection: Connection) -> Event:
        request_id = event.data.get("id") if isinstance(event.data.get("id"), str) else None
        try:
            if self._draining:
                raise ShuttingDown("the daemon is stopping")
            return await self._handler(event, connection)
        except (DaemonError, ActorError, RegistryError) as error:
            self._metrics.refused.labels(error.code).inc()
            return error_event(error, request_id)
        except Exception:
            # A fault of ours must end this request with an error, and neither the connection nor the daemon.
            log.exception("request failed", type=event.type)
            self._metrics.refused.labels(DaemonError.code).inc()
            return error_event(DaemonError("an internal error: the log has the details"), request_id)

    async def _refuse(self, connection: Connection, error: DaemonError) -> None:
        self._metrics.refused.labels(error.code).inc()
        log.info("refused", code=error.code)
        await connection.send(error_event(error))


async def _all(under_way: deque[asyncio.Task[None]], but: int = 0) -> None:
    """Wait until the oldest have ended and at most `but` are left."""
    while len(under_way) > but:
        await asyncio.wait([under_way[0]])
        under_way.popleft()


def check_address(uri: str) -> None:
    """Listen at an address for a moment, to hear now of what would hinder it later. Raises: as `Server.start`."""
    address = urlparse(uri)
    if address.scheme == "unix":
        bind_unix(Path(address.path)).close()
        Path(address.path).unlink(missing_ok=True)
        return
    family = socket.AF_INET6 if ":" in (address.hostname or "") else socket.AF_INET
    try:
        socket.create_server((address.hostname, address.port), family=family).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise SocketInUse(f"something listens at {uri} already: set server.uri to another port") from None


def bind_unix(path: Path) -> socket.socket:
    """A socket bound at the path, readable by its owner alone; the socket of a dead daemon is replaced.

    Raises:
        SocketInUse: a live daemon listens there, or the file is no socket.
        SocketPathTooLong: the operating system takes no path of this length.
        OSError: the folder cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Set before bind, so that there is no moment in which others could connect.
    mask = os.umask(0o177)
    try:
        _remove_dead(path)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        if "too long" in str(error):
            raise SocketPathTooLong(f"{path}: {error}; set server.uri or runtime_dir to a shorter path") from None
        raise
    except DaemonError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.setblocking(False)
    return listener


def _remove_dead(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketInUse(f"{path} is no socket: it is left alone; set server.uri to another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except TimeoutError:
            pass
    raise SocketInUse(f"a daemon already listens at {path}: `shoal status` tells, `shoal stop` ends it")
