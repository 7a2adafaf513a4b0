"""Who is meant: one entity for one person or thing, never one for two."""

from __future__ import annotations

import itertools

import pytest

from daemon.memory.records import Argument
from daemon.memory.resolution import RECENT_S, EntityIndex, Merged, role_id, twin

NOW = 1_770_000_000.0
LATER = NOW + 30 * 86400


class Talk:
    """Resolves arguments as they are spoken of."""

    def __init__(self) -> None:
        self.index = EntityIndex("me")
        self._numbers = itertools.count(1)

    def of(self, name: str, type_: str = "PERSON", at: float = NOW, owner: str = "", nominal: str = "") -> str:
        argument = Argument(name, type_, owner=owner, nominal=nominal)
        entity_id = self.index.current(self.index.resolve(argument, at, lambda: f"e{next(self._numbers)}"))
        self.index.heard(entity_id, at)
        return entity_id

    def mine(self, noun: str, type_: str = "PERSON", at: float = NOW) -> str:
        return self.of(noun.split()[-1], type_, at, "user", noun)

    def name(self, entity_id: str) -> str:
        return self.index[entity_id].name


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_case_and_accents_do_not_make_another(talk: Talk) -> None:
    assert talk.of("lucia") == talk.of("Lucía", at=LATER)
    assert talk.name(talk.of("LUCIA")) == "Lucía"


def test_a_name_on_its_own_is_not_fuzzy(talk: Talk) -> None:
    ana = talk.of("Ana")
    assert talk.of("Anna") != ana
    assert talk.of("Annika") != ana
    assert talk.of("Marina") != talk.of("Martina")


def test_another_spelling_is_the_same_while_she_is_spoken_of(talk: Talk) -> None:
    katherine = talk.of("Katherine")
    assert talk.of("Catherine") == katherine
    assert talk.index[katherine].aliases == ("Catherine",)
    mohammed = talk.of("Mohammed")
    assert talk.of("Mohamed", at=NOW + RECENT_S + 1) != mohammed


def test_two_candidates_for_a_spelling_are_none(talk: Talk) -> None:
    known = {talk.of("Sarah Johnson"), talk.of("Sarah Jonhson", at=NOW + RECENT_S + 1)}
    assert len(known) == 2
    assert talk.of("Sarah Johhson", at=NOW + RECENT_S) not in known


def test_a_misspelt_place_is_the_place(talk: Talk) -> None:
    assert talk.of("Saskatchewan", "LOCATION") == talk.of("Saskatchwan", "LOCATION", LATER)
    assert talk.of("Slovakia", "LOCATION") != talk.of("Slovenia", "LOCATION")


def test_things_of_other_kinds_share_no_entity(talk: Talk) -> None:
    person = talk.of("Jordan", "PERSON")
    assert talk.of("Jordan", "LOCATION") != person
    assert talk.of("Apple", "ORGANIZATION") != talk.of("apple", "MISC")
    assert talk.of("gym", "LOCATION") == talk.of("gym", "ORGANIZATION")
    assert talk.of("Rex", "ANIMAL") == talk.of("Rex", "PERSON")


def test_numbers_and_dates_are_never_fuzzy(talk: Talk) -> None:
    assert talk.of("five", "NUMBER") == talk.of("5", "NUMBER")
    assert talk.of("5", "NUMBER") != talk.of("5", "DATE")
    assert talk.of("1990", "DATE") != talk.of("1991", "DATE")
    assert talk.of("September 1990", "DATE") != talk.of("September 1991", "DATE")


def test_a_first_name_means_the_full_name_that_is_spoken_of(talk: Talk) -> None:
    sarah = talk.of("Sarah Lee")
    assert talk.of("Sarah") == sarah
    assert talk.of("Sarah", at=LATER) == sarah  # by now that is what she is called


def test_a_stranger_with_the_same_first_name_is_another(talk: Talk) -> None:
    hanks = talk.of("Tom Hanks")
    assert talk.of("Tom", at=LATER) != hanks
    brother = talk.of("Tom", at=LATER, owner="user", nominal="brother")
    assert talk.of("Tom Cruise", at=LATER) != brother


def test_two_with_the_same_first_name_are_not_guessed(talk: Talk) -> None:
    known = {talk.of("Sarah Lee"), talk.of("Sarah Diaz")}
    assert len(known) == 2
    assert talk.of("Sarah") not in known


def test_a_longer_name_completes_the_short_one(talk: Talk) -> None:
    gary = talk.of("gary")
    assert talk.of("Gary Tweedt") == gary
    assert talk.name(gary) == "Gary Tweedt"
    assert talk.of("Mr. Tanaka") != talk.of("Dr. Tanaka")


def test_my_sister_and_her_name_either_way_round(talk: Talk) -> None:
    sister = talk.mine("sister")
    emma = talk.of("Emma", owner="user", nominal="sister")
    assert emma == sister
    assert talk.mine("sister", at=LATER) == emma
    assert talk.of("emma", at=LATER) == emma

    bob = talk.of("Bob", at=LATER)
    assert talk.of("Bob", owner="user", nominal="boss", at=LATER) == bob
    assert talk.mine("boss", at=LATER) == bob


