"""What the extractor found becomes statements: who is meant, whose, in which direction, since when."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.messages import Extraction, KnownEntity, Mention, PronounLink, Relation, Turn, Utterance
from daemon.memory.records import Argument, Statement, TurnRecord
from daemon.memory.statements import CORRECTS, build, takes_back
from tests.unit.listener import MONDAY, SCHEMA, understood

ME = Argument("", "PERSON", role="user")


def said(block: str, speaker: str = "user", context: tuple[Utterance, ...] = ()) -> list[str]:
    """The statements of an annotated turn in words."""
    return [told(s) for s in understood(block, speaker=speaker, context=context).statements]


def told(statement: Statement) -> str:
    sides = [named(side) for side in (statement.subject, statement.object)]
    tail = "" if statement.status == "asserted" else f" ({statement.status})"
    return f"{sides[0]} {statement.predicate} {sides[1]}{tail}"


def named(argument: Argument) -> str:
    owner = f"{argument.owner}'s {argument.nominal} " if argument.owner else ""
    return argument.role or (owner if argument.nominal.endswith(argument.name) else owner + argument.name).strip()


@pytest.mark.parametrize(
    ("block", "owned"),
    [
        ("My [sister|PERSON] sings.\nR: sister; sibling_of; speaker", "user's sister"),
        ("My sister [Emma|PERSON] sings.\nR: Emma; sibling_of; speaker", "user's sister Emma"),
        ("My sister, [Emma|PERSON], sings.\nR: Emma; sibling_of; speaker", "user's sister Emma"),
        ("[Emma|PERSON] is my sister.\nR: Emma; sibling_of; speaker", "user's sister Emma"),
        ("my other sister [ana|PERSON] sings\nR: ana; sibling_of; speaker", "user's other sister ana"),
        ("we love our dog called [Rex|ANIMAL]\nR: speaker_group; likes; Rex", "user's dog Rex"),
        ("my plumber [Joe|PERSON] lives in [Leith|LOCATION]\nR: Joe; lives_in; Leith", "user's plumber Joe"),
        ("my ex-wife [Ines|PERSON] lives in [Leith|LOCATION]\nR: Ines; lives_in; Leith", "user's ex-wife Ines"),
        ("[mom|PERSON] lives in [Leith|LOCATION]\nR: mom; lives_in; Leith", "user's mom"),
        ("I sold my old [Honda|PRODUCT].\nR: speaker; owns; Honda; ended", "user's old Honda"),
        ("I have a [cat|ANIMAL].\nR: speaker; has_pet; cat", "user's cat"),
        ("My [mom|PERSON] and [dad|PERSON] met.\nR: dad; parent_of; speaker", "user's dad"),
    ],
)
def test_what_is_the_speakers_own(block: str, owned: str) -> None:
    statement = understood(block).statements[0]
    assert owned in (named(statement.subject), named(statement.object))


@pytest.mark.parametrize(
    ("block", "owned"),
    [
        ("[Tom|PERSON]'s [wife|PERSON] sings\nR: wife; likes; wife", "Tom's wife"),
        ("[Tom|PERSON] loves [his=Tom] [wife|PERSON]\nR: Tom; likes; wife", "Tom's wife"),
        ("my roommate's [sister|PERSON] lives in [Leith|LOCATION]\nR: sister; lives_in; Leith", "roommate's sister"),
        ("my [roommate|PERSON]'s [sister|PERSON] likes [jazz|MISC]\nR: sister; likes; jazz", "user>roommate's sister"),
        (
            "[Nino|PERSON], [her=Nino] husband [Giorgi|PERSON]\nR: Nino; married_to; Giorgi",
            "Nino's husband Giorgi",
        ),
        ("[gerald|PERSON]s [camera|PRODUCT] broke\nR: gerald; owns; camera", "gerald's camera"),
    ],
)
def test_what_is_somebody_elses_is_never_the_speakers(block: str, owned: str) -> None:
    sides = [named(a) for a in understood(block).mentioned]
    assert owned in sides


@pytest.mark.parametrize(
    "block",
    [
        "My name is [Emma|PERSON].\nR: speaker; friends_with; Emma",
        "My favourite is [Emma|PERSON].\nR: speaker; friends_with; Emma",
        "My brother works with [Emma|PERSON].\nR: speaker; friends_with; Emma",
        "My dad saw [Emma|PERSON] in [Leith|LOCATION].\nR: Emma; lives_in; Leith",
        "it's [Emma|PERSON]\nR: speaker; friends_with; Emma",
        "My brother is [Emma|PERSON]'s boss.\nR: speaker; friends_with; Emma",
        "Our Kyoto trip: we went to [Kyoto|LOCATION]\nR: speaker_group; traveled_to; Kyoto",
        "I love my [coffee|MISC]\nR: speaker; likes; coffee",
        "my dad drives a [truck|PRODUCT]\nR: speaker; likes; truck",
        "a new [mom|PERSON] joined",
    ],
)
def test_a_noun_nearby_owns_nothing(block: str) -> None:
    assert not [
        a for a in understood(block).mentioned if a.owner and a.name in ("Emma", "Kyoto", "coffee", "truck", "mom")
    ]


def test_roles_follow_the_speaker() -> None:
    block = "We like you and I like [tea|MISC].\nR: speaker_group; likes; listener\nR: speaker; likes; tea"
    assert said(block) == ["group likes agent", "user likes tea"]
    assert said(block, speaker="Tom") == ["Tom likes agent", "Tom likes tea"]
    asked = (Utterance("user", "Do you like tea?"),)
    assert said(block, speaker="Tom", context=asked) == ["Tom likes user", "Tom likes tea"]


def test_what_the_agent_says_is_not_believed() -> None:
    record = understood("You live in [Oslo|LOCATION].\nR: listener; lives_in; Oslo", speaker="agent")
    assert (record.statements, record.mentioned) == ((), ())


def test_my_means_whoever_speaks() -> None:
    assert said("My sister [Emma|PERSON] sings.\nR: Emma; sibling_of; speaker", speaker="Tom") == [
        "Tom's sister Emma sibling_of Tom"
    ]


def test_inverses_aliases_and_symmetric_pairs_take_one_form() -> None:
    text = "Emma Oslo Tom"
    mentions = tuple(
        Mention(name, type_, text.index(name), text.index(name) + len(name), 0.9)
        for name, type_ in (("Emma", "PERSON"), ("Oslo", "LOCATION"), ("Tom", "PERSON"))
    )
    relations = (
        Relation("Emma", "resides_in", "Oslo", "asserted", 0.8),
        Relation("Emma", "lives_in", "Oslo", "asserted", 0.9),
        Relation("Emma", "child_of", "Tom", "asserted", 0.8),
        Relation("Tom", "wife_of", "Emma", "asserted", 0.8),
        Relation("Tom", "friends_with", "speaker", "asserted", 0.8),
        Relation("Tom", "unheard_of", "Emma", "asserted", 0.8),
        Relation("Tom", "likes", "Tom", "asserted", 0.8),
    )
    statements, _ = build(_turn(text), Extraction(mentions, (), relations), SCHEMA)
    assert [told(s) for s in statements] == [
        "Emma lives_in Oslo",
        "Tom parent_of Emma",
        "Emma married_to Tom",
        "user friends_with Tom",
    ]
    assert statements[0].confidence == 0.9


def test_the_same_word_as_two_things_goes_by_the_predicate() -> None:
    (statement,) = understood(
        "[Jordan|PERSON] used to live in [Jordan|LOCATION].\nR: Jordan; lives_in; Jordan; ended"
    ).statements
    assert (statement.subject.type, statement.object.type) == ("PERSON", "LOCATION")


def test_an_antecedent_is_read_where_it_was_said() -> None:
    context = (Utterance("user", "my sister has a dog"), Utterance("agent", "Nice!"))
    statements = understood(
        "[she=sister] lives in [Oslo|LOCATION]\nR: sister; lives_in; Oslo", context=context
    ).statements
    assert statements[0].subject == Argument("sister", "PERSON", owner="user", nominal="sister")
    asked = (Utterance("agent", "How is your sister?"),)
    statements = understood(
        "[she=sister] lives in [Oslo|LOCATION]\nR: sister; lives_in; Oslo", context=asked
    ).statements
    assert statements[0].subject.owner == "user"


def test_an_antecedent_takes_the_type_under_which_it_is_known() -> None:
    link = PronounLink("it", 0, 2, "Qvevri", 0.9)
    relation = Relation("Qvevri", "famous_for", "wine", "asserted", 0.9)
    wine = Mention("wine", "MISC", 17, 21, 0.9)
    turn = _turn("it is famous for wine", known=(KnownEntity("Qvevri", "ORGANIZATION"),))
    statements, _ = build(turn, Extraction((wine,), (link,), (relation,)), SCHEMA)
    assert statements[0].subject == Argument("Qvevri", "ORGANIZATION")


def test_a_name_is_no_second_person() -> None:
    record = understood("My name is [Alex|PERSON].\nR: speaker; has_name; Alex")
    assert record.statements[0].object == Argument("Alex", "PERSON", role="name")
    assert record.mentioned == ()


def test_dates_lean_to_what_the_status_means() -> None:
    went, going = (
        understood("I went to [Rome|LOCATION] in [March|DATE].\nR: speaker; traveled_to; Rome; @March"),
        understood(
            "I may go to [Rome|LOCATION] in [January|DATE].\nR: speaker; traveled_to; Rome; uncertain; @January"
        ),
    )
    assert (went.statements[0].time, went.statements[0].time_text) == ("2026-03", "March")
    assert going.statements[0].time == "2027-01"


@pytest.mark.parametrize(
    ("block", "corrects"),
    [
        ("no wait, [she=Ana]'s [five|NUMBER]\nR: Ana; has_age; five", True),
        ("Oh sorry, [Ana|PERSON] is [five|NUMBER].\nR: Ana; has_age; five", True),
        ("Scratch that, [Ana|PERSON] is [five|NUMBER].\nR: Ana; has_age; five", True),
        ("[Ana|PERSON] is [five|NUMBER], no wait.\nR: Ana; has_age; five", False),
        ("No thanks, [Ana|PERSON]!", False),
        ("Nobody likes [tea|MISC] but [Ana|PERSON].\nR: Ana; likes; tea", False),
        ("No idea.", False),
    ],
)
def test_a_turn_that_opens_with_no_and_states_something_corrects(block: str, corrects: bool) -> None:
    context = (Utterance("user", "Ana is four"),)
    assert takes_back(understood(block, context=context)) is corrects
    assert takes_back(understood(block, context=context, correction=CORRECTS))


def test_bare_dates_and_numbers_are_no_entities() -> None:
    record = understood("[Ana|PERSON] is [five|NUMBER] since [May|DATE].\nR: Ana; has_age; five; @May")
    assert [a.name for a in record.mentioned] == ["Ana"]


_words = st.sampled_from(
    ["my", "sister", "Emma", "Tom's", "wife", "and", "é", "İ", "his", "’s", ",", "\n", "x" * 70, "mom"]
)


@settings(deadline=None)
@given(
    words=st.lists(_words, min_size=1, max_size=12),
    spans=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 12)), max_size=5),
    types=st.lists(st.sampled_from([*SCHEMA.entity_types, "NOVEL"]), min_size=5, max_size=5),
    predicates=st.lists(st.sampled_from([*SCHEMA.predicates, "unheard_of"]), min_size=3, max_size=3),
    speaker=st.sampled_from(["user", "Tom", "agent"]),
)
def test_nothing_an_extractor_says_raises(
    words: list[str], spans: list[tuple[int, int]], types: list[str], predicates: list[str], speaker: str
) -> None:
    text = " ".join(words)
    mentions = tuple(
        Mention(text[at : at + size], type_, at, at + len(text[at : at + size]), 0.5)
        for (at, size), type_ in zip(spans, types, strict=False)
        if at < len(text)
    )
    names = [m.text for m in mentions] + ["speaker", "listener", "speaker_group", "nobody"]
    relations = tuple(
        Relation(
            names[at % len(names)], predicate, names[-1 - at % len(names)], "odd" if at else "asserted", 2.0, "May"
        )
        for at, predicate in enumerate(predicates)
    )
    links = (PronounLink("his", 0, 3, "nobody", 0.5),)
    statements, mentioned = build(_turn(text, speaker), Extraction(mentions, links, relations), SCHEMA)
    assert all(s.predicate in SCHEMA.predicates and s.status in SCHEMA.statuses for s in statements)
    assert all(0 <= s.confidence <= 1 for s in statements)
    assert len(set(mentioned)) == len(mentioned)
    assert not any(a.role for a in mentioned)


def _turn(text: str, speaker: str = "user", known: tuple[KnownEntity, ...] = ()) -> Turn:
    return Turn("t", "me", "s", speaker, text, MONDAY, (), known)


@pytest.mark.parametrize("filler", ["x" * 65_000, "my " * 20_000, "x's " * 16_000, " " * 65_000, "no " * 20_000])
def test_a_text_without_end_is_read_like_any_other(filler: str) -> None:
    text = f"{filler} Emma is my sister"
    at = text.index("Emma")
    mention = Mention("Emma", "PERSON", at, at + 4, 0.9)
    relation = Relation("Emma", "sibling_of", "speaker", "asserted", 0.9)
    extraction = Extraction((mention,), (), (relation,))
    (statement,), _ = build(_turn(text), extraction, SCHEMA)
    assert statement.object.nominal == "sister"
    takes_back(TurnRecord(_turn(text), (statement,), (), extraction))
