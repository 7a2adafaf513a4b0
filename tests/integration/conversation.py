"""Conversations over the socket, and what a graph must hold after them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from config.schema import load_schema
from config.settings import load_settings
from daemon.client import Client
from daemon.memory.embedded import EmbeddedGraph
from daemon.protocol import Ingest, Ingested, Recall, Recalled, ingested_schema
from tests.neo4j.server import Dump, GraphServer

Line = tuple[str, str]
CONTRACT = Draft202012Validator(ingested_schema(load_schema()))


def demo() -> list[Line]:
    """(speaker, text) of the conversation that `shoal demo` plays."""
    lines = files("daemon").joinpath("demo.txt").read_text(encoding="utf-8").splitlines()
    return [(speaker, text) for speaker, _, text in (line.partition(": ") for line in lines if line[0] != "#")]


async def say(client: Client, text: str, **more: Any) -> Ingested:
    """What the daemon replies to a turn; all that it ever replies keeps to the published schema."""
    reply = await client.request(Ingest(text=text, **more), Ingested)
    CONTRACT.validate(reply.event().data)
    return reply


async def recall(client: Client, user: str, name: str = "", **more: Any) -> list[dict[str, Any]]:
    reply = await client.request(Recall(user=user, name=name, limit=10_000, **more), Recalled)
    assert reply.total == len(reply.facts)
    return reply.facts


def announced(replies: Iterable[Ingested]) -> Counter[tuple[int, str]]:
    """How many statements of each (receipt, predicate) were told to the client."""
    return Counter((reply.seq, told["predicate"]) for reply in replies for told in reply.understood["statements"])


def sources(fact: Mapping[str, Any]) -> list[int]:
    """The receipts of the turns that a fact was said in."""
    return [seq_of(utterance) for utterance in fact["utterances"]]


def seq_of(row_id: str) -> int:
    """The receipt of the turn that made a row of a graph."""
    return int(row_id.split("-")[1])


def assert_just_what_was_announced(facts: Sequence[Mapping[str, Any]], replies: Sequence[Ingested]) -> None:
    """Every statement of every reply is in the graph, exactly once, and nothing else is."""
    told = announced(replies)
    held = Counter((seq, fact["predicate"]) for fact in facts for seq in sources(fact))
    assert held <= told, f"never announced: {held - told}"
    # What keeps a statement from making a row of its own: it says the same as another of its turn, it supposes what is
    # asserted already, or both its ends turn out to be one.
    firm = {
        (reply.seq, statement["predicate"])
        for reply in replies
        for statement in reply.understood["statements"]
        if statement["status"] != "uncertain" and statement["subject"]["name"] != statement["object"]["name"]
    }
    assert firm <= held.keys(), f"announced, but not in the graph: {firm - held.keys()}"
    triples = Counter((f["subject_id"], f["predicate"], f["object_id"]) for f in facts if f["status"] == "asserted")
    assert triples == Counter(set(triples)), f"twice in the graph: {triples - Counter(set(triples))}"
    assert len({fact["id"] for fact in facts}) == len(facts)


@asynccontextmanager
async def left_in(folder: Path) -> AsyncIterator[GraphServer]:
    """The embedded graphs that a daemon left in its folder, opened to be looked into."""
    settings = load_settings().settings.graph
    embedded = EmbeddedGraph(folder / "graph", settings)
    await embedded.start()
    server = GraphServer(embedded.locate, settings, {}, embedded)
    try:
        yield server
    finally:
        await server.close()
        await embedded.stop()


def comparable(dump: Dump) -> Dump:
    """A graph without what no two runs share: when it was recorded, and what follows from that in the ids."""
    nodes, edges = dump
    return (
        sorted((labels, _shared(properties)) for labels, properties in nodes),
        sorted((_stem(start), kind, _stem(end), _shared(properties)) for start, kind, end, properties in edges),
    )


def _shared(properties: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(key, _stem(value)) for key, value in properties if key != "recorded_at"]


def _stem(value: Any) -> Any:
    if isinstance(value, list):
        return [_stem(each) for each in value]
    return re.sub(r"\b(\d+)-[0-9a-f]{12}\b", r"\1", value) if isinstance(value, str) else value
