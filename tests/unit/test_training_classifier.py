"""The classifier's data, its held-out split, and its scorer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.classifier import Classifier, Head
from actors.messages import Classification
from config.settings import load_settings
from training.calibration import calibration_error
from training.classifier.evaluation import evaluate
from training.classifier.queries import (
    CLINC150,
    Query,
    QueryDataError,
    choose,
    key,
    query_files,
    read_queries,
    statement_files,
)
from training.classifier.score import score
from training.errors import TrainingError
from training.loading import find_version


def said(research: bool, category: str, confidence: float) -> Classification:
    return Classification(research, confidence, False, 1.0, category, confidence, "")


def test_every_query_is_readable_and_written_once() -> None:
    queries = read_queries([*query_files(), *statement_files(), CLINC150])
    texts = [query.text.lower() for query in queries]
    assert len(texts) == len(set(texts))
    assert {query.category for query in queries} == {query.category for query in read_queries(query_files())}


def test_the_split_holds_out_about_a_sixth_whatever_the_case_and_punctuation() -> None:
    queries = read_queries(query_files())
    held_out, train = choose(queries, "held_out"), choose(queries, "train")
    assert len(held_out) + len(train) == len(queries)
    assert 0.1 < len(held_out) / len(queries) < 0.2
    assert not {key(q.text) for q in held_out} & {key(q.text) for q in train}
    assert key("What's the NEWS?!") == key("what's the news")
    assert choose(held_out, "held_out") == held_out


def test_nothing_held_out_comes_back_through_the_other_training_data() -> None:
    held_out = {key(query.text) for query in choose(read_queries(query_files()), "held_out")}
    others = [*read_queries([CLINC150]), *choose(read_queries(statement_files()), "train")]
    assert not held_out & {key(query.text) for query in others}


def test_an_unknown_or_empty_split_is_refused() -> None:
    with pytest.raises(TrainingError, match="all, train and held_out"):
        choose([], "test")
    with pytest.raises(TrainingError, match="none of the 0"):
        choose([], "held_out")


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"text": "hi"}',
        '{"text": 1, "needs_research": true, "needs_memory": true, "category": "math"}',
        '{"text": "hi", "needs_research": "yes", "needs_memory": true, "category": "math"}',
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    good = '{"text": "hi", "needs_research": false, "needs_memory": false, "category": "chitchat"}'
    file = tmp_path / "queries.jsonl"
    file.write_text(f"{good}\n{line}\n")
    with pytest.raises(QueryDataError, match=r"queries\.jsonl:2:") as caught:
        read_queries([file])
    assert caught.value.code == "bad_query_data"


def test_scores_are_those_of_a_case_counted_by_hand() -> None:
    queries = [
        Query("a", True, False, "lookup"),
        Query("b", True, True, "lookup"),
        Query("c", False, False, "math"),
        Query("d", False, False, "math"),
    ]
    answers = [
        said(True, "lookup", 0.95),
        said(False, "math", 0.95),
        said(True, "lookup", 0.95),
        said(False, "math", 0.95),
    ]
    report = json.loads(json.dumps(score(queries, answers)))
    assert report["needs_research"] == {"accuracy": 0.5, "precision": 0.5, "recall": 0.5, "f1": 0.5, "count": 2}
    assert report["needs_memory"] == {"accuracy": 0.75, "precision": None, "recall": 0.0, "f1": 0.0, "count": 1}
    assert report["category"] == {"accuracy": 0.5}
    assert report["by_category"]["math"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "count": 2}
    assert report["calibration"]["needs_research"] == 0.45
    assert report["calibration"]["needs_memory"] == 0.25


def test_confidence_that_means_what_it_says_has_no_calibration_error() -> None:
    assert calibration_error([(0.75, True)] * 3 + [(0.75, False)]) == 0
    assert calibration_error([(0.95, False)]) == 0.95
    assert calibration_error([]) is None


def test_the_bundled_version_is_as_good_as_its_manifest_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On held-out queries, with what was said of each, so that another scorer can check it."""
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    version = find_version("classifier", load_settings().settings)
    evaluation = evaluate(Classifier(Head.read(version.path)), query_files(), "held_out")
    report = evaluation.report
    measured = version.manifest.quality["held_out"]
    for decision in ("needs_research", "needs_memory", "category"):
        told, promised = report[decision], measured[decision]
        assert isinstance(told, dict)
        # Other processors round the encoder's int8 products a little differently.
        assert told["accuracy"] == pytest.approx(promised["accuracy"], abs=0.02)
    assert isinstance(report["needs_research"], dict)
    assert report["needs_research"]["accuracy"] >= 0.92
    rows = list(evaluation.records())
    held_out = choose(read_queries(query_files()), "held_out")
    assert [row["text"] for row in rows] == [query.text for query in held_out]
    right = sum(row["needs_research"] == query.needs_research for row, query in zip(rows, held_out, strict=True))
    assert report["needs_research"]["accuracy"] == round(right / len(rows), 4)
