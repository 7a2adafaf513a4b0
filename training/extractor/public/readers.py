"""Each public set, from its own files to examples."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from config.schema import Schema
from training.annotation import Example
from training.extractor.public.mapping import MAPPING, Fact, example_of, link_example, load_mapping

_MOST_WORDS = 80
_CONTEXT_SENTENCES = 3
_SENTENCE = re.compile(
    r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bJr\.)(?<!\bvs\.) +(?=[A-Z\"'“])"
)
_MARKUP = str.maketrans({"[": "(", "]": ")", "|": "/", "=": "-"})


def read_knowledgenet(folder: Path, schema: Schema, mapping: Path = MAPPING) -> Iterator[Example]:
    """KnowledgeNet (Mesquita et al. 2019, MIT): sentences; `asked` says which of its relations were looked for."""
    found = load_mapping(mapping)
    seen: set[str] = set()
    for path in sorted(folder.glob("train_*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            record = json.loads(line)
            text = _one_line(record["passage"])
            if text in seen or not _readable(text):
                continue
            seen.add(text)
            facts = [Fact(*(_one_line(part) for part in fact)) for fact in record["facts"]]
            example = example_of(
                f"knowledgenet:{number}", text, facts, record["asked"], found.sets["knowledgenet"], found.person, schema
            )
            if example is not None:
                yield example


def read_text2kgbench(folder: Path, schema: Schema, mapping: Path = MAPPING) -> Iterator[Example]:
    """Text2KGBench (Mihindukulasooriya et al. 2023): sentences with some of what they say."""
    found = load_mapping(mapping)
    entries = found.sets["text2kgbench"]
    facts: dict[str, list[Fact]] = {}
    for path in sorted(folder.glob("*_train.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            text, subject, object_ = (_one_line(_decoded(record[k])) for k in ("sent", "sub_label", "obj_label"))
            if record["rel_label"].strip() in entries and subject in text and object_ in text and _readable(text):
                facts.setdefault(text, []).append(Fact(subject, record["rel_label"].strip(), object_))
    for number, (text, said) in enumerate(facts.items(), 1):
        example = example_of(f"text2kgbench:{number}", text, said, (), entries, found.person, schema)
        if example is not None and example.gold.relations:
            yield example


def read_gap(folder: Path, schema: Schema, mapping: Path = MAPPING) -> Iterator[Example]:
    """GAP (Webster et al. 2018, Apache-2.0): which of two names a pronoun means; earlier sentences are its context."""
    person = load_mapping(mapping).person
    for path in sorted(folder.glob("gap-*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if (example := _of_gap(row, person, schema)) is not None:
                    yield example


def _of_gap(row: Mapping[str, str], person: str, schema: Schema) -> Example | None:
    text = row["Text"].translate(_MARKUP)
    meant = next((name for name in "AB" if row[f"{name}-coref"] == "TRUE"), None)
    if meant is None:
        return None
    at, antecedent_at = int(row["Pronoun-offset"]), int(row[f"{meant}-offset"])
    starts = [0, *(found.end() for found in _SENTENCE.finditer(text))]
    own = max(number for number, start in enumerate(starts) if start <= at)
    home = max(number for number, start in enumerate(starts) if start <= antecedent_at)
    if not own - _CONTEXT_SENTENCES <= home <= own:
        return None
    sentences = [text[a:b].strip() for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    spoken = sentences[own]
    start = at - starts[own]
    if spoken[start : start + len(row["Pronoun"])] != row["Pronoun"] or not _readable(spoken):
        return None
    names = [row[name].translate(_MARKUP) for name in "AB"]
    return link_example(
        f"gap:{row['ID']}",
        sentences[home:own],
        spoken,
        (start, start + len(row["Pronoun"])),
        row[meant].translate(_MARKUP),
        names,
        person,
        schema,
    )


def _readable(text: str) -> bool:
    """Not a list or table that was taken for a sentence."""
    words = text.split()
    return 3 <= len(words) <= _MOST_WORDS and max(map(len, words)) < 40


def _one_line(text: str) -> str:
    return " ".join(text.translate(_MARKUP).split()).replace(";", ",")


def _decoded(text: str) -> str:
    """Text whose UTF-8 was read as Latin-1, as it was meant."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
