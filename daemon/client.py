"""The client: a connection to the daemon that speaks typed messages. `shoal` and the tests use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlparse

from wyoming.error import Error
from wyoming.event import Event, async_write_event

from config.settings import ServerSettings
from daemon.errors import DaemonError, DaemonUnreachable, NobodyListens, NotUtf8, ProtocolError
from daemon.frames import FrameReader
from daemon.protocol import REPLIES, Message, RequestMessage, parse

Reply = TypeVar("Reply", bound=Message)

MAX_REPLY_BYTES = 64 * 1024 * 1024
REPLY_TIMEOUT_S = 60.0


class RequestFailed(DaemonError):
    """The daemon answered with an error event; `code` is its code."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class Client:
    """One connection. Requests go one after the other; use as an async context manager."""

    def __init__(self, uri: str, settings: ServerSettings, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        self._uri = uri
        # A reply may list thousands of facts; the daemon is trusted with more than its clients are.
        self._settings = settings.model_copy(update={"max_data_bytes": MAX_REPLY_BYTES})
        self._timeout_s = timeout_s
        self._writer: asyncio.StreamWriter | None = None
        self._frames: FrameReader | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises: NobodyListens."""
        target, limit = urlparse(self._uri), self._settings.max_header_bytes
        try:
            if target.scheme == "tcp":
                reader, self._writer = await asyncio.open_connection(target.hostname, target.port, limit=limit)
            else:
                reader, self._writer = await asyncio.open_unix_connection(target.path, limit=limit)
        except OSError as error:
            raise NobodyListens(f"no daemon answers at {self._uri} ({error.strerror}): `shoal start` it") from None
        self._frames = FrameReader(reader, self._settings)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        if self._writer is not None:
            self._writer.close()
            with suppress(ConnectionError):  # the other side may be faster
                await self._writer.wait_closed()

    async def request(self, message: RequestMessage, reply: type[Reply]) -> Reply:
        """Send a request and wait for its reply.

        Raises:
            RequestFailed: the daemon answered with an error.
            DaemonUnreachable: the connection broke, or no reply came in time.
        """
        event = await self.exchange(message.event())
        if event.type != reply.TYPE:
            raise ProtocolError(f"{reply.TYPE} expected, {event.type} came")
        parsed = parse(reply, event)
        assert isinstance(parsed, reply)  # noqa: S101 - parse validates into the type it is given
        return parsed

    async def exchange(self, event: Event) -> Event:
        """Send any event and return the next one. Raises: as `request`, and NotUtf8 when it cannot be sent."""
        if self._writer is None:
            raise DaemonUnreachable("not connected")
        try:
            await async_write_event(event, self._writer)
        except UnicodeEncodeError:
            raise NotUtf8("the text is not UTF-8: it was not sent") from None
        except ConnectionError as error:
            raise DaemonUnreachable(f"the daemon is gone: {error}") from None
        return await self._next(self._timeout_s)

    async def events(self) -> AsyncIterator[Message]:
        """Events that the daemon sends of itself, after `Watch`; ends when the daemon leaves."""
        while True:
            try:
                event = await self._next(None)
            except DaemonUnreachable:
                return
            if event.type in REPLIES:
                yield parse(REPLIES[event.type], event)

    async def _next(self, timeout_s: float | None) -> Event:
        if self._frames is None:
            raise DaemonUnreachable("not connected")
        try:
            event = await self._frames.read(timeout_s)
        except TimeoutError:
            raise DaemonUnreachable(f"no reply within {timeout_s:g} s") from None
        except ConnectionError as error:
            raise DaemonUnreachable(f"the daemon is gone: {error}") from None
        if event is None:
            raise DaemonUnreachable("the daemon closed the connection")
        if event.type == "error":
            told = Error.from_event(event)
            raise RequestFailed(told.text, told.code or DaemonError.code)
        return event
