"""A wish to forget: whom a name means, and what is gone of them from both graphs and the talk under way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.local_runtime import LocalRuntime
from config.settings import load_settings
from daemon import handlers
from daemon.errors import GraphUnavailable
from daemon.memory.agent_graph import AgentGraphProjection
from daemon.memory.directory import Directory
from daemon.memory.journal import Journal
from daemon.memory.journal_file import decode
from daemon.memory.recall import Memory
from daemon.memory.records import ForgetRecord
from daemon.metrics import Metrics
from daemon.orchestrator import Orchestrator
from daemon.protocol import Forget, Ingest
from daemon.turns import Turns
from tests.unit.listener import GraphInMemory, Listener
from tests.unit.spoken import ROOMY

TURNS = (
    "My [sister|PERSON] likes [tea|MISC].\nR: sister; likes; tea",
    "I like my [sister|PERSON].\nR: speaker; likes; sister",
    "[Tom|PERSON]'s [wife|PERSON] drinks [milk|MISC].\nR: wife; drinks; milk",
    "My [wife|PERSON] drinks [wine|MISC].\nR: wife; drinks; wine",
    "[Alexandra|PERSON] eats [rice|MISC].\nR: Alexandra; eats; rice",
)


class Store:
    """A graph that answers reads, or does not."""

    def __init__(self, graph: GraphInMemory, *, down: bool = False) -> None:
        self.graph, self.down = graph, down

    async def read(self, work: Callable[[GraphInMemory], Awaitable[Any]]) -> Any:
        if self.down:
            raise GraphUnavailable("down")
        return await work(self.graph)


def memory(graph: GraphInMemory, *, down: bool = False) -> Memory:
    stores: Any = {"user": Store(graph, down=down)}
    return Memory(stores, lambda _graph: pytest.fail("nobody asks where"), Directory())


@pytest.fixture
async def me() -> Listener:
    listener = Listener()
    for turn in TURNS:
        await listener.hear(turn)
    return listener


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("your sister", {"your sister", "my sister", "the user's sister"}),
        ("sister", {"your sister", "my sister", "the user's sister"}),
        ("Tom's wife", {"Tom’s wife", "Tom's wife"}),
        ("tom’s wife", {"Tom’s wife", "Tom's wife"}),
        ("Alexanda", {"Alexandra"}),
        ("Nobody", set()),
        ("me", set()),
    ],
)
async def test_every_name_of_whom_a_name_means(me: Listener, name: str, names: set[str]) -> None:
    assert set(await memory(me.graph).names_of("me", name) or ()) == names


async def test_names_are_not_told_while_the_graph_is_down(me: Listener) -> None:
    assert await memory(me.graph, down=True).names_of("me", "Alexandra") is None


@pytest.mark.parametrize(
    ("name", "gone", "fact"),
    [
        ("your sister", "the user's sister", "sister likes tea"),
        ("Tom's wife", "Tom's wife", "wife drinks milk"),
        ("Alexanda", "Alexandra", "Alexandra eats rice"),
    ],
)
async def test_what_is_shown_can_be_forgotten_in_both_graphs(me: Listener, name: str, gone: str, fact: str) -> None:
    agent = Listener(AgentGraphProjection(600.0))
    for turn in TURNS:
        await agent.hear(turn)
    facts = me.facts()
    assert fact in facts
    wish = ForgetRecord("me", "entity", name, await memory(me.graph).names_of("me", name) or ())

    def told(kind: str, by: str) -> set[str]:
        return {str(n.properties[by]) for n in agent.graph.stored_nodes.values() if n.kind == kind}

    topics = told("Topic", "name")
    assert gone in topics
    await me.take([wish])
    await agent.take([wish])
    assert me.facts() == [told for told in facts if told not in (fact, "me likes sister" if "sister" in name else "")]
    assert told("Topic", "name") == topics - {gone}
    assert gone not in told("Preference", "about")


def test_a_wish_that_was_journaled_before_names_were_is_read() -> None:
    record = decode("forget", b'{"user": "me", "scope": "entity", "name": "Emma"}')
    assert record == ForgetRecord("me", "entity", "Emma")


@pytest.mark.parametrize(("scope", "name"), [("entity", "Emma"), ("session", "s"), ("everything", "")])
async def test_talk_under_way_forgets_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: Any, name: str
) -> None:
    monkeypatch.setattr(handlers, "FORGET_TIMEOUT_S", 0.0)
    off = {slm: {"enabled": False} for slm in ("encoder", "extractor", "classifier")}
    settings = load_settings(overrides={"home": str(tmp_path), "slm": off}).settings
    journal = Journal(tmp_path / "journal.sqlite", ROOMY)
    await journal.open()
    runtime = LocalRuntime(settings, settings.registry_root)
    turns = Turns(settings, Orchestrator(runtime, settings.turn.deadline_s), journal, Metrics())
    unused: Any = SimpleNamespace(preview=None)
    known: Any = memory(GraphInMemory())
    served = handlers.Handlers(settings, turns, unused, journal, unused, known, unused, unused, unused)
    await turns.ingest(Ingest(text="Emma has a dog.", turn_id="a", session="s", user="me"))

    reply = await served.handle(Forget(scope=scope, name=name, user="me").event(), unused)

    assert reply.data.get("names") == ([] if scope == "entity" else None)
    assert turns.conversations.peek("me", "s", 0.0) is None
    await journal.close()
