"""A turn while it is being said: understood word by word over the socket, and remembered once, at its end."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator
from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.client import AsyncClient
from wyoming.event import Event

from daemon.client import Client
from daemon.protocol import Preview, Previewed
from tests.integration.conversation import CONTRACT, recall, say
from tests.integration.daemon_process import DaemonProcess

EMMA = "My sister Emma moved to Lisbon last week and she loves it there."
UNDERSTOOD = Draft202012Validator({"$ref": "#/$defs/Understood", "$defs": CONTRACT.schema["$defs"]})


def grown(text: str) -> list[str]:
    """The text after each of its words."""
    words = text.split()
    return [" ".join(words[:count]) for count in range(1, len(words) + 1)]


def told(understood: Any) -> set[tuple[str, str, str]]:
    return {(each["subject"], each["predicate"], each["object"]) for each in understood["extractor"]["relations"]}


async def newest_receipt(client: Client) -> int:
    """The receipt of a turn said now: the next turn's is one more, unless something else was journaled."""
    return (await say(client, "Hello.", user="receipts")).seq


async def test_a_turn_is_understood_while_it_is_said_and_remembered_once(shoal: DaemonProcess) -> None:
    named: dict[str, Any] = {"user": "grows", "session": "s", "turn_id": "emma"}
    async with shoal.client() as client:
        before = await newest_receipt(client)
        replies = [await client.request(Preview(text=text, **named), Previewed) for text in grown(EMMA)]
        nothing = await recall(client, "grows")
        whole = await say(client, EMMA, **named)
        await shoal.stored(whole.seq)
        facts, nodes = await recall(client, "grows"), await recall(client, "grows", graph="agent")

    for text, reply in zip(grown(EMMA), replies, strict=True):
        UNDERSTOOD.validate(reply.understood)
        assert (reply.turn_id, reply.understood["text"], reply.missing) == ("emma", text, {})
        assert set(reply.models) == {"extractor"}, "the shipped settings let no other small model look"
        for entity in reply.understood["extractor"]["entities"]:
            assert text[entity["start"] : entity["end"]] == entity["text"]
    assert not told(replies[0].understood)
    assert ("Emma", "lives_in", "Lisbon") in told(replies[-1].understood), "all has been said by then"
    assert nothing == []
    assert whole.seq == before + 1, "no preview was journaled"
    assert {fact["times_said"] for fact in facts} == {1}
    assert next(node for node in nodes if node["kind"] == "Episode")["turns"] == 1


async def test_a_preview_sees_the_session_and_leaves_no_trace_in_it(shoal: DaemonProcess) -> None:
    async with shoal.client() as client:
        await say(client, "My sister Emma lives in Lisbon.", user="looks", session="s")
        await client.request(Preview(text="Berta is nice. ", user="looks", session="s"), Previewed)
        so_far = await client.request(
            Preview(text="She moved to Porto last week.", user="looks", session="s"), Previewed
        )
    assert ("Emma", "lives_in", "Porto") in told(so_far.understood)


async def streamed(shoal: DaemonProcess, *events: Event) -> list[Event]:
    """The replies to events that a recogniser sends without waiting for any."""
    async with AsyncClient.from_uri(shoal.settings.server_uri, connect_timeout=5, read_timeout=60) as client:
        for event in events:
            await client.write_event(event)
        replies = [await client.read_event() for _ in events]
    return [reply for reply in replies if reply is not None]


def chunks(text: str) -> list[Event]:
    return [TranscriptChunk(text=f"{word} ").event() for word in text.split()]


async def test_wyomings_streaming_transcript_is_a_turn_that_grows(shoal: DaemonProcess) -> None:
    begin = TranscriptStart(context={"user": "streams", "session": "hall"}).event()
    async with shoal.client() as client:
        before = await newest_receipt(client)
        replies = await streamed(shoal, begin, *chunks(EMMA), TranscriptStop().event())
        final = replies[-1].data["context"]
        await shoal.stored(final["receipt"])
        facts = await recall(client, "streams", "Emma")

    assert [reply.type for reply in replies] == ["previewed"] * (1 + len(EMMA.split())) + ["handled"]
    assert {reply.data["turn_id"] for reply in replies[:-1]} == {final["turn_id"]}
    texts = [reply.data["understood"]["text"].strip() for reply in replies[:-1]]
    assert texts[0] == ""
    assert texts[-1] == EMMA
    assert texts == sorted(texts, key=len), "never one that is older than the one before"
    for reply in replies[:-1]:
        UNDERSTOOD.validate(reply.data["understood"])
    assert final["receipt"] == before + 1
    assert ("lives_in", "Lisbon") in {(fact["predicate"], fact["object"]) for fact in facts}
    assert {fact["times_said"] for fact in facts} == {1}
    assert facts[0]["sessions"] == ["hall"]


async def test_a_final_transcript_stands_for_the_chunks_and_is_remembered_once(shoal: DaemonProcess) -> None:
    async with shoal.client() as client:
        before = await newest_receipt(client)
        replies = await streamed(
            shoal,
            TranscriptStart(context={"user": "final"}).event(),
            *chunks("my brother tom lifts in"),
            Transcript(text="My brother Tom lives in Graz.").event(),
            TranscriptStop().event(),
        )
        assert await newest_receipt(client) == before + 2, "one turn, and the one that asks"
        await shoal.stored(before + 1)
        facts = await recall(client, "final", "Tom")
    handled = [reply.data["context"] for reply in replies[-2:]]
    assert handled[0] == handled[1]
    assert handled[0]["receipt"] == before + 1
    assert ("lives_in", "Graz") in {(fact["predicate"], fact["object"]) for fact in facts}


async def test_streams_that_go_wrong_get_an_error_each_and_ingest_nothing(shoal: DaemonProcess) -> None:
    huge = "x" * (shoal.settings.server.max_text_bytes // 2)
    async with shoal.client() as client:
        before = await newest_receipt(client)
        replies = await streamed(
            shoal,
            TranscriptChunk(text="Nobody began").event(),
            TranscriptStop().event(),
            TranscriptStart().event(),
            TranscriptStop().event(),
            *(TranscriptChunk(text=huge).event() for _ in range(3)),
            TranscriptStop().event(),
        )
        assert await newest_receipt(client) == before + 1
    assert [reply.data.get("code", reply.type) for reply in replies] == [
        *("bad_request", "bad_request", "previewed", "empty_text"),
        *("previewed", "previewed", "text_too_long", "bad_request"),
    ]