def test_two_that_were_known_apart_become_one(talk: Talk) -> None:
    emma, sister = talk.of("Emma"), talk.mine("sister")
    assert emma != sister
    assert talk.of("Emma", owner="user", nominal="sister") == emma
    assert talk.index.merged == [Merged(gone=sister, kept=emma)]
    assert sister not in talk.index
    assert talk.mine("sister") == emma


def test_other_sisters_are_others(talk: Talk) -> None:
    emma = talk.of("Emma", owner="user", nominal="sister")
    ana = talk.of("Ana", owner="user", nominal="other sister")
    iris = talk.of("Iris", owner="user", nominal="sister")
    assert len({emma, ana, iris}) == 3
    assert talk.mine("older brother") != talk.mine("younger brother")


def test_two_sisters_without_a_name_are_neither_when_nobody_was_spoken_of(talk: Talk) -> None:
    emma = talk.of("Emma", owner="user", nominal="sister")
    iris = talk.of("Iris", owner="user", nominal="sister", at=NOW + 60)
    assert talk.mine("sister", at=NOW + 120) == iris
    assert talk.mine("sister", at=LATER) not in (emma, iris)


def test_toms_wife_is_never_mine(talk: Talk) -> None:
    mine = talk.mine("wife")
    toms = talk.of("wife", owner="Tom", nominal="wife")
    assert toms != mine
    assert talk.of("wife", owner="Tom", nominal="wife", at=LATER) == toms
    assert talk.index[toms].owner == talk.of("Tom")
    assert talk.of("Mia", owner="Tom", nominal="wife") == toms
    assert talk.mine("wife") == mine


def test_a_nominal_owns_too(talk: Talk) -> None:
    sister = talk.of("sister", owner="user>roommate", nominal="sister")
    assert sister != talk.mine("sister")
    assert talk.index[sister].owner == talk.mine("roommate")
    assert talk.of("sister", owner="user>roommate", nominal="sister", at=LATER) == sister


def test_relatives_of_one_name_are_two_people(talk: Talk) -> None:
    sister = talk.of("Emma", owner="user", nominal="sister")
    assert talk.of("Emma", owner="user", nominal="daughter") != sister
    assert talk.of("Emma", owner="Tom", nominal="daughter") != sister
    assert talk.of("Rosa", owner="user", nominal="friend") == talk.of("Rosa", owner="user", nominal="roommate")


def test_words_for_one_tie_are_one_tie(talk: Talk) -> None:
    assert talk.mine("mom") == talk.mine("mother") == talk.mine("mum")
    assert talk.mine("kids") == talk.mine("child")
    assert talk.mine("dog", "ANIMAL") != talk.mine("cat", "ANIMAL")


def test_somebodys_dentist_is_met_once_a_session(talk: Talk) -> None:
    dentist = talk.of("dentist", nominal="dentist")
    assert talk.of("dentist", nominal="dentist", at=NOW + 60) == dentist
    assert talk.of("dentist", nominal="dentist", at=LATER) != dentist


def test_my_guitar_is_not_any_guitar(talk: Talk) -> None:
    mine = talk.of("guitar", "PRODUCT", owner="user", nominal="guitar")
    assert talk.of("guitar", "PRODUCT", at=NOW + 60) == mine
    any_guitar = talk.of("guitar", "PRODUCT", at=LATER)
    assert any_guitar != mine
    assert talk.of("guitar", "PRODUCT", at=LATER, owner="Tom", nominal="guitar") not in (mine, any_guitar)


def test_a_name_that_is_told_renames(talk: Talk) -> None:
    puppy = talk.mine("puppy", "ANIMAL")
    talk.index.rename(puppy, "Pickle")
    assert talk.of("pickle", "ANIMAL", LATER) == puppy
    assert talk.mine("puppy", "ANIMAL", LATER) == puppy
    talk.index.rename(puppy, "Pix")
    assert talk.index[puppy].aliases == ("Pickle",)
    talk.index.rename(puppy, "Pixie", mistaken=True)
    assert (talk.name(puppy), talk.index[puppy].aliases) == ("Pixie", ("Pickle",))


def test_the_users_own_name_is_not_a_friend_of_that_name(talk: Talk) -> None:
    me = talk.index.resolve(Argument("", "PERSON", role="user"), NOW, lambda: "unused")
    talk.index.rename(me, "Alex")
    assert (talk.name(me), talk.index[me].aliases) == ("Alex", ())
    assert talk.of("Alex") != me


def test_roles_have_fixed_ids() -> None:
    assert role_id("a:b", "user") == "user:a:b"
    assert twin("user:a:b") == "group:a:b"
    assert twin("group:a:b") == "user:a:b"
    assert twin("e-1") == "e-1"


def test_an_index_read_back_finds_the_same(talk: Talk) -> None:
    talk.of("Emma", owner="user", nominal="sister")
    talk.of("Sarah Lee")
    talk.of("Sarah")
    known = Talk()
    known.index = EntityIndex("me", list(talk.index))
    for said in (("Emma", "", ""), ("sister", "user", "sister"), ("Sarah", "", "")):
        name, owner, nominal = said
        assert known.of(name, "PERSON", LATER, owner, nominal) == talk.of(name, "PERSON", LATER, owner, nominal)
    assert len(known.index) == len(talk.index)
