"""Words of doubt lower the confidence of the relations that they touch: "Emma lives in Lisbon, I think"."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from actors.messages import Extraction, Relation
from config.schema import Hedges

_STOP = r"[.!?;\n]+"
_CLOSED_WORDS = {"'": "['’]", " ": r"\s+"}


class Doubt:
    """The rule of one schema's hedges.

    A relation is touched when the clause in which it is complete holds a hedge: of the places where its arguments are
    mentioned, those two nearest to each other count, and of them the later one.
    """

    def __init__(self, hedges: Hedges) -> None:
        self._factor = hedges.factor
        self._hedge = _any_of(hedges.words) if hedges.words and hedges.factor < 1 else None
        self._break = re.compile("|".join(filter(None, (_STOP, _alternatives(hedges.breaks)))), re.IGNORECASE)

    def lower(self, extraction: Extraction, text: str) -> Extraction:
        """The extraction of `text`, every touched relation's confidence times the factor, once."""
        if self._hedge is None or not extraction.relations:
            return extraction
        doubtful = [clause for clause in self._clauses(text) if self._hedge.search(text, *clause)]
        if not doubtful:
            return extraction
        places = defaultdict[str, list[int]](list)
        for mention in extraction.mentions:
            places[mention.text].append(mention.start)
        for link in extraction.links:
            places[link.antecedent].append(link.start)

        def lowered(relation: Relation) -> Relation:
            at = _completed_at(places[relation.subject], places[relation.object])
            touched = any(start <= at < end for start, end in doubtful)
            return replace(relation, confidence=relation.confidence * self._factor) if touched else relation

        return replace(extraction, relations=tuple(map(lowered, extraction.relations)))

    def _clauses(self, text: str) -> Iterator[tuple[int, int]]:
        start = 0
        for found in self._break.finditer(text):
            yield start, found.start()
            start = found.end()
        yield start, len(text)


def _completed_at(subject: list[int], object_: list[int]) -> int:
    """Where the later of two arguments stands; -1 for two roles, which stand nowhere."""
    if not subject or not object_:
        return max(subject or object_, default=-1)
    pairs = [(one, other) for one in subject for other in object_]
    nearest = min(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    return max(nearest)


def _alternatives(words: tuple[str, ...]) -> str:
    escaped = ("".join(_CLOSED_WORDS.get(letter, re.escape(letter)) for letter in word) for word in words)
    return rf"\b(?:{'|'.join(escaped)})\b" if words else ""


def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(_alternatives(words), re.IGNORECASE)
