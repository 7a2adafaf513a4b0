"""The classifier's data: JSON Lines with text, needs_research, needs_memory, category."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.errors import TrainingError
from training.splits import is_held_out

QUERIES = Path(__file__).resolve().parents[1] / "data" / "queries"
STATEMENTS = Path(__file__).resolve().parents[1] / "data" / "turns"
CLINC150 = Path(__file__).resolve().parents[1] / "data" / "clinc150" / "queries.jsonl"


class QueryDataError(TrainingError):
    """A line that is not a query; the text names file and line."""

    code = "bad_query_data"


@dataclass(frozen=True, slots=True)
class Query:
    """A user's turn and what answering it needs."""

    text: str
    needs_research: bool
    needs_memory: bool
    category: str


def query_files() -> list[Path]:
    """Our hand-written queries: what the shipped classifier is trained on and held out from."""
    return sorted(QUERIES.glob("*.jsonl"))


def statement_files() -> list[Path]:
    """Turns of conversation that ask nothing: most of what a daemon hears."""
    return sorted(STATEMENTS.glob("*.jsonl"))


def read_queries(files: Iterable[Path]) -> list[Query]:
    """Every query of the files. Raises: QueryDataError, OSError."""
    queries = []
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                query = Query(row["text"], row["needs_research"], row["needs_memory"], row["category"])
            except (ValueError, KeyError, TypeError) as error:
                raise QueryDataError(f"{file.name}:{number}: {error!r}") from error
            kinds = [type(value) for value in (query.text, query.needs_research, query.needs_memory, query.category)]
            if kinds != [str, bool, bool, str]:
                raise QueryDataError(f"{file.name}:{number}: text and category are strings, the needs true or false")
            queries.append(query)
    return queries


def choose(queries: Sequence[Query], split: str) -> list[Query]:
    """The queries of a split: "all", "train" or "held_out". Raises: TrainingError when it is unknown or empty."""
    if split not in ("all", "train", "held_out"):
        raise TrainingError(f"no split {split!r}; there are all, train and held_out")
    chosen = [query for query in queries if split == "all" or is_held_out(key(query.text)) == (split == "held_out")]
    if not chosen:
        raise TrainingError(f"the split {split} holds none of the {len(queries)} queries")
    return chosen


def key(text: str) -> str:
    """What a query's side of the split depends on: its words, whatever their case and punctuation."""
    return " ".join(re.findall(r"\w+", text.lower()))
