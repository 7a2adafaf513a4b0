"""What an extractor gets wrong: which predicates it takes for which, and its worst errors with their text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from operator import itemgetter

from actors.messages import ROLES, Extraction, Relation
from config.schema import Schema
from training.annotation import Example
from training.extractor.matches import (
    INVENTED,
    INVENTED_ARGUMENT,
    MISSED,
    MISSED_ARGUMENT,
    OTHER_ARGUMENT,
    OTHER_PREDICATE,
    OTHER_STATUS,
    REVERSED,
    RIGHT,
    Match,
    by_kind,
    by_predicate,
    confusions,
    match,
)
from training.markdown import table

_CONFUSIONS = 40
_WORST = 25
"""Of each of the two kinds of error: surely told and wrong, surely missed."""


def details(examples: Sequence[Example], said: Sequence[Extraction], schema: Schema) -> str:
    """Markdown sections on confusion of predicates and on the fifty worst errors."""
    matched = [match(example, extraction, schema) for example, extraction in zip(examples, said, strict=True)]
    return "\n\n".join(
        [*_confusion([found for turn in matched for found in turn]), *_worst(examples, said, matched, schema)]
    )


def _confusion(matches: Sequence[Match]) -> Iterator[str]:
    yield "## What becomes of relations"
    yield table(["relations, gold and told", "count"], by_kind(matches).items())
    yield "## Confusion of predicates"
    yield "What is told of the same two arguments in the place of the gold relation."
    yield table(["gold", "told", "count"], _shown(confusions(matches)[:_CONFUSIONS]))
    counts = by_predicate(matches)
    instead = defaultdict[str, Counter[str]](Counter)
    for gold, told, count in confusions(matches):
        instead[gold][told] += count
    yield "What becomes of every predicate's gold relations, and what else was invented of it."
    yield table(
        [
            "predicate",
            "gold",
            "right",
            "other predicate",
            "other argument",
            "missed",
            "argument missed",
            "invented",
            "argument invented",
            "told as",
        ],
        (
            (
                name,
                found.total() - found[INVENTED] - found[INVENTED_ARGUMENT],
                found[RIGHT] + found[OTHER_STATUS],
                found[OTHER_PREDICATE] + found[REVERSED],
                found[OTHER_ARGUMENT],
                found[MISSED],
                found[MISSED_ARGUMENT],
                found[INVENTED],
                found[INVENTED_ARGUMENT],
                ", ".join(f"{told} {count}" for told, count in instead[name].most_common(4)),
            )
            for name, found in counts.items()
        ),
    )


def _shown(confused: Sequence[tuple[str, str, int]]) -> Iterator[tuple[str, str, int]]:
    for gold, told, count in confused:
        yield gold, told if told != gold else f"{told}, the other way round", count


def _worst(
    examples: Sequence[Example], said: Sequence[Extraction], matched: Sequence[Sequence[Match]], schema: Schema
) -> Iterator[str]:
    wrong = [
        [(found.told.confidence, found) for found in turn if found.told and found.kind not in (RIGHT, OTHER_STATUS)]
        for turn in matched
    ]
    missed = [
        [(_sure_of_ends(found.gold, said[number]), found) for found in turn if found.gold and found.kind == MISSED]
        for number, turn in enumerate(matched)
    ]
    yield "## The worst errors"
    for title, how, errors in (
        ("Surest of what is wrong", "Told and not true, by the confidence it was told with.", wrong),
        (
            "Surest of what is missed",
            "True and not told, though both arguments were found, by how sure those were.",
            missed,
        ),
    ):
        yield f"### {title}"
        # The worst of each turn: the turn is shown whole, so its other errors can be seen there.
        worst = [(*max(turn, key=itemgetter(0)), number) for number, turn in enumerate(errors) if turn]
        worst.sort(key=lambda error: -error[0])
        yield f"{how} The worst of {min(_WORST, len(worst))} turns; {sum(map(len, errors))} errors in {len(worst)}."
        yield from (
            _error(place, sure, found, examples[number], said[number], schema)
            for place, (sure, found, number) in enumerate(worst[:_WORST], 1)
        )


def _sure_of_ends(relation: Relation, said: Extraction) -> float:
    """How sure the model was of both arguments: a role is always there."""
    sure: defaultdict[str, float] = defaultdict(float, dict.fromkeys(ROLES, 1.0))
    for mention in said.mentions:
        sure[mention.text] = max(sure[mention.text], mention.confidence)
    for link in said.links:
        sure[link.antecedent] = max(sure[link.antecedent], link.confidence)
    return sure[relation.subject] * sure[relation.object]


def _error(place: int, sure: float, found: Match, example: Example, said: Extraction, schema: Schema) -> str:
    def text(relation: Relation | None) -> str:
        if relation is None:
            return "nothing"
        status = f" ({relation.status})" if relation.status != schema.statuses[0] else ""
        return f"{relation.subject} `{relation.predicate}` {relation.object}{status}"

    lines = [f"{place}. **{sure:.2f}** {found.kind}: {text(found.told or found.gold)} ({example.id}, {example.style})"]
    lines += [f"   - {utterance.speaker}: {utterance.text}" for utterance in example.context[-1:]]
    lines += [f"   - turn: {example.text}"]
    lines += [f"   - gold: {'; '.join(text(r) for r in example.gold.relations) or 'nothing'}"]
    lines += [f"   - told: {'; '.join(f'{text(r)} {r.confidence:.2f}' for r in said.relations) or 'nothing'}"]
    return "\n".join(lines)
