"""Annotated conversation: blocks of `@`, `C:`, `T:`, `R:`, `X:` and `A:` lines, or the JSONL compiled from them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from actors.messages import ROLES, Extraction, KnownEntity, Mention, PronounLink, Relation, Utterance
from config.schema import Schema
from training.errors import AnnotationError

Parts: TypeAlias = tuple[str, ...]
"""Subject, predicate and object, and what else an `X:` line says of them."""

STYLES = frozenset(
    ("simple", "complex", "conversational", "ambiguous", "correction", "question", "chitchat", "partial", "reasoning")
)
_MARK = re.compile(r"\[([^\[\]|=]+)([|=])([^\[\]]+)\]")


@dataclass(frozen=True, slots=True)
class Example:
    """One annotated turn. `gold` has confidence 1 throughout; `corrections` pairs wrong with right triples.

    `annotated` are the predicates that were looked for, where not all were: of others, and of more mentions, the turn
    may say something that `gold` does not hold. Two arguments that a relation joins were looked at in every respect.
    `known` are entities of earlier sessions; the annotation has none, augmentation makes some up.
    """

    id: str
    category: str
    style: str
    context: tuple[Utterance, ...]
    text: str
    gold: Extraction
    corrections: tuple[tuple[Parts, Parts], ...] = ()
    annotated: frozenset[str] | None = None
    known: tuple[KnownEntity, ...] = ()


def read_examples(files: Iterable[Path], schema: Schema) -> list[Example]:
    """Every example of annotated `.txt` and compiled `.jsonl` files.

    Raises:
        AnnotationError: a block or line breaks the rules; a file cannot be read or holds no example.
    """
    examples: list[Example] = []
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise AnnotationError(f"{path}: {error}") from error
        found = list(_from_jsonl(lines, path, schema) if path.suffix == ".jsonl" else _from_blocks(lines, path, schema))
        if not found:
            raise AnnotationError(f"{path}: no examples")
        examples += found
    return examples


def to_record(example: Example, extraction: Extraction) -> dict[str, Any]:
    """The data's own JSON object for `example`, holding `extraction`: its gold one or a model's."""
    record: dict[str, Any] = {
        "id": example.id,
        "category": example.category,
        "style": example.style,
        "context": [{"speaker": said.speaker, "text": said.text} for said in example.context],
        "text": example.text,
        "entities": [
            {"text": m.text, "start": m.start, "end": m.end, "type": m.type, "confidence": m.confidence}
            for m in extraction.mentions
        ],
        "coref": [
            {"text": k.text, "start": k.start, "end": k.end, "antecedent": k.antecedent, "confidence": k.confidence}
            for k in extraction.links
        ],
        "relations": [
            {"subject": r.subject, "predicate": r.predicate, "object": r.object, "status": r.status}
            | ({"time": r.time} if r.time else {})
            | {"confidence": r.confidence}
            for r in extraction.relations
        ],
        "correction": extraction.correction,
    }
    if example.corrections:
        record["corrections"] = [{"wrong": list(wrong), "right": list(right)} for wrong, right in example.corrections]
    if example.annotated is not None:
        record["annotated"] = sorted(example.annotated)
    return record


def to_block(example: Example, default_status: str) -> str:
    """The lines of an annotated `.txt` file for `example`, with its gold labels."""
    gold = example.gold
    marks = [(m.start, m.end, f"|{m.type}") for m in gold.mentions]
    marks += [(k.start, k.end, f"={k.antecedent}") for k in gold.links]
    text, read = "", 0
    for start, end, label in sorted(marks):
        text += f"{example.text[read:start]}[{example.text[start:end]}{label}]"
        read = end
    lines = [f"@ {example.category} style={example.style}"]
    lines += [f"C: {said.speaker}: {said.text}" for said in example.context]
    lines.append(f"T: {text}{example.text[read:]}")
    for relation in gold.relations:
        extras = [relation.status] * (relation.status != default_status) + (
            [f"@{relation.time}"] if relation.time else []
        )
        lines.append("R: " + "; ".join([relation.subject, relation.predicate, relation.object, *extras]))
    lines += [f"X: {'; '.join(wrong)} -> {'; '.join(right)}" for wrong, right in example.corrections]
    if example.annotated is not None:
        lines.append(f"A: {', '.join(sorted(example.annotated))}".rstrip())
    return "\n".join(lines) + "\n"


def _from_jsonl(lines: Sequence[str], path: Path, schema: Schema) -> Iterator[Example]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _checked(_from_record(json.loads(line)), schema)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AnnotationError(f"{path.name}:{number}: {error!r}") from error


def _from_record(record: Mapping[str, Any]) -> Example:
    corrections = tuple((_parts(pair["wrong"]), _parts(pair["right"])) for pair in record.get("corrections", ()))
    return Example(
        record["id"],
        record["category"],
        record["style"],
        tuple(Utterance(said["speaker"], said["text"]) for said in record["context"]),
        record["text"],
        Extraction(
            tuple(Mention(e["text"], e["type"], e["start"], e["end"], 1.0) for e in record["entities"]),
            tuple(PronounLink(c["text"], c["start"], c["end"], c["antecedent"], 1.0) for c in record["coref"]),
            tuple(
                Relation(r["subject"], r["predicate"], r["object"], r["status"], 1.0, r.get("time"))
                for r in record["relations"]
            ),
            float(bool(corrections) or record["style"] == "correction"),
        ),
        corrections,
        frozenset(record["annotated"]) if "annotated" in record else None,
    )


def _from_blocks(lines: Sequence[str], path: Path, schema: Schema) -> Iterator[Example]:
    block: list[str] = []
    first = 1
    for number, line in enumerate([*lines, ""], 1):
        if line.startswith("#"):
            continue
        if line.strip():
            first = first if block else number
            block.append(line.rstrip())
        elif block:
            try:
                yield _checked(_parse(block, f"{path.stem}:{first}", schema.statuses[0]), schema)
            except ValueError as error:
                raise AnnotationError(f"{path.name}:{first}: {error}") from error
            block = []


def _parse(block: Sequence[str], origin: str, default_status: str) -> Example:
    category = style = ""
    text: str | None = None
    mentions: list[Mention] = []
    links: list[PronounLink] = []
    context: list[Utterance] = []
    relations: list[Relation] = []
    corrections: list[tuple[Parts, Parts]] = []
    annotated: frozenset[str] | None = None
    for line in block:
        tag, _, rest = line.partition(":")
        if line.startswith("@"):
            category, *options = line[1:].split()
            style = dict(option.split("=", 1) for option in options).get("style", "")
        elif tag == "C":
            who, separator, said = rest.strip().partition(":")
            if not separator:
                raise ValueError(f"C: needs who and what: {line}")
            context.append(Utterance(who.strip(), said.strip()))
        elif tag == "T":
            if text is not None:
                raise ValueError("two T: lines")
            text = _read_marks(rest.strip(), mentions, links)
        elif tag == "R":
            relations.append(_relation(rest, default_status))
        elif tag == "X":
            wrong, _, right = rest.partition("->")
            corrections.append((_parts(wrong.split(";")), _parts(right.split(";"))))
        elif tag == "A":
            annotated = frozenset(name.strip() for name in rest.split(",") if name.strip())
        else:
            raise ValueError(f"no such line: {line}")
    if not text:
        raise ValueError("no T: line")
    correction = float(bool(corrections) or style == "correction")
    gold = Extraction(tuple(mentions), tuple(links), tuple(relations), correction)
    return Example(origin, category, style, tuple(context), text, gold, tuple(corrections), annotated)


def _read_marks(marked: str, mentions: list[Mention], links: list[PronounLink]) -> str:
    """The text without its markup; fills `mentions` and `links`."""
    text, read = "", 0
    for mark in _MARK.finditer(marked):
        text += marked[read : mark.start()]
        surface, label = mark[1], mark[3].strip()
        start, end = len(text), len(text) + len(surface)
        text += surface
        if mark[2] == "=":
            links.append(PronounLink(surface, start, end, label, 1.0))
        elif label not in ROLES:  # a role's words need no mention
            mentions.append(Mention(surface, label, start, end, 1.0))
        read = mark.end()
    text += marked[read:]
    if "[" in text or "]" in text:
        raise ValueError(f"stray bracket: {text}")
    return text


def _relation(line: str, default_status: str) -> Relation:
    parts = [part.strip() for part in line.split(";")]
    if len(parts) < 3:
        raise ValueError(f"a relation needs three parts:{line}")
    subject, predicate, object_, *extras = parts
    times = [extra[1:].strip() for extra in extras if extra.startswith("@")]
    statuses = [extra for extra in extras if extra and not extra.startswith("@")]
    if len(times) > 1 or len(statuses) > 1:
        raise ValueError(f"more than one status or time:{line}")
    status = statuses[0] if statuses else default_status
    return Relation(subject, predicate, object_, status, 1.0, times[0] if times else None)


def _parts(parts: Sequence[str]) -> Parts:
    if len(parts) < 3:
        raise ValueError(f"a triple needs three parts: {'; '.join(parts)}")
    return tuple(part.strip() for part in parts)


def _checked(example: Example, schema: Schema) -> Example:
    gold = example.gold
    if example.category not in schema.categories:
        raise ValueError(f"category {example.category!r}")
    if example.style not in STYLES:
        raise ValueError(f"style {example.style!r}")
    spans: list[Mention | PronounLink] = [*gold.mentions, *gold.links]
    for span in spans:
        if example.text[span.start : span.end] != span.text:
            raise ValueError(f"{span.text!r} does not stand at {span.start}")
    for mention in gold.mentions:
        if mention.type not in schema.entity_types:
            raise ValueError(f"type {mention.type!r}")
    for name in sorted(example.annotated or ()):
        if name not in schema.predicates:
            raise ValueError(f"predicate {name!r}")
    arguments = {*ROLES, *(m.text for m in gold.mentions), *(k.antecedent for k in gold.links)}
    dates = {mention.text for mention in gold.mentions}
    for relation in gold.relations:
        if relation.predicate not in schema.predicates:
            raise ValueError(f"predicate {relation.predicate!r}")
        if relation.status not in schema.statuses:
            raise ValueError(f"status {relation.status!r}")
        for argument in (relation.subject, relation.object):
            if argument not in arguments:
                raise ValueError(f"{argument!r} is no mention, antecedent or role: {example.text}")
        if relation.time and relation.time not in dates:
            raise ValueError(f"@time {relation.time!r} is no mention: {example.text}")
    return example
