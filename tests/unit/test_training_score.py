import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from actors.messages import USER, Extraction, Mention, PronounLink, Relation, Request, StandIn, Utterance
from config.schema import load_schema
from training.annotation import Example, read_examples
from training.calibration import calibration_error
from training.errors import TrainingError
from training.extractor.evaluation import evaluate
from training.extractor.score import as_turn, run_and_score, score

SCHEMA = load_schema()
ANN = Mention("Ann", "PERSON", 0, 3, 0.9)
OSLO = Mention("Oslo", "LOCATION", 13, 17, 0.9)
SHE = PronounLink("she", 22, 25, "Ann", 0.8)
LIVES = Relation("Ann", "lives_in", "Oslo", "asserted", 0.9)
MARRIED = Relation("Ann", "married_to", "speaker", "asserted", 0.9)
GOLD = Extraction((ANN, OSLO), (SHE,), (LIVES, MARRIED))
EXAMPLE = Example("a:1", "daily_life", "simple", (), "Ann lives in Oslo and she is my wife.", GOLD)
QUIET = Example("a:2", "daily_life", "chitchat", (), "Ha!", Extraction((), (), ()))


def scored(*said: Extraction) -> dict[str, object]:
    examples = [EXAMPLE, QUIET][: len(said)]
    return score(examples, said, SCHEMA)


def test_what_is_all_right_scores_one() -> None:
    report = scored(GOLD, QUIET.gold)
    assert report["examples"] == 2
    assert report["entity"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "count": 2}
    assert report["relation"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "count": 2}
    assert report["status"] == {"accuracy": 1.0, "count": 2}
    assert report["pronoun"] == {"accuracy": 1.0, "count": 1, "precision": 1.0}
    assert report["no_relation"] == {"turns": 1, "false_positive_rate": 0.0}


def test_saying_nothing_scores_nothing() -> None:
    report = scored(Extraction((), (), ()))
    assert report["relation"] == {"f1": 0.0, "precision": None, "recall": 0.0, "count": 2}
    assert report["pronoun"] == {"accuracy": 0.0, "count": 1, "precision": None}
    assert report["calibration"] == {"ece": None}


@pytest.mark.parametrize(
    ("wrong", "f1"),
    [
        (replace(LIVES, object="oslo"), 0.5),
        (replace(LIVES, predicate="traveled_to"), 0.5),
        (replace(LIVES, subject="Oslo", object="Ann"), 0.5),
        (replace(LIVES, subject="she"), 0.5),
        (replace(LIVES, status="ended"), 1.0),
        (replace(LIVES, time="now"), 1.0),
    ],
)
def test_a_relation_is_right_with_arguments_predicate_and_direction(wrong: Relation, f1: float) -> None:
    report = scored(replace(GOLD, relations=(wrong, MARRIED)))
    assert report["relation"]["f1"] == f1  # type: ignore[index]


def test_a_symmetric_relation_is_right_either_way_and_counts_once() -> None:
    mirrored = replace(MARRIED, subject="speaker", object="Ann")
    report = scored(replace(GOLD, relations=(LIVES, mirrored, MARRIED)))
    assert report["relation"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "count": 2}


def test_status_is_judged_on_right_relations_only() -> None:
    said = (replace(LIVES, status="ended"), replace(MARRIED, subject="Oslo", status="ended"))
    assert scored(replace(GOLD, relations=said))["status"] == {"accuracy": 0.0, "count": 1}


def test_an_entity_needs_its_span_and_type() -> None:
    said = (replace(ANN, end=2), replace(OSLO, type="ORGANIZATION"), OSLO)
    report = scored(replace(GOLD, mentions=said))
    assert report["entity"] == {"f1": 0.4, "precision": 0.3333, "recall": 0.5, "count": 2}


