"""Fit what turns a relation's score into a probability, and the probability from which on it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from actors.extraction.assembly import Calibration, span_odds
from actors.extractor import Extractor
from actors.messages import ROLES, Request
from config.schema import Schema
from training.annotation import Example
from training.extractor.partial import CUTS_PERCENT, cuts
from training.extractor.score import as_turn, fact, is_judged, sayable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RIDGE = 1.0
_LASTING_SHARE = 0.93
"""Of what is told of turns that go on, how much must still be told of the whole ones."""


def fit(extractor: Extractor, examples: Sequence[Example], schema: Schema) -> Calibration:
    """The calibration under which `extractor` is sure where it is right on `examples`, and the best threshold by F1."""
    features: list[tuple[float, float, float]] = []
    right: list[bool] = []
    true = 0
    for example in examples:
        gold = {fact(relation, schema) for relation in sayable(example).relations}
        true += len(gold)
        turn = as_turn(example)
        for found in extractor.candidates(turn.text, turn.speaker, turn.context):
            if not is_judged(example, found.relation):
                continue
            features.append((found.score, span_odds(found.span_confidence), 1.0))
            right.append(fact(found.relation, schema) in gold)
    if not features:
        return Calibration()  # it proposed nothing: there is nothing to be sure of, nor to choose between
    known, outcome = np.array(features).reshape(-1, 3), np.array(right, dtype=float)
    score, span, bias = (float(weight) for weight in _logistic(known, outcome))
    fitted = Calibration(score=score, span=span, bias=bias)
    confidence = 1 / (1 + np.exp(-known @ (score, span, bias)))
    return replace(fitted, threshold=_best_threshold(confidence, outcome, true))


def fit_partial(extractor: Extractor, examples: Sequence[Example], schema: Schema) -> float:
    """The lowest confidence from which on what `extractor` tells of cut turns of `examples` lasts.

    `extractor` has to tell all that it would of a whole turn: a partial threshold of 0.
    """
    confidences: list[float] = []
    lasts: list[bool] = []
    for example in examples:
        turn = as_turn(example)
        whole, *cut = extractor.run(
            [
                Request(
                    replace(turn, id=f"{turn.id} {percent}", text=turn.text[:end], complete=percent == CUTS_PERCENT[-1])
                )
                for percent, end in reversed([*cuts(example)])
            ]
        )
        lasting = {fact(relation, schema) for relation in whole.relations}
        for relation in (relation for extraction in cut for relation in extraction.relations):
            confidences.append(relation.confidence)
            lasts.append(fact(relation, schema) in lasting)
    order = np.argsort(-np.array(confidences))
    share = np.cumsum(np.array(lasts, dtype=float)[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(share >= _LASTING_SHARE)
    return float(np.array(confidences)[order][good[-1]]) if len(good) else 1.0


def time_types(examples: Iterable[Example]) -> frozenset[str]:
    """The types of the mentions that date a relation."""
    return frozenset(
        mention.type
        for example in examples
        for relation in example.gold.relations
        for mention in example.gold.mentions
        if mention.text == relation.time
    )


def role_type(examples: Iterable[Example], schema: Schema) -> str | None:
    """The entity type that speaker and listener have, going by the predicates they stand in."""
    fits: Counter[str] = Counter()
    for example in examples:
        for relation in example.gold.relations:
            predicate = schema.predicates[relation.predicate]
            if relation.subject in ROLES:
                fits.update(predicate.domain)
            if relation.object in ROLES:
                fits.update(predicate.range)
    return fits.most_common(1)[0][0] if fits else None


def _logistic(features: NDArray[np.float64], outcome: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of a logistic regression that prefers to leave scores as they are, by Newton's method."""
    prior = np.array([1.0, 1.0, 0.0])
    weights = prior.copy()
    for _ in range(50):
        told = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        gradient = features.T @ (told - outcome) + _RIDGE * (weights - prior)
        curvature = (features * (told * (1 - told))[:, None]).T @ features + _RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-6:
            break
    return weights


def _best_threshold(confidence: NDArray[np.float64], outcome: NDArray[np.float64], true: int) -> float:
    order = np.argsort(-confidence)
    right = np.cumsum(outcome[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + true)
    # The middle of the plateau around the peak: one example more or less must not decide.
    good = np.flatnonzero(f1 >= f1.max() - 0.005)
    return round(float(confidence[order][good].mean()), 3)
