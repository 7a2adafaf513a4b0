import random
import re
from dataclasses import fields, replace
from itertools import pairwise

import pytest

from actors.messages import ROLES
from config.schema import load_schema
from training.annotation import Example, read_examples, to_record
from training.extractor.augment import NONE, Augmenter, Rates
from training.extractor.edits import WORD, apply
from training.extractor.names import NameSwapper
from training.extractor.speech import digits, without_punctuation
from training.extractor.swaps import load_swaps, people_names
from training.splits import conversation_files

SCHEMA = load_schema()
EXAMPLES = read_examples(conversation_files()[::4], SCHEMA)  # a quarter: every change is made to all of them
SOME = EXAMPLES[::5]
ALWAYS = Rates(**{field.name: 1.0 for field in fields(Rates)})
ROLE_WORD = re.compile(r"\b(?:i|me|my|we|us|our|you|your)\b", re.IGNORECASE)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - seeded on purpose


def only(**rates: float) -> Rates:
    return replace(NONE, **rates)


def examples_of(tmp_path, *blocks: str) -> list[Example]:
    path = tmp_path / "some.txt"
    path.write_text("\n\n".join(f"@ daily_life style=simple\n{block}" for block in blocks), encoding="utf-8")
    return read_examples([path], SCHEMA)


