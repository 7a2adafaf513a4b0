"""What a client is told of a turn is valid against the published schema, which is the code's own."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from jsonschema import Draft202012Validator

import daemon
from actors.errors import SlmTimeout
from actors.extractor import Extractor
from actors.messages import Answer, Classification, Extraction, Mention, PronounLink, Relation, Request, StandIn, Turn
from config.schema import load_schema
from config.settings import load_settings
from daemon.memory.statements import build
from daemon.orchestrator import Understanding
from daemon.protocol import Ingested, ingested_schema, parse
from daemon.turns import make_record
from daemon.understood import extracted, tell
from tests.unit.test_extractor import newest

SCHEMA = load_schema()
PUBLISHED = Path(daemon.__file__ or "").parent / "ingested.schema.json"


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    loaded = Extractor.load(newest(), load_settings().settings.slm["extractor"])
    yield loaded
    loaded.close()


def reply_data(extraction: Extraction, said: Turn) -> dict[str, Any]:
    """The data of the reply to a turn that only the extractor answered, as the wire carries it."""
    answers = {"extractor": Answer(extraction, "extractor@1.0.0", 0.0, 0.0)}
    reply = Ingested(
        turn_id=said.id, seq=1, session=said.session, understood=tell(answers, build(said, extraction)[0], SCHEMA),
        missing={"classifier": SlmTimeout.code}, models={"extractor": "extractor@1.0.0"}, stages_ms={"turn": 1.0},
    )  # fmt: skip
    assert parse(Ingested, reply.event()) == reply
    return dict(json.loads(json.dumps(reply.event().data)))


def turn(text: str) -> Turn:
    return Turn("t", "me", "s", "user", text, 1_700_000_000.0)


def validate(data: Mapping[str, Any]) -> None:
    jsonschema.validate(data, json.loads(PUBLISHED.read_text()), cls=Draft202012Validator)


def test_the_published_schema_is_the_codes_own() -> None:
    # After a change: shoal schema > daemon/ingested.schema.json
    assert json.loads(PUBLISHED.read_text()) == ingested_schema(SCHEMA)
    Draft202012Validator.check_schema(ingested_schema(SCHEMA))


@pytest.mark.parametrize(
    "text",
    [
        "My sister Emma moved to Lisbon last week, she's a nurse at Hospital da Luz.",
        "I think Tom used to play Zelda with his dog Biscuit in 2019, maybe.",
        "Thanks, that's all.",
        "?!?!…",
    ],
)
def test_what_the_extractor_finds_is_valid(extractor: Extractor, text: str) -> None:
    said = turn(text)
    (extraction,) = extractor.run([Request(said)])
    data = reply_data(extraction, said)
    validate(data)
    told = data["understood"]["extractor"]
    assert [entity["text"] for entity in told["entities"]] == [mention.text for mention in extraction.mentions]
    assert len(told["relations"]) == len(extraction.relations)
    for entity in told["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]
    assert ("confidence" in told) == bool(told["entities"])


def extraction(*relations: Relation, **more: Any) -> Extraction:
    return Extraction(
        (Mention("Emma", "PERSON", 0, 4, 0.9), Mention("Zelda", "WORK", 5, 10, 0.7)), (), relations, **more
    )


def test_clients_that_know_nine_types_find_them_beside_ours() -> None:
    told = extracted(extraction(), SCHEMA)
    assert [(entity["type"], entity["wire_type"]) for entity in told["entities"]] == [
        ("PERSON", "PERSON"), ("WORK", "MISC"),
    ]  # fmt: skip
    schema = ingested_schema(SCHEMA)["$defs"]["Entity"]["properties"]
    assert len(schema["wire_type"]["enum"]) == 9
    assert set(schema["wire_type"]["enum"]) < set(schema["type"]["enum"])


def test_overall_confidence_is_that_of_the_relations_else_of_the_entities() -> None:
    surer, less = Relation("Emma", "played", "Zelda", "asserted", 0.8), Relation("Emma", "likes", "Zelda", "ended", 0.4)
    assert extracted(extraction(surer, less), SCHEMA)["confidence"] == pytest.approx(0.6)
    assert extracted(extraction(), SCHEMA)["confidence"] == pytest.approx(0.8)
    assert "confidence" not in extracted(Extraction((), (), ()), SCHEMA)


def test_aliases_become_canonical_and_unknown_names_stay_out() -> None:
    relations = (
        Relation("Emma", "resides_in", "Lisbon", "asserted", 0.8, "2019"),
        Relation("Tom", "child_of", "Emma", "asserted", 0.8),
        Relation("Tom", "orbits", "Emma", "asserted", 0.8),
        Relation("Tom", "likes", "Emma", "doubtful", 0.8),
    )
    told = extracted(Extraction((Mention("Mars", "PLANET", 0, 4, 1.0),), (), relations), SCHEMA)
    assert [(each["subject"], each["predicate"], each["object"]) for each in told["relations"]] == [
        ("Emma", "lives_in", "Lisbon"), ("Emma", "parent_of", "Tom"),
    ]  # fmt: skip
    assert told["relations"][0]["time"] == "2019"
    assert told["entities"] == []


def test_confidences_that_float32_pushed_out_of_range_come_back() -> None:
    off = Extraction(
        (Mention("Emma", "PERSON", 0, 4, 1.0000001),), (PronounLink("she", 5, 8, "Emma", 1.0000002),),
        (Relation("Emma", "likes", "speaker", "asserted", 1.0000001),), -1e-9,
    )  # fmt: skip
    validate(reply_data(off, turn("Emma she")))


def test_who_stood_in_is_told() -> None:
    data = reply_data(extraction(stood_in=StandIn("extractor@1.0.0", "generation_timeout")), turn("Emma Zelda"))
    validate(data)
    assert data["understood"]["extractor"]["stood_in"] == {"model": "extractor@1.0.0", "code": "generation_timeout"}


def test_what_is_stored_names_who_stood_in_and_not_who_was_asked() -> None:
    found = extraction(stood_in=StandIn("extractor@1.0.0", "generation_timeout"))
    understanding = Understanding({"extractor": Answer(found, "extractor@2.0.0", 0.0, 0.0)}, {}, {}, 0.0)
    assert make_record(turn("Emma Zelda"), understanding).models == {"extractor": "extractor@1.0.0"}


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("extractor", "entities", 0, "type"), "PLANET"),
        (("extractor", "relations", 0, "predicate"), "resides_in"),
        (("extractor", "relations", 0, "status"), "perhaps"),
        (("extractor", "relations", 0, "confidence"), 1.5),
        (("extractor", "entities", 0, "start"), -1),
        (("statements", 0, "predicate"), "orbits"),
    ],
)
def test_the_schema_refuses_what_is_not_the_contract(place: tuple[str | int, ...], wrong: object) -> None:
    relation = Relation("Emma", "played", "Zelda", "asserted", 0.8)
    data = reply_data(extraction(relation), turn("Emma Zelda"))
    validate(data)
    spot: Any = data["understood"]
    for key in place[:-1]:
        spot = spot[key]
    spot[place[-1]] = wrong
    with pytest.raises(jsonschema.ValidationError):
        validate(data)


def test_the_results_of_further_small_models_are_let_through() -> None:
    data = reply_data(extraction(), turn("Emma Zelda"))
    data["understood"]["mood"] = {"mood": "sunny"}
    validate(data)


@dataclass(frozen=True)
class Mood:
    mood: str
    scores: object = None


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (Mood("calm"), {"mood": "calm", "scores": None}),
        (
            Mood("calm", (np.float32(0.5), np.array([1, 2]), np.bool_(True))),
            {"mood": "calm", "scores": [0.5, [1, 2], True]},
        ),
        ("calm", "calm"),
        (["calm", 1], ["calm", 1]),
        ({"mood": "calm", "sure": 0.5}, {"mood": "calm", "sure": 0.5}),
        (None, None),
        (float("nan"), None),
        (b"\xff", "_w=="),
    ],
)
def test_another_small_models_result_is_told_as_json(result: object, told: object) -> None:
    # mypy knows the shipped models' results alone.
    answers: dict[str, Any] = {"mood": Answer(result, "mood@1.0.0", 0.0, 0.0)}  # type: ignore[arg-type]
    assert tell(answers, (), SCHEMA) == {"statements": [], "mood": told}


@pytest.mark.parametrize("result", [object(), Unprintable(), Mood("\ud800"), ENDLESS, {"mood": lambda: 0}])
def test_a_result_that_json_cannot_hold_costs_itself_alone(result: object) -> None:
    classified = Classification(True, 0.9, False, 0.8, "lookup", 0.7, "asks for a fact of today")
    answers: dict[str, Any] = {
        "mood": Answer(result, "mood@1.0.0", 0.0, 0.0),  # type: ignore[arg-type]
        "classifier": Answer(classified, "classifier@1.0.0", 0.0, 0.0),
    }
    assert tell(answers, (), SCHEMA) == {"statements": [], "classifier": asdict(classified)}
