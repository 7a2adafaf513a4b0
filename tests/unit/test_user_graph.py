"""Turns in, a user graph out: who is meant, what is known, what is gone."""

from __future__ import annotations

import pytest

from tests.unit.listener import DAY_S, MONDAY, Listener


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