def plain(text: str) -> str:
    """Two names that differ in case or punctuation alone may become one."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def check(variant: Example) -> None:
    """Labels agree with the texts and with one another."""
    texts = [variant.text, *(said.text for said in variant.context), *(entity.name for entity in variant.known)]
    for span in (*variant.gold.mentions, *variant.gold.links):
        assert variant.text[span.start : span.end] == span.text
        assert span.text == span.text.strip() != ""
    for link in variant.gold.links:
        assert any(link.antecedent in text for text in texts)
    spans = sorted((span.start, span.end) for span in (*variant.gold.mentions, *variant.gold.links))
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    mentions = {mention.text for mention in variant.gold.mentions}
    # "Austin lives in Austin": two things of one name are two mentions.
    namesakes = {text for text in mentions if len({m.type for m in variant.gold.mentions if m.text == text}) > 1}
    arguments = {*ROLES, *mentions, *(link.antecedent for link in variant.gold.links)}
    for relation in variant.gold.relations:
        assert {relation.subject, relation.object} <= arguments
        assert relation.subject != relation.object or relation.subject in namesakes
        assert relation.time is None or relation.time in mentions


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


@pytest.mark.parametrize("rate", [field.name for field in fields(Rates)])
def test_every_change_keeps_labels_and_texts_in_step(rate: str) -> None:
    augmenter, rng = Augmenter(EXAMPLES, only(**{rate: 1.0})), seeded(5)
    changed = 0
    for example in EXAMPLES:
        variant = augmenter.vary(example, rng)
        changed += variant != example
        check(variant)
        if rate not in ("join", "cut", "change_person", "repair"):
            assert same_labels(example, variant)
    assert changed > len(EXAMPLES) / 100


def test_all_changes_together_keep_labels_and_texts_in_step() -> None:
    augmenter, rng = Augmenter(EXAMPLES, ALWAYS), seeded(7)
    for example in EXAMPLES:
        check(augmenter.vary(example, rng))


def test_no_change_is_no_change() -> None:
    augmenter, rng = Augmenter(SOME, NONE), seeded(5)
    assert all(augmenter.vary(example, rng) is example for example in SOME)


def test_a_seed_decides_everything() -> None:
    def variants(seed: int) -> list[object]:
        augmenter, rng = Augmenter(SOME, Rates()), seeded(seed)
        return [to_record(v := augmenter.vary(example, rng), v.gold) for example in SOME]

    assert variants(1) == variants(1)
    assert variants(1) != variants(2)


def test_a_cut_turn_is_a_beginning_and_tells_nothing_that_the_whole_does_not() -> None:
    augmenter, rng = Augmenter(EXAMPLES, only(cut=1.0)), seeded(5)
    for example in EXAMPLES:
        variant = augmenter.vary(example, rng)
        assert example.text.startswith(variant.text)
        facts = {(r.subject, r.predicate, r.object, r.status) for r in example.gold.relations}
        assert {(r.subject, r.predicate, r.object, r.status) for r in variant.gold.relations} <= facts


def test_a_cut_waits_for_two_words_or_the_end_of_the_clause(tmp_path) -> None:
    [example] = examples_of(
        tmp_path,
        "T: [Emma|PERSON] lives in [Paris|LOCATION] with some friends, and [Tom|PERSON] moved there.\n"
        "R: Emma; lives_in; Paris",
    )
    augmenter, rng = Augmenter([example], only(cut=1.0)), seeded(3)
    seen = {variant.text: variant for _ in range(60) if (variant := augmenter.vary(example, rng)) != example}
    assert {"Emma lives in", "Emma lives in Paris with some"} <= seen.keys()
    for text, variant in seen.items():
        further = len(WORD.findall(text.partition("Paris")[2])) if "Paris" in text else None
        assert bool(variant.gold.relations) == (further is not None)
        assert further is None or further > 1


@pytest.mark.parametrize(
    ("text", "relations", "told"),
    [
        (
            "[Ann|PERSON] met [her=Ann] neighbour [Tom|PERSON] and they got married. It was fun.",
            "R: Tom; neighbor_of; Ann\nR: Ann; married_to; Tom",
            "married.",
        ),
        ("so [Ann|PERSON] rang [Tom|PERSON] and they got married. It was fun.", "R: Ann; married_to; Tom", "married."),
        ("I rowed with [Ann|PERSON] and then we got married. It was fun.", "R: speaker; married_to; Ann", "married."),
    ],
)
def test_a_cut_tells_no_relation_that_the_sentence_has_yet_to_tell(tmp_path, text, relations, told) -> None:
    [example] = examples_of(tmp_path, f"T: {text}\n{relations}")
    augmenter, rng = Augmenter([example], only(cut=1.0)), seeded(3)
    variants = [variant for _ in range(60) if (variant := augmenter.vary(example, rng)) != example]
    assert any(variant.gold.relations for variant in variants)
    assert all(told in variant.text for variant in variants if variant.gold.relations)


def test_what_rests_on_the_context_keeps_it(tmp_path) -> None:
    resting, other = examples_of(
        tmp_path,
        "C: B: Does your wife agree?\nT: [Lusine|PERSON] can't stand it.\nR: Lusine; married_to; speaker",
        "C: B: Does your wife agree?\nT: My wife [Lusine|PERSON] can't stand it.\nR: Lusine; married_to; speaker",
    )
    for rate in ("drop_context", "offer_names"):
        augmenter, rng = Augmenter([resting, other], only(**{rate: 1.0})), seeded(3)
        assert all(augmenter.vary(resting, rng).context for _ in range(30))
        assert not all(augmenter.vary(other, rng).context for _ in range(30))


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("Does Emma live in Oslo? Nice.", "Does Emma live in Oslo Nice"),
        ("Nice. And where's Emma, at home?", "Nice And where's Emma at home"),
        ("Emma lives in Oslo? Is she well?", "Emma lives in Oslo? Is she well"),
        ("So it was Emma, at 7:30?!", "So it was Emma at 7:30?"),
    ],
)
def test_a_question_mark_stays_where_nothing_else_tells_of_a_question(said: str, left: str) -> None:
    assert apply(said, without_punctuation(said)) == left


def test_joined_turns_tell_what_both_do() -> None:
    by_id = {example.id: example for example in EXAMPLES}
    augmenter, rng = Augmenter(EXAMPLES, only(join=1.0)), seeded(5)
    for example in EXAMPLES:
        variant = augmenter.vary(example, rng)
        if variant == example:
            continue
        one, other = (by_id[id_] for id_ in variant.id.split("+"))
        assert variant.text.startswith(one.text.rstrip())
        assert variant.text.endswith(other.text)
        assert variant.gold.relations == (*one.gold.relations, *other.gold.relations)
        assert len(variant.gold.mentions) == len(one.gold.mentions) + len(other.gold.mentions)


def test_a_change_of_person_changes_nothing_else() -> None:
    augmenter, rng = Augmenter(EXAMPLES, only(change_person=1.0)), seeded(5)
    to_name = to_role = 0
    for example in EXAMPLES:
        variant = augmenter.vary(example, rng)
        if variant == example:
            continue
        [old], [new] = ({r.subject for r in e.gold.relations} for e in (example, variant))
        said = {"I", "i"} if new in ROLES else {new}
        # A name may hold a hyphen.
        texts = (example.text.replace(old, "I"), variant.text.replace(new, "I"))
        assert len({re.sub(r"\w+", "", text) for text in texts}) == 1
        assert any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", variant.text) for word in said)
        assert (old in ROLES) != (new in ROLES)
        assert bool(ROLE_WORD.search(variant.text)) == (new in ROLES)
        to_name, to_role = to_name + (new not in ROLES), to_role + (new in ROLES)
    assert to_name > 5
    assert to_role > 5


def test_a_repair_takes_back_something_that_nothing_is_said_of() -> None:
    augmenter, rng = Augmenter(EXAMPLES, only(repair=1.0)), seeded(5)
    for example in EXAMPLES:
        variant = augmenter.vary(example, rng)
        if variant == example:
            continue
        assert variant.gold.relations == example.gold.relations
        assert variant.gold.correction == 1.0
        [taken_back] = {m.text for m in variant.gold.mentions} - {m.text for m in example.gold.mentions}
        [at] = (m.start for m in variant.gold.mentions if m.text == taken_back)
        inserted = len(variant.text) - len(example.text)
        assert variant.text[:at] + variant.text[at + inserted :] == example.text


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("she's five years old", "she's 5 years old"),
        ("twenty eight of them and thirty-one of us", "28 of them and 31 of us"),
        ("one of the two hundred", "one of the two hundred"),
        ("in nineteen eighty four", "in nineteen eighty four"),
        ("the twenty first of may at seven o'clock", "the twenty first of may at seven o'clock"),
    ],
)
def test_numbers_in_digits(said: str, written: str) -> None:
    assert apply(said, digits(said)) == written


def test_a_sister_stays_a_woman_and_keeps_her_title_and_her_surname(tmp_path) -> None:
    [example] = examples_of(
        tmp_path,
        "C: A: Emma Okafor rang, and Mr. Tanaka too.\n"
        "T: [Okafor|PERSON] said [she=Emma Okafor] knows my uncle [Marek|PERSON], but [Mr. Tanaka|PERSON] is away",
    )
    women = {name for names in people_names() for name in names.women}
    men = {name for names in people_names() for name in names.men}
    swapper = NameSwapper(EXAMPLES)
    for seed in range(30):
        variant = swapper.swap(example, seeded(seed))
        check(variant)
        first, _, family = variant.gold.links[0].antecedent.partition(" ")
        marek = next(m.text for m in variant.gold.mentions if m.start > variant.text.index("uncle"))
        assert first in women
        assert marek in men
        assert variant.gold.mentions[0].text == family
        assert variant.gold.mentions[-1].text.startswith("Mr. ")


def test_a_listed_word_makes_place_for_another_of_its_list(tmp_path) -> None:
    [example] = examples_of(
        tmp_path,
        "T: I play an [oboe|PRODUCT] and keep [goats|ANIMAL].\nR: speaker; played; oboe\nR: speaker; has_pet; goats",
    )
    lists = load_swaps().lists
    swapper, seen = NameSwapper(EXAMPLES), set()
    for seed in range(40):
        variant = swapper.swap(example, seeded(seed))
        oboe, goats = (mention.text for mention in variant.gold.mentions)
        assert oboe in lists["instruments"].words
        assert goats.endswith("s")
        assert f" {'an' if oboe[0] in 'aeiou' else 'a'} {oboe} " in variant.text
        seen.add(oboe)
    assert len(seen) > 15


def test_the_lists_name_types_and_predicates_of_the_schema() -> None:
    swaps = load_swaps()
    for listed in (swaps.places, swaps.firms, *swaps.lists.values()):
        assert listed.type in SCHEMA.entity_types
        assert listed.main_use <= SCHEMA.predicates.keys()
        assert len(set(listed.words)) == len(listed.words) > 30
        assert not set(listed.words) & set(ROLES)
    assert swaps.people.type in SCHEMA.entity_types
    assert sum(len(names.women) + len(names.men) for names in people_names()) > 10_000
