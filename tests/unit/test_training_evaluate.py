import json
import sys
from pathlib import Path

import pytest

from config.settings import Settings, load_settings
from registry.active import ActivePointers
from registry.bundled import register_bundled
from registry.errors import UnknownModel, UnknownVersion, VersionCorrupt
from registry.store import Store
from training.classifier.queries import QUERIES
from training.errors import TrainingError
from training.evaluate import evaluate, main
from training.loading import find_version
from training.splits import CONVERSATIONS

FILE = CONVERSATIONS / "turns-3.txt"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def settings() -> Settings:
    return load_settings().settings


def test_the_bundled_extractor_is_scored_by_the_keys_that_were_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    out = tmp_path / "said.jsonl"
    page = tmp_path / "reports" / "extractor.md"
    arguments = ["extractor", str(FILE), "--json", "--split", "held_out", "--predictions", str(out)]
    arguments += ["--report", str(page)]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    main()
    report = json.loads(capsys.readouterr().out)
    assert report["model"].startswith("extractor@")
    assert report["split"] == "held_out"
    assert {"f1", "precision", "recall"} <= report["entity"].keys() & report["relation"].keys()
    assert 0 <= report["entity"]["f1"] <= 1
    for name, key in (
        ("status", "accuracy"),
        ("pronoun", "accuracy"),
        ("no_relation", "false_positive_rate"),
        ("calibration", "ece"),
        ("latency_ms", "p50"),
        ("partial", "found"),
        ("partial", "stable"),
    ):
        assert key in report[name]
    assert all("f1" in found["relation"] for found in (report["by_category"] | report["by_predicate"]).values())
    assert len(out.read_text().splitlines()) == report["examples"] > 0
    assert "## Confusion of predicates" in page.read_text(encoding="utf-8")
    assert not home.exists()


def test_a_person_gets_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "extractor", str(FILE), "--split", "held_out"])
    main()
    shown = capsys.readouterr().out
    assert "relation: f1" in shown
    assert "by category" in shown


def test_a_version_is_compared_with_the_one_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["classifier", str(QUERIES / "queries-4.jsonl"), "--version", "1.1.0", "--against", "before", "--json"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    main()
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["against"]) == ("classifier@1.1.0", "classifier@1.0.0")
    assert report["split"] == "all"
    assert report["comparison"]["units"] == report["queries"]
    for name in ("needs_research", "needs_memory", "category"):
        difference = report["by_measure"][f"{name}.accuracy"]
        assert difference["new"] == report[name]["accuracy"]
        assert difference["low"] <= difference["difference"] <= difference["high"]
        assert 0 <= difference["better"] <= 1


def test_the_first_version_has_none_before_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "classifier", "--version", "1.0.0", "--against", "before", "--json"])
    main()
    report = json.loads(capsys.readouterr().out)
    assert "against" not in report
    assert report["split"] == "held_out"  # of our own data, where no file is named


def test_json_stands_alone_on_stdout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def scored(*_: object) -> tuple[dict[str, object], None]:
        print("a library's own words")
        return {"model": "extractor@2.0.0"}, None

    monkeypatch.setattr("training.evaluate.evaluate", scored)
    monkeypatch.setattr(sys, "argv", ["evaluate", "extractor", "--json"])
    main()
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"model": "extractor@2.0.0"}
    assert captured.err == "a library's own words\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nobody", str(FILE)], "training_error"),
        (["extractor", "nowhere.txt"], "bad_annotation"),
        (["extractor", str(FILE), "--version", "99.0.0"], "unknown_version"),
    ],
)
def test_what_cannot_be_scored_is_told_with_a_code(
    arguments: list[str], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    with pytest.raises(SystemExit, match=f"^{code}: "):
        main()


def test_a_small_model_without_a_scorer_is_told() -> None:
    with pytest.raises(TrainingError, match="nothing scores 'encoder'"):
        evaluate("encoder", [FILE], "all")


def test_the_active_version_comes_before_the_bundled_one(home: Path) -> None:
    bundled = find_version("extractor", settings())
    active = ActivePointers(settings().registry_root)
    register_bundled(active.store, active)
    found = find_version("extractor", settings())
    assert str(found) == active.current("extractor") == str(bundled)
    assert found.path.is_relative_to(home)
    named = find_version("extractor", settings(), bundled.manifest.version)
    assert named == find_version("extractor", settings(), str(bundled)) == found


def test_a_tampered_registered_version_is_refused() -> None:
    store = Store(settings().registry_root)
    register_bundled(store, ActivePointers(store.root))
    path = find_version("extractor", settings()).path / "extractor.json"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"{", b" ", 1))
    with pytest.raises(VersionCorrupt):
        find_version("extractor", settings())


def test_a_model_or_version_that_is_nowhere_is_refused() -> None:
    with pytest.raises(UnknownModel):
        find_version("nobody", settings())
    with pytest.raises(UnknownVersion):
        find_version("extractor", settings(), "99.0.0")
