"""What a classifier gets wrong: which categories it takes for which, and its worst errors with their text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from actors.messages import Classification
from training.classifier.queries import Query
from training.markdown import table

_WORST = 50


def details(queries: Sequence[Query], said: Sequence[Classification]) -> str:
    """Markdown sections on confusion of categories and on the fifty worst errors."""
    counts = Counter((query.category, answer.category) for query, answer in zip(queries, said, strict=True))
    names = sorted({name for pair in counts for name in pair})
    errors = [error for query, answer in zip(queries, said, strict=True) for error in _errors(query, answer)]
    errors.sort(key=lambda error: -error[0])
    return "\n\n".join(
        [
            "## Confusion of categories",
            "A row is what is true, a column what was told.",
            table(["", *names], ([gold, *(counts[gold, told] or None for told in names)] for gold in names)),
            "## The worst errors",
            f"By the confidence they were told with. {min(_WORST, len(errors))} of {len(errors)}.",
            table(
                ["query", "decision", "gold", "told", "confidence"],
                ((text, *rest, f"{sure:.2f}") for sure, text, *rest in errors[:_WORST]),
            ),
        ]
    )


def _errors(query: Query, answer: Classification) -> list[tuple[float, str, str, object, object]]:
    decisions = (
        ("needs_research", query.needs_research, answer.needs_research, answer.research_confidence),
        ("needs_memory", query.needs_memory, answer.needs_memory, answer.memory_confidence),
        ("category", query.category, answer.category, answer.category_confidence),
    )
    return [(sure, query.text, name, gold, told) for name, gold, told, sure in decisions if gold != told]
