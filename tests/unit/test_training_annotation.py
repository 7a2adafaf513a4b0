import json
from pathlib import Path

import pytest

from actors.messages import Mention, PronounLink, Relation, Utterance
from config.schema import load_schema
from training.annotation import read_examples, to_record
from training.errors import AnnotationError

SCHEMA = load_schema()
BLOCK = """\
# a note
@ food_travel style=casual
C: A: My sister Emma just got back from Spain.
C: B: Oh nice, where did she stay?
T: [She=Emma] stayed at a [hostel|LOCATION] in [Barcelona|LOCATION] [last week|DATE] and [I|speaker] am jealous.
R: Emma; stayed_at; hostel; @last week
R: hostel; located_in; Barcelona; uncertain
X: Emma; stayed_at; hotel; ended -> Emma; stayed_at; hostel
""".replace("style=casual", "style=conversational")


def write(folder: Path, text: str, name: str = "small.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_block_becomes_an_example(tmp_path: Path) -> None:
    (example,) = read_examples([write(tmp_path, BLOCK)], SCHEMA)
    assert example.id == "small:2"
    assert (example.category, example.style) == ("food_travel", "conversational")
    assert example.text == "She stayed at a hostel in Barcelona last week and I am jealous."
    assert example.context[1] == Utterance("B", "Oh nice, where did she stay?")
    assert example.gold.mentions[0] == Mention("hostel", "LOCATION", 16, 22, 1.0)
    assert [mention.text for mention in example.gold.mentions] == ["hostel", "Barcelona", "last week"]
    assert example.gold.links == (PronounLink("She", 0, 3, "Emma", 1.0),)
    assert example.gold.relations == (
        Relation("Emma", "stayed_at", "hostel", "asserted", 1.0, "last week"),
        Relation("hostel", "located_in", "Barcelona", "uncertain", 1.0, None),
    )
    assert example.gold.correction == 1.0
    assert example.corrections == ((("Emma", "stayed_at", "hotel", "ended"), ("Emma", "stayed_at", "hostel")),)


def test_jsonl_says_the_same_as_its_block(tmp_path: Path) -> None:
    (example,) = read_examples([write(tmp_path, BLOCK)], SCHEMA)
    record = json.dumps(to_record(example, example.gold))
    (again,) = read_examples([write(tmp_path, record, "small.jsonl")], SCHEMA)
    assert again == example


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("food_travel", "gardening"),
        ("conversational", "loud"),
        ("hostel|LOCATION", "hostel|PLANET"),
        ("stayed_at; hostel; @", "slept_at; hostel; @"),
        ("hostel; located_in", "hotel; located_in"),
        ("; uncertain", "; unsure"),
        ("; @last week", "; @next week"),
        ("; @last week", "; ended; negated"),
        ("stayed at a", "stayed [at a"),
        ("T: [She", "Q: [She"),
        ("C: A: My", "C: My"),
        ("X: Emma; stayed_at; hotel; ended", "X: Emma"),
        ("R: hostel; located_in; Barcelona", "R: hostel"),
    ],
)
def test_a_block_that_breaks_a_rule_is_refused_by_file_and_line(tmp_path: Path, good: str, bad: str) -> None:
    assert good in BLOCK
    with pytest.raises(AnnotationError, match=r"small\.txt:2") as caught:
        read_examples([write(tmp_path, BLOCK.replace(good, bad))], SCHEMA)
    assert caught.value.code == "bad_annotation"


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "x"}', '{"id": 1, "category": "food_travel", "context": 3}'])
def test_a_broken_line_of_jsonl_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(AnnotationError, match=r"small\.jsonl:1"):
        read_examples([write(tmp_path, line, "small.jsonl")], SCHEMA)


def test_an_offset_that_does_not_fit_its_text_is_refused(tmp_path: Path) -> None:
    (example,) = read_examples([write(tmp_path, BLOCK)], SCHEMA)
    record = to_record(example, example.gold)
    record["entities"][0]["start"] += 1
    with pytest.raises(AnnotationError):
        read_examples([write(tmp_path, json.dumps(record), "small.jsonl")], SCHEMA)


def test_files_without_examples_are_refused(tmp_path: Path) -> None:
    for path in (write(tmp_path, "# only a note\n"), tmp_path / "none.txt"):
        with pytest.raises(AnnotationError):
            read_examples([path], SCHEMA)
    latin = tmp_path / "latin.txt"
    latin.write_bytes("@ food_travel style=simple\nT: café".encode("latin-1"))
    with pytest.raises(AnnotationError):
        read_examples([latin], SCHEMA)
