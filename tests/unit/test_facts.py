"""What one more statement makes of what is known."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.schema import load_schema
from daemon.memory.facts import (
    DOUBT_MARGIN,
    MAX_CONFIDENCE,
    MAX_UTTERANCES,
    Correction,
    Fact,
    Known,
    Said,
    iso,
    keys,
    merge,
    rewire,
)

SCHEMA = load_schema()
NOW = 1_770_000_000.0
ME, US = "user:me", "group:me"


class Memory:
    """Merges statements written "subject predicate object [status]", a minute apart unless told when."""

    def __init__(self, doubt_margin: float = DOUBT_MARGIN) -> None:
        self.known = Known(SCHEMA, doubt_margin=doubt_margin)
        self._numbers = itertools.count(1)

    def hear(
        self, *told: str, at: float | None = None, time: str | None = None, session: str = "s", confidence: float = 0.8,
        correcting: set[str] | None = None, before: set[str] | None = None,
    ) -> None:  # fmt: skip
        number = next(self._numbers)
        said = [
            replace(statement(text, at=NOW + 60 * number if at is None else at, number=number, time=time),
                    fact_id=f"f{number}.{n}", session=session, confidence=confidence)
            for n, text in enumerate(told)
        ]  # fmt: skip
        correction = (
            None
            if correcting is None
            else Correction(correcting, before, lambda entity: entity.rstrip("0123456789")[:1])
        )
        merge(self.known, said, correction)
        check(self.known)

    def told(self) -> list[str]:
        return sorted(tell(fact) for fact in self.known)

    def fact(self, told: str) -> Fact:
        found = [fact for fact in self.known if tell(fact).split(" (")[0] == told]
        assert len(found) == 1, f"{told}: {self.told()}"
        return found[0]


def statement(text: str, *, at: float, number: int, time: str | None = None) -> Said:
    subject, predicate, object_, *status = text.split()
    return Said(
        f"f{number}", "me", subject, predicate, object_, status[0] if status else "asserted", 0.8,
        f"u{number}", "s", at, at + 1, time, time,
    )  # fmt: skip


def tell(fact: Fact) -> str:
    tail = "" if fact.status == "asserted" else f" ({fact.status})"
    return f"{fact.subject} {fact.predicate} {fact.object}{tail}"


def check(known: Known) -> None:
    """What holds after any history."""
    values: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    triples: set[tuple[str, frozenset[str] | str]] = set()
    for fact in known:
        assert not (fact.open and (fact.valid_to or fact.closed_by or fact.closed_at)), fact
        assert fact.open or fact.status == "negated" or fact.valid_to, fact
        assert 0 < fact.confidence <= MAX_CONFIDENCE
        assert fact.first_said_at <= fact.last_said_at
        assert not (fact.valid_from and fact.valid_to and fact.valid_to < fact.valid_from), fact
        predicate = SCHEMA.predicates[fact.predicate]
        if fact.open:
            triple = (fact.predicate, frozenset((fact.subject, fact.object)) if predicate.symmetric else tell(fact))
            assert triple not in triples
            triples.add(triple)
        if fact.status == "asserted" and predicate.functional:
            # Us and me share what is functional: two facts, one value.
            values[one_of_us(fact.subject), fact.predicate].add(one_of_us(fact.object))
            if predicate.symmetric:
                values[one_of_us(fact.object), fact.predicate].add(one_of_us(fact.subject))
    assert all(len(objects) == 1 for objects in values.values()), values
    likes = {(f.subject, f.object) for f in known if f.predicate == "likes" and f.status == "asserted"}
    assert not likes & {(f.subject, f.object) for f in known if f.predicate == "dislikes" and f.status == "asserted"}


def one_of_us(entity: str) -> str:
    return ME if entity == US else entity


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_repetition_strengthens_and_never_duplicates(memory: Memory) -> None:
    memory.hear(f"{ME} likes tea")
    memory.hear(f"{ME} likes tea", session="s2")
    fact = memory.fact(f"{ME} likes tea")
    assert fact.times_said == 2
    assert fact.confidence == pytest.approx(0.96)
    assert fact.utterances == ("u1", "u2")
    assert fact.sessions == ("s", "s2")
    assert fact.last_said_at == NOW + 120
    for _ in range(MAX_UTTERANCES + 10):
        memory.hear(f"{ME} likes tea")
    fact = memory.fact(f"{ME} likes tea")
    assert (fact.confidence, len(fact.utterances), fact.times_said) == (0.99, MAX_UTTERANCES, MAX_UTTERANCES + 12)


def test_an_utterance_counts_once(memory: Memory) -> None:
    memory.hear(f"{ME} likes tea", f"{ME} likes tea")
    assert memory.fact(f"{ME} likes tea").times_said == 1


def test_a_symmetric_fact_is_one_either_way_round(memory: Memory) -> None:
    memory.hear("emma friends_with tom")
    memory.hear("tom friends_with emma")
    assert memory.told() == ["emma friends_with tom"]


def test_a_newer_value_supersedes_and_keeps_the_older(memory: Memory) -> None:
    memory.hear("emma lives_in bergen")
    memory.hear("emma lives_in oslo", time="2026-01")
    old, new = memory.fact("emma lives_in bergen"), memory.fact("emma lives_in oslo")
    assert (old.status, old.valid_to, old.closed_by) == ("superseded", "2026-01", "u2")
    assert (new.status, new.valid_from) == ("asserted", "2026-01")
    memory.hear("emma lives_in rome")
    assert memory.fact("emma lives_in oslo").valid_to == iso(NOW + 180)


def test_a_new_marriage_closes_the_old_ones_of_both(memory: Memory) -> None:
    memory.hear("emma married_to tom")
    memory.hear("ana married_to leo")
    memory.hear("leo married_to emma")
    assert memory.told() == [
        "ana married_to leo (superseded)",
        "emma married_to tom (superseded)",
        "leo married_to emma",
    ]


def test_what_we_do_i_do(memory: Memory) -> None:
    memory.hear(f"{US} lives_in leith")
    memory.hear(f"{ME} lives_in leith")
    assert memory.told() == [f"{US} lives_in leith", f"{ME} lives_in leith"]
    memory.hear(f"{ME} lives_in oslo")
    assert memory.told() == [
        f"{US} lives_in leith (superseded)",
        f"{ME} lives_in leith (superseded)",
        f"{ME} lives_in oslo",
    ]


@pytest.mark.parametrize("at", [0.0, 32_503_680_000.0])
def test_a_clock_at_the_edge_of_what_clients_may_say_closes_too(memory: Memory, at: float) -> None:
    memory.hear("emma lives_in bergen", at=at)
    memory.hear("emma lives_in oslo", at=at)
    assert memory.told() == ["emma lives_in bergen (superseded)", "emma lives_in oslo"]


def test_a_late_turn_does_not_close_a_newer_fact(memory: Memory) -> None:
    memory.hear("emma lives_in oslo", at=NOW + 500)
    memory.hear("emma lives_in bergen", at=NOW)
    old = memory.fact("emma lives_in bergen")
    assert (old.status, old.valid_to, old.closed_by) == ("superseded", iso(NOW + 500), "u1")
    memory.hear("emma lives_in rome", at=NOW + 250)
    assert memory.fact("emma lives_in rome").valid_to == iso(NOW + 500)
    assert memory.fact("emma lives_in bergen").valid_to == iso(NOW + 250)
    assert memory.fact("emma lives_in oslo").status == "asserted"


def test_an_older_date_is_history(memory: Memory) -> None:
    memory.hear("emma lives_in bergen", time="2022")
    memory.hear("emma lives_in oslo", time="2019")
    assert memory.told() == ["emma lives_in bergen", "emma lives_in oslo (superseded)"]
    assert memory.fact("emma lives_in oslo").valid_to == "2022"


def test_moving_back_is_a_stretch_of_its_own(memory: Memory) -> None:
    for place in ("oslo", "rome", "oslo"):
        memory.hear(f"emma lives_in {place}")
    assert memory.told() == ["emma lives_in oslo", "emma lives_in oslo (superseded)", "emma lives_in rome (superseded)"]


def test_ended_closes_what_was_known(memory: Memory) -> None:
    memory.hear("emma works_at acme", time="2019")
    memory.hear("emma works_at acme ended", time="2025-06")
    fact = memory.fact("emma works_at acme")
    assert (fact.status, fact.valid_from, fact.valid_to) == ("ended", "2019", "2025-06")
    memory.hear("emma works_at acme ended")
    assert memory.fact("emma works_at acme").valid_to == "2025-06"
    memory.hear("emma works_at acme")
    assert memory.told() == ["emma works_at acme", "emma works_at acme (ended)"]


def test_ended_of_the_unknown_is_kept_as_ended(memory: Memory) -> None:
    memory.hear("emma works_at acme ended")
    fact = memory.fact("emma works_at acme")
    assert (fact.status, fact.valid_from, fact.valid_to) == ("ended", None, iso(NOW + 60))
    memory.hear("emma works_at acme", at=NOW)  # arrives late: it was over when she said so
    assert memory.told() == ["emma works_at acme (ended)"]


def test_leaving_and_joining_in_one_turn(memory: Memory) -> None:
    memory.hear("emma works_at acme")
    memory.hear("emma works_at brix", "emma works_at acme ended")
    assert memory.told() == ["emma works_at acme (ended)", "emma works_at brix"]


def test_an_older_end_does_not_close_a_newer_assertion(memory: Memory) -> None:
    memory.hear("emma works_at acme", at=NOW + 500)
    memory.hear("emma works_at acme ended", at=NOW)
    assert memory.told() == ["emma works_at acme", "emma works_at acme (ended)"]


def test_a_denial_retracts_and_stays(memory: Memory) -> None:
    memory.hear("emma visited rome")
    memory.hear("emma visited rome negated")
    assert memory.told() == ["emma visited rome (negated)"]
    memory.hear("emma visited rome")
    assert memory.told() == ["emma visited rome", "emma visited rome (negated)"]


def test_a_denial_of_the_unknown_is_known_until_asserted(memory: Memory) -> None:
    memory.hear("emma visited rome negated")
    memory.hear("emma visited rome negated")
    assert memory.fact("emma visited rome").times_said == 2
    memory.hear("emma visited rome")
    assert memory.told() == ["emma visited rome"]


def test_uncertain_never_overwrites_and_is_upgraded(memory: Memory) -> None:
    memory.hear("emma lives_in oslo")
    before = memory.fact("emma lives_in oslo")
    memory.hear("emma lives_in oslo uncertain")
    memory.hear("emma lives_in lisbon uncertain")
    memory.hear("emma lives_in lisbon uncertain")
    assert memory.fact("emma lives_in oslo") == before
    assert memory.fact("emma lives_in lisbon").times_said == 2
    memory.hear("emma lives_in lisbon")
    assert memory.told() == ["emma lives_in lisbon", "emma lives_in oslo (superseded)"]


def test_a_much_weaker_value_closes_nothing_until_it_is_said_again(memory: Memory) -> None:
    memory.hear("emma lives_in oslo", confidence=0.9)
    before = memory.fact("emma lives_in oslo")
    memory.hear("emma lives_in lisbon", "emma lives_in lisbon", confidence=0.5)
    assert memory.told() == ["emma lives_in lisbon (uncertain)", "emma lives_in oslo"]
    assert memory.fact("emma lives_in oslo") == before
    memory.hear("emma lives_in lisbon", confidence=0.5)
    assert memory.told() == ["emma lives_in lisbon", "emma lives_in oslo (superseded)"]
    assert memory.fact("emma lives_in lisbon").confidence == pytest.approx(0.75)


def test_a_somewhat_weaker_value_closes(memory: Memory) -> None:
    memory.hear("emma lives_in oslo", confidence=0.9)
    memory.hear("emma lives_in lisbon", confidence=0.65)
    assert memory.told() == ["emma lives_in lisbon", "emma lives_in oslo (superseded)"]


def test_a_much_weaker_opposite_closes_nothing_and_what_stands_alone_is_asserted(memory: Memory) -> None:
    memory.hear(f"{ME} likes olives", confidence=0.9)
    memory.hear(f"{ME} dislikes olives", f"{ME} dislikes rain", confidence=0.3)
    assert memory.told() == [f"{ME} dislikes olives (uncertain)", f"{ME} dislikes rain", f"{ME} likes olives"]


def test_a_correction_counts_however_weak(memory: Memory) -> None:
    memory.hear("emma has_age n4", confidence=0.95)
    memory.hear("emma has_age n5", confidence=0.4, correcting=set())
    assert memory.told() == ["emma has_age n4 (corrected)", "emma has_age n5"]
    memory.hear("emma lives_in oslo", confidence=0.95, session="last year")
    memory.hear("emma lives_in rome", confidence=0.4, correcting=set(), before=set())
    assert memory.fact("emma lives_in oslo").status == "superseded"


def test_the_weaker_of_two_that_turn_out_to_be_one_is_uncertain(memory: Memory) -> None:
    memory.hear("sister lives_in oslo", confidence=0.9)
    memory.hear("emma lives_in rome", confidence=0.4)
    rewire(memory.known, "sister", "emma")
    check(memory.known)
    assert memory.told() == ["emma lives_in oslo", "emma lives_in rome (uncertain)"]


def test_the_margin_is_a_setting() -> None:
    memory = Memory(doubt_margin=1.0)
    memory.hear("emma lives_in oslo", confidence=0.9)
    memory.hear("emma lives_in lisbon", confidence=0.1)
    assert memory.told() == ["emma lives_in lisbon", "emma lives_in oslo (superseded)"]


def test_likes_and_dislikes_exclude_one_another(memory: Memory) -> None:
    memory.hear(f"{ME} likes olives")
    memory.hear(f"{ME} dislikes olives")
    memory.hear(f"{ME} likes tea")
    assert memory.told() == [f"{ME} dislikes olives", f"{ME} likes olives (superseded)", f"{ME} likes tea"]
    memory.hear(f"{ME} likes olives", at=NOW)
    assert memory.fact(f"{ME} dislikes olives").status == "asserted"


def test_a_correction_of_a_value_was_never_true(memory: Memory) -> None:
    memory.hear("emma has_age n4")
    memory.hear("emma has_age n5", correcting=set())
    wrong = memory.fact("emma has_age n4")
    assert (wrong.status, wrong.valid_from, wrong.valid_to) == ("corrected", iso(NOW + 60), iso(NOW + 60))
    assert wrong.closed_by == "u2"


def test_a_correcting_turn_may_tell_of_a_change(memory: Memory) -> None:
    memory.hear("emma lives_in denver")
    memory.hear("emma lives_in boulder", "emma lives_in denver ended", correcting={"denver"})
    assert memory.told() == ["emma lives_in boulder", "emma lives_in denver (ended)"]


def test_an_old_value_from_elsewhere_is_superseded_not_corrected(memory: Memory) -> None:
    memory.hear("emma has_age n4", session="last year")
    memory.hear("emma has_age n5", correcting={"n5"}, before=set())
    assert memory.told() == ["emma has_age n4 (superseded)", "emma has_age n5"]


@pytest.mark.parametrize("before", [None, set()])
def test_a_session_of_one_name_for_years_is_many_talks(memory: Memory, before: set[str] | None) -> None:
    memory.hear("emma lives_in denver", "emma likes dtea", at=NOW)
    memory.hear("emma lives_in boulder", at=NOW + 365 * 86400, correcting={"boulder"}, before=before)
    memory.hear("emma likes dmilk", at=NOW + 366 * 86400, correcting={"dmilk"}, before=before)
    assert memory.told() == [
        "emma likes dmilk",
        "emma likes dtea",
        "emma lives_in boulder",
        "emma lives_in denver (superseded)",
    ]


def test_of_other_predicates_only_what_is_named_is_taken_back(memory: Memory) -> None:
    memory.hear("emma is_a dhusky", "emma is_a dfriend", "emma eats drice")
    memory.hear("emma is_a dmalamute", "emma eats deggs", correcting={"dhusky", "dmalamute"}, before={"drice"})
    assert [told for told in memory.told() if "corrected" in told] == ["emma is_a dhusky (corrected)"]
    assert len(memory.told()) == 5


def test_the_first_statement_may_correct_the_turn_before(memory: Memory) -> None:
    memory.hear(f"{ME} likes dtea")
    memory.hear(f"{ME} likes dcoffee", correcting={"dcoffee"}, before={"dtea"})
    assert memory.told() == [f"{ME} likes dcoffee", f"{ME} likes dtea (corrected)"]


def test_the_other_subject_is_taken_back(memory: Memory) -> None:
    memory.hear("pana friends_with ptom")
    memory.hear("pana friends_with pleo", correcting={"pana", "pleo", "ptom"})
    memory.hear("prosa visited lrome")
    memory.hear("pzoe visited lrome", correcting={"prosa"})
    assert [told for told in memory.told() if "(corrected)" in told] == [
        "pana friends_with ptom (corrected)",
        "prosa visited lrome (corrected)",
    ]


def test_a_correction_spares_other_types_and_what_it_says_itself(memory: Memory) -> None:
    memory.hear("pana likes dtea", "pana likes pleo")
    memory.hear("pana likes dtea", "pana likes dmilk", correcting={"dtea", "pleo"})
    assert not [told for told in memory.told() if "(corrected)" in told]


def test_facts_of_two_entities_that_are_one(memory: Memory) -> None:
    memory.hear("sister lives_in oslo", "sister likes jazz", "sister friends_with emma")
    memory.hear("emma lives_in rome", "emma likes jazz")
    rewire(memory.known, "sister", "emma")
    check(memory.known)
    assert memory.told() == ["emma likes jazz", "emma lives_in oslo (superseded)", "emma lives_in rome"]
    assert memory.fact("emma likes jazz").times_said == 2
    assert len(memory.known.deleted) == 2


def test_a_person_with_many_likes_is_asked_from_the_other_end() -> None:
    assert keys(SCHEMA, statement(f"{ME} likes tea", at=NOW, number=1), correcting=False) == {
        ("tea", "likes"),
        ("tea", "dislikes"),
    }
    assert (ME, "lives_in") in keys(SCHEMA, statement(f"{US} lives_in oslo", at=NOW, number=1), correcting=False)


# --- any history --------------------------------------------------------------------------------------

_PREDICATES = ("lives_in", "married_to", "friends_with", "likes", "dislikes", "visited")
_statements = st.builds(
    lambda subject, predicate, object_, status: f"{subject} {predicate} {object_} {status}",
    st.sampled_from([ME, US, "ana", "leo"]),
    st.sampled_from(_PREDICATES),
    st.sampled_from(["oslo", "rome", "tom"]),
    st.sampled_from(["asserted"] * 4 + ["ended", "negated", "uncertain"]),
)
_turns = st.lists(
    st.tuples(
        st.lists(_statements, min_size=1, max_size=3),
        st.integers(0, 9),
        st.sampled_from([None, None, None, "2019", "2024-05", "2026-02-01"]),
        st.sampled_from([None, None, set(), {"oslo", "tom"}]),
        st.sampled_from([0.8, 0.8, 0.2]),
    ),
    max_size=12,
)
_Turns = list[tuple[list[str], int, str | None, set[str] | None, float]]


def history(turns: _Turns) -> Memory:
    memory = Memory()
    for told, hour, time, correcting, confidence in turns:
        memory.hear(*told, at=NOW + 3600 * hour, time=time, correcting=correcting, confidence=confidence)
    return memory


@settings(deadline=None)
@given(_turns)
def test_any_history_keeps_what_must_hold(turns: _Turns) -> None:
    memory = history(turns)  # checks after every turn
    assert {fact.id for fact in memory.known} == set(memory.known.changed)
    assert list(history(turns).known) == list(memory.known)


@settings(deadline=None)
@given(_turns)
def test_two_entities_of_any_history_can_become_one(
    turns: _Turns,
) -> None:
    memory = history(turns)
    rewire(memory.known, "ana", "leo")
    check(memory.known)
    assert not [fact for fact in memory.known if "ana" in (fact.subject, fact.object)]


@settings(deadline=None)
@given(_turns, st.integers(2, 4))
def test_saying_the_last_again_adds_no_fact(turns: _Turns, times: int) -> None:
    memory = history(turns)
    memory.hear("leo visited rome", at=NOW + 99_999)
    count = len(memory.told())
    for _ in range(times):
        memory.hear("leo visited rome", at=NOW + 99_999)
    assert len(memory.told()) == count
    assert max(f.times_said for f in memory.known if tell(f) == "leo visited rome") >= 1 + times


@settings(deadline=None)
@given(_turns)
def test_the_order_of_independent_subjects_does_not_matter(
    turns: _Turns,
) -> None:
    def about(memory: Memory, subject: str) -> list[str]:
        return sorted(tell(fact) for fact in memory.known if fact.subject == subject)

    plain = [(told, hour, time, None, confidence) for told, hour, time, _, confidence in turns]
    plain = [
        ([t for t in told if " married_to " not in t and " friends_with " not in t], *rest) for told, *rest in plain
    ]
    apart = sorted(
        [([text], *rest) for told, *rest in plain for text in told],
        key=lambda turn: turn[0][0].split()[0] == "leo",
    )
    together = [([text], *rest) for told, *rest in plain for text in told]
    for subject in ("leo", "ana"):
        assert about(history(together), subject) == about(history(apart), subject)


@settings(deadline=None)
@given(st.permutations([("oslo", 1), ("rome", 2), ("leith", 3), ("kyoto", 4)]))
def test_turns_that_arrive_in_any_order_tell_one_history(places: list[tuple[str, int]]) -> None:
    memory = Memory()
    for place, hour in places:
        memory.hear(f"ana lives_in {place}", at=NOW + 3600 * hour)
    stretches = {fact.object: (fact.status, fact.valid_to) for fact in memory.known}
    ends = [("superseded", iso(NOW + 3600 * hour)) for hour in (2, 3, 4)]
    assert stretches == dict(zip(("oslo", "rome", "leith", "kyoto"), [*ends, ("asserted", None)], strict=True))
