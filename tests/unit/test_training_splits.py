import random
from dataclasses import replace
from functools import cache

import pytest

from actors.messages import ROLES, Extraction, Utterance
from config.schema import load_schema
from training.annotation import Example, read_examples
from training.errors import TrainingError
from training.splits import choose, conversation_files, conversation_keys, held_out_ids, is_held_out

SCHEMA = load_schema()
NOTHING = Extraction((), (), ())


@cache
def all_of_ours() -> list[Example]:
    return read_examples(conversation_files(), SCHEMA)


def said(id_: str, text: str, *context: str) -> Example:
    return Example(id_, "daily_life", "simple", tuple(Utterance("A", line) for line in context), text, NOTHING)


def test_turns_that_quote_one_another_share_a_conversation() -> None:
    keys = conversation_keys(
        [
            said("a:1", "My sister moved to Lisbon last year."),
            said("a:5", "She loves it there.", "My sister moved to Lisbon last year."),
            said("b:1", "Nobody knows why, honestly, not me.", "So, she loves it there in the end!"),
            said("b:9", "And then?", "my sister moved to lisbon last year"),
            said("c:1", "Oh nice!", "Oh nice!"),
            said("c:5", "Sure.", "Oh nice!"),
        ]
    )
    assert keys["a:1"] == keys["a:5"] == keys["b:9"]
    assert len({keys["a:1"], keys["b:1"], keys["c:1"]}) == 3


def test_the_side_of_a_key_never_changes() -> None:
    sides = [is_held_out(f"conversation {number}") for number in range(2000)]
    assert 0.12 < sum(sides) / len(sides) < 0.18
    assert [number for number, side in enumerate(sides) if side][:5] == [26, 31, 36, 38, 42]


def test_our_data_is_split_without_a_leak() -> None:
    examples = all_of_ours()
    held_out = held_out_ids(examples)
    assert 0.1 < len(held_out) / len(examples) < 0.2

    def lines(side: bool) -> set[str]:
        return {
            line.lower()
            for example in examples
            if (example.id in held_out) == side
            for line in (example.text, *(said.text for said in example.context))
            if len(line.split()) > 4
        }

    assert not lines(side=True) & lines(side=False)


def test_no_mention_of_ours_is_spelt_like_a_role() -> None:
    # A relation names its arguments by text: a loudspeaker would be taken for the one who speaks.
    assert [e.id for e in all_of_ours() for mention in e.gold.mentions if mention.text in ROLES] == []


def test_the_order_of_the_data_does_not_matter() -> None:
    examples = read_examples(conversation_files()[:6], SCHEMA)
    shuffled = random.Random(3).sample(examples, len(examples))  # noqa: S311 - seeded on purpose
    assert held_out_ids(examples) == held_out_ids(shuffled)


def test_a_file_of_some_of_our_turns_is_split_as_we_split_them() -> None:
    examples = all_of_ours()
    held_out = held_out_ids(examples)
    some = examples[1::7]
    renamed = [replace(example, id=f"other:{number}") for number, example in enumerate(some)]
    chosen = choose(renamed, "held_out")
    assert [example.text for example in chosen] == [example.text for example in some if example.id in held_out]
    assert len(chosen) + len(choose(renamed, "train")) == len(choose(renamed, "all"))


def test_an_unknown_or_empty_split_is_refused() -> None:
    examples = [said("a:1", "My sister moved to Lisbon last year.")]
    side = "train" if held_out_ids(examples) else "held_out"
    for split in ("test", side):
        with pytest.raises(TrainingError):
            choose(examples, split)
