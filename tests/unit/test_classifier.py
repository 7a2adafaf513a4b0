"""The bundled classifier on the bundled encoder: decisions, confidences, reasons, and whatever text comes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from actors.classifier import Classifier, Head, grams
from actors.encoder import Encoder
from actors.errors import ModelLoadError, RequestRejected
from actors.messages import Classification, Encoding, Extraction, Request, Turn
from config.settings import Settings, load_settings
from registry.bundled import BUNDLED
from registry.versions import ModelVersion, check_files
from tests.unit.odd_texts import ODD
from training.loading import find_version

Ask = Callable[[str], Request]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Nothing registered: what is bundled is what is tested."""
    return load_settings(overrides={"home": str(tmp_path_factory.mktemp("home"))}).settings


@pytest.fixture(scope="module")
def version(settings: Settings) -> ModelVersion:
    return find_version("classifier", settings)


@pytest.fixture(scope="module")
def classifier(version: ModelVersion, settings: Settings) -> Iterator[Classifier]:
    classifier = Classifier.load(version, settings.slm["classifier"])
    yield classifier
    classifier.close()


@pytest.fixture(scope="module")
def ask(settings: Settings) -> Iterator[Ask]:
    """A request as the orchestrator makes it: with the encoder's result upstream."""
    encoder = Encoder.load(find_version("encoder", settings), settings.slm["encoder"])

    def request(text: str) -> Request:
        turn = Turn("1", "me", "session", "user", text, 0.0)
        return Request(turn, {"encoder": encoder.run([Request(turn)])[0]})

    yield request
    encoder.close()


def test_the_bundled_files_are_what_the_manifest_lists(version: ModelVersion) -> None:
    check_files(version.manifest, version.path, digests=True)
    assert version.manifest.parents[0].startswith("encoder@")
    assert sum(entry.size for entry in version.manifest.files) < 1e6


@pytest.mark.parametrize(
    ("text", "research", "memory", "category"),
    [
        ("what's the weather in Oslo tomorrow", True, False, "lookup"),
        ("Who won the election yesterday?", True, False, "current_events"),
        ("Is it true that the bridge is closed? Please check.", True, False, "verification"),
        ("What did I tell you about my sister's job?", False, True, "personal"),
        ("why is the sky blue", False, False, "knowledge"),
        ("turn off the lights in the hall", False, False, "command"),
        ("Write a poem about a tired bus driver.", False, False, "creative"),
        ("How do I reverse a list in Python?", False, False, "coding"),
        ("what is 17 times 23", False, False, "math"),
        ("hello there", False, False, "chitchat"),
        ("My sister lives in Oslo.", False, False, "personal"),
    ],
)
def test_plain_turns_are_judged_as_a_person_would(
    classifier: Classifier, ask: Ask, text: str, research: bool, memory: bool, category: str
) -> None:
    (said,) = classifier.run([ask(text)])
    assert (said.needs_research, said.needs_memory, said.category) == (research, memory, category)
    assert min(said.research_confidence, said.memory_confidence) > 0.5


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_any_text_is_judged(classifier: Classifier, ask: Ask, text: str) -> None:
    (said,) = classifier.run([ask(text)])
    assert isinstance(said, Classification)
    assert 0.5 <= said.research_confidence <= 1
    assert 0.5 <= said.memory_confidence <= 1
    assert 0 < said.category_confidence <= 1
    assert said.reason


def test_a_batch_says_what_each_turn_says_alone(classifier: Classifier, ask: Ask) -> None:
    requests = [ask(text) for text in [*ODD.values(), "what did i say about oslo", "news?"]]
    assert list(classifier.run(requests)) == [classifier.run([request])[0] for request in requests]


def test_the_reason_names_the_kind_the_telling_words_and_the_needs(classifier: Classifier, ask: Ask) -> None:
    (asked,) = classifier.run([ask("What did I tell you about my sister's job?")])
    assert asked.reason.startswith("about the user's own life (“")
    assert asked.reason.endswith("; needs memory")
    (told,) = classifier.run([ask("hello there")])
    assert told.reason.endswith("; needs neither research nor memory")


def test_the_reason_names_only_words_that_were_said(classifier: Classifier, ask: Ask) -> None:
    for text in ("What time does the library close today?", "Is it true? Check please.", "did i say Tuesday?"):
        (said,) = classifier.run([ask(text)])
        for quoted in said.reason.split("“")[1:]:
            assert quoted.split("”")[0] in grams(text)


