"""What an evaluation says: matches of gold and told, the page, the comparison, the papers of a version."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from actors.messages import Classification, Extraction, Mention, PronounLink, Relation, Utterance
from config.schema import load_schema
from config.settings import load_settings
from registry.bundled import BUNDLED
from registry.store import Store
from registry.versions import Manifest, ModelVersion
from training.annotation import Example
from training.card import CARD, REPORT, main, write_papers
from training.classifier.evaluation import ClassifierEvaluation
from training.classifier.queries import Query
from training.classifier.score import score as score_classifier
from training.errors import MissingCard
from training.extractor.evaluation import ABOUT, ExtractorEvaluation
from training.extractor.matches import (
    INVENTED,
    INVENTED_ARGUMENT,
    MISSED,
    MISSED_ARGUMENT,
    OTHER_ARGUMENT,
    OTHER_PREDICATE,
    OTHER_STATUS,
    REVERSED,
    RIGHT,
    by_kind,
    confusions,
    match,
)
from training.extractor.score import score
from training.loading import version_before
from training.markdown import flat, named_table, table
from training.register import describe_version, register_version
from training.report import compare, page

SCHEMA = load_schema()
TEXT = "Ann lives in Oslo with her wife Bea and works at Rema."
ANN, OSLO, BEA, REMA = (
    Mention(name, type_, TEXT.index(name), TEXT.index(name) + len(name), 0.9)
    for name, type_ in (("Ann", "PERSON"), ("Oslo", "LOCATION"), ("Bea", "PERSON"), ("Rema", "ORGANIZATION"))
)
HER = PronounLink("her", 23, 26, "Ann", 0.8)


def relation(subject: str, predicate: str, object_: str, confidence: float = 1.0, status: str = "asserted") -> Relation:
    return Relation(subject, predicate, object_, status, confidence)


LIVES = relation("Ann", "lives_in", "Oslo")
MARRIED = relation("Ann", "married_to", "Bea")
WORKS = relation("Ann", "works_at", "Rema")
GOLD = Extraction((ANN, OSLO, BEA, REMA), (HER,), (LIVES, MARRIED, WORKS))
EXAMPLE = Example("a:1", "daily_life", "complex", (Utterance("B", "Who is Ann?"),), TEXT, GOLD)
QUIET = Example("b:1", "daily_life", "chitchat", (), "Ha!", Extraction((), (), ()))


def evaluation(*said: Extraction, examples: Sequence[Example] = (EXAMPLE, QUIET)) -> ExtractorEvaluation:
    shown = examples[: len(said)]
    return ExtractorEvaluation(shown, said, SCHEMA, score(shown, said, SCHEMA))


def saying(*relations: Relation) -> Extraction:
    return replace(GOLD, relations=relations)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (LIVES, RIGHT),
        (relation("Bea", "married_to", "Ann"), RIGHT),  # symmetric
        (replace(LIVES, status="ended"), OTHER_STATUS),
        (relation("Oslo", "lives_in", "Ann"), REVERSED),
        (relation("Ann", "traveled_to", "Oslo"), OTHER_PREDICATE),
        (relation("Oslo", "popular_in", "Ann"), OTHER_PREDICATE),
        (relation("Ann", "lives_in", "Norway"), OTHER_ARGUMENT),
        (relation("wife", "married_to", "Ann"), OTHER_ARGUMENT),
        (relation("Bea", "likes", "Oslo"), INVENTED),
        (relation("Bea", "likes", "cats"), INVENTED_ARGUMENT),
    ],
)
def test_what_is_told_is_matched_with_what_it_stands_for(told: Relation, kind: str) -> None:
    matches = match(EXAMPLE, saying(told), SCHEMA)
    assert [found.kind for found in matches if found.told == told] == [kind]
    assert sum(found.gold is not None for found in matches) == 3


def test_a_relation_is_missed_with_or_without_its_arguments() -> None:
    said = replace(saying(), mentions=(ANN, OSLO))
    kinds = {found.gold: found.kind for found in match(EXAMPLE, said, SCHEMA)}
    assert kinds == {LIVES: MISSED, MARRIED: MISSED_ARGUMENT, WORKS: MISSED_ARGUMENT}


def test_every_relation_stands_in_one_match_and_the_surest_stands_in_first() -> None:
    sure, unsure = relation("Ann", "traveled_to", "Oslo", 0.9), relation("Oslo", "famous_for", "Ann", 0.4)
    matches = match(EXAMPLE, saying(unsure, sure, MARRIED), SCHEMA)
    assert {(found.gold, found.told, found.kind) for found in matches} == {
        (LIVES, sure, OTHER_PREDICATE),
        (MARRIED, MARRIED, RIGHT),
        (WORKS, None, MISSED),
        (None, unsure, INVENTED),
    }


def test_confusions_are_counted_and_the_frequent_come_first() -> None:
    swapped = saying(relation("Ann", "traveled_to", "Oslo"), relation("Rema", "works_at", "Ann"), MARRIED)
    again = saying(relation("Ann", "traveled_to", "Oslo"))
    matches = [found for said in (swapped, again) for found in match(EXAMPLE, said, SCHEMA)]
    assert confusions(matches) == [("lives_in", "traveled_to", 2), ("works_at", "works_at", 1)]
    assert sum(by_kind(matches).values()) == len(matches) == 6


def test_the_worst_errors_are_shown_with_turn_gold_and_told_the_surest_first() -> None:
    wrong = saying(LIVES, relation("Bea", "lives_in", "Oslo", 0.91), relation("Bea", "likes", "Rema", 0.4))
    other = replace(EXAMPLE, id="c:1", context=())
    text = evaluation(
        wrong, saying(replace(WORKS, predicate="manages", confidence=0.97)), examples=(EXAMPLE, other)
    ).details()
    surest = text[text.index("### Surest of what is wrong") :].split("### ")[1]
    assert surest.index("1. **0.97**") < surest.index("2. **0.91**")
    assert "Bea `lives_in` Oslo (a:1, complex)" in surest
    assert "   - B: Who is Ann?\n" in surest
    assert f"   - turn: {TEXT}\n" in surest
    assert "   - gold: Ann `lives_in` Oslo; Ann `married_to` Bea; Ann `works_at` Rema\n" in surest
    assert "   - told: Ann `manages` Rema 0.97" in surest
    assert "3 errors in 2" in surest
    missed = text[text.index("### Surest of what is missed") :]
    assert "Ann `married_to` Bea (a:1, complex)" in missed
    assert "**0.81**" in missed  # 0.9 for either argument


def test_a_page_holds_every_part() -> None:
    found = evaluation(saying(LIVES, MARRIED), QUIET.gold)
    report = {"model": "extractor@1.0.0", "split": "held_out", **found.report}
    text = page(report, found)
    for title in (
        "# extractor@1.0.0, held_out split",
        *("## By category", "## By predicate", "## By style", "## By entity type"),
        *("## What becomes of relations", "## Confusion of predicates", "## The worst errors"),
    ):
        assert f"\n{title}\n" in f"\n{text}"
    assert "| relation.f1 | 0.8 |" in text
    assert "Compared" not in text
    assert "stood in" not in text


def test_a_page_begins_with_how_many_turns_another_version_answered() -> None:
    found = evaluation(saying(LIVES, MARRIED), QUIET.gold)
    stood_in = {"turns": 2, "generation_timeout": 1, "generation_invalid": 1}
    report = {"model": "extractor@2.0.0", "split": "held_out", **found.report, "stood_in": stood_in}
    head = page(report, found).split("\n\n")[1]
    assert "stood in for 2 turns (generation_timeout 1, generation_invalid 1)" in head


def test_versions_are_compared_per_conversation() -> None:
    """Two turns that quote one another are one conversation."""
    reply = replace(EXAMPLE, id="a:9", context=(Utterance("A", TEXT),), text="Ann moved here a long while ago.")
    reply = replace(reply, gold=QUIET.gold)
    examples = (EXAMPLE, reply, QUIET)
    old = evaluation(saying(LIVES), saying(LIVES), QUIET.gold, examples=examples)
    new = evaluation(GOLD, QUIET.gold, QUIET.gold, examples=examples)
    compared = compare("extractor@1.0.0", old, new)
    assert compared["comparison"] == {"units": 2, "resamples": 4000}
    measures = flat(compared["by_measure"])  # type: ignore[arg-type]
    assert (measures["relation.f1.old"], measures["relation.f1.new"]) == (0.4, 1.0)
    assert measures["no_relation.true_negative_rate.old"] == 0.5
    assert measures["by_category.daily_life.relation.f1.difference"] == 0.6
    assert measures["status.accuracy.difference"] == 0.0
    # As many old and new figures as the reports themselves have.
    assert old.report["relation"]["f1"] == 0.4  # type: ignore[index]
    assert "## Compared with extractor@1.0.0" in page({"model": "m", "split": "all", **compared}, new)


def test_a_classifiers_errors_and_confusions_are_shown() -> None:
    queries = [Query("will it rain", True, False, "lookup"), Query("two | two", False, False, "math")]
    said = [
        Classification(False, 0.7, False, 0.9, "math", 0.8, ""),
        Classification(False, 0.9, False, 0.9, "math", 0.9, ""),
    ]
    found = ClassifierEvaluation(queries, said, score_classifier(queries, said))
    text = found.details()
    assert (
        "| will it rain | category | lookup | math | 0.80 |\n| will it rain | needs_research | True | False | 0.70 |"
        in text
    )
    assert "2 of 2." in text
    assert "| lookup |  | 1 |" in text
    shares = found.shares()
    for name, decision in (("needs_research", "f1"), ("needs_research", "accuracy"), ("category", "accuracy")):
        part, whole = shares[f"{name}.{decision}"].sum(axis=0)
        assert part / whole == found.report[name][decision]  # type: ignore[index]


def test_tables_hold_any_text_and_leave_gaps() -> None:
    assert table(["a", "b"], [["x|y", None]]) == "| a | b |\n| --- | ---: |\n| x\\|y |  |"
    assert named_table({"one": {"f1": 1.0}, "two": {"deep": {"er": 2}}}).splitlines()[2:] == [
        "| one | 1.0 |  |",
        "| two |  | 2 |",
    ]


def described(folder: Path) -> ModelVersion:
    return describe_version(
        folder,
        name="extractor",
        version="9.9.9",
        kind="extractor",
        runtime="onnx",
        licence="Apache-2.0",
        trained_from=("a book",),
        quality={"trained_on": 12},
        notes="Recipe: patience.",
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    (tmp_path / "version").mkdir()
    (tmp_path / "version" / "weights.bin").write_bytes(b"w" * 1_500_000)
    return tmp_path / "version"


def test_a_version_is_registered_with_its_papers_and_not_without(folder: Path) -> None:
    with pytest.raises(MissingCard, match=r"extractor@9\.9\.9.*README\.md"):
        register_version(described(folder))
    found = evaluation(*[saying(LIVES)] * 3, examples=[replace(EXAMPLE, id=f"a:{n}") for n in range(3)])
    found = replace(found, report=found.report | {"latency_ms": {"p50": 5.0}})
    write_papers(described(folder), ABOUT, found)
    registered = register_version(described(folder))
    assert {CARD, REPORT} < {entry.path for entry in registered.manifest.files}
    assert Store(load_settings().settings.registry_root).verify("extractor@9.9.9").path == registered.path
    card = (registered.path / CARD).read_text(encoding="utf-8")
    for said in ("# extractor@9.9.9", "1.5 MB", "- a book", "trained on 12 turns", "Recipe: patience.", "Apache-2.0"):
        assert said in card
    assert "| relation.f1 | 0.5 |" in card
    assert REPORT in card
    assert "latency" not in card + (registered.path / REPORT).read_text(encoding="utf-8")


def test_a_card_names_what_is_weak(folder: Path) -> None:
    many = [replace(EXAMPLE, id=f"a:{n}") for n in range(5)]
    write_papers(described(folder), ABOUT, evaluation(*[saying(LIVES, MARRIED)] * 5, examples=many))
    limits = (folder / CARD).read_text(encoding="utf-8").split("## Limits")[1]
    assert "Weak by predicate (F1): works_at 0.00." in limits


def test_published_papers_are_not_rewritten(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / CARD).write_text("as published")
    described(folder)
    monkeypatch.setattr(sys, "argv", ["card", str(folder)])
    with pytest.raises(SystemExit, match=r"^training_error: extractor@9\.9\.9 was published with its papers"):
        main()
    assert (folder / CARD).read_text() == "as published"


def test_the_version_before_is_the_newest_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    settings = load_settings().settings
    first, second = (
        ModelVersion(Manifest.read(path), path) for path in (BUNDLED / "classifier" / v for v in ("1.0.0", "1.1.0"))
    )
    assert version_before(second, settings) == "classifier@1.0.0"
    assert version_before(first, settings) is None
