"""Turns in, a user graph out: who is meant, what is known, what is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from daemon.memory.records import Entry, ForgetRecord, Record
from daemon.memory.rows import id_stem
from daemon.memory.user_graph import UserGraphProjection
from tests.unit.listener import DAY_S, MONDAY, SCHEMA, GraphInMemory, Listener, conversation, understood


@pytest.fixture
def me() -> Listener:
    return Listener()


async def test_a_turn_becomes_entities_a_fact_and_an_utterance(me: Listener) -> None:
    await me.hear(
        "My sister [Emma|PERSON] lives in [Oslo|LOCATION].\nR: Emma; sibling_of; speaker\nR: Emma; lives_in; Oslo"
    )
    assert me.facts() == ["Emma lives_in Oslo", "me sibling_of Emma"]
    fact = me.fact("Emma lives_in Oslo").properties
    assert fact["confidence"] == 0.8
    assert fact["sessions"] == ["today"]
    assert fact["models"] == ["extractor@0.1.0"]
    (utterance,) = fact["utterances"]
    assert me.graph.stored_nodes[utterance].properties["text"] == "My sister Emma lives in Oslo."
    mentioned = {me.name(e.end) for e in me.graph.stored_edges.values() if e.type == "MENTIONS"}
    assert mentioned == {"Emma", "Oslo"}


async def test_a_newer_value_closes_the_older_and_keeps_it(me: Listener) -> None:
    await me.hear("[I|speaker] live in [Bergen|LOCATION].\nR: speaker; lives_in; Bergen")
    await me.hear("I moved to [Oslo|LOCATION] [yesterday|DATE].\nR: speaker; lives_in; Oslo; @yesterday")
    assert me.facts() == ["me lives_in Bergen (superseded)", "me lives_in Oslo"]
    assert me.fact("me lives_in Bergen").properties["valid_to"] == "2026-03-01"
    assert me.fact("me lives_in Oslo").properties["valid_from"] == "2026-03-01"


async def test_her_name_and_my_sister_become_one_in_either_order(me: Listener) -> None:
    await me.hear(
        "My [sister|PERSON] works as a [nurse|TITLE].\nR: sister; works_as; nurse\nR: sister; sibling_of; speaker"
    )
    first = me.entity("sister").id
    await me.hear("My sister [Emma|PERSON] has a [cat|ANIMAL].\nR: Emma; has_pet; cat\nR: Emma; sibling_of; speaker")
    assert me.entity("Emma").id == first
    await me.hear("My [sister|PERSON] loves [opera|MISC].\nR: sister; likes; opera")
    assert me.facts() == ["Emma has_pet cat", "Emma likes opera", "Emma works_as nurse", "me sibling_of Emma"]


async def test_two_entities_that_turn_out_to_be_one_are_merged_with_their_facts(me: Listener) -> None:
    await me.hear("[Emma|PERSON] likes [opera|MISC].\nR: Emma; likes; opera")
    await me.hear("My [sister|PERSON] lives in [Oslo|LOCATION].\nR: sister; lives_in; Oslo")
    await me.hear("My [sister|PERSON] likes [opera|MISC].\nR: sister; likes; opera")
    await me.hear("[Emma|PERSON] is my sister.\nR: Emma; sibling_of; speaker")
    assert me.facts() == ["Emma likes opera", "Emma lives_in Oslo", "me sibling_of Emma"]
    assert me.fact("Emma likes opera").properties["times_said"] == 2
    assert me.entities("PERSON") == ["Emma"]


async def test_a_correction_takes_back_what_was_wrong(me: Listener) -> None:
    await me.hear("My daughter [Ana|PERSON] is [four|NUMBER].\nR: Ana; has_age; four\nR: speaker; parent_of; Ana")
    await me.hear("No, [she=Ana]'s [five|NUMBER].\nR: Ana; has_age; five", correction=0.9)
    assert me.facts() == ["Ana has_age five", "Ana has_age four (corrected)", "me parent_of Ana"]
    wrong = me.fact("Ana has_age four").properties
    assert wrong["valid_from"] == wrong["valid_to"]


async def test_a_year_later_five_is_no_correction_of_four(me: Listener) -> None:
    await me.hear("[Ana|PERSON] is [four|NUMBER].\nR: Ana; has_age; four")
    await me.hear("[Ana|PERSON] is [five|NUMBER] now.\nR: Ana; has_age; five", at=MONDAY + 365 * DAY_S, session="later")
    assert me.facts() == ["Ana has_age five", "Ana has_age four (superseded)"]


async def test_her_name_told_after_the_fact_renames_her(me: Listener) -> None:
    await me.hear("We got a [puppy|ANIMAL].\nR: speaker_group; has_pet; puppy")
    puppy = me.entity("puppy").id
    text = "[her=puppy] name is [Pickle|ANIMAL], [she=puppy] loves [cheese|MISC]."
    await me.hear(f"{text}\nR: puppy; has_name; Pickle\nR: puppy; likes; cheese")
    named = [n for n in me.graph.stored_nodes.values() if n.properties.get("name") == "Pickle"]
    assert {n.properties["role"] for n in named} == {"", "name"}
    assert puppy in {n.id for n in named}
    assert me.facts() == ["Pickle has_name Pickle", "Pickle likes cheese", "we has_pet Pickle"]


async def test_my_name_is_mine_and_history_is_kept(me: Listener) -> None:
    await me.hear("My name is [Alexander|PERSON].\nR: speaker; has_name; Alexander")
    await me.hear("Just call me [Lex|PERSON].\nR: speaker; has_name; Lex")
    assert me.facts() == ["Lex has_name Alexander (superseded)", "Lex has_name Lex"]
    (user,) = [n for n in me.graph.stored_nodes.values() if n.properties.get("role") == "user"]
    assert user.properties["aliases"] == ["Alexander"]


async def hear_name(me: Listener, name: str, confidence: float, *, at: float, correction: float = 0.0) -> None:
    block = f"[Emma|PERSON]'s name is [{name}|PERSON].\nR: Emma; has_name; {name}"
    record = understood(block, turn_id=name, at=at, correction=correction)
    told = tuple(replace(statement, confidence=confidence) for statement in record.statements)
    await me.take([replace(record, statements=told)])


def called(me: Listener) -> tuple[object, object]:
    (emma,) = [n for n in me.graph.stored_nodes.values() if n.properties.get("type") == "PERSON"
               and not n.properties["role"]]  # fmt: skip
    return emma.properties["name"], emma.properties["aliases"]


async def test_a_misheard_name_renames_nobody_who_is_known_well(me: Listener) -> None:
    for _ in range(4):
        await me.hear("[Emma|PERSON] likes [tea|MISC].\nR: Emma; likes; tea")
    await hear_name(me, "Hammer", 0.4, at=MONDAY + DAY_S)
    assert called(me) == ("Emma", [])
    await hear_name(me, "Emilia", 0.9, at=MONDAY + DAY_S)
    assert called(me) == ("Emilia", ["Emma"])
    await hear_name(me, "Amelia", 0.5, at=MONDAY + 2 * DAY_S)
    assert called(me) == ("Emilia", ["Emma"])


async def test_a_name_that_was_told_before_the_one_known_is_an_older_name(me: Listener) -> None:
    await hear_name(me, "Emilia", 0.9, at=MONDAY + DAY_S)
    await hear_name(me, "Mia", 0.9, at=MONDAY)
    assert called(me) == ("Emilia", ["Emma", "Mia"])


async def test_a_correction_renames_and_drops_only_what_was_said_just_before(me: Listener) -> None:
    await me.hear("[Emma|PERSON] likes [tea|MISC].\nR: Emma; likes; tea")
    await hear_name(me, "Emilia", 0.4, at=MONDAY + DAY_S, correction=0.9)
    assert called(me) == ("Emilia", ["Emma"])
    await hear_name(me, "Amelia", 0.4, at=MONDAY + DAY_S + 60, correction=0.9)
    assert called(me) == ("Amelia", ["Emma"])


async def test_a_pronoun_is_the_one_it_stands_for(me: Listener) -> None:
    await me.hear("My [mom|PERSON] is in [Porto|LOCATION].\nR: mom; parent_of; speaker")
    await me.hear("[She=mom] works as a [baker|TITLE].\nR: mom; works_as; baker")
    assert me.entities("PERSON") == ["mom"]
    assert me.facts() == ["mom parent_of me", "mom works_as baker"]


async def test_toms_wife_and_mine(me: Listener) -> None:
    await me.hear("My [wife|PERSON] likes [jazz|MISC].\nR: wife; likes; jazz\nR: wife; married_to; speaker")
    await me.hear(
        "[Tom|PERSON]'s [wife|PERSON] dislikes [jazz|MISC].\nR: wife; dislikes; jazz\nR: wife; married_to; Tom"
    )
    wives = [n for n in me.graph.stored_nodes.values() if n.properties.get("name") == "wife"]
    assert len(wives) == 2
    assert len(me.edges("married_to")) == 2
    assert me.facts("superseded") == []


async def test_what_the_agent_says_is_kept_and_not_believed(me: Listener) -> None:
    await me.hear("You live in [Oslo|LOCATION].\nR: listener; lives_in; Oslo", speaker="agent")
    assert me.facts() == []
    (utterance,) = [n for n in me.graph.stored_nodes.values() if n.kind == "Utterance"]
    assert utterance.properties["speaker"] == "agent"
    assert utterance.properties["seq"] == 1


async def test_a_turn_without_extraction_is_an_utterance_alone(me: Listener) -> None:
    record = await me.hear("Hello there!")
    await me.take([replace(record, turn=replace(record.turn, id="again"), extraction=None, missing=("extractor",))])
    assert {n.kind for n in me.graph.stored_nodes.values()} == {"Utterance"}
    assert len(me.graph.stored_nodes) == 2


async def test_users_do_not_share_a_world() -> None:
    projection = UserGraphProjection(SCHEMA)
    ann, bob = Listener(projection, "ann"), Listener(projection, "bob")
    bob.graph = ann.graph
    block = "My sister [Emma|PERSON] lives in [Oslo|LOCATION].\nR: Emma; sibling_of; speaker\nR: Emma; lives_in; Oslo"
    await ann.hear(block)
    bob.seq = ann.seq
    await bob.hear(block)
    await bob.hear("[Emma|PERSON] moved to [Rome|LOCATION].\nR: Emma; lives_in; Rome")
    emmas = [n for n in ann.graph.stored_nodes.values() if n.properties.get("name") == "Emma"]
    assert {n.properties["user"] for n in emmas} == {"ann", "bob"}
    oslo = [e for e in ann.edges("lives_in") if ann.name(e.end) == "Oslo"]
    assert sorted((str(e.properties["user"]), str(e.properties["status"])) for e in oslo) == [
        ("ann", "asserted"),
        ("bob", "superseded"),
    ]
    await bob.forget("everything")
    assert {n.properties["user"] for n in ann.graph.stored_nodes.values()} == {"ann"}


async def test_one_who_likes_much_is_not_read_whole(me: Listener) -> None:
    await me.hear("I like [tea|MISC].\nR: speaker; likes; tea")
    me.graph.asked.clear()
    await me.hear("I like [tea|MISC] and [jazz|MISC].\nR: speaker; likes; tea\nR: speaker; likes; jazz")
    tea = me.entity("tea").id
    assert set(me.graph.asked) == {(tea, "likes"), (tea, "dislikes")}


# --- the same entries give the same graph -------------------------------------------------------------


async def _graph_of(records: Sequence[Record], batch: int, *, cold: bool = False) -> GraphInMemory:
    listener = Listener()
    for start in range(0, len(records), batch):
        if cold:
            listener.projection.reset()
        await listener.take(records[start : start + batch])
    return listener.graph


async def test_batches_caches_and_replays_make_no_difference() -> None:
    records = conversation()
    one_by_one = await _graph_of(records, 1)
    assert len(one_by_one.stored_edges) > 150
    for graph in (await _graph_of(records, 64), await _graph_of(records, 7, cold=True)):
        assert graph.stored_nodes == one_by_one.stored_nodes
        assert graph.stored_edges == one_by_one.stored_edges


async def test_another_journal_gives_other_ids(me: Listener) -> None:
    record = await me.hear("[Emma|PERSON] likes [tea|MISC].\nR: Emma; likes; tea")
    first = id_stem(Entry(1, MONDAY + 1, record), record)
    assert id_stem(Entry(1, MONDAY + 2, record), record) != first
    assert id_stem(Entry(1, MONDAY + 1, record), record) == first


# --- forgetting ---------------------------------------------------------------------------------------


async def test_an_entity_is_forgotten_with_all_that_speaks_of_it(me: Listener) -> None:
    await me.hear("[Tom|PERSON]'s [wife|PERSON] likes [tea|MISC].\nR: wife; likes; tea\nR: wife; married_to; Tom")
    await me.hear(
        "[Tom|PERSON] and I went to [Rome|LOCATION].\nR: Tom; traveled_to; Rome\nR: speaker; traveled_to; Rome"
    )
    await me.hear("Nothing about tom here, says the extractor.")
    await me.hear("Tomorrow I drink [tea|MISC].\nR: speaker; drinks; tea")
    await me.forget("entity", "tom")
    assert me.facts() == ["me drinks tea"]
    assert me.entities("PERSON", "LOCATION") == []
    texts = [n.properties["text"] for n in me.graph.stored_nodes.values() if n.kind == "Utterance"]
    assert texts == ["Tomorrow I drink tea."]
    await me.hear("[Tom|PERSON] called.")
    assert me.entities("PERSON") == ["Tom"]


async def test_forgetting_what_is_not_known_changes_nothing(me: Listener) -> None:
    await me.hear("I drink [tea|MISC].\nR: speaker; drinks; tea")
    before = dict(me.graph.stored_nodes)
    await me.forget("entity", "Nobody")
    await me.forget("session", "never")
    assert me.graph.stored_nodes == before


async def test_a_session_is_forgotten_and_what_it_changed_is_as_before(me: Listener) -> None:
    await me.hear("I live in [Bergen|LOCATION].\nR: speaker; lives_in; Bergen", session="a")
    await me.hear("I like [tea|MISC].\nR: speaker; likes; tea", session="a")
    await me.hear("I moved to [Oslo|LOCATION].\nR: speaker; lives_in; Oslo", session="b")
    await me.hear("I like [tea|MISC].\nR: speaker; likes; tea", session="b")
    await me.hear("My name is [Alex|PERSON].\nR: speaker; has_name; Alex", session="b")
    await me.forget("session", "b")
    assert me.facts() == ["me likes tea", "me lives_in Bergen"]
    tea = me.fact("me likes tea").properties
    assert (tea["sessions"], tea["times_said"], len(tea["utterances"])) == (["a"], 1, 1)
    assert "valid_to" not in me.fact("me lives_in Bergen").properties
    assert me.entities("LOCATION") == ["Bergen"]


async def test_a_name_that_only_a_forgotten_session_said_is_gone(me: Listener) -> None:
    await me.hear("My [sister|PERSON] likes [tea|MISC].\nR: sister; likes; tea", session="a")
    await me.hear("My sister [Emma|PERSON] called.\nR: Emma; sibling_of; speaker", session="b")
    await me.hear("My [boss|PERSON] likes [tea|MISC].\nR: boss; likes; tea", session="a")
    await me.hear("My [boss|PERSON]'s name is [Ann|PERSON].\nR: boss; has_name; Ann", session="b")
    await me.forget("session", "b")
    assert not [n for n in me.graph.stored_nodes.values() if {"Emma", "Ann"} & set(map(str, n.properties.values()))]
    assert me.entities("PERSON") == ["boss", "sister"]


async def test_a_name_is_forgotten_with_its_bearer(me: Listener) -> None:
    await me.hear("[Emma|PERSON] likes [tea|MISC].\nR: Emma; likes; tea")
    await me.hear("[Emma|PERSON]'s name is [Emilia|PERSON].\nR: Emma; has_name; Emilia")
    await me.forget("entity", "Emma")
    assert not [n for n in me.graph.stored_nodes.values() if n.properties.get("name") == "Emilia"]


async def test_forgetting_the_middle_does_not_reopen_the_first(me: Listener) -> None:
    for session, place in (("a", "Bergen"), ("b", "Oslo"), ("c", "Rome")):
        await me.hear(f"I live in [{place}|LOCATION].\nR: speaker; lives_in; {place}", session=session)
    await me.forget("session", "b")
    assert me.facts() == ["me lives_in Bergen (superseded)", "me lives_in Rome"]


async def test_everything_is_forgotten_even_within_a_batch(me: Listener) -> None:
    record = await me.hear("My sister [Emma|PERSON] likes [tea|MISC].\nR: Emma; likes; tea")
    later = understood("I drink [tea|MISC].\nR: speaker; drinks; tea", turn_id="later", at=MONDAY + 900)
    again = replace(record, turn=replace(record.turn, id="again"))
    await me.take([again, ForgetRecord("me", "everything"), later])
    assert me.facts() == ["me drinks tea"]
    assert me.entities("PERSON") == []
    assert len([n for n in me.graph.stored_nodes.values() if n.kind == "Utterance"]) == 1
