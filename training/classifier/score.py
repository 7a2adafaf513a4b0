"""Score a classifier on queries: each decision, each class, calibration."""

from __future__ import annotations

from collections.abc import Sequence

from actors.messages import Classification
from training.calibration import calibration_error
from training.classifier.queries import Query


def score(queries: Sequence[Query], said: Sequence[Classification]) -> dict[str, object]:
    """Accuracy of the three decisions, each class's precision, recall and F1, and calibration.

    `calibration.ece` pools the confidences of all three decisions; the parts are beside it.
    """
    needs_research = [(q.needs_research, s.needs_research) for q, s in zip(queries, said, strict=True)]
    needs_memory = [(q.needs_memory, s.needs_memory) for q, s in zip(queries, said, strict=True)]
    category = [(q.category, s.category) for q, s in zip(queries, said, strict=True)]
    sureness = {
        "needs_research": [(s.research_confidence, t == p) for s, (t, p) in zip(said, needs_research, strict=True)],
        "needs_memory": [(s.memory_confidence, t == p) for s, (t, p) in zip(said, needs_memory, strict=True)],
        "category": [(s.category_confidence, t == p) for s, (t, p) in zip(said, category, strict=True)],
    }
    names = sorted({name for pair in category for name in pair})
    return {
        "queries": len(queries),
        "needs_research": {"accuracy": _accuracy(needs_research), **_found(needs_research, True)},
        "needs_memory": {"accuracy": _accuracy(needs_memory), **_found(needs_memory, True)},
        "category": {"accuracy": _accuracy(category)},
        "calibration": {
            "ece": calibration_error([pair for pairs in sureness.values() for pair in pairs]),
            **{name: calibration_error(pairs) for name, pairs in sureness.items()},
        },
        "by_category": {name: _found(category, name) for name in names},
    }


def _accuracy(pairs: Sequence[tuple[object, object]]) -> float:
    return round(sum(true == told for true, told in pairs) / len(pairs), 4)


def _found(pairs: Sequence[tuple[object, object]], wanted: object) -> dict[str, float | int | None]:
    right = sum(true == told == wanted for true, told in pairs)
    told_count, true_count = sum(told == wanted for _, told in pairs), sum(true == wanted for true, _ in pairs)

    def share(part: int, whole: int) -> float | None:
        return round(part / whole, 4) if whole else None

    return {
        "precision": share(right, told_count),
        "recall": share(right, true_count),
        "f1": share(2 * right, told_count + true_count),
        "count": true_count,
    }
