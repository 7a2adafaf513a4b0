import random
import re

import pytest

from actors.messages import ROLES
from config.schema import load_schema
from training.annotation import Example, read_examples, to_record
from training.extractor.augment import Augmenter, Rates
from training.splits import conversation_files

SCHEMA = load_schema()
EXAMPLES = read_examples(conversation_files()[::3], SCHEMA)
ALWAYS = Rates(1.0, 1.0, 1.0, 1.0)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - seeded on purpose


def plain(text: str) -> str:
    """Two names that differ in case or punctuation alone may become one."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def same_labels(one: Example, other: Example) -> bool:
    """Whether both say the same but for the names in it."""

    def argument(text: str) -> str:
        return text if text in ROLES else plain(text)

    def shape(example: Example) -> object:
        names: dict[str, int] = {role: -1 - number for number, role in enumerate(ROLES)}
        for label in [*example.gold.mentions, *example.gold.links]:
            names.setdefault(plain(getattr(label, "antecedent", label.text)), len(names))
        return (
            [mention.type for mention in example.gold.mentions],
            [names[plain(link.antecedent)] for link in example.gold.links],
            [
                (names[argument(r.subject)], r.predicate, names[argument(r.object)], r.status)
                for r in example.gold.relations
            ],
        )

    return shape(one) == shape(other)


@pytest.mark.parametrize("rates", [Rates(1, 0, 0, 0), Rates(0, 1, 0, 0), Rates(0, 0, 1, 0), Rates(0, 0, 0, 1), ALWAYS])
def test_variants_keep_their_labels(rates: Rates) -> None:
    augmenter, rng = Augmenter(EXAMPLES, rates), seeded(5)
    changed = 0
    for example in EXAMPLES:
        variant = augmenter.vary(example, rng)
        changed += variant != example
        texts = [variant.text, *(said.text for said in variant.context)]
        for span in (*variant.gold.mentions, *variant.gold.links):
            assert variant.text[span.start : span.end] == span.text
        for link in variant.gold.links:
            assert any(link.antecedent in text for text in texts)
        arguments = {*ROLES, *(m.text for m in variant.gold.mentions), *(k.antecedent for k in variant.gold.links)}
        for relation in variant.gold.relations:
            assert {relation.subject, relation.object} <= arguments
        assert same_labels(example, variant)
    assert changed > len(EXAMPLES) / 8


def test_no_change_is_no_change() -> None:
    augmenter, rng = Augmenter(EXAMPLES, Rates(0, 0, 0, 0)), seeded(5)
    assert all(augmenter.vary(example, rng) is example for example in EXAMPLES)


def test_a_seed_decides_everything() -> None:
    def variants(seed: int) -> list[object]:
        augmenter, rng = Augmenter(EXAMPLES, Rates()), seeded(seed)
        return [to_record(v := augmenter.vary(example, rng), v.gold) for example in EXAMPLES]

    assert variants(1) == variants(1)
    assert variants(1) != variants(2)
