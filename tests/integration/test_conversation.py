"""Whole conversations: over the socket, through the small models, into both graphs, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wyoming.asr import Transcript
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.handle import Handled
from wyoming.info import Describe, Info
from wyoming.intent import Intent, Recognize
from wyoming.ping import Ping, Pong

from config.schema import load_schema
from daemon.client import Client
from daemon.protocol import AwaitStored, Ingested, PublishedSchema, ReportSchema, Stored, ingested_schema
from tests.integration.conversation import (
    announced,
    assert_just_what_was_announced,
    comparable,
    demo,
    left_in,
    recall,
    say,
    seq_of,
)
from tests.integration.daemon_process import DaemonProcess, daemon
from tests.neo4j.server import GraphServer

MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
GRAPHS = ("user", "agent")


async def talk(client: Client, user: str, lines: list[tuple[str, str]], session: str = "demo") -> list[Ingested]:
    """One turn a minute, from a Monday noon on."""
    return [
        await say(
            client,
            text,
            user=user,
            speaker=speaker,
            session=session,
            turn_id=f"{session}-{number}",
            said_at=MONDAY + 60 * number,
        )
        for number, (speaker, text) in enumerate(lines)
    ]


async def stored(client: Client, seq: int) -> None:
    reply = await client.request(AwaitStored(seq=seq, timeout_s=50), Stored)
    assert reply == Stored(seq=seq, stored=dict.fromkeys(GRAPHS, True), dead=[])


async def test_the_demonstration_becomes_both_graphs(shoal: DaemonProcess) -> None:
    lines = demo()
    assert len(lines) >= 20
    async with shoal.client() as client:
        replies = await talk(client, "demo", lines)
        await stored(client, replies[-1].seq)
        facts = await recall(client, "demo")
        nodes = await recall(client, "demo", graph="agent")

    receipts = [reply.seq for reply in replies]
    assert receipts == sorted(set(receipts))
    for (speaker, _), reply in zip(lines, replies, strict=True):
        assert not reply.missing
        by = set() if speaker == "agent" else {"encoder", "extractor", "classifier"}
        assert set(reply.models) == by, "the agent's own words are kept, not understood"
        assert reply.stages_ms["turn"] > 0

    assert_just_what_was_announced(facts, replies)
    assert len(facts) >= 10
    texts = dict(zip(receipts, (text for _, text in lines), strict=True))
    for fact in facts:
        assert fact["said_as"] == texts[seq_of(fact["utterances"][-1])]
        assert fact["sessions"] == ["demo"]
        assert 0 < fact["confidence"] <= 1
        assert MONDAY <= fact["first_said_at"] <= fact["last_said_at"] <= MONDAY + 60 * len(lines)
        assert {model.partition("@")[0] for model in fact["models"]} >= {"extractor"}
        assert fact["subject"] != fact["object"]
        for end in (fact["subject"], fact["object"]):
            assert end, "each end is an entity with a name"
            assert "e-" not in end, "and no database's id"

    kinds = [node["kind"] for node in nodes]
    assert kinds.count("Episode") == 1
    assert next(node for node in nodes if node["kind"] == "Episode")["turns"] == len(lines)
    assert {"Emma", "Biscuit"} <= {node["name"] for node in nodes if node["kind"] == "Topic"}


async def test_what_is_recalled_of_a_name_is_all_that_touches_it(shoal: DaemonProcess) -> None:
    async with shoal.client() as client:
        replies = await talk(client, "names", [("user", "My sister Emma lives in Lisbon."), ("user", "Tom is tall.")])
        await stored(client, replies[-1].seq)
        everything, emma = await recall(client, "names"), await recall(client, "names", "emma")
        misspelt, nobody = await recall(client, "names", "Emmma"), await recall(client, "names", "Zebedee")
        others = await recall(client, "somebody else")
    assert emma == [fact for fact in everything if "Emma" in (fact["subject"], fact["object"])]
    assert {(fact["predicate"], fact["object"]) for fact in emma} >= {("lives_in", "Lisbon")}
    assert misspelt == emma
    assert nobody == []
    assert others == [], "nobody's memory is another's"


async def test_a_session_remembers_who_she_is_and_another_users_does_not(shoal: DaemonProcess) -> None:
    async with shoal.client() as client:
        await say(client, "My sister Emma lives in Lisbon.", user="pronouns", session="one")
        here = await say(client, "She moved to Porto last week.", user="pronouns", session="one")
        elsewhere = await say(client, "She moved to Porto last week.", user="other pronouns", session="one")
        await stored(client, elsewhere.seq)
        emma = await recall(client, "pronouns", "Emma")
    subjects = [
        [told["subject"]["name"] for told in reply.understood["statements"] if told["predicate"] == "lives_in"]
        for reply in (here, elsewhere)
    ]
    assert subjects[0] == ["Emma"]
    assert "Emma" not in subjects[1]
    lives = {fact["object"]: fact["status"] for fact in emma if fact["predicate"] == "lives_in"}
    assert lives == {"Lisbon": "superseded", "Porto": "asserted"}


async def test_a_correction_fixes_what_was_stored(shoal: DaemonProcess) -> None:
    async with shoal.client() as client:
        said = await say(client, "My daughter Ana is four.", user="corrects")
        await stored(client, said.seq)
        wrong = await recall(client, "corrects", "Ana")
        corrected = await say(client, "No, she's five.", user="corrects")
        await stored(client, corrected.seq)
        right = await recall(client, "corrects", "Ana")
    assert ages(wrong) == {"four": "asserted"}
    assert ages(right) == {"four": "corrected", "five": "asserted"}


def ages(facts: list[dict[str, Any]]) -> dict[str, str]:
    """The number of each age that was told -> its status."""
    return {fact["object"].split()[0]: fact["status"] for fact in facts if fact["predicate"] == "has_age"}


async def test_saying_it_again_strengthens_and_the_same_turn_id_changes_nothing(shoal: DaemonProcess) -> None:
    text = "My sister Emma lives in Lisbon."
    async with shoal.client() as client:
        first = await say(client, text, user="again", turn_id="a")
        retried = await say(client, text, user="again", turn_id="a")
        second = await say(client, text, user="again", turn_id="b")
        await stored(client, second.seq)
        facts = await recall(client, "again")
    assert retried.seq == first.seq
    assert retried.turn_id == first.turn_id == "a"
    assert announced([first])
    assert {fact["times_said"] for fact in facts} == {2}
    assert_just_what_was_announced(facts, [first, second])


async def test_turns_of_earlier_times_are_stored_and_end_nothing_said_later(shoal: DaemonProcess) -> None:
    """A clock that jumps back an hour."""
    async with shoal.client() as client:
        now = await say(client, "My sister Emma lives in Lisbon.", user="clock", session="a", said_at=MONDAY)
        past = await say(client, "My sister Emma lives in Porto.", user="clock", session="b", said_at=MONDAY - 3600)
        await stored(client, past.seq)
        emma = await recall(client, "clock", "Emma")
    assert past.seq > now.seq
    lives = {fact["object"]: fact["status"] for fact in emma if fact["predicate"] == "lives_in"}
    assert lives["Lisbon"] == "asserted"
    assert lives["Porto"] == "superseded"


async def test_forgetting_takes_it_out_of_both_graphs(shoal: DaemonProcess) -> None:
    async with shoal.client() as client:
        kept = await say(client, "My brother Tom lives in Graz.", user="forget", session="kept")
        gone = await say(client, "My sister Emma lives in Lisbon.", user="forget", session="gone")
        await stored(client, gone.seq)
        before = await recall(client, "forget")
        reply = await client.exchange(
            Event("forget", {"scope": "session", "name": "gone", "user": "forget", "id": "wish"})
        )
        facts, nodes = await recall(client, "forget"), await recall(client, "forget", graph="agent")
    assert reply.type == "forgotten"
    assert reply.data["id"] == "wish"
    assert reply.data["stored"] == dict.fromkeys(GRAPHS, True)
    assert_just_what_was_announced(before, [kept, gone])
    assert_just_what_was_announced(facts, [kept])
    assert [node["session"] for node in nodes if node["kind"] == "Episode"] == ["kept"]
    assert not any("Emma" in str(node) for node in nodes)


# --- on both databases ------------------------------------------------------------------------------


async def test_the_embedded_and_a_genuine_neo4j_hold_equal_graphs(neo4j_server: GraphServer, folder: Path) -> None:
    """Two settings point the daemon at a Neo4j, and nothing else changes."""
    lines = demo()
    await neo4j_server.wipe()
    target = neo4j_server.locate("user")
    named = {"graph__uri": target.uri, "graph__username": target.username, "graph__password": target.password}
    seen, dumps = [], []
    for name, changes in (("embedded", {}), ("neo4j", named)):
        home = folder / name
        home.mkdir()
        async with daemon(home, runtime="local", **changes) as running:
            async with running.client() as client:
                replies = await talk(client, "me", lines)
                await stored(client, replies[-1].seq)
                seen.append((await recall(client, "me"), await recall(client, "me", graph="agent")))
            assert bool(running.children("java")) == (name == "embedded")
        if name == "embedded":
            async with left_in(home) as server:
                dumps.append([comparable(await server.dump(graph)) for graph in GRAPHS])
        else:
            dumps.append([comparable(await neo4j_server.dump(graph)) for graph in GRAPHS])
    assert dumps[0] == dumps[1]
    utterances = [dict(properties) for labels, properties in dumps[0][0][0] if "Utterance" in labels]
    assert sorted((row["seq"], row["text"]) for row in utterances) == [
        (number, text) for number, (_, text) in enumerate(lines, 1)
    ]
    for facts, nodes in seen:
        assert [(f["subject"], f["predicate"], f["object"], f["status"]) for f in facts] == [
            (f["subject"], f["predicate"], f["object"], f["status"]) for f in seen[0][0]
        ]
        assert len(nodes) == len(seen[0][1])


# --- Wyoming's own client -----------------------------------------------------------------------------


async def exchange(shoal: DaemonProcess, event: Event) -> Event:
    async with AsyncClient.from_uri(shoal.settings.server_uri, connect_timeout=5, read_timeout=30) as client:
        await client.write_event(event)
        reply = await client.read_event()
    assert reply is not None
    return reply


async def test_wyomings_client_is_told_what_is_served(shoal: DaemonProcess) -> None:
    info = Info.from_event(await exchange(shoal, Describe().event()))
    models = {model.name: model for program in (*info.handle, *info.intent) for model in program.models}
    assert set(models) == {"encoder", "extractor", "classifier"}
    assert all(model.installed and model.languages == ["en"] and model.version for model in models.values())


async def test_wyomings_client_gets_its_ping_back(shoal: DaemonProcess) -> None:
    assert Pong.from_event(await exchange(shoal, Ping(text="hello").event())).text == "hello"


async def test_a_client_can_ask_what_a_reply_looks_like(shoal: DaemonProcess) -> None:
    async with shoal.client() as client:
        published = await client.request(ReportSchema(), PublishedSchema)
    assert published.json_schema == ingested_schema(load_schema())


async def test_wyomings_transcript_is_handled_and_remembered(shoal: DaemonProcess) -> None:
    said = Transcript(text="My sister Emma lives in Lisbon.", context={"user": "satellite", "session": "kitchen"})
    handled = Handled.from_event(await exchange(shoal, said.event()))
    assert handled.context is not None
    async with shoal.client() as client:
        await stored(client, handled.context["receipt"])
        facts = await recall(client, "satellite", "Emma")
    assert ("lives_in", "Lisbon") in {(fact["predicate"], fact["object"]) for fact in facts}
    assert facts[0]["sessions"] == ["kitchen"]


async def test_wyomings_recognize_gives_an_intent(shoal: DaemonProcess) -> None:
    asked = Recognize(text="What is the weather in Lisbon this weekend?", context={"user": "satellite"})
    intent = Intent.from_event(await exchange(shoal, asked.event()))
    assert intent.context is not None
    assert intent.name == intent.context["understood"]["classifier"]["category"]
    assert intent.context["understood"]["classifier"]["needs_research"] is True
    assert ("LOCATION", "Lisbon") in {(entity.name, entity.value) for entity in intent.entities}
