"""Words of doubt: which relations they touch, and how much they take off."""

import pytest

from actors.extraction.hedging import Doubt
from actors.messages import Extraction, Mention, PronounLink, Relation
from config.schema import Hedges, load_schema

RULE = Hedges(0.5, ("maybe", "I think", "don't know"), ("but",))


def said(text: str, *relations: tuple[str, str], links: dict[str, str] | None = None) -> Extraction:
    """Every argument mentioned wherever its text stands."""
    names = dict.fromkeys(name for pair in relations for name in pair if name in text)
    mentions = [
        Mention(name, "MISC", at, at + len(name), 1.0)
        for name in names
        for at in range(len(text))
        if text.startswith(name, at)
    ]
    found = [
        PronounLink(word, text.index(word), text.index(word) + len(word), name, 1.0)
        for word, name in (links or {}).items()
    ]
    told = tuple(Relation(subject, "likes", object_, "asserted", 0.8) for subject, object_ in relations)
    return Extraction(tuple(mentions), tuple(found), told)


def lowered(text: str, *relations: tuple[str, str], links: dict[str, str] | None = None) -> list[bool]:
    extraction = Doubt(RULE).lower(said(text, *relations, links=links), text)
    assert {relation.confidence for relation in extraction.relations} <= {0.8, 0.4}
    return [relation.confidence == 0.4 for relation in extraction.relations]


@pytest.mark.parametrize(
    "text",
    [
        "Maybe Emma likes jazz.",
        "Emma likes jazz, I think.",
        "Emma likes jazz, I  think. Tom is here.",
        "I don’t know if Emma likes jazz",
        "maybe MAYBE Emma likes jazz, I think",
    ],
)
def test_a_hedge_lowers_what_its_clause_says_once(text: str) -> None:
    assert lowered(text, ("Emma", "jazz")) == [True]


@pytest.mark.parametrize(
    "text",
    [
        "Emma likes jazz.",
        "Emma likes jazz. Maybe it rains.",
        "Maybe it rains; Emma likes jazz",
        "Emma likes jazz but I don't know about Tom.",
        "Emma likes jazz. Maybe Emma sings.",
        "Emma likes the Maybelline song and jazz",
    ],
)
def test_a_hedge_elsewhere_lowers_nothing(text: str) -> None:
    assert lowered(text, ("Emma", "jazz")) == [False]


def test_each_relation_has_its_own_clause() -> None:
    assert lowered("Emma likes jazz but maybe Tom likes rock.", ("Emma", "jazz"), ("Tom", "rock")) == [False, True]


def test_roles_and_antecedents_stand_where_they_are_said() -> None:
    assert lowered("I like jazz. Maybe rock too.", ("speaker", "jazz"), ("speaker", "rock")) == [False, True]
    assert lowered("Maybe she likes jazz.", ("Emma", "jazz"), links={"she": "Emma"}) == [True]
    assert lowered("Maybe we are.", ("speaker", "listener")) == [False]


def test_no_words_and_no_factor_change_nothing() -> None:
    extraction = said("Maybe Emma likes jazz.", ("Emma", "jazz"))
    assert Doubt(Hedges()).lower(extraction, "Maybe Emma likes jazz.") is extraction
    assert Doubt(Hedges(1.0, ("maybe",))).lower(extraction, "Maybe Emma likes jazz.") is extraction


def test_the_shipped_words_are_those_of_doubt() -> None:
    hedges = load_schema().hedges
    assert {"maybe", "I think", "not sure"} <= set(hedges.words)
    assert 0 < hedges.factor < 1
