"""The agent graph: episodes, topics, preferences and corrections, and how they are forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.memory.agent_graph import AgentGraphProjection, label
from daemon.memory.records import Argument, ForgetRecord
from tests.unit.listener import HOUR_S, MONDAY, Listener, understood

IDLE_S = 1800.0
TEA = "I like [tea|MISC].\nR: speaker; likes; tea"


@pytest.fixture
def agent() -> Listener:
    return Listener(AgentGraphProjection(IDLE_S))


def rows(agent: Listener, kind: str) -> list[dict[str, Any]]:
    found = [dict(node.properties) for node in agent.graph.stored_nodes.values() if node.kind == kind]
    return sorted(found, key=lambda row: row["id"])


def linked(agent: Listener, type_: str) -> int:
    return sum(edge.type == type_ for edge in agent.graph.stored_edges.values())


async def test_a_session_has_an_episode_until_a_long_silence(agent: Listener) -> None:
    await agent.hear("Hello!", category="chat")
    await agent.hear("Hi.", speaker="agent")
    await agent.hear("Back again.", at=MONDAY + 2 * HOUR_S, category="chat")
    (session,) = rows(agent, "Session")
    assert (session["turns"], session["last_at"] - session["started_at"]) == (3, 2 * HOUR_S)
    first, second = sorted(rows(agent, "Episode"), key=lambda row: row["started_at"])
    assert (first["turns"], first["ended_at"] - first["started_at"], first["categories"]) == (2, 60.0, ["chat=1"])
    assert (second["turns"], second["categories"]) == (1, ["chat=1"])
    assert session["episode"] == second["id"]
    assert linked(agent, "HAS_EPISODE") == 2


async def test_topics_are_categories_and_what_was_named(agent: Listener) -> None:
    await agent.hear("My [sister|PERSON] is in [Oslo|LOCATION].\nR: sister; lives_in; Oslo", category="family")
    await agent.hear("[Oslo|LOCATION] is cold.", category="family")
    topics = {row["name"]: (row["sort"], row["turns"]) for row in rows(agent, "Topic")}
    assert topics == {"family": ("category", 2), "Oslo": ("entity", 2), "the user's sister": ("entity", 1)}
    assert linked(agent, "ABOUT") == 3
    turns = {e.end: e.properties["turns"] for e in agent.graph.stored_edges.values() if e.type == "ABOUT"}
    assert sorted(turns.values()) == [1, 2, 2]  # type: ignore[type-var]


async def test_a_preference_grows_with_every_saying_and_turns(agent: Listener) -> None:
    await agent.hear(TEA)
    await agent.hear("We love [Tea|MISC].\nR: speaker_group; likes; Tea", session="b")
    (tea,) = rows(agent, "Preference")
    assert (tea["about"], tea["stance"], tea["held"], tea["times_said"]) == ("tea", "likes", True, 2)
    assert tea["strength"] == pytest.approx(0.96)
    assert tea["sessions"] == ["today", "b"]
    await agent.hear("I hate [tea|MISC] now.\nR: speaker; dislikes; tea")
    (tea,) = rows(agent, "Preference")
    assert (tea["stance"], tea["times_said"], tea["strength"]) == ("dislikes", 1, pytest.approx(0.8))
    await agent.hear(TEA, at=MONDAY - HOUR_S)  # a late arrival turns nothing
    assert rows(agent, "Preference") == [tea]
    assert linked(agent, "LEARNED") >= 2


async def test_a_preference_may_end_and_come_back(agent: Listener) -> None:
    await agent.hear("I used to like [tea|MISC].\nR: speaker; likes; tea; ended")
    assert rows(agent, "Preference") == []
    await agent.hear(TEA)
    await agent.hear("I don't like [tea|MISC] any more.\nR: speaker; likes; tea; ended")
    assert [row["held"] for row in rows(agent, "Preference")] == [False]
    await agent.hear(TEA)
    assert [(row["held"], row["times_said"]) for row in rows(agent, "Preference")] == [(True, 1)]


async def test_what_others_like_or_may_be_is_no_preference(agent: Listener) -> None:
    await agent.hear("[Emma|PERSON] likes [tea|MISC].\nR: Emma; likes; tea")
    await agent.hear("I might want a [boat|PRODUCT].\nR: speaker; wants; boat; uncertain")
    assert rows(agent, "Preference") == []


async def test_a_wish_and_a_taste_are_two(agent: Listener) -> None:
    await agent.hear("I want a [boat|MISC], I like a [boat|MISC].\nR: speaker; wants; boat\nR: speaker; likes; boat")
    assert {row["stance"] for row in rows(agent, "Preference")} == {"wants", "likes"}


async def test_a_correction_is_kept_with_what_was_wrong(agent: Listener) -> None:
    await agent.hear("[Ana|PERSON] is [four|NUMBER].\nR: Ana; has_age; four")
    await agent.hear("So Ana is four.", speaker="agent")
    await agent.hear("No, [Ana|PERSON] is [five|NUMBER].\nR: Ana; has_age; five", correction=0.9)
    (correction,) = rows(agent, "Correction")
    assert (correction["wrong"], correction["right"]) == ("So Ana is four.", "Ana has_age five")
    assert correction["utterance"].startswith("u-3-")
    assert linked(agent, "CORRECTED_BY") == 1


async def test_a_late_turn_moves_no_end_back(agent: Listener) -> None:
    await agent.hear("Hello!")
    await agent.hear("Earlier.", at=MONDAY - 60)
    (episode,) = rows(agent, "Episode")
    assert (episode["started_at"], episode["ended_at"], episode["turns"]) == (MONDAY - 60, MONDAY, 2)


async def test_batches_make_no_difference() -> None:
    blocks = [TEA, "[Emma|PERSON] called.", "I hate [tea|MISC].\nR: speaker; dislikes; tea", TEA] * 3
    records = [
        understood(
            block, turn_id=f"t{n}", session=f"s{n % 2}", at=MONDAY + 700 * n, category="chat", correction=n % 3 / 2
        )
        for n, block in enumerate(blocks)
    ]
    forgetting = [*records[:8], ForgetRecord("me", "session", "s1"), *records[8:]]
    graphs = []
    for size in (1, 5, 20):
        agent = Listener(AgentGraphProjection(IDLE_S))
        for start in range(0, len(forgetting), size):
            await agent.take(forgetting[start : start + size])
        graphs.append((agent.graph.stored_nodes, agent.graph.stored_edges))
    assert graphs[0] == graphs[1] == graphs[2]
    assert len(graphs[0][0]) > 5


async def test_a_session_is_forgotten_with_what_only_it_brought(agent: Listener) -> None:
    await agent.hear(TEA, session="a", category="food")
    await agent.hear("[Emma|PERSON] likes [tea|MISC].\nR: Emma; likes; tea", session="b", category="people")
    await agent.hear("I want a [boat|MISC].\nR: speaker; wants; boat", session="b", correction=0.9)
    await agent.hear(TEA, session="b")
    await agent.forget("session", "b")
    assert [row["session"] for row in rows(agent, "Session")] == ["a"]
    assert {row["name"]: row["turns"] for row in rows(agent, "Topic")} == {"tea": 1, "food": 1}
    assert [(row["about"], row["sessions"]) for row in rows(agent, "Preference")] == [("tea", ["a"])]
    assert rows(agent, "Correction") == []
    assert len(rows(agent, "Episode")) == 1


async def test_an_entity_is_forgotten_by_name(agent: Listener) -> None:
    await agent.hear("My sister [Emma|PERSON] likes [tea|MISC].\nR: Emma; likes; tea")
    await agent.hear("I like [Emma|PERSON].\nR: speaker; likes; Emma")
    await agent.hear("[Emma|PERSON]'s [dog|ANIMAL] barks.")
    await agent.hear("No, [Emma|PERSON] is [five|NUMBER].\nR: Emma; has_age; five", correction=0.9)
    await agent.hear("My [brother|PERSON] called.")
    await agent.forget("entity", "emma")
    await agent.forget("entity", "my brother")
    assert [row["name"] for row in rows(agent, "Topic")] == ["tea"]
    assert rows(agent, "Preference") == rows(agent, "Correction") == []


async def test_everything_is_forgotten_and_life_goes_on(agent: Listener) -> None:
    await agent.hear(TEA, category="food")
    record = understood("Hello again!", turn_id="later", at=MONDAY + 60)
    await agent.take([ForgetRecord("me", "everything"), record])
    assert {node.kind for node in agent.graph.stored_nodes.values()} == {"Session", "Episode"}
    assert rows(agent, "Session")[0]["turns"] == 1


def test_labels_say_whose_somebody_is() -> None:
    assert label(Argument("Emma", "PERSON", owner="user", nominal="sister")) == "Emma"
    assert label(Argument("sister", "PERSON", owner="user", nominal="other sister")) == "the user's other sister"
    assert label(Argument("wife", "PERSON", owner="Tom", nominal="wife")) == "Tom's wife"
    assert label(Argument("sister", "PERSON", owner="user>mom", nominal="sister")) == "the user's mom's sister"
    assert label(Argument("", "PERSON", role="user")) == "the user"
