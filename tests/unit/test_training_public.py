"""Partly annotated examples: how public sets become them, and that training asks nothing that was not annotated."""

import json
from dataclasses import replace

import torch

from actors.extraction.sequence import Limits, SequenceBuilder
from actors.messages import Mention, Relation
from actors.runtimes.onnx import open_tokenizer
from config.schema import load_schema
from registry.bundled import BUNDLED
from training.annotation import read_examples, to_block
from training.extractor.batches import IGNORED, Labeller, encoder_batch, pair_batch
from training.extractor.public.mapping import load_mapping
from training.extractor.public.readers import read_gap, read_knowledgenet, read_text2kgbench
from training.extractor.score import judged, sayable, score
from training.splits import PUBLIC, public_files

SCHEMA = load_schema()
OTHER = PUBLIC.parent / "other" / "knowledgenet"
TOKENIZER = max((BUNDLED / "extractor").glob("*/tokenizer.json"))


def triples(example):
    return [(r.subject, r.predicate, r.object) for r in example.gold.relations]


def knowledgenet(tmp_path, passage, facts, asked):
    record = {"fold": "1", "doc": "1", "passage": passage, "facts": facts, "asked": asked}
    (tmp_path / "train_folds1.jsonl").write_text(json.dumps(record), encoding="utf-8")
    return list(read_knowledgenet(tmp_path, SCHEMA))


def test_the_public_files_are_read_and_written_alike(tmp_path) -> None:
    for path in public_files():
        examples = read_examples([path], SCHEMA)
        assert len(examples) > 1000
        assert all(example.annotated is not None for example in examples)
        copy = tmp_path / path.name
        copy.write_text("\n".join(to_block(example, SCHEMA.statuses[0]) for example in examples), encoding="utf-8")
        assert copy.read_bytes() == path.read_bytes()


def test_our_own_turns_are_written_as_they_are_read(tmp_path) -> None:
    block = (
        "@ food_travel style=correction\nC: B: Is the hostel in Porto?\n"
        "T: No, [it=hostel] is in [Faro|LOCATION], I stayed [last week|DATE]\n"
        "R: hostel; located_in; Faro\nR: speaker; stayed_at; hostel; ended; @last week\n"
        "X: hostel; located_in; Porto -> hostel; located_in; Faro\n"
    )
    path = tmp_path / "own.txt"
    path.write_text(block, encoding="utf-8")
    [example] = read_examples([path], SCHEMA)
    assert example.annotated is None
    assert to_block(example, SCHEMA.statuses[0]) == block


def test_a_foreign_relation_becomes_ours_with_its_direction_and_what_was_asked(tmp_path) -> None:
    [example] = knowledgenet(
        tmp_path,
        "He is president and CEO of Raymond James Bank, a subsidiary of Raymond James Financial.",
        [
            ["Raymond James Bank", "CEO", "He"],
            ["Raymond James Bank", "SUBSIDIARY_OF", "Raymond James Financial"],
            ["which", "SUBSIDIARY_OF", "Raymond James Financial"],
        ],
        ["CEO", "SUBSIDIARY_OF"],
    )
    assert triples(example) == [
        ("unnamed-he", "CEO_of", "Raymond James Bank"),
        ("Raymond James Financial", "owns", "Raymond James Bank"),
    ]
    assert example.annotated == {"CEO_of", "owns"}
    assert [(m.text, m.type) for m in example.gold.mentions] == [
        ("Raymond James Bank", "ORGANIZATION"),
        ("Raymond James Financial", "ORGANIZATION"),
    ]
    assert [(link.text, link.start) for link in example.gold.links] == [("He", 0)]


