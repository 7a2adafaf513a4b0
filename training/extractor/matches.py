"""What was told in the place of what is true: every relation of a turn, gold or told, beside its counterpart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from actors.messages import ROLES, Extraction, Relation
from config.schema import Schema
from training.annotation import Example
from training.extractor.score import fact

RIGHT = "right"
OTHER_STATUS = "right, with another status"
REVERSED = "the other way round"
OTHER_PREDICATE = "another predicate between the same two"
OTHER_ARGUMENT = "right but for one argument"
MISSED = "missed, though both arguments were found"
MISSED_ARGUMENT = "missed, an argument was not found"
INVENTED = "invented between arguments that there are"
INVENTED_ARGUMENT = "invented, an argument is none"
KINDS = (
    RIGHT,
    OTHER_STATUS,
    REVERSED,
    OTHER_PREDICATE,
    OTHER_ARGUMENT,
    MISSED,
    MISSED_ARGUMENT,
    INVENTED,
    INVENTED_ARGUMENT,
)


@dataclass(frozen=True, slots=True)
class Match:
    """A gold relation and the told one in its place; None is told of a missed one, and gold of an invented one."""

    kind: str
    gold: Relation | None
    told: Relation | None


def match(example: Example, said: Extraction, schema: Schema) -> list[Match]:
    """Every gold and every told relation of a turn in exactly one match.

    The same fact first, then what else is told of the same two arguments, then the same predicate with one of the
    arguments; of several the surest.
    """
    gold = {fact(relation, schema): relation for relation in example.gold.relations}
    told = {fact(relation, schema): relation for relation in said.relations}
    matches = [
        Match(RIGHT if gold[key].status == told[key].status else OTHER_STATUS, gold[key], told[key])
        for key in gold
        if key in told
    ]
    missed = [gold[key] for key in gold if key not in told]
    wrong = sorted((told[key] for key in told if key not in gold), key=lambda relation: -relation.confidence)
    for alike in (_same_ends, _same_but_one_end):
        for relation in list(missed):
            if instead := next((other for other in wrong if alike(relation, other, schema)), None):
                missed.remove(relation)
                wrong.remove(instead)
                matches.append(Match(_kind(relation, instead), relation, instead))
    found, true = _arguments(said), _arguments(example.gold)
    return [
        *matches,
        *(Match(MISSED if _ends(one) <= found else MISSED_ARGUMENT, one, None) for one in missed),
        *(Match(INVENTED if _ends(one) <= true else INVENTED_ARGUMENT, None, one) for one in wrong),
    ]


def by_kind(matches: Iterable[Match]) -> dict[str, int]:
    """How many matches there are of every kind."""
    counts = Counter(found.kind for found in matches)
    return {kind: counts[kind] for kind in KINDS}


def confusions(matches: Sequence[Match]) -> list[tuple[str, str, int]]:
    """Gold predicate, the one told of the same two arguments in its stead, and how often; the most frequent first.

    The same predicate twice is one told the other way round.
    """
    counts = Counter(
        (found.gold.predicate, found.told.predicate)
        for found in matches
        if found.kind in (REVERSED, OTHER_PREDICATE) and found.gold and found.told
    )
    return [(gold, told, count) for (gold, told), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def by_predicate(matches: Iterable[Match]) -> Mapping[str, Counter[str]]:
    """For every predicate how many of its gold relations, or else of its invented ones, are of each kind."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for found in matches:
        relation = found.gold or found.told
        assert relation is not None  # noqa: S101 - tells mypy: a match holds one of them
        counts[relation.predicate][found.kind] += 1
    return dict(sorted(counts.items()))


def _kind(gold: Relation, told: Relation) -> str:
    if _ends(gold) != _ends(told):
        return OTHER_ARGUMENT
    return REVERSED if gold.predicate == told.predicate else OTHER_PREDICATE


def _same_ends(one: Relation, other: Relation, _: Schema) -> bool:
    return _ends(one) == _ends(other)


def _same_but_one_end(one: Relation, other: Relation, schema: Schema) -> bool:
    if one.predicate != other.predicate:
        return False
    if schema.predicates[one.predicate].symmetric:
        return bool(_ends(one) & _ends(other))
    return one.subject == other.subject or one.object == other.object


def _ends(relation: Relation) -> frozenset[str]:
    return frozenset((relation.subject, relation.object))


def _arguments(extraction: Extraction) -> frozenset[str]:
    return frozenset(
        (*ROLES, *(mention.text for mention in extraction.mentions), *(link.antecedent for link in extraction.links))
    )
