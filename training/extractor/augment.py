"""New variants of an example that keep its labels true: other names, no punctuation, fillers, less context."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from actors.messages import ROLES, Extraction, Mention, PronounLink, Relation, Utterance
from training.annotation import Example

_GENDERS = {"he": "he", "him": "he", "his": "he", "she": "she", "her": "she", "hers": "she"}
_FILLERS = ("uh", "um", "like", "you know", "well", "i mean", "so")
_GENDERED_SHARE = 0.25
_PUNCTUATION = re.compile(r"[.,!?;:\"…()]+")


@dataclass(frozen=True, slots=True)
class Rates:
    """How often each change is made."""

    swap_names: float = 0.6
    drop_punctuation: float = 0.35
    add_filler: float = 0.15
    drop_context: float = 0.1


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters [start, end) of a text become `text`."""

    start: int
    end: int
    text: str


class Augmenter:
    """Makes variants; the names it swaps in are those of the examples it was built from."""

    def __init__(self, examples: Sequence[Example], rates: Rates) -> None:
        self._rates = rates
        self._kinds: dict[str, tuple[str, str]] = {}
        self._pools: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        types: dict[str, str] = {}
        genders: defaultdict[str, Counter[str]] = defaultdict(Counter)
        uses: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for example in examples:
            types |= {m.text: m.type for m in example.gold.mentions if _is_name(m.text)}
            for link in example.gold.links:
                if (gender := _GENDERS.get(link.text.lower())) is not None:
                    genders[link.antecedent][gender] += 1
            for relation in example.gold.relations:
                uses[relation.object][relation.predicate] += 1
        # "Parrot." at the start of a sentence is no name.
        nouns = {mention.text for example in examples for mention in example.gold.mentions}
        types = {name: kind for name, kind in types.items() if name.lower() == name or name.lower() not in nouns}
        gendered = Counter(types[name] for name in genders if name in types)
        sizes = Counter(types.values())
        for name, kind in sorted(types.items()):
            # People change places freely within a gender; a city must not become a hotel.
            marks = genders[name] if gendered[kind] > _GENDERED_SHARE * sizes[kind] else uses[name]
            self._kinds[name] = kind, marks.most_common(1)[0][0] if marks else ""
            self._pools[self._kinds[name]].append(name)

    def vary(self, example: Example, rng: random.Random) -> Example:
        """A variant of `example`: the same one when nothing was changed."""
        rates = self._rates
        if rng.random() < rates.drop_context and not _needs_context(example):
            example = replace(example, context=())
        if rng.random() < rates.swap_names:
            example = self._swap_names(example, rng)
        if rng.random() < rates.add_filler:
            example = _edit(example, lambda text: _filler(text, rng), earlier=False)
        if rng.random() < rates.drop_punctuation:
            example = _lower(_edit(example, _without_punctuation, earlier=True))
        return example

    def _swap_names(self, example: Example, rng: random.Random) -> Example:
        names = {m.text for m in example.gold.mentions} | {k.antecedent for k in example.gold.links}
        chosen: dict[str, str] = {}
        for name in sorted(names & self._kinds.keys()):
            other = rng.choice(self._pools[self._kinds[name]])
            if other not in names and other not in chosen.values():
                chosen[name] = other
        if not chosen:
            return example
        longest_first = sorted(chosen, key=len, reverse=True)
        pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

        def swap(text: str) -> list[Edit]:
            return [Edit(found.start(), found.end(), chosen[found[0]]) for found in pattern.finditer(text)]

        return _edit(example, swap, earlier=True)


def _needs_context(example: Example) -> bool:
    spoken = {mention.text for mention in example.gold.mentions}
    return bool(example.gold.correction) or any(link.antecedent not in spoken for link in example.gold.links)


def _is_name(text: str) -> bool:
    words = text.split()
    return all(word[0].isupper() for word in words) and not text.isupper()


def _without_punctuation(text: str) -> list[Edit]:
    # A mark within a word ("7:30", "3.5") is part of it.
    return [
        Edit(mark.start(), mark.end(), "")
        for mark in _PUNCTUATION.finditer(text)
        if not (text[: mark.start()][-1:].isalnum() and text[mark.end() :][:1].isalnum())
    ]


def _filler(text: str, rng: random.Random) -> list[Edit]:
    gaps = [found.start() for found in re.finditer(r" ", text)]
    if not gaps:
        return []
    at = rng.choice(gaps)
    return [Edit(at, at, f" {rng.choice(_FILLERS)}")]


def _edit(example: Example, edits_of: Callable[[str], list[Edit]], *, earlier: bool) -> Example:
    """Apply edits to the turn, its labels and, with `earlier`, its context.

    An edit that only overlaps a label's span, or that would change a label it stands in for one text but not another,
    is not made: every label's text is edited by itself and must come out the same.
    """
    gold = example.gold
    spans = [(m.start, m.end) for m in gold.mentions] + [(k.start, k.end) for k in gold.links]
    edits = [edit for edit in edits_of(example.text) if _fits(edit, spans)]
    text = _apply(example.text, edits)

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
            renamed[argument] = _apply(argument, edits_of(argument)) if earlier else argument
        return renamed[argument]

    links: list[PronounLink] = []
    for link in example.gold.links:
        start, end = moved(link.start, is_end=False), moved(link.end, is_end=True)
        links.append(replace(link, text=text[start:end], start=start, end=end, antecedent=rename(link.antecedent)))
    relations = [
        replace(r, subject=rename(r.subject), object=rename(r.object), time=rename(r.time) if r.time else None)
        for r in example.gold.relations
    ]
    context = example.context
    if earlier:
        context = tuple(Utterance(said.speaker, _apply(said.text, edits_of(said.text))) for said in context)
    changed = Extraction(tuple(mentions), tuple(links), tuple(relations), gold.correction)
    return replace(example, context=context, text=text, gold=changed)


def _fits(edit: Edit, spans: Sequence[tuple[int, int]]) -> bool:
    """Outside every span, or within one and not at an insertion point inside it."""
    for start, end in spans:
        if edit.start == edit.end:
            if start < edit.start < end:
                return False
        elif edit.start < end and edit.end > start and not (start <= edit.start and edit.end <= end):
            return False
    return True


def _apply(text: str, edits: Sequence[Edit]) -> str:
    parts, read = [], 0
    for edit in edits:
        parts += [text[read : edit.start], edit.text]
        read = edit.end
    return "".join([*parts, text[read:]])


def _lower(example: Example) -> Example:
    """Everything in lower case, where that keeps every offset."""
    texts = [example.text, *(said.text for said in example.context)]
    if any(len(text.lower()) != len(text) for text in texts):
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
