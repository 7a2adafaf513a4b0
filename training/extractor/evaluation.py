"""Evaluate an extractor: its score, cut utterances, and what it says that is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.contract import SLM
from actors.extractor import Extractor
from actors.messages import Extraction
from config.schema import Schema, load_schema
from training.annotation import Example, read_examples, to_record
from training.bootstrap import Shares
from training.evaluation import About
from training.extractor.partial import reader, score_partial
from training.extractor.report import details
from training.extractor.score import Report, Tally, count, judged, run_and_score
from training.splits import choose, conversation_files, conversation_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

own_files = conversation_files

ABOUT = About(
    what="Reads one turn of conversation and says which entities it mentions, whom its pronouns and phrases such as "
    "“that place” mean, which relations it states between them, whether each is asserted, ended, negated or uncertain, "
    "and when. One forward pass, no decoding: a MiniLM tags words, then scores every pair of what it tagged.",
    limits=(
        "English conversation only: long prose, other languages and other kinds of text were not measured.",
        "It says what its schema's predicates can say; of anything else it says nothing, or something wrong.",
        "The data was written by hand for this purpose. What real users say will differ, and the figures with it.",
        "A relation's confidence is that subject, predicate and object are right; status and time are measured apart.",
        "It is calibrated on average, on data like the held-out one: not for every predicate.",
    ),
)


@dataclass(frozen=True, slots=True)
class ExtractorEvaluation:
    """What an extractor said of each example, and the figures of `score` and `score_partial`."""

    examples: Sequence[Example]
    said: Sequence[Extraction]
    schema: Schema
    report: Report

    def records(self) -> Iterator[dict[str, Any]]:
        """The examples with what was said in the place of the gold labels."""
        return (to_record(example, said) for example, said in zip(self.examples, self.said, strict=True))

    def shares(self) -> Shares:
        """Per conversation: turns that quote one another are right or wrong together, so they are drawn together.

        `no_relation.true_negative_rate` is the share of relation-free turns that get no relation.
        """
        keys = conversation_keys(self.examples)
        place = {key: number for number, key in enumerate(dict.fromkeys(keys.values()))}
        tallies = defaultdict[str, list[Tally]](lambda: [Tally() for _ in place])
        for example, said in zip(self.examples, self.said, strict=True):
            here = place[keys[example.id]]
            turn = (tallies[""][here], tallies[example.category][here])
            count(example, said, self.schema, turn, defaultdict(Tally), defaultdict(Tally))
        overall = tallies.pop("")
        categories = {f"by_category.{name}.relation.f1": _f1(tallies[name], "relation") for name in sorted(tallies)}
        return {
            "entity.f1": _f1(overall, "entity"),
            "relation.f1": _f1(overall, "relation"),
            "relation.precision": _pairs((t.relation["right"], t.relation["told"]) for t in overall),
            "relation.recall": _pairs((t.relation["right"], t.relation["true"]) for t in overall),
            "status.accuracy": _pairs((t.status["right"], t.status["true"]) for t in overall),
            "pronoun.accuracy": _pairs((t.pronoun["right"], t.pronoun["true"]) for t in overall),
            "no_relation.true_negative_rate": _pairs(
                (t.quiet["true"] - t.quiet["told"], t.quiet["true"]) for t in overall
            ),
            **categories,
        }

    def details(self) -> str:
        """What is taken for what, and the worst errors."""
        return details(
            self.examples, [judged(e, x) for e, x in zip(self.examples, self.said, strict=True)], self.schema
        )


def evaluate(slm: SLM, files: Sequence[Path], split: str) -> ExtractorEvaluation:
    """Run `slm` on the examples of `files`, in its own schema, that are in `split` ("all", "train" or "held_out").

    Raises:
        AnnotationError: a file does not follow the annotation rules.
        TrainingError: the split holds no example of these files.
    """
    schema = slm.schema if isinstance(slm, Extractor) else load_schema()
    return evaluate_examples(slm, choose(read_examples(files, schema), split), schema)


def evaluate_examples(slm: SLM, examples: Sequence[Example], schema: Schema) -> ExtractorEvaluation:
    """Run `slm` on the turns, whole and while they go on."""
    said, report = run_and_score(slm, examples, schema)
    return ExtractorEvaluation(examples, said, schema, report | score_partial(examples, said, reader(slm), schema))


def _f1(tallies: Sequence[Tally], what: str) -> NDArray[np.float64]:
    counts = [getattr(tally, what) for tally in tallies]
    return _pairs((2 * c["right"], c["told"] + c["true"]) for c in counts)


def _pairs(pairs: Iterator[tuple[int, int]]) -> NDArray[np.float64]:
    return np.array(list(pairs), dtype=np.float64)
