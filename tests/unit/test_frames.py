"""The bounded reader: whatever bytes come, it ends in an event, the end of the stream, or an error with a code."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wyoming.event import Event, async_write_event

from config.settings import ServerSettings, load_settings
from daemon.errors import FrameTimeout, FrameTooLong, MalformedFrame, NotUtf8, ProtocolError
from daemon.frames import FrameReader


def limits(**changes: float) -> ServerSettings:
    return load_settings().settings.server.model_copy(update=changes)


def reader_of(raw: bytes, *, ended: bool = True, **changes: float) -> FrameReader:
    settings = limits(**changes)
    stream = asyncio.StreamReader(limit=settings.max_header_bytes)
    stream.feed_data(raw)
    if ended:
        stream.feed_eof()
    return FrameReader(stream, settings)


class Sink:
    """Collects what `async_write_event` writes."""

    def __init__(self) -> None:
        self.raw = b""

    def write(self, data: bytes) -> None:
        self.raw += data

    def writelines(self, lines: tuple[bytes, ...]) -> None:
        self.raw += b"".join(lines)

    async def drain(self) -> None:
        """Nothing waits."""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(
    kind=st.text(min_size=1),
    data=st.dictionaries(st.text(), json_values, max_size=4),
    payload=st.none() | st.binary(min_size=1, max_size=2048),
)
async def test_reads_what_the_wyoming_library_writes(kind: str, data: dict[str, object], payload: bytes | None) -> None:
    sink = Sink()
    await async_write_event(Event(kind, data, payload), sink)  # type: ignore[arg-type]

    assert await reader_of(sink.raw).read(1) == Event(kind, data, payload)


@given(raw=st.binary(max_size=4096))
async def test_any_bytes_end_in_an_event_an_end_or_a_code(raw: bytes) -> None:
    reader = reader_of(raw)
    for _ in range(len(raw) + 1):
        try:
            event = await reader.read(1)
        except ProtocolError as error:
            if error.recoverable:
                continue
            return
        if event is None:
            return
        assert isinstance(event.type, str)
    pytest.fail("the reader did not use up its input")


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"\n", MalformedFrame),
        (b"[1, 2]\n", MalformedFrame),
        (b"{}\n", MalformedFrame),
        (b'{"type": 7}\n', MalformedFrame),
        (b'{"type": "ping"', MalformedFrame),
        (b'{"type": "\xff"}\n', NotUtf8),
        (b"[" * 60_000 + b"\n", MalformedFrame),
        (b"x" * 70_000 + b"\n", FrameTooLong),
        (b"x" * 70_000, FrameTooLong),
        (b'{"type": "ping", "data_length": -1}\n', MalformedFrame),
        (b'{"type": "ping", "data_length": true}\n', MalformedFrame),
        (b'{"type": "ping", "data_length": "9"}\n', MalformedFrame),
        (b'{"type": "ping", "data_length": 1610612736}\n', FrameTooLong),
        (b'{"type": "ping", "payload_length": 1610612736}\n', FrameTooLong),
        (b'{"type": "ping", "payload_length": 10}\nshort', MalformedFrame),
    ],
)
async def test_bad_frames_are_told_apart_and_end_the_connection(raw: bytes, error: type[ProtocolError]) -> None:
    with pytest.raises(error) as caught:
        await reader_of(raw).read(1)

    assert not caught.value.recoverable


@pytest.mark.parametrize("body", [b"nonsense", b"[1]", b"\xff\xfe", b"[" * 50_000, b'{"id": "\\ud83d"}'])
async def test_a_bad_body_of_known_length_leaves_the_stream_at_the_next_frame(body: bytes) -> None:
    raw = json.dumps({"type": "ingest", "data_length": len(body)}).encode() + b"\n" + body + b'{"type": "ping"}\n'
    reader = reader_of(raw)

    with pytest.raises(ProtocolError) as caught:
        await reader.read(1)

    assert caught.value.recoverable
    assert await reader.read(1) == Event("ping")


async def test_data_in_the_header_is_joined_with_the_body() -> None:
    body = b'{"b": 2}'
    raw = json.dumps({"type": "t", "data": {"a": 1}, "data_length": len(body)}).encode() + b"\n" + body

    assert await reader_of(raw).read(1) == Event("t", {"a": 1, "b": 2})


async def test_a_body_that_does_not_come_is_a_frame_timeout_not_an_idle_client() -> None:
    reader = reader_of(b'{"type": "ping", "data_length": 10}\n{', ended=False, body_timeout_s=0.01)

    with pytest.raises(FrameTimeout):
        await reader.read(60)


async def test_a_silent_client_is_idle() -> None:
    with pytest.raises(TimeoutError):
        await reader_of(b"", ended=False).read(0.01)
