"""Score an extractor on annotated conversation, strictly: exact spans, predicate, direction, antecedent's text."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import TypeAlias, TypeVar

import numpy as np

from actors.contract import SLM
from actors.messages import AGENT, USER, Extraction, Mention, PronounLink, Relation, Request, Turn, Utterance
from config.schema import Schema
from training.annotation import Example
from training.calibration import calibration_error
from training.errors import TrainingError

Fact: TypeAlias = tuple[Hashable, str]
"""What a relation says, whichever way round a symmetric one is written."""
Report: TypeAlias = dict[str, object]
T = TypeVar("T")
_CORRECTED = 0.5


class Tally:
    """Counts of what was right, told and true, for entities and the rest; `quiet` are turns that state no relation."""

    def __init__(self) -> None:
        self.entity: Counter[str] = Counter()
        self.relation: Counter[str] = Counter()
        self.status: Counter[str] = Counter()
        self.pronoun: Counter[str] = Counter()
        self.quiet: Counter[str] = Counter()

    def report(self) -> Report:
        """Shares; a share of nothing is None."""
        return {
            "entity": _found(self.entity),
            "relation": _found(self.relation),
            "status": _accuracy(self.status),
            "pronoun": _accuracy(self.pronoun) | {"precision": _share(self.pronoun["right"], self.pronoun["told"])},
        }


def run_and_score(slm: SLM, examples: Sequence[Example], schema: Schema) -> tuple[list[Extraction], Report]:
    """What `slm` says of each example, one at a time as in a conversation, and its score and latency.

    Where another version stood in, `stood_in` of the report counts the turns, in all and by the code of the reason.
    Raises: TrainingError when that was so for every turn.
    """
    said: list[Extraction] = []
    seconds: list[float] = []
    for example in examples:
        request = Request(as_turn(example))
        began = time.perf_counter()
        (result,) = slm.run([request])
        seconds.append(time.perf_counter() - began)
        if not isinstance(result, Extraction):
            raise TypeError(f"an extractor gave {type(result).__name__}")
        said.append(result)
    codes = Counter(result.stood_in.code for result in said if result.stood_in)
    if codes and codes.total() == len(said):
        raise TrainingError(f"another version stood in for every turn ({', '.join(sorted(codes))}): nothing to score")
    latency_ms = {f"p{q}": round(float(np.percentile(seconds, q)) * 1e3, 2) for q in (50, 95, 99)}
    stood_in = {"stood_in": {"turns": codes.total(), **codes}} if codes else {}
    return said, score(examples, said, schema) | stood_in | {"latency_ms": latency_ms}


def as_turn(example: Example) -> Turn:
    """An example as the daemon would hand it over: speaker A of the data is the user."""
    names = {"A": USER, "B": AGENT}
    context = tuple(Utterance(names.get(said.speaker, said.speaker), said.text) for said in example.context)
    return Turn(example.id, USER, example.id, USER, example.text, 0.0, context, example.known)


def score(examples: Sequence[Example], said: Sequence[Extraction], schema: Schema) -> Report:
    """Compare what a model said with the gold labels.

    An entity is right with its exact span and type, a relation with both arguments' text, predicate and direction
    (either, for a symmetric predicate), a status on a right relation, a pronoun with its antecedent's text. Where not
    everything was annotated, what cannot be known to be right or wrong is left out: see `judged`.
    """
    overall = Tally()
    by_category, by_predicate, by_style, by_type = (defaultdict[str, Tally](Tally) for _ in range(4))
    sureness: list[tuple[float, bool]] = []
    corrections: Counter[bool] = Counter()
    for example, extraction in zip(examples, said, strict=True):
        turn = (overall, by_category[example.category], by_style[example.style])
        count(example, extraction, schema, turn, by_predicate, by_type)
        facts = {fact(r, schema) for r in sayable(example).relations}
        told = {fact(r, schema): r.confidence for r in judged(example, extraction).relations}
        sureness += [(confidence, key in facts) for key, confidence in told.items()]
        corrections[bool(example.gold.correction) == (extraction.correction >= _CORRECTED)] += 1
    return {
        "examples": len(examples),
        **overall.report(),
        "no_relation": {
            "turns": overall.quiet["true"],
            "false_positive_rate": _share(overall.quiet["told"], overall.quiet["true"]),
        },
        "correction": {"accuracy": _share(corrections[True], len(examples))},
        "calibration": {"ece": calibration_error(sureness)},
        "by_category": _reports(by_category, ("entity", "relation", "status", "pronoun")),
        "by_predicate": _reports(by_predicate, ("relation", "status")),
        "by_style": _reports(by_style, ("entity", "relation", "status", "pronoun")),
        "by_entity_type": _reports(by_type, ("entity",)),
    }


def count(
    example: Example,
    extraction: Extraction,
    schema: Schema,
    turn: Sequence[Tally],
    by_predicate: defaultdict[str, Tally],
    by_type: defaultdict[str, Tally],
) -> None:
    """Add the outcomes of one turn to all of `turn`, and to those of their predicates and entity types."""
    gold, extraction = sayable(example), judged(example, extraction)
    entities = {(m.start, m.end, m.type) for m in gold.mentions}
    told_entities = {(m.start, m.end, m.type) for m in extraction.mentions}
    for name, entity in _outcomes(entities, told_entities):
        _add((*turn, by_type[entity[2]]), "entity", name)

    facts = {fact(r, schema): r.status for r in gold.relations}
    told_facts = {fact(r, schema): r.status for r in extraction.relations}
    for name, key in _outcomes(facts.keys(), told_facts.keys()):
        tallies = (*turn, by_predicate[key[1]])
        _add(tallies, "relation", name)
        if name == "right":
            _add(tallies, "status", "true")
            if facts[key] == told_facts[key]:
                _add(tallies, "status", "right")

    links = {(k.start, k.end, k.antecedent) for k in gold.links}
    told_links = {(k.start, k.end, k.antecedent) for k in extraction.links}
    for name, _ in _outcomes(links, told_links):
        _add(turn, "pronoun", name)

    if not facts:
        _add(turn, "quiet", "true")
        if told_facts:
            _add(turn, "quiet", "told")


def sayable(example: Example) -> Extraction:
    """The gold labels that can be found: where not all was annotated, whom a pronoun means may stand nowhere."""
    gold = example.gold
    if example.annotated is None:
        return gold
    texts = (example.text, *(said.text for said in example.context))
    nobody = {k.antecedent for k in gold.links if not any(k.antecedent in text for text in texts)}
    return replace(
        gold,
        links=tuple(link for link in gold.links if link.antecedent not in nobody),
        relations=tuple(r for r in gold.relations if not {r.subject, r.object} & nobody),
    )


def judged(example: Example, extraction: Extraction) -> Extraction:
    """What of an extraction the annotation can judge: all, where all was annotated.

    Else relations of predicates that were looked for or of two arguments that a gold relation joins, and mentions and
    links that touch gold ones: of names in between it is not known whether they are any.
    """
    if example.annotated is None:
        return extraction
    gold = sayable(example)
    taken = [(m.start, m.end) for m in gold.mentions] + [(k.start, k.end) for k in gold.links]

    def touches(span: Mention | PronounLink) -> bool:
        return any(span.start < end and span.end > start for start, end in taken)

    return replace(
        extraction,
        mentions=tuple(filter(touches, extraction.mentions)),
        links=tuple(filter(touches, extraction.links)),
        relations=tuple(r for r in extraction.relations if is_judged(example, r)),
    )


def is_judged(example: Example, relation: Relation) -> bool:
    """Whether the annotation tells if a relation holds."""
    pairs = {frozenset((r.subject, r.object)) for r in example.gold.relations}
    return (
        example.annotated is None
        or relation.predicate in example.annotated
        or frozenset((relation.subject, relation.object)) in pairs
    )


def fact(relation: Relation, schema: Schema) -> Fact:
    """What makes two relations the same one."""
    ends = (relation.subject, relation.object)
    symmetric = schema.predicates[relation.predicate].symmetric
    return (frozenset(ends) if symmetric else ends), relation.predicate


def _outcomes(true: Set[T], told: Set[T]) -> Iterator[tuple[str, T]]:
    """Every item under each name it counts by."""
    yield from (("true", item) for item in true)
    yield from (("told", item) for item in told)
    yield from (("right", item) for item in true & told)


def _add(tallies: Iterable[Tally], what: str, name: str) -> None:
    for tally in tallies:
        getattr(tally, what)[name] += 1


def _reports(tallies: Mapping[str, Tally], parts: Sequence[str]) -> dict[str, Report]:
    return {name: {part: tallies[name].report()[part] for part in parts} for name in sorted(tallies)}


def _found(counts: Counter[str]) -> dict[str, float | int | None]:
    f1 = _share(2 * counts["right"], counts["told"] + counts["true"])
    precision, recall = _share(counts["right"], counts["told"]), _share(counts["right"], counts["true"])
    return {"f1": f1, "precision": precision, "recall": recall, "count": counts["true"]}


def _accuracy(counts: Counter[str]) -> dict[str, float | int | None]:
    return {"accuracy": _share(counts["right"], counts["true"]), "count": counts["true"]}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