def test_a_pronoun_of_which_the_same_is_said_means_the_name(tmp_path) -> None:
    [example] = knowledgenet(
        tmp_path,
        "When Mr. Denis Okoro left Openwave, his friends at Openwave gave him a clock, and I left Openwave too.",
        [[who, "EMPLOYEE_OR_MEMBER_OF", "Openwave"] for who in ("Denis Okoro", "his", "him", "I")],
        ["EMPLOYEE_OR_MEMBER_OF", "DATE_OF_BIRTH"],
    )
    assert triples(example) == [("Mr. Denis Okoro", "works_at", "Openwave"), ("speaker", "works_at", "Openwave")]
    assert [link.antecedent for link in example.gold.links] == ["Mr. Denis Okoro"] * 2
    assert example.annotated >= {"works_at", "member_of", "born"}


def test_words_around_choose_the_predicate_and_the_more_specific_relation_stays(tmp_path) -> None:
    facts = [["Ana", "EDUCATED_AT", "MIT"], ["Acme", "CEO", "Ana"], ["Ana", "EMPLOYEE_OR_MEMBER_OF", "Acme"]]
    [example] = knowledgenet(tmp_path, "Ana, CEO of Acme, holds a degree from MIT.", facts, ["EDUCATED_AT", "CEO"])
    assert triples(example) == [("Ana", "graduated_from", "MIT"), ("Ana", "CEO_of", "Acme")]


def test_what_cannot_be_aligned_is_left_out(tmp_path) -> None:
    assert not knowledgenet(tmp_path, "Ana studied in Boston.", [["Ana", "EDUCATED_AT", "MIT"]], ["EDUCATED_AT"])


def test_gap_becomes_a_sentence_with_its_context(tmp_path) -> None:
    text = "Lena Horn met Maria in Oslo. It rained. Later she left for Bergen."
    header = ("ID", "Text", "Pronoun", "Pronoun-offset", "A", "A-offset", "A-coref", "B", "B-offset", "B-coref", "URL")
    row = ("t-1", text, "she", text.index("she"), "Lena Horn", 0, "FALSE", "Maria", text.index("Maria"), "TRUE", "-")
    (tmp_path / "gap-test.tsv").write_text("\t".join(header) + "\n" + "\t".join(map(str, row)), encoding="utf-8")
    [example] = read_gap(tmp_path, SCHEMA)
    assert [said.text for said in example.context] == ["Lena Horn met Maria in Oslo.", "It rained."]
    assert example.text == "Later she left for Bergen."
    assert [(link.text, link.start, link.antecedent) for link in example.gold.links] == [("she", 6, "Maria")]
    assert example.annotated == frozenset()


def test_text2kgbench_tells_of_the_pairs_that_it_names_only(tmp_path) -> None:
    said = "“Amélie” is a film directed by Jean-Pierre Jeunet."
    record = {
        "sent": said.encode().decode("latin-1"),
        "sub_label": "Amélie".encode().decode("latin-1"),
        "rel_label": "director",
        "obj_label": "Jean-Pierre Jeunet",
    }
    (tmp_path / "x_train.jsonl").write_text(json.dumps(record), encoding="utf-8")
    [example] = read_text2kgbench(tmp_path, SCHEMA)
    assert (example.text, triples(example)) == (said, [("Jean-Pierre Jeunet", "directed", "Amélie")])
    assert example.annotated == frozenset()


def test_silence_about_what_was_not_annotated_is_no_answer(tmp_path) -> None:
    [part] = knowledgenet(
        tmp_path,
        "Ana Lund of Graz, who married Bo Dahl, has two dogs.",
        [["Ana Lund", "SPOUSE", "Bo Dahl"], ["Ana Lund", "PLACE_OF_RESIDENCE", "Graz"]],
        ["SPOUSE"],
    )
    labeller = Labeller(SequenceBuilder(open_tokenizer(TOKENIZER), Limits()), SCHEMA)
    labels, example = labeller.labels, labeller.label(part)
    by_word = dict(zip((part.text[w.start : w.end] for w in example.words), example.tags, strict=True))
    assert by_word["dogs"] == by_word["two"] == IGNORED
    assert by_word["of"] == by_word[","] == 0
    assert by_word["Graz"] > 0
    length = encoder_batch([example]).ids.shape[1]
    pairs = pair_batch([example], [[]], labels, labeller.symmetric, length)
    married, parent = (labels.predicates.index(name) for name in ("married_to", "parent_of"))
    ana, bo, graz = (
        next(n for n, key in enumerate(example.keys) if key == name) for name in ("Ana Lund", "Bo Dahl", "Graz")
    )
    assert pairs.known[0, :, :, married].all()
    assert pairs.known[0, ana, bo, parent]
    assert pairs.known[0, bo, ana, parent]
    assert not pairs.known[0, bo, graz, parent]
    assert pairs.known[0, ana, graz].all()
    assert (pairs.status == IGNORED).all()
    assert (pairs.time == IGNORED).all()


