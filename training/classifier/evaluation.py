"""Evaluate a classifier: its score, the time that one turn takes, and what it decides wrongly."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from actors.contract import SLM
from actors.messages import USER, Classification, Request, Turn
from config.settings import load_settings
from training.bootstrap import Shares
from training.classifier.queries import Query, choose, query_files, read_queries
from training.classifier.report import details
from training.classifier.score import score
from training.evaluation import About
from training.loading import open_slm

if TYPE_CHECKING:
    from numpy.typing import NDArray

own_files = query_files

ABOUT = About(
    what="Says of a turn to the assistant whether answering it needs research, whether it needs what is remembered of "
    "the user, and what kind of turn it is, each with a calibrated confidence, and why in words. A linear layer over "
    "the shared encoder's vector and the turn's words and word pairs.",
    limits=(
        "English only.",
        "It sees one turn and nothing before it: “and what about Monday?” is judged by its own words.",
        "It was trained on queries written by hand for this purpose; what real users ask will differ.",
        "Its answers hold with the encoder version that it was trained on.",
    ),
)


@dataclass(frozen=True, slots=True)
class ClassifierEvaluation:
    """What a classifier said of each query, and the figures of `score`."""

    queries: Sequence[Query]
    said: Sequence[Classification]
    report: dict[str, object]

    def records(self) -> Iterator[dict[str, object]]:
        """The queries with what was said of them."""
        return ({"text": query.text, **asdict(said)} for query, said in zip(self.queries, self.said, strict=True))

    def shares(self) -> Shares:
        """Per query: no two have to do with one another."""
        pairs = list(zip(self.queries, self.said, strict=True))
        research = [(query.needs_research, said.needs_research) for query, said in pairs]
        memory = [(query.needs_memory, said.needs_memory) for query, said in pairs]
        category = [(query.category, said.category) for query, said in pairs]
        return {
            "needs_research.accuracy": _accuracy(research),
            "needs_research.f1": _f1(research, True),
            "needs_memory.accuracy": _accuracy(memory),
            "needs_memory.f1": _f1(memory, True),
            "category.accuracy": _accuracy(category),
            **{f"by_category.{name}.f1": _f1(category, name) for name in sorted({gold for gold, _ in category})},
        }

    def details(self) -> str:
        """What is taken for what, and the worst errors."""
        return details(self.queries, self.said)


def evaluate(slm: SLM, files: Sequence[Path], split: str) -> ClassifierEvaluation:
    """Run `slm` on the queries of `files` that are in `split` ("all", "train" or "held_out").

    The vectors come from the active encoder, else the newest bundled; `latency_ms` is the classifier's own time.

    Raises:
        TrainingError: a file is not query data, or the split holds none of it.
        RegistryError, ModelLoadError: there is no encoder to use.
    """
    queries = choose(read_queries(files), split)
    encoder, version = open_slm("encoder", load_settings().settings)
    said: list[Classification] = []
    seconds: list[float] = []
    for number, query in enumerate(queries):
        turn = Turn(str(number), USER, "evaluation", USER, query.text, 0.0)
        (encoding,) = encoder.run([Request(turn)])
        began = time.perf_counter()
        (result,) = slm.run([Request(turn, {"encoder": encoding})])
        seconds.append(time.perf_counter() - began)
        if not isinstance(result, Classification):
            raise TypeError(f"a classifier gave {type(result).__name__}")
        said.append(result)
    encoder.close()
    latency_ms = {f"p{q}": round(float(np.percentile(seconds, q)) * 1e3, 3) for q in (50, 95, 99)}
    report = {"encoder": str(version)} | score(queries, said) | {"latency_ms": latency_ms}
    return ClassifierEvaluation(queries, said, report)


def _accuracy(pairs: Sequence[tuple[object, object]]) -> NDArray[np.float64]:
    return np.array([(gold == told, 1) for gold, told in pairs], dtype=np.float64)


def _f1(pairs: Sequence[tuple[object, object]], wanted: object) -> NDArray[np.float64]:
    rows = [(2 * (gold == told == wanted), (gold == wanted) + (told == wanted)) for gold, told in pairs]
    return np.array(rows, dtype=np.float64)
