"""Change an example's texts and keep every label's offsets and text in step."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from actors.messages import ROLES, Extraction, Mention, PronounLink, Relation, Utterance
from training.annotation import Example

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
"""A word as it is written: contractions and hyphened words are one."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters [start, end) of a text become `text`."""

    start: int
    end: int
    text: str


def edit(example: Example, edits_of: Callable[[str], list[Edit]], *, earlier: bool) -> Example:
    """Apply edits, in order and without overlap, to the turn, its labels and, with `earlier`, its context.

    An edit that only overlaps a label's span, or that would change a label it stands in for one text but not another,
    is not made: every label's text is edited by itself and must come out the same. Without `earlier` no label's text
    changes.
    """
    gold = example.gold
    spans = label_spans(example)
    edits = [edit for edit in edits_of(example.text) if _fits(edit, spans, within=earlier)]
    text = apply(example.text, edits)

    def moved(position: int, *, is_end: bool) -> int:
        shift = 0
        for edit in edits:
            before = edit.end <= position if is_end else edit.end <= position and edit.start < position
            if edit.start == edit.end == position:
                before = not is_end
            shift += (len(edit.text) - (edit.end - edit.start)) * before
        return position + shift

    renamed: dict[str, str] = {}
    mentions: list[Mention] = []
    for mention in example.gold.mentions:
        start, end = moved(mention.start, is_end=False), moved(mention.end, is_end=True)
        if renamed.setdefault(mention.text, text[start:end]) != text[start:end]:
            return example
        mentions.append(replace(mention, text=text[start:end], start=start, end=end))

    def rename(argument: str) -> str:
        if argument in ROLES:
            return argument
        if argument not in renamed:
            renamed[argument] = apply(argument, edits_of(argument)) if earlier else argument
        return renamed[argument]

    links: list[PronounLink] = []
    for link in example.gold.links:
        start, end = moved(link.start, is_end=False), moved(link.end, is_end=True)
        links.append(replace(link, text=text[start:end], start=start, end=end, antecedent=rename(link.antecedent)))
    relations = [
        replace(r, subject=rename(r.subject), object=rename(r.object), time=rename(r.time) if r.time else None)
        for r in example.gold.relations
    ]
    if len(set(renamed.values())) < len(renamed):
        return example  # two things would have become one
    context = example.context
    if earlier:
        context = tuple(Utterance(said.speaker, apply(said.text, edits_of(said.text))) for said in context)
    changed = Extraction(tuple(mentions), tuple(links), tuple(relations), gold.correction)
    return replace(example, context=context, text=text, gold=changed)


def apply(text: str, edits: Sequence[Edit]) -> str:
    """The text after edits that stand in order and do not overlap."""
    parts, read = [], 0
    for edit in edits:
        parts += [text[read : edit.start], edit.text]
        read = edit.end
    return "".join([*parts, text[read:]])


def lower(example: Example) -> Example:
    """Everything in lower case, where that keeps every offset and leaves different things different."""
    texts = [example.text, *(said.text for said in example.context)]
    names = {m.text for m in example.gold.mentions} | {k.antecedent for k in example.gold.links}
    if any(len(text.lower()) != len(text) for text in texts) or len({name.lower() for name in names}) < len(names):
        return example

    def argument(text: str) -> str:
        return text if text in ROLES else text.lower()

    gold = Extraction(
        tuple(replace(m, text=m.text.lower()) for m in example.gold.mentions),
        tuple(replace(k, text=k.text.lower(), antecedent=argument(k.antecedent)) for k in example.gold.links),
        tuple(
            Relation(argument(r.subject), r.predicate, argument(r.object), r.status, 1.0, r.time and r.time.lower())
            for r in example.gold.relations
        ),
        example.gold.correction,
    )
    context = tuple(Utterance(said.speaker, said.text.lower()) for said in example.context)
    return replace(example, context=context, text=example.text.lower(), gold=gold)


def label_spans(example: Example) -> list[tuple[int, int]]:
    """Where mentions and pronouns stand in the turn."""
    labels: list[Mention | PronounLink] = [*example.gold.mentions, *example.gold.links]
    return [(label.start, label.end) for label in labels]


def _fits(edit: Edit, spans: Sequence[tuple[int, int]], *, within: bool) -> bool:
    """Outside every span, or, where that is allowed, `within` one and no insertion."""
    for start, end in spans:
        if edit.start == edit.end:
            if start < edit.start < end:
                return False
        elif edit.start < end and edit.end > start and not (within and start <= edit.start and edit.end <= end):
            return False
    return True
