"""What a person reads: whose things are, and what became of a turn."""

import io

import pytest
from rich.console import Console, RenderableType

from daemon import show
from daemon.memory.directory import Names
from daemon.memory.records import Node
from daemon.protocol import Ingested


def text_of(view: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(view)
    return out.getvalue()


def side(name: str, *, role: str = "", owner: str = "", nominal: str = "") -> dict[str, str]:
    return {"name": name, "type": "PERSON", "role": role, "owner": owner, "nominal": nominal}


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        (side("Emma"), "Emma"),
        (side("", role="user"), "you"),
        (side("", role="group"), "you and others"),
        (side("sister", owner="user", nominal="sister"), "your sister"),
        (side("Emma", owner="user", nominal="sister"), "Emma"),
        (side("wife", owner="Tom", nominal="wife"), "Tom’s wife"),
        (side("dog", owner="user>sister", nominal="dog"), "your sister’s dog"),
        (side("dog", owner="Tom>wife", nominal="dog"), "Tom’s wife’s dog"),
    ],
)
def test_whose_things_are(argument: dict[str, str], shown: str) -> None:
    assert show.argument(argument) == shown


def test_a_turn_shows_what_was_said_how_surely_and_what_is_missing() -> None:
    statement = {
        "subject": side("Jonas"), "predicate": "lives_in", "object": side("Vienna"), "status": "ended",
        "confidence": 0.91, "time_text": "2019", "time": "2019",
    }  # fmt: skip
    reply = Ingested(
        turn_id="t", seq=7, session="s", understood={"statements": [statement]}, missing={"classifier": "slm_timeout"},
        models={}, stages_ms={"extractor": 5.0, "turn": 8.25},
    )  # fmt: skip

    shown = text_of(show.turn(reply, "Jonas lived in Vienna until 2019"))

    assert "Jonas lives_in Vienna  ended  2019  0.91" in shown
    assert "without classifier: slm_timeout" in shown
    assert "receipt 7 in 8.2 ms" in shown


def test_brackets_and_colons_are_shown_as_they_were_said(capsys: pytest.CaptureFixture[str]) -> None:
    said = "[laughter] stop it[/b] :dog: [/INST]"
    fact = {"subject": "Ana", "predicate": "likes", "object": "dogs", "status": "asserted", "said_as": said}

    show.console().print(show.facts([fact], 1))

    assert said in capsys.readouterr().out


def test_a_time_that_is_no_date_is_shown_as_it_was_said() -> None:
    statement = {
        "subject": side("Jonas"), "predicate": "lives_in", "object": side("Vienna"), "status": "asserted",
        "confidence": 0.91, "time_text": "back then",
    }  # fmt: skip
    reply = Ingested(
        turn_id="t", seq=7, session="s", understood={"statements": [statement]}, missing={}, models={}, stages_ms={}
    )

    assert "Jonas lives_in Vienna  back then  0.91" in text_of(show.turn(reply, ""))


def entity(entity_id: str, name: str, **properties: object) -> Node:
    return Node("Entity", entity_id, {"name": name, **properties})  # type: ignore[arg-type]


def family() -> Names:
    return Names(
        [
            entity("e1", "", role="user"),
            entity("e2", "sister", owner="e1", nominals=["sister"]),
            entity("e3", "dog", owner="e2", nominals=["dog"]),
            entity("e4", "Zoë Lindqvist", aliases=["Zoë"]),
        ]
    )


def test_names_are_told_from_the_graph_as_a_person_would_say_them() -> None:
    entities = family()

    assert [entities.shown(node) for node in entities] == [
        "you",
        "your sister",
        "your sister’s dog",
        "Zoë Lindqvist",
    ]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("me", ["e1"]),
        ("Your Sister", ["e2"]),
        ("zoë", ["e4"]),
        ("Zoe Lindqvist", ["e4"]),
        ("Nobody", []),
    ],
)
def test_a_person_finds_an_entity_by_any_of_its_names(wanted: str, found: list[str]) -> None:
    assert [node.id for node in family().named(wanted)] == found