def test_a_pronoun_needs_its_antecedents_text() -> None:
    assert scored(replace(GOLD, links=(replace(SHE, antecedent="Oslo"),)))["pronoun"]["accuracy"] == 0.0  # type: ignore[index]


def test_a_relation_told_of_a_turn_without_any_is_a_false_positive() -> None:
    report = scored(GOLD, replace(QUIET.gold, relations=(LIVES,)))
    assert report["no_relation"] == {"turns": 1, "false_positive_rate": 1.0}


def test_scores_are_told_by_category_and_by_predicate() -> None:
    report = scored(replace(GOLD, relations=(LIVES,)))
    assert report["by_predicate"]["lives_in"]["relation"]["f1"] == 1.0  # type: ignore[index]
    assert report["by_predicate"]["married_to"]["relation"]["recall"] == 0.0  # type: ignore[index]
    assert report["by_category"]["daily_life"]["relation"]["recall"] == 0.5  # type: ignore[index]
    json.dumps(report)


def test_calibration_error_is_the_gap_between_sureness_and_truth() -> None:
    assert calibration_error([(0.75, True)] * 3 + [(0.75, False)]) == 0.0
    assert calibration_error([(0.95, False)] * 2) == 0.95
    assert calibration_error([(1.0, True), (0.0, True)]) == 0.5
    assert calibration_error([]) is None


def test_the_speaker_of_the_turn_is_the_user() -> None:
    turn = as_turn(
        replace(EXAMPLE, context=(Utterance("A", "Hi."), Utterance("B", "Hello."), Utterance("Lena", "Hey.")))
    )
    assert turn.speaker == USER
    assert [said.speaker for said in turn.context] == ["user", "agent", "Lena"]


@dataclass
class Remembering:
    """A small model that knows some texts by heart."""

    known: dict[str, Extraction]

    def run(self, requests: Sequence[Request]) -> list[Extraction]:
        return [self.known.get(request.turn.text, QUIET.gold) for request in requests]

    def close(self) -> None: ...


def test_what_was_said_can_be_written_in_the_datas_own_format(tmp_path: Path) -> None:
    block = "@ daily_life style=simple\nT: [Ann|PERSON] lives in [Oslo|LOCATION].\nR: Ann; lives_in; Oslo\n"
    path = tmp_path / "a.txt"
    path.write_text(block)
    (example,) = read_examples([path], SCHEMA)
    model = Remembering({example.text: example.gold})
    evaluation = evaluate(model, [path], "all")  # type: ignore[arg-type]
    assert evaluation.report["relation"]["f1"] == 1.0  # type: ignore[index]
    assert evaluation.report["latency_ms"]["p50"] >= 0  # type: ignore[index]
    (tmp_path / "said.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in evaluation.records()))
    assert read_examples([tmp_path / "said.jsonl"], SCHEMA) == [example]
    sides = []
    for split in ("train", "held_out"):
        try:
            sides.append(evaluate(model, [path], split).report["examples"])  # type: ignore[arg-type]
        except TrainingError:
            sides.append(0)
    assert sorted(sides) == [0, 1]


def test_turns_that_another_version_answered_are_counted_by_the_reason() -> None:
    late, down = (StandIn("extractor@1.1.0", code) for code in ("generation_timeout", "generator_unavailable"))
    examples = [replace(EXAMPLE, text=text) for text in ("one", "two", "three", "four")]
    hindered = {"one": late, "two": late, "three": down, "four": None}
    model = Remembering({text: replace(GOLD, stood_in=why) for text, why in hindered.items()})
    _, report = run_and_score(model, examples, SCHEMA)  # type: ignore[arg-type]
    assert report["stood_in"] == {"turns": 3, "generation_timeout": 2, "generator_unavailable": 1}
    assert "stood_in" not in run_and_score(model, examples[3:], SCHEMA)[1]  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=r"every turn .*generation_timeout, generator_unavailable"):
        run_and_score(model, examples[:3], SCHEMA)  # type: ignore[arg-type]
