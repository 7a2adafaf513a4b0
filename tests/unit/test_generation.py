"""What a language model is asked, and what of its answers is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from actors.errors import GenerationInvalid, ModelLoadError
from actors.generation.answer import MAX_CHARACTERS, AnswerReader
from actors.generation.prompt import Prompt, answer_schema
from actors.generator import GeneratorConfig, Message
from actors.messages import Extraction, KnownEntity, Relation, Turn, Utterance
from actors.runtimes.openai import OpenAIGenerator
from config.schema import load_schema
from config.settings import ModelServerSettings, SettingsError, load_settings
from tests.unit.test_extractor import check

SCHEMA = load_schema()
READER = AnswerReader(SCHEMA, GeneratorConfig(trust=0.5))
TEXT = "She moved to Lisbon in 2019, and Tom plays Zelda."
BEFORE, KNOWN = (Utterance("user", "My sister Emma called."),), (KnownEntity("Biscuit", "ANIMAL"),)
SAID = Turn("t", "me", "s", "user", TEXT, 0.0, BEFORE, KNOWN)


def answer(**parts: Any) -> str:
    return json.dumps({"entities": [], "links": [], "relations": [], "correction": False, **parts})


def entity(text: str, type_: str) -> dict[str, str]:
    return {"text": text, "type": type_}


def relation(subject: str, predicate: str, object_: str, **more: Any) -> dict[str, Any]:
    return {"subject": subject, "predicate": predicate, "object": object_, "status": "asserted", "time": None, **more}


def read(told: str, said: Turn = SAID) -> Extraction:
    extraction = READER.read(told, said)
    check(extraction, said)
    return extraction


def triples(extraction: Extraction) -> list[tuple[str, str, str]]:
    return [(found.subject, found.predicate, found.object) for found in extraction.relations]


LISBON, TOM, ZELDA = entity("Lisbon", "LOCATION"), entity("Tom", "PERSON"), entity("Zelda", "WORK")


def test_a_whole_answer_is_taken_over_with_its_places_in_the_text() -> None:
    extraction = read(
        answer(
            entities=[LISBON, entity("2019", "DATE"), TOM, ZELDA],
            links=[{"text": "She", "antecedent": "Emma"}],
            relations=[
                relation("She", "lives_in", "Lisbon", time="2019", confidence=0.8),
                relation("Tom", "played", "Zelda", status="uncertain"),
            ],
            correction=True,
        )
    )
    assert [(found.text, found.type, found.start) for found in extraction.mentions] == [
        ("Lisbon", "LOCATION", 13), ("2019", "DATE", 23), ("Tom", "PERSON", 33), ("Zelda", "WORK", 43),
    ]  # fmt: skip
    assert [(link.text, link.start, link.antecedent) for link in extraction.links] == [("She", 0, "Emma")]
    assert extraction.relations == (
        Relation("Emma", "lives_in", "Lisbon", "asserted", 0.5 * 0.8, "2019"),
        Relation("Tom", "played", "Zelda", "uncertain", 0.5, None),
    )
    assert extraction.correction == 0.5
    assert extraction.stood_in is None


def test_a_turn_may_state_nothing() -> None:
    assert read(answer()) == Extraction((), (), ())


def test_nobody_gets_a_word_put_in_their_mouth() -> None:
    extraction = read(
        answer(
            entities=[TOM, entity("Porto", "LOCATION"), entity("is", "MISC"), entity("Zel", "WORK")],
            links=[{"text": "He", "antecedent": "Tom"}, {"text": "She", "antecedent": "Berta"}],
            relations=[relation("Tom", "lives_in", "Porto"), relation("Berta", "married_to", "Tom")],
        )
    )
    assert [mention.text for mention in extraction.mentions] == ["Tom"]
    assert (extraction.links, extraction.relations) == ((), ())


@pytest.mark.parametrize(
    "invented",
    [
        answer(entities=[entity("Porto", "LOCATION")]),
        answer(relations=[relation("Berta", "lives_in", "Porto")]),
        answer(links=[{"text": "He", "antecedent": "Berta"}]),
        answer(relations=[{"subject": "Tom"}]),
        answer(entities="Tom"),
    ],
)
def test_an_answer_of_which_nothing_was_said_is_none(invented: str) -> None:
    with pytest.raises(GenerationInvalid) as caught:
        READER.read(invented, SAID)
    assert caught.value.code == "generation_invalid"


def test_what_was_said_before_or_is_known_may_be_an_argument() -> None:
    extraction = read(
        answer(relations=[relation("emma", "has_pet", "biscuit"), relation("speaker", "sibling_of", "Emma")])
    )
    assert triples(extraction) == [("Emma", "has_pet", "Biscuit"), ("speaker", "sibling_of", "Emma")]


@pytest.mark.parametrize(
    ("text", "told", "meant"),
    [
        ("Tom bought a speaker.", [TOM, entity("speaker", "PRODUCT")], "speaker"),
        ("Tom bought a speaker.", [TOM, entity("speaker", "PRODUCT")], "Speaker"),
        ("Tom bought a speaker.", [TOM], "Speaker"),
        ("Tom bought it.", [TOM], "Listener"),
    ],
)
def test_the_word_speaker_is_not_the_one_who_speaks(text: str, told: list[Any], meant: str) -> None:
    before, known = (Utterance("agent", "It has a listener."),), (KnownEntity("speaker", "PRODUCT"),)
    said = replace(SAID, text=text, context=before, known=known)
    assert triples(read(answer(entities=told, relations=[relation("Tom", "owns", meant)]), said)) == []


def test_aliases_and_inverses_become_the_stored_predicate() -> None:
    extraction = read(
        answer(
            entities=[LISBON, TOM],
            relations=[relation("Tom", "resides_in", "Lisbon"), relation("Tom", "child_of", "Emma")],
        )
    )
    assert triples(extraction) == [("Tom", "lives_in", "Lisbon"), ("Emma", "parent_of", "Tom")]


@pytest.mark.parametrize(
    "wrong",
    [
        relation("Tom", "lives_in", "Zelda"),
        relation("Lisbon", "lives_in", "Tom"),
        relation("Tom", "orbits", "Lisbon"),
        relation("Tom", "lives_in", "Lisbon", status="perhaps"),
        relation("Tom", "friends_with", "Tom"),
        relation("Tom", "friends_with", "tom"),
        relation("", "lives_in", "Lisbon"),
        {"subject": "Tom", "object": "Lisbon"},
        "Tom lives in Lisbon",
    ],
)
def test_a_relation_that_the_schema_forbids_is_left_out(wrong: object) -> None:
    extraction = read(answer(entities=[LISBON, TOM, ZELDA], relations=[wrong, relation("Tom", "played", "Zelda")]))
    assert triples(extraction) == [("Tom", "played", "Zelda")]


def test_an_argument_that_was_not_listed_becomes_an_entity_where_its_type_is_certain() -> None:
    extraction = read(answer(entities=[TOM], relations=[relation("Tom", "lives_in", "lisbon", time="2019")]))
    assert {(mention.text, mention.type) for mention in extraction.mentions} >= {
        ("Lisbon", "LOCATION"),
        ("2019", "DATE"),
    }
    assert extraction.relations[0].time == "2019"
    assert triples(read(answer(entities=[TOM], relations=[relation("Tom", "likes", "Zelda")]))) == []


def test_the_same_words_twice_are_two_mentions() -> None:
    said = Turn("t", "me", "s", "user", "Jordan used to live in Jordan.", 0.0)
    extraction = read(answer(entities=[entity("Jordan", "PERSON"), entity("Jordan", "LOCATION")]), said)
    assert [(found.type, found.start) for found in extraction.mentions] == [("PERSON", 0), ("LOCATION", 23)]


def test_case_and_spacing_are_the_turns_own() -> None:
    said = Turn("t", "me", "s", "user", "we saw the dark\n knight", 0.0)
    (mention,) = read(answer(entities=[entity("The Dark Knight", "WORK")]), said).mentions
    assert (mention.text, mention.start) == ("the dark\n knight", 7)


WHOLE = answer(entities=[TOM, ZELDA], relations=[relation("Tom", "played", "Zelda")])


@pytest.mark.parametrize(
    "broken",
    [
        f"Sure! Here it is:\n```json\n{WHOLE}\n```\nAnything else?",
        WHOLE.replace("}]", "},]").replace('"correction": false', '"correction": False,'),
        WHOLE.replace('"', "'"),
        WHOLE[: WHOLE.index('"correction"')],
        WHOLE[: WHOLE.index(', "status"')],
        f'<think>Tom {{"plays": 1}} hmm</think>\n{WHOLE}',
        f'{{"example": 1}}\n{WHOLE}',
    ],
    ids=["fenced", "python", "quotes", "cut", "cut in a relation", "thinking", "two objects"],
)
def test_a_broken_answer_is_mended(broken: str) -> None:
    assert triples(read(broken)) == [("Tom", "played", "Zelda")]


@pytest.mark.parametrize(
    "garbage",
    ["", "   ", "no", "null", "42", "[]", "[[[[", "{}", '{"a": 1}', "[" * 5000, "{" * 5000, "x" * (MAX_CHARACTERS + 1)],
)
def test_garbage_is_told_as_such(garbage: str) -> None:
    with pytest.raises(GenerationInvalid):
        READER.read(garbage, SAID)


words = st.sampled_from(["Tom", "She", "Lisbon", "Emma", "speaker", "", "lives_in", "PERSON"])
keys = st.sampled_from("text type antecedent subject predicate object status time confidence".split())
pieces = st.recursive(
    st.none() | st.booleans() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner),
    max_leaves=12,
)
items = {
    "entities": st.fixed_dictionaries({"text": words, "type": st.sampled_from(list(SCHEMA.entity_types))}),
    "links": st.fixed_dictionaries({"text": words, "antecedent": words}),
    "relations": st.fixed_dictionaries(
        {"subject": words, "object": words, "predicate": st.sampled_from(SCHEMA.predicate_names)},
        optional={"time": words, "confidence": pieces, "status": st.sampled_from(SCHEMA.statuses)},
    ),
}
likely = st.fixed_dictionaries({name: st.lists(item | pieces, max_size=4) for name, item in items.items()})


@settings(max_examples=200, deadline=None)
@given(told=likely | st.dictionaries(st.sampled_from(list(items)), pieces) | pieces)
def test_any_answer_is_a_sound_extraction_or_invalid(told: Any) -> None:
    try:
        read(json.dumps(told))
    except GenerationInvalid:
        return


def test_the_question_holds_schema_context_and_turn() -> None:
    example: Message = {"role": "user", "content": "for example"}
    system, shown, question = Prompt(SCHEMA, (example,)).messages(SAID)
    assert shown == example
    for name in (*SCHEMA.entity_types, *SCHEMA.predicates, *SCHEMA.statuses, "speaker_group"):
        assert name in system["content"]
    for part in (TEXT, "user: My sister Emma called.", "Biscuit (ANIMAL)"):
        assert part in question["content"]
        assert part not in system["content"]


def test_a_question_is_always_utf_8() -> None:
    said = Turn("t", "me", "s", "user", "half \ud83d", 0.0, (Utterance("user", "\udcff"),))
    (_, question) = Prompt(SCHEMA).messages(said)
    assert question["content"].encode().endswith(b"half ?")


def test_a_whole_answer_is_valid_against_the_schema_that_models_are_held_to() -> None:
    schema = answer_schema(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(schema)
    told = json.loads(answer(entities=[TOM, LISBON], relations=[relation("Tom", "lives_in", "Lisbon", confidence=1)]))
    jsonschema.validate(told, schema)
    told["relations"][0]["predicate"] = "resides_in"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, schema)


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/v1", "http://192.168.1.5:8080/v1", "http://127.0.0.1.example.org/v1", "ftp://127.0.0.1/v1",
        "http://example.org@10.0.0.1/v1", "http://127.0.0.1:nonsense/v1", "127.0.0.1:8080", "",
    ],
)  # fmt: skip
def test_what_is_said_goes_to_no_other_machine(address: str) -> None:
    with pytest.raises(ModelLoadError):
        OpenAIGenerator(address, "any", ModelServerSettings())


@pytest.mark.parametrize("key", ["s3cret\nX-Other: 1", "s3\x00cret", "s3cretö"])
def test_a_key_that_no_header_takes_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        OpenAIGenerator("http://127.0.0.1:8080/v1", "any", ModelServerSettings(api_key=SecretStr(key)))
    assert "api_key" in str(caught.value)
    assert "s3" not in str(caught.value)
    assert OpenAIGenerator("http://127.0.0.1:8080/v1", "any", ModelServerSettings(api_key=SecretStr("s3cret\n")))


def test_a_setting_permits_another_machine_and_holds_its_key() -> None:
    server = {"base_url": "https://models.example.org/v1", "allowed_hosts": ["models.example.org"], "api_key": "s3cret"}
    chosen = load_settings(overrides={"slm": {"extractor": {"server": server}}}).settings.slm["extractor"]
    OpenAIGenerator("http://127.0.0.1:8080/v1", "any", chosen.server)
    assert "s3cret" not in repr(chosen)
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides={"slm": {"extractor": {"server": server | {"api_key": ["s3cret"]}}}})
    assert "s3cret" not in str(caught.value)
