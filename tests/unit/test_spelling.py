"""A wrong merge is worse than a duplicate: which spellings are one name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.memory.spelling import name_key, number_key, same_person_name, same_thing_name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Emma", "emma"),
        ("Zoë", "zoe"),
        ("Eun-ji", "Eun ji"),
        ("The Dark Knight", "dark knight"),
        ("St. Brigid's", "st brigids"),
        ("FaceBook", "face book"),
        ("李雷", " 李雷 "),
    ],
)
def test_case_accents_and_punctuation_make_no_other_name(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Katherine", "Catherine"),
        ("Mohammed", "mohamed"),
        ("Markus", "Marcus"),
        ("Gabriella", "Gabriela"),
        ("Sarah Johnson", "Sarah Jonhson"),
        ("Kathryn Oyelaran", "Kathryn Oyelarran"),
    ],
)
def test_spellings_of_one_person(one: str, other: str) -> None:
    assert same_person_name(one, other)
    assert same_person_name(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ana", "Anna"),
        ("Sara", "Sarah"),
        ("Jon", "John"),
        ("Marina", "Martina"),
        ("Daniel", "Daniela"),
        ("Daniel Lopez", "Daniela Lopez"),
        ("Danielle", "Daniele"),
        ("Steven", "Stephen"),
        ("Christian", "Christina"),
        ("Mr. Tanaka", "Dr. Tanaka"),
        ("Mr Baptiste", "Ms Baptiste"),
        ("Emma", "Emma Stone"),
        ("Sarah Johnson", "Sarah Johnsen"),
        ("", ""),
    ],
)
def test_names_of_different_people(one: str, other: str) -> None:
    assert not same_person_name(one, other)
    assert not same_person_name(other, one)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Saskatchewan", "Saskatchwan", True),
        ("Nordwerft Kiel", "Nordverft Kiel", True),
        ("Slovakia", "Slovenia", False),
        ("Austria", "Australia", False),
        ("World War I", "World War II", False),
        ("Iran", "Iraq", False),
        ("Georgia", "Georgian", False),
        ("Studio 54", "Studio 55", False),
        ("Harrison", "Garrison", False),
    ],
)
def test_spellings_of_one_thing(one: str, other: str, same: bool) -> None:
    assert same_thing_name(one, other) is same


@pytest.mark.parametrize(
    ("one", "other"),
    [("five", "5"), ("five years old", "5"), ("twenty-one", "21"), ("Thirty", "30"), ("seven-year-old", "7")],
)
def test_a_number_in_words_is_the_number(one: str, other: str) -> None:
    assert number_key(one) == number_key(other)


@pytest.mark.parametrize(("one", "other"), [("five", "fifteen"), ("two hundred", "2"), ("one two", "12"), ("1.5", "1")])
def test_other_numbers_are_others(one: str, other: str) -> None:
    assert number_key(one) != number_key(other)


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_has_a_key_and_compares_alike_both_ways(one: str, other: str) -> None:
    assert (name_key(one) == "") == (one.strip() == "")
    assert number_key(one) == number_key(one)
    assert same_person_name(one, other) == same_person_name(other, one)
    assert same_thing_name(one, other) == same_thing_name(other, one)
