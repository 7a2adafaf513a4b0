"""How well a growing utterance is understood: what has been stated so far, and what is said of it too early.

Every turn that states something is cut after about a quarter, half and three quarters of its words, and left whole; a
turn whose style is "partial" is a cut one already and is read as it is. Two shares are counted:

- found: of the relations stated by the cut, those that are told of the cut text;
- stable: of the relations told of cut text, those that are still told of the whole turn.

The annotation does not say where a relation has been stated, so that is taken to be two words after the later one of
its arguments, or where a clause ends before that. An argument stands where it is mentioned or where a pronoun means it,
a role at its own pronouns; where there are several, the two count that stand closest together, in words and clause ends
between them, and of those the last.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TypeAlias

from actors.contract import SLM
from actors.messages import ROLES, Extraction, Relation, Request, Turn
from config.schema import Schema
from training.annotation import Example
from training.extractor.score import as_turn, fact

Reader: TypeAlias = Callable[[Turn], Extraction]
"""What a model says of a turn that may go on. It is given a turn's cuts in order, under one turn id."""
Span: TypeAlias = tuple[int, int]

CUTS_PERCENT = (25, 50, 75, 100)
_WORD = re.compile(r"\S+")
_WORD_OR_CLAUSE_END = re.compile(r"[^\s.,;:!?…]+|[.,;:!?…]")
_REST_OF_STATEMENT = re.compile(r"(?:\s+[^\s.,;:!?…]+){0,2}")
_ROLE_WORDS = dict(
    zip(
        ROLES,
        (
            re.compile(r"\b(?:i|me|my|mine|myself)\b", re.IGNORECASE),
            re.compile(r"\b(?:we|us|our|ours|ourselves)\b", re.IGNORECASE),
            re.compile(r"\b(?:you|your|yours|yourself|yourselves)\b", re.IGNORECASE),
        ),
        strict=True,
    )
)


def reader(slm: SLM) -> Reader:
    """Reads as the daemon has turns read, those that go on and whole ones."""

    def read(turn: Turn) -> Extraction:
        (result,) = slm.run([Request(turn)])
        if not isinstance(result, Extraction):
            raise TypeError(f"an extractor gave {type(result).__name__}")
        return result

    return read


def score_partial(
    examples: Sequence[Example], whole: Sequence[Extraction], read: Reader, schema: Schema
) -> dict[str, object]:
    """Both shares, overall and by cut, with what they are shares of; `whole` is what is said of the whole turns."""
    overall: Counter[str] = Counter()
    by_cut: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for example, final in zip(examples, whole, strict=True):
        stated = {fact(relation, schema): stated_at(example, relation) for relation in example.gold.relations}
        if not stated:
            continue
        turn, finally_told = as_turn(example), {fact(relation, schema) for relation in final.relations}
        for percent, end in cuts(example):
            is_cut = percent < CUTS_PERCENT[-1]
            said = read(replace(turn, text=example.text[:end], complete=not is_cut))
            told = {fact(relation, schema) for relation in said.relations}
            so_far = {key for key, at in stated.items() if at <= end}
            counts = Counter(stated=len(so_far), found=len(so_far & told))
            if is_cut:
                counts.update(told=len(told), kept=len(told & finally_told))
            by_cut[percent] += counts
            overall += counts
    return {
        "partial": _shares(overall),
        "by_cut": {f"{percent} %": _shares(by_cut[percent]) for percent in sorted(by_cut)},
    }


def cuts(example: Example) -> Iterator[tuple[int, int]]:
    """Percent of the words and the character where they end; a short turn has fewer cuts."""
    ends = [word.end() for word in _WORD.finditer(example.text)]
    wanted = CUTS_PERCENT if example.style != "partial" else CUTS_PERCENT[-1:]
    # Where two cuts fall together the later one counts: what is whole is whole.
    percents = {max(1, round(len(ends) * percent / 100)): percent for percent in wanted}
    yield from ((percent, ends[words - 1]) for words, percent in percents.items())


def stated_at(example: Example, relation: Relation) -> int:
    """The character by which the turn has stated the relation, as near as the annotation lets one tell."""
    subject, object_ = _places(example, relation.subject), _places(example, relation.object)
    if subject and object_:
        _, later = min(
            (_distance(example.text, one, other), -max(one[1], other[1])) for one, other in product(subject, object_)
        )
        end = -later
    elif alone := subject or object_:  # "Got a dog": the speaker is not mentioned
        end = alone[0][1]
    else:
        return len(example.text)
    rest = _REST_OF_STATEMENT.match(example.text, end)
    return rest.end() if rest else end


def _places(example: Example, argument: str) -> list[Span]:
    if argument in _ROLE_WORDS:
        return [word.span() for word in _ROLE_WORDS[argument].finditer(example.text)]
    spans = [(m.start, m.end) for m in example.gold.mentions if m.text == argument]
    return sorted([*spans, *((k.start, k.end) for k in example.gold.links if k.antecedent == argument)])


def _distance(text: str, one: Span, other: Span) -> int:
    return len(_WORD_OR_CLAUSE_END.findall(text, min(one[1], other[1]), max(one[0], other[0])))


def _shares(counts: Mapping[str, int]) -> dict[str, float | int | None]:
    def share(part: str, whole: str) -> float | None:
        return round(counts[part] / counts[whole], 4) if counts[whole] else None

    return {
        "found": share("found", "stated"),
        "stated": counts["stated"],
        "stable": share("kept", "told"),
        "told": counts["told"],
    }
