"""Wyoming frames, read with bounds: lengths are checked before their bytes are read, and every body has a deadline.

The stock reader of the `wyoming` library bounds the header line alone and takes a malformed frame for the end of the
stream. A frame is one line of JSON, then `data_length` bytes of JSON, then `payload_length` raw bytes.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from wyoming.event import Event

from config.settings import ServerSettings
from daemon.errors import FrameTimeout, FrameTooLong, MalformedFrame, NotUtf8, ProtocolError


class FrameReader:
    """Reads events from one client.

    A `ProtocolError` with `recoverable` true leaves the stream at the next frame; after any other the stream's
    position is unknown and the connection has to be closed.
    """

    def __init__(self, stream: asyncio.StreamReader, settings: ServerSettings) -> None:
        self._stream = stream
        self._settings = settings

    async def read(self, idle_timeout_s: float | None) -> Event | None:
        """The next event, or None at the end of the stream.

        Raises:
            TimeoutError: no frame began within `idle_timeout_s`.
            ProtocolError: the frame is too long, malformed, not UTF-8, or its body came too late.
            ConnectionError: the client went away.
        """
        async with asyncio.timeout(idle_timeout_s):
            first = await self._stream.read(1)
        if not first:
            return None
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                return await self._rest(first)
        except TimeoutError:
            raise FrameTimeout(f"the frame did not end within {self._settings.body_timeout_s:g} s") from None
        except asyncio.IncompleteReadError:
            raise MalformedFrame("the stream ended inside a frame") from None

    async def _rest(self, first: bytes) -> Event:
        header = _parse("header", first + await self._line() if first != b"\n" else b"")
        kind = header.get("type")
        if not isinstance(kind, str) or not kind:
            raise MalformedFrame("the header has no `type`")
        data_bytes = await self._body(header, "data_length", self._settings.max_data_bytes)
        payload = await self._body(header, "payload_length", self._settings.max_payload_bytes)
        data = header.get("data") or {}
        try:
            if not isinstance(data, dict):
                raise MalformedFrame("`data` is no JSON object")
            if data_bytes:
                data = data | _parse("data", data_bytes)
            _spell(data)
        except ProtocolError as error:
            raise recoverable(error) from None
        return Event(type=kind, data=data, payload=payload or None)

    async def _line(self) -> bytes:
        try:
            line = await self._stream.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise FrameTooLong(f"a header is at most {self._settings.max_header_bytes} bytes") from None
        if len(line) >= self._settings.max_header_bytes:
            raise FrameTooLong(f"a header is at most {self._settings.max_header_bytes} bytes")
        return line

    async def _body(self, header: dict[str, Any], key: str, limit: int) -> bytes:
        length = header.get(key)
        if length is None:
            return b""
        if not isinstance(length, int) or isinstance(length, bool) or length < 0:
            raise MalformedFrame(f"`{key}` is no length: {str(length)[:40]!r}")
        if length > limit:
            raise FrameTooLong(f"`{key}` is {length}; at most {limit} bytes are read")
        return await self._stream.readexactly(length)


def recoverable(error: ProtocolError) -> ProtocolError:
    """Mark an error after which the stream stands at the next frame."""
    error.recoverable = True
    return error


def _spell(data: dict[str, Any]) -> None:
    """Refuse what no reply could repeat: JSON can escape half of a surrogate pair."""
    try:
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise NotUtf8("`data` holds half of a surrogate pair") from None


def _parse(part: str, raw: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotUtf8(f"the {part} is not UTF-8 at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise MalformedFrame(f"the {part} is no JSON: {str(error)[:80]}") from None
    if not isinstance(parsed, dict):
        raise MalformedFrame(f"the {part} is no JSON object")
    return parsed