def test_whole_examples_are_asked_everything(tmp_path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("@ daily_life style=simple\nT: [Ana|PERSON] sings\n", encoding="utf-8")
    labeller = Labeller(SequenceBuilder(open_tokenizer(TOKENIZER), Limits()), SCHEMA)
    [own] = (labeller.label(example) for example in read_examples([path], SCHEMA))
    assert IGNORED not in own.tags
    assert pair_batch([own], [[]], labeller.labels, labeller.symmetric, 16).known is None
    assert torch.is_tensor(encoder_batch([own]).tags)


def test_a_score_judges_only_what_was_annotated(tmp_path) -> None:
    [part] = knowledgenet(
        tmp_path, "Ana Lund of Graz married Bo Dahl of Oslo.", [["Ana Lund", "SPOUSE", "Bo Dahl"]], ["SPOUSE"]
    )
    wrong = replace(
        part.gold,
        mentions=(*part.gold.mentions, Mention("Graz", "LOCATION", 12, 16, 0.9)),
        relations=(
            Relation("Ana Lund", "lives_in", "Graz", "asserted", 0.9),
            Relation("Ana Lund", "married_to", "Graz", "asserted", 0.9),
            Relation("Ana Lund", "sibling_of", "Bo Dahl", "asserted", 0.9),
        ),
    )
    told = [(r.predicate, r.object) for r in judged(part, wrong).relations]
    assert told == [("married_to", "Graz"), ("sibling_of", "Bo Dahl")]
    report = score([part], [wrong], SCHEMA)
    assert report["entity"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "count": 2}
    assert report["relation"] == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "count": 1}
    assert judged(replace(part, annotated=None), wrong) is wrong


def test_another_schema_takes_a_mapping_of_its_own() -> None:
    other = load_schema(OTHER / "schema.yaml")
    mapping = load_mapping(OTHER / "mapping.yaml").sets["knowledgenet"]
    assert mapping.keys() == other.predicates.keys() == load_mapping().sets["knowledgenet"].keys()
    for name, entry in mapping.items():
        assert entry.predicate == name
        assert other.predicates[name].joins(entry.subject, entry.object)
    examples = read_examples([OTHER / "knowledgenet.txt"], other)
    assert {r.predicate for example in examples for r in example.gold.relations} == other.predicates.keys()


def test_our_mapping_says_what_our_schema_allows() -> None:
    for entries in load_mapping().sets.values():
        for entry in entries.values():
            ends = (entry.object, entry.subject) if entry.flipped else (entry.subject, entry.object)
            assert all(SCHEMA.predicates[name].joins(*ends) for name in entry.predicates)


def test_nobody_is_asked_for_a_name_that_stands_nowhere(tmp_path) -> None:
    [part] = knowledgenet(tmp_path, "He married Ana Lund in May.", [["He", "SPOUSE", "Ana Lund"]], ["SPOUSE"])
    assert (part.gold.links, part.gold.relations) != ((), ())
    assert (sayable(part).links, sayable(part).relations) == ((), ())
    assert score([part], [sayable(part)], SCHEMA)["relation"]["count"] == 0