def test_a_reason_moves_with_the_words_it_names(classifier: Classifier, ask: Ask) -> None:
    """With the encoding held still, taking away the named words makes the decision less sure."""
    text = "what did i say my shoe size was"
    upstream = ask(text).upstream

    def judged(text: str) -> Classification:
        return classifier.run([Request(Turn("1", "me", "s", "user", text, 0.0), upstream)])[0]

    whole = judged(text)
    assert whole.needs_memory
    named = {word for quoted in whole.reason.split("“")[1:] for word in quoted.split("”")[0].split()}
    assert named
    rest = judged(" ".join(word for word in text.split() if word not in named))
    assert not rest.needs_memory or rest.memory_confidence < whole.memory_confidence


@pytest.mark.parametrize(
    "upstream",
    [
        {},
        {"encoder": Extraction((), (), ())},
        {"encoder": Encoding(b"")},
        {"encoder": Encoding(b"\0" * 1024, b"\0" * 3072)},
        {"encoder": Encoding(b"\0" * 1536)},
        {"encoder": Encoding(b"\0" * 1536, b"\0" * 1535)},
        {"encoder": Encoding(b"\0" * 1535, b"\0" * 3072)},
    ],
    ids=["missing", "another result", "empty", "too short", "without layers", "half a layer", "half a number"],
)
def test_without_the_encoders_vector_a_request_is_rejected(
    classifier: Classifier, upstream: dict[str, Encoding | Extraction]
) -> None:
    with pytest.raises(RequestRejected) as caught:
        classifier.run([Request(Turn("1", "me", "session", "user", "hello", 0.0), upstream)])
    assert caught.value.code == "request_rejected"


@pytest.mark.parametrize("name", ["vocabulary.json", "weights.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "noise", "altered"])
def test_damaged_files_are_refused(
    version: ModelVersion, settings: Settings, tmp_path: Path, name: str, damage: str
) -> None:
    shutil.copytree(version.path, tmp_path, dirs_exist_ok=True)
    whole = (tmp_path / name).read_bytes()
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        middle = len(whole) // 2
        content = {
            "empty": b"",
            "truncated": whole[:middle],
            "noise": bytes(range(256)) * 64,
            "altered": whole[:middle] + b"\xff" * 32 + whole[middle + 32 :],
        }
        (tmp_path / name).write_bytes(content[damage])
    with pytest.raises(ModelLoadError) as caught:
        Classifier.load(ModelVersion(version.manifest, tmp_path), settings.slm["classifier"])
    assert caught.value.code == "model_load_failed"


def test_a_version_that_reads_the_vector_alone_serves_on(ask: Ask) -> None:
    """The first version, made before the encoder gave its layers: what a rollback goes back to."""
    first = Classifier(Head.read(BUNDLED / "classifier" / "1.0.0"))
    request = ask("what's the weather in Oslo tomorrow")
    encoding = request.upstream["encoder"]
    assert isinstance(encoding, Encoding)
    alone = Request(request.turn, {"encoder": Encoding(encoding.vector)})
    assert list(first.run([request])) == list(first.run([alone]))
    assert first.run([request])[0].needs_research


def test_weights_of_another_vocabulary_are_refused(version: ModelVersion, tmp_path: Path) -> None:
    shutil.copytree(version.path, tmp_path, dirs_exist_ok=True)
    words = json.loads((tmp_path / "vocabulary.json").read_text())
    words["grams"].pop()
    (tmp_path / "vocabulary.json").write_text(json.dumps(words))
    with pytest.raises(ModelLoadError, match="shapes"):
        Head.read(tmp_path)


def test_weights_that_are_not_numbers_are_refused(version: ModelVersion, tmp_path: Path) -> None:
    shutil.copytree(version.path, tmp_path, dirs_exist_ok=True)
    with np.load(tmp_path / "weights.npz") as arrays:
        weights = {name: arrays[name] for name in arrays.files}
    weights["bias"] = np.full_like(weights["bias"], np.nan)
    np.savez(tmp_path / "weights.npz", **weights)
    with pytest.raises(ModelLoadError, match="not numbers"):
        Head.read(tmp_path)


def test_pickles_are_not_opened(version: ModelVersion, tmp_path: Path) -> None:
    shutil.copytree(version.path, tmp_path, dirs_exist_ok=True)
    np.savez(tmp_path / "weights.npz", bias=np.array([{}], dtype=object))
    with pytest.raises(ModelLoadError):
        Head.read(tmp_path)


def test_grams_are_words_and_neighbours() -> None:
    assert grams("What's new?") == {"whats", "new", "?", "^ whats", "whats new", "new ?", "? $"}
    assert grams("") == {"^ $"}
