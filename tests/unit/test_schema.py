from pathlib import Path

import pytest

from config.schema import Canonical, SchemaError, load_schema

SMALL = """
entity_types: {PERSON: people, PLACE: places}
predicates:
  parent_of: {category: family, domain: [PERSON], range: [PERSON], inverse: child_of, says: parent}
  lives_in: {category: home, domain: [PERSON], range: [PLACE], aliases: [resides_in, child_of], says: home}
  about: {category: home, domain: [any], range: [PLACE], says: topic}
statuses: {asserted: stated, ended: over}
wire_type: {PLACE: PERSON}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "schema.yaml"
    path.write_text(text)
    return path


def test_aliases_and_inverses_become_the_stored_name(tmp_path: Path) -> None:
    schema = load_schema(write(tmp_path, SMALL))
    assert schema.canonical("resides_in") == Canonical("lives_in")
    assert schema.canonical("child_of") == Canonical("parent_of", flipped=True)
    assert schema.canonical("unheard_of") is None
    assert schema.statuses == ("asserted", "ended")
    assert schema.categories == ("family", "home")


def test_any_restricts_nothing(tmp_path: Path) -> None:
    schema = load_schema(write(tmp_path, SMALL))
    assert schema.predicates["about"].joins("PLACE", "PLACE")
    assert not schema.predicates["lives_in"].joins("PLACE", "PLACE")
    assert not schema.predicates["lives_in"].joins("PERSON", "PERSON")


def test_the_shipped_schema_loads() -> None:
    schema = load_schema()
    assert all(schema.canonical(name) == Canonical(name) for name in schema.predicates)
    assert schema.wire_type("WORK") == "MISC"
    assert schema.wire_type("PERSON") == "PERSON"


@pytest.mark.parametrize(
    "broken",
    [
        SMALL.replace("range: [PLACE], aliases", "range: [PLANET], aliases"),
        SMALL.replace("category: family, ", ""),
        SMALL.replace("says: home", "colour: red, says: home"),
        SMALL.replace("PLACE: PERSON", "PLACE: PLANET"),
        "entity_types: [",
        "",
    ],
)
def test_a_broken_schema_is_refused(tmp_path: Path, broken: str) -> None:
    with pytest.raises(SchemaError) as caught:
        load_schema(write(tmp_path, broken))
    assert caught.value.code == "schema_invalid"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError):
        load_schema(tmp_path / "none.yaml")


def test_opposites_are_known_predicates_and_name_each_other() -> None:
    predicates = load_schema().predicates
    opposed = {name: predicate.opposite for name, predicate in predicates.items() if predicate.opposite}
    assert opposed == {"likes": "dislikes", "dislikes": "likes"}


def test_an_opposite_must_be_a_predicate(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="opposite"):
        load_schema(write(tmp_path, SMALL.replace("says: home}", "says: home, opposite: leaves}")))
