"""The bundled extractor on real sentences: structure and offsets, not the exact answers of one version."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actors.errors import GenerationTimeout, ModelLoadError
from actors.extraction.hedging import Doubt
from actors.extractor import Extractor
from actors.generative_extractor import GenerativeExtractor
from actors.generator import GeneratorConfig
from actors.messages import ROLES, Extraction, KnownEntity, Request, StandIn, Turn, Utterance
from config.schema import Hedges, load_schema
from config.settings import SlmSettings, load_settings
from registry.bundled import BUNDLED
from registry.versions import MANIFEST, Manifest, ModelVersion, check_files, precedence

SCHEMA = load_schema()
CONTEXT = (Utterance("user", "My sister Emma got a job at Bosch."), Utterance("agent", "Where does she live now?"))


def newest() -> ModelVersion:
    manifests = [Manifest.read(path.parent) for path in BUNDLED.glob(f"extractor/*/{MANIFEST}")]
    manifest = max(manifests, key=lambda found: precedence(found.version))
    return ModelVersion(manifest, BUNDLED / "extractor" / manifest.version)


def settings() -> SlmSettings:
    return load_settings().settings.slm["extractor"]


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    loaded = Extractor.load(newest(), settings())
    yield loaded
    loaded.close()


def turn(text: str, *context: Utterance, known: tuple[KnownEntity, ...] = ()) -> Turn:
    return Turn("t", "me", "s", "user", text, 0.0, context, known)


def check(extraction: Extraction, said: Turn) -> None:
    """What holds of every extraction, whatever the model knows."""
    sources = [said.text, *(earlier.text for earlier in said.context), *(known.name for known in said.known)]
    for span in (*extraction.mentions, *extraction.links):
        assert said.text[span.start : span.end] == span.text != ""
        assert 0 <= span.confidence <= 1
    assert all(mention.type in SCHEMA.entity_types for mention in extraction.mentions)
    for link in extraction.links:
        assert link.antecedent in ROLES or any(link.antecedent in source for source in sources)
    arguments = {*ROLES, *(m.text for m in extraction.mentions), *(k.antecedent for k in extraction.links)}
    for relation in extraction.relations:
        for argument in {relation.subject, relation.object} - arguments:
            assert any(argument in source for source in sources[1:]), "said before, if not in the turn"
        assert relation.subject != relation.object
        assert relation.predicate in SCHEMA.predicates
        assert relation.status in SCHEMA.statuses
        assert relation.time is None or relation.time in {mention.text for mention in extraction.mentions}
        assert 0 <= relation.confidence <= 1
    assert 0 <= extraction.correction <= 1


def test_the_bundled_files_are_those_of_the_manifest() -> None:
    version = newest()
    check_files(version.manifest, version.path, digests=True)
    assert sum(entry.size for entry in version.manifest.files) < 30e6
    assert version.manifest.quality["relation"]["f1"] > 0


@pytest.mark.parametrize(
    "text",
    [
        "My sister Emma moved to Lisbon last week and she loves it there.",
        "my boss rajesh used to work at siemens before he joined us in 2019",
        "No, she's five, not four!",
        "Does Tom still live in Oslo?",
        "Thanks, that's all.",
    ],
)
def test_real_sentences_give_sound_extractions(extractor: Extractor, text: str) -> None:
    said = turn(text, *CONTEXT)
    (extraction,) = extractor.run([Request(said)])
    check(extraction, said)


def test_names_and_places_are_found(extractor: Extractor) -> None:
    (extraction,) = extractor.run([Request(turn("Priya moved from Mumbai to Toronto in 2019."))])
    assert {"Priya", "Mumbai", "Toronto", "2019"} == {mention.text for mention in extraction.mentions}


def test_a_pronoun_finds_who_was_named_before(extractor: Extractor) -> None:
    (extraction,) = extractor.run([Request(turn("She lives in Stuttgart.", *CONTEXT))])
    assert [(link.text, link.antecedent) for link in extraction.links] == [("She", "Emma")]


def test_a_word_of_doubt_lowers_confidence_by_the_shipped_factor(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "I think Emma lives in Lisbon."
    doubted = extractor.extract(text, "user").relations
    monkeypatch.setattr(extractor, "_doubt", Doubt(Hedges()))
    plain = extractor.extract(text, "user").relations
    assert [relation.confidence for relation in doubted] == [
        pytest.approx(relation.confidence * SCHEMA.hedges.factor) for relation in plain
    ]
    assert doubted


def test_a_batch_says_what_its_turns_say_alone(extractor: Extractor) -> None:
    requests = [
        Request(turn("She lives in Stuttgart.", *CONTEXT)),
        Request(turn("")),
        Request(turn("I adopted a greyhound called Biscuit. " * 20)),
        Request(turn("Ravi plays the tabla.", known=(KnownEntity("Meera", "PERSON"),))),
    ]
    assert list(extractor.run(requests)) == [extractor.run([request])[0] for request in requests]
    assert list(extractor.run([])) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\t",
        ".",
        "?!?!…",
        "\x00\x07\x1b[31m\x7f",
        "\ud83d alone",
        "🙂🙃🐕‍🦺",
        "[CLS] [SEP] [MASK] [unused10]",
        "Эмма живёт в Лиссабоне.",
        "エマはリスボンに住んでいます。",
        "إيما تعيش في لشبونة",
        "a" * 70_000,
        "é" * 3_000,
        "no spaces,no.spaces," * 500,
        "Emma\u200b \u202eLisbon\u2028next",
    ],
)
def test_odd_text_gives_an_extraction(extractor: Extractor, text: str) -> None:
    said = turn(text, Utterance("user", text[:500]), Utterance("nobody", ""))
    (extraction,) = extractor.run([Request(said)])
    check(extraction, said)


def test_a_long_text_is_read_to_its_end_with_right_offsets(extractor: Extractor) -> None:
    filler = "It rained and rained and nobody went anywhere at all that day. " * 30
    said = turn(f"{filler}Then Priya moved to Toronto.")
    (extraction,) = extractor.run([Request(said)])
    check(extraction, said)
    assert said.text.index("Toronto") in {mention.start for mention in extraction.mentions}


def test_text_beyond_every_window_is_left_out_and_nothing_raises(extractor: Extractor) -> None:
    said = turn("Priya moved to Toronto. " * 2800)
    (extraction,) = extractor.run([Request(said)])
    check(extraction, said)
    assert extraction.mentions


@pytest.mark.parametrize("name", ["encoder.onnx", "pairs.onnx", "tokenizer.json", "schema.yaml", "extractor.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage"])
def test_a_damaged_file_does_not_load(tmp_path: Path, name: str, damage: str) -> None:
    version = newest()
    folder = tmp_path / "version"
    folder.mkdir()
    for entry in version.manifest.files:
        (folder / entry.path).symlink_to(version.path / entry.path)
    (folder / name).unlink()
    if damage != "missing":
        (folder / name).write_bytes(b"" if damage == "empty" else b"\x00garbage")
    with pytest.raises(ModelLoadError) as caught:
        Extractor.load(ModelVersion(version.manifest, folder), settings())
    assert caught.value.code == "model_load_failed"


def test_another_schemas_graphs_do_not_load(tmp_path: Path) -> None:
    version = newest()
    folder = tmp_path / "version"
    shutil.copytree(version.path, folder)
    schema = (folder / "schema.yaml").read_text()
    (folder / "schema.yaml").write_text(schema.replace("entity_types:\n", "entity_types:\n  PLANET: planets\n"))
    with pytest.raises(ModelLoadError):
        Extractor.load(ModelVersion(version.manifest, folder), settings())


def test_an_unknown_key_of_the_configuration_is_refused(tmp_path: Path) -> None:
    version = newest()
    folder = tmp_path / "version"
    shutil.copytree(version.path, folder)
    config = json.loads((folder / "extractor.json").read_text())
    (folder / "extractor.json").write_text(json.dumps(config | {"colour": "red"}))
    with pytest.raises(ModelLoadError):
        Extractor.load(ModelVersion(version.manifest, folder), settings())


def growing(text: str) -> Request:
    return Request(replace(turn(text), complete=False))


def test_of_a_growing_turn_the_last_word_is_read_once_it_has_ended(extractor: Extractor) -> None:
    (so_far,) = extractor.run([growing("My sister Emma moved to New")])
    (as_before,) = extractor.run([growing("My sister Emma moved to New Y")])
    (further,) = extractor.run([growing("My sister Emma moved to New York.")])
    assert [mention.end for mention in so_far.mentions if mention.end > 23] == []
    assert max(mention.end for mention in as_before.mentions) <= len("My sister Emma moved to New")
    check(further, turn("My sister Emma moved to New York."))


def test_a_growing_turn_is_read_again_only_when_a_word_has_ended(extractor: Extractor) -> None:
    (one,) = extractor.run([growing("My sister Emma lives in Oslo, and sh")])
    (two,) = extractor.run([growing("My sister Emma lives in Oslo, and she")])
    (three,) = extractor.run([growing("My sister Emma lives in Oslo, and she ")])
    assert one is two
    assert three is not two


def test_a_growing_turn_is_read_again_in_another_context(extractor: Extractor) -> None:
    said = growing("She lives in Oslo, ").turn
    emma, berta = ((Utterance("user", f"I met {name}."),) for name in ("Emma", "Berta"))
    extractor.run([Request(replace(said, context=emma))])
    (told,) = extractor.run([Request(replace(said, context=berta))])
    assert told == extractor.extract_partial("another turn", said.text, said.speaker, berta)
    assert "Emma" not in str(told)


def test_a_growing_turn_is_not_given_to_a_language_model(extractor: Extractor) -> None:
    class Slow:
        def prepare(self, *_: object) -> None:
            """It needs nothing."""

        def complete(self, *_: object) -> str:
            raise AssertionError("words come faster than it answers")

        def close(self) -> None:
            """It holds nothing."""

    generative = GenerativeExtractor(Slow(), SCHEMA, GeneratorConfig(), extractor, str(newest()), 1.0, 0.2)
    (told,) = generative.run([growing("My sister Emma lives in Oslo, and")])
    assert told.stood_in == StandIn(str(newest()), "turn_unfinished")
    assert "Emma" in {mention.text for mention in told.mentions}


def test_a_turn_that_had_to_wait_is_stood_in_for_before_its_deadline(extractor: Extractor) -> None:
    asked: list[float] = []

    class Hanging:
        def prepare(self, *_: object) -> None:
            """It needs nothing."""

        def complete(self, *given: object) -> str:
            deadline = given[-1]
            assert isinstance(deadline, float)
            asked.append(deadline)
            raise GenerationTimeout("it hangs")

        def close(self) -> None:
            """It holds nothing."""

    generative = GenerativeExtractor(Hanging(), SCHEMA, GeneratorConfig(), extractor, str(newest()), 80.0, 20.0)
    said, now = turn("My sister Emma lives in Oslo."), time.monotonic()
    fresh, waited, late = (Request(said, deadline=now + left_s) for left_s in (100.0, 60.0, 20.0))
    told = [*generative.run([fresh]), *generative.run([fresh, waited]), *generative.run([late])]
    assert asked == [pytest.approx(now + left_s, abs=5.0) for left_s in (80.0, 40.0, 40.0)]
    assert asked[1:] == [now + 40.0] * 2
    assert {extraction.stood_in for extraction in told} == {StandIn(str(newest()), "generation_timeout")}
    assert all("Emma" in {mention.text for mention in extraction.mentions} for extraction in told)


def test_of_a_growing_turn_only_what_is_sure_enough_to_last_is_told(extractor: Extractor) -> None:
    (whole,) = extractor.run([Request(turn("My sister Emma lives in Oslo, you know,"))])
    (so_far,) = extractor.run([growing("My sister Emma lives in Oslo, you know,")])
    least = extractor._assembler._calibration.partial_threshold
    assert set(so_far.relations) == {relation for relation in whole.relations if relation.confidence >= least}
