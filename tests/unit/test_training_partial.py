"""Cut utterances: where they are cut, what has been stated by then, and both shares."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.messages import Extraction, Mention, PronounLink, Relation, Turn
from config.schema import load_schema
from training.annotation import Example
from training.extractor.partial import cuts, score_partial, stated_at

SCHEMA = load_schema()
NOTHING = Extraction((), (), ())


def example(text: str, *relations: Relation, style: str = "simple", she: str | None = None) -> Example:
    """Every capitalised argument is mentioned wherever its text stands; `she` is whom "she" and "her" mean."""
    names = {end for r in relations for end in (r.subject, r.object) if end in text}
    mentions = tuple(
        Mention(name, "PERSON", at, at + len(name), 1.0)
        for name in sorted(names)
        for at in range(len(text))
        if text.startswith(name, at)
    )
    links = tuple(
        PronounLink(word, text.index(word), text.index(word) + 3, she, 1.0) for word in ("she", "her") if word in text
    ) if she else ()  # fmt: skip
    return Example("a:1", "daily_life", style, (), text, Extraction(mentions, links, relations))


def relation(subject: str, predicate: str, object_: str) -> Relation:
    return Relation(subject, predicate, object_, "asserted", 1.0)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("one two three four", [(25, 3), (50, 7), (75, 13), (100, 18)]),
        ("one, two.", [(50, 4), (100, 9)]),
        ("one", [(100, 3)]),
    ],
)
def test_a_turn_is_cut_after_whole_words(text: str, ends: list[tuple[int, int]]) -> None:
    assert list(cuts(example(text))) == ends


def test_a_broken_off_turn_is_read_as_it_is() -> None:
    assert list(cuts(example("so my sister she lives in", style="partial"))) == [(100, 25)]


@pytest.mark.parametrize(
    ("text", "stated", "by"),
    [
        # two words after the later argument …
        ("Ann and Ben are married since May", relation("Ann", "married_to", "Ben"), "Ann and Ben are married"),
        # … or the clause's end
        ("Ann lives in Oslo, and she likes it", relation("Ann", "lives_in", "Oslo"), "Ann lives in Oslo"),
        ("Ann lives in Oslo", relation("Ann", "lives_in", "Oslo"), "Ann lives in Oslo"),
        # a role stands at its pronouns, nearest first
        ("My sister Ann called, I told you", relation("Ann", "sibling_of", "speaker"), "My sister Ann called"),
        ("Got a dog now finally, Rex", relation("speaker", "has_pet", "dog"), "Got a dog now finally"),
        ("Nobody knows.", relation("speaker", "friends_with", "listener"), "Nobody knows."),
    ],
)
def test_a_relation_is_stated_shortly_after_its_later_argument(text: str, stated: Relation, by: str) -> None:
    assert text[: stated_at(example(text, stated), stated)] == by


def test_a_pronoun_stands_where_its_antecedent_is_meant() -> None:
    stated = relation("Ann", "lives_in", "Oslo")
    elsewhere = example("Ann rang, she lives in Oslo now, really", stated, she="Ann")
    assert elsewhere.text[: stated_at(elsewhere, stated)] == "Ann rang, she lives in Oslo now"
    # Ann and Oslo stand together before that is stated; "her" and Oslo do not, so they do not postpone it.
    before = example("Ann left Oslo. Nobody there would ever have let her", stated, she="Ann")
    assert before.text[: stated_at(before, stated)] == "Ann left Oslo"


def test_of_pairs_as_close_the_last_counts() -> None:
    stated = relation("speaker", "likes", "Ann")
    liked = example("I met Ann. I like her a lot", stated, she="Ann")
    assert liked.text[: stated_at(liked, stated)] == "I met Ann. I like her a lot"


LIVES, LIKES = relation("Ann", "lives_in", "Oslo"), relation("Ann", "likes", "Rex")
TURN = example("Ann lives in Oslo now and there Ann likes Rex", LIVES, LIKES)  # ten words
OTHER = relation("Ann", "lives_in", "Rex")


def reads(**told: Extraction):
    return lambda turn: told.get(turn.text.split()[-1], NOTHING)


def said(*relations: Relation) -> Extraction:
    return replace(NOTHING, relations=relations)


def test_what_is_found_and_what_stays_are_shares_of_what_is_stated_and_told() -> None:
    read = reads(lives=said(OTHER), now=said(LIVES), Ann=said(LIVES, OTHER), Rex=said(LIVES))
    report = score_partial([TURN], [said(LIVES)], read, SCHEMA)
    assert [TURN.text[:end].split()[-1] for _, end in cuts(TURN)] == ["lives", "now", "Ann", "Rex"]
    by_cut = report["by_cut"]
    assert isinstance(by_cut, dict)
    assert by_cut["25 %"] == {"found": None, "stated": 0, "stable": 0.0, "told": 1}
    assert by_cut["50 %"] == {"found": None, "stated": 0, "stable": 1.0, "told": 1}
    assert by_cut["75 %"] == {"found": 1.0, "stated": 1, "stable": 0.5, "told": 2}
    assert by_cut["100 %"] == {"found": 0.5, "stated": 2, "stable": None, "told": 0}
    assert report["partial"] == {"found": 0.6667, "stated": 3, "stable": 0.5, "told": 4}


def test_turns_that_state_nothing_are_not_asked_about() -> None:
    def never(turn: Turn) -> Extraction:
        raise AssertionError(turn.text)

    report = score_partial([example("Ha!")], [NOTHING], never, SCHEMA)
    assert report == {"partial": {"found": None, "stated": 0, "stable": None, "told": 0}, "by_cut": {}}


def test_cuts_are_read_in_order_under_one_turn_id() -> None:
    asked: list[tuple[str, int]] = []

    def read(turn: Turn) -> Extraction:
        asked.append((turn.id, len(turn.text)))
        return NOTHING

    score_partial([TURN], [NOTHING], read, SCHEMA)
    assert len({id_ for id_, _ in asked}) == 1
    assert asked == sorted(asked)
    assert asked[-1][1] == len(TURN.text)
