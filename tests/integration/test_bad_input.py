"""What clients send that is no request: a code for each, and neither the other clients nor the daemon mind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from wyoming.event import Event, async_read_event
from wyoming.ping import Ping

from daemon.client import Client, RequestFailed
from daemon.errors import NotUtf8
from daemon.protocol import AwaitStored, Ingest, Ingested, Stored
from tests.integration.conversation import say
from tests.integration.daemon_process import DaemonProcess

MAX_TEXT_BYTES = 65536


async def answers(shoal: DaemonProcess, sent: bytes) -> list[Event]:
    """Everything that the daemon answers to some bytes and the end of the stream, until it closes the connection."""
    reader, writer = await asyncio.open_unix_connection(shoal.settings.server_uri.removeprefix("unix://"))
    writer.write(sent)
    writer.write_eof()
    events = []
    async with asyncio.timeout(30):
        while (event := await async_read_event(reader)) is not None:
            events.append(event)
    writer.close()
    await writer.wait_closed()
    return events


async def code_of(client: Client, message_type: str, data: dict[str, Any]) -> str:
    with pytest.raises(RequestFailed) as refusal:
        await client.exchange(Event(message_type, data))
    return refusal.value.code


def frame(data: bytes, **header: Any) -> bytes:
    return json.dumps({"type": "ingest", "data_length": len(data), **header}).encode() + b"\n" + data


PING = json.dumps({"type": "ping"}).encode() + b"\n"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b'{"type": "' + b"x" * 70_000 + b'"}\n', "frame_too_long"),
        (b"x" * 200_000, "frame_too_long"),
        (b'{"type": "ingest", "data_length": 1000000000}\n', "frame_too_long"),
        (b'{"type": "ingest", "payload_length": 1000000000}\n', "frame_too_long"),
        (b"hello\n", "malformed_frame"),
        (b"\n", "malformed_frame"),
        (b"[]\n", "malformed_frame"),
        (b"[" * 60_000 + b"\n", "malformed_frame"),
        (b'{"data": {}}\n', "malformed_frame"),
        (b'{"type": 7}\n', "malformed_frame"),
        (b'{"type": "ingest", "data_length": -1}\n', "malformed_frame"),
        (b'{"type": "ingest", "data_length": "12"}\n', "malformed_frame"),
        (b'{"type": "\xff"}\n', "not_utf8"),
    ],
)
async def test_after_a_broken_frame_the_client_hears_why_and_is_let_go(
    shoal: DaemonProcess, sent: bytes, code: str
) -> None:
    (event,) = await answers(shoal, sent + PING)
    assert event.type == "error"
    assert event.data["code"] == code
    assert event.data["text"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(b'{"text": "\xff\xfe"}'), "not_utf8"),
        (frame(b'{"text": '), "malformed_frame"),
        (frame(b'["text"]'), "malformed_frame"),
        (frame(b'{"text": "half a pair \\ud83d of surrogates"}'), "not_utf8"),
        (b'{"type": "ingest", "data": 5}\n', "malformed_frame"),
        (b'{"type": "no-such-thing"}\n', "unknown_type"),
        (b'{"type": "pong"}\n', "unknown_type"),
        (b'{"type": "ping", "data": {"text": "\\ud83d"}}\n', "not_utf8"),
        (b'{"type": "watch", "data": {"id": "1", "all": true}}\n', "bad_request"),
    ],
)
async def test_after_a_whole_frame_with_bad_contents_the_connection_lives(
    shoal: DaemonProcess, sent: bytes, code: str
) -> None:
    refused, pong = await answers(shoal, sent + PING)
    assert (refused.type, refused.data["code"]) == ("error", code)
    assert pong.type == "pong"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({}, "bad_request"),
        ({"text": 5}, "bad_request"),
        ({"text": "hello", "sesion": "misspelt"}, "bad_request"),
        ({"text": "hello", "user": ""}, "bad_request"),
        ({"text": "hello", "said_at": -1}, "bad_request"),
        ({"text": ""}, "empty_text"),
        ({"text": " \t\n "}, "empty_text"),
        ({"text": "\u0000\u0007\u001b\u200b"}, "empty_text"),
        ({"text": "x" * (MAX_TEXT_BYTES + 1)}, "text_too_long"),
        ({"text": "é" * (MAX_TEXT_BYTES // 2 + 1)}, "text_too_long"),
    ],
)
async def test_a_turn_that_cannot_be_taken_is_refused_with_its_code(
    shoal: DaemonProcess, data: dict[str, Any], code: str
) -> None:
    async with shoal.client() as client:
        for message_type in ("ingest", "transcript") if "text" in data and len(data) == 1 else ("ingest",):
            assert await code_of(client, message_type, data) == code
        assert (await client.exchange(Ping().event())).type == "pong"


async def test_our_own_client_does_not_even_send_what_is_not_utf8(shoal: DaemonProcess) -> None:
    async with shoal.client() as client:
        with pytest.raises(NotUtf8):
            await say(client, "half a pair \ud83d of surrogates")
        assert (await client.exchange(Ping().event())).type == "pong"


async def test_a_refusal_names_the_request_and_the_key(shoal: DaemonProcess) -> None:
    sent = json.dumps({"type": "ingest", "data": {"text": "hello", "sesion": "a", "id": "42"}}).encode() + b"\n"
    (refused,) = await answers(shoal, sent)
    assert refused.data["id"] == "42"
    assert "sesion" in refused.data["text"]


@pytest.mark.parametrize(
    "text",
    [
        "My\u0000 sister\u0007 Emma\u001b[31m lives\u0008 in\u007f Lisbon.",
        "\u202eMy sister Emma lives in Lisbon.\u202c",
        "พี่สาวของฉันชื่อมะลิ เธออาศัยอยู่ที่เชียงใหม่",
        "أختي ليلى تعيش في الإسكندرية",
        "אחותי נועה גרה בחיפה",
        "我妹妹小雨住在成都",
        "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ 𒀭𒈗 \U0001f9a9\U0001f468\u200d\U0001f469\u200d\U0001f467 \U00013000",
        "Z̴̨̛͓͎a̷̡͇͂l̸̰̈́g̵̱̈́o lives in L\u0301i\u0301s\u0301bon",
        "a" * MAX_TEXT_BYTES,
        "My sister Emma lives in Lisbon. " * (MAX_TEXT_BYTES // 32),
        "\n".join(["{}", "'; DROP TABLE entries; --", "MATCH (n) DETACH DELETE n", "${HOME}", "\\u0000"]),
    ],
    ids=["control", "direction", "thai", "arabic", "hebrew", "chinese", "rare", "zalgo", "word", "long", "code"],
)
async def test_odd_text_is_taken_and_stored(shoal: DaemonProcess, text: str) -> None:
    async with shoal.client() as client:
        reply = await say(client, text, user="odd", session="odd")
        stored = await client.request(AwaitStored(seq=reply.seq, timeout_s=50), Stored)
    assert stored.stored == {"user": True, "agent": True}


async def test_a_client_that_dies_in_a_frame_or_before_its_answer_disturbs_nobody(shoal: DaemonProcess) -> None:
    path = shoal.settings.server_uri.removeprefix("unix://")
    async with shoal.client() as other:
        for number in range(20):
            _, writer = await asyncio.open_unix_connection(path)
            whole = frame(json.dumps({"text": "Tom lives in Graz.", "user": "dead"}).encode())
            writer.write(whole[: len(whole) - number % 3 * 10])
            await writer.drain()
            writer.transport.abort()
            reply = await other.request(Ingest(text="Emma lives in Lisbon.", user="alive"), Ingested)
            assert reply.seq
        (told,) = await answers(shoal, b'{"type": "ingest", "data_length": 100}\n{"text"')
    assert told.data["code"] == "malformed_frame"
